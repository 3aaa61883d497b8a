// The part of XLA's foreign function interface that handlers read: the C structs of
// xla/ffi/api/c_api.h (https://github.com/openxla/xla), declared here so that a build needs no
// jaxlib. Fields keep their places within a major version, and new ones come last;
// tests/adapters/test_jax_headers.py compares the places with the headers that a jaxlib brings.
// Structs end here with the last field that is read.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastrnn::xla {

enum ExtensionType : int32_t { kMetadataExtension = 1 };
struct Extension {
  size_t struct_size;
  int32_t type;
  Extension* next;
};

struct ApiVersion {
  size_t struct_size;
  Extension* extension_start;
  int major_version;
  int minor_version;
};

struct Metadata {
  size_t struct_size;
  ApiVersion api_version;
  uint32_t traits;
};
struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

enum ErrorCode : int32_t {
  kInvalidArgument = 3,
  kResourceExhausted = 8,
  kUnimplemented = 12,
  kInternal = 13
};
struct Error;  // XLA's own
struct ErrorCreateArgs {
  size_t struct_size;
  Extension* extension_start;
  const char* message;
  int32_t code;
};

struct ErrorDestroyArgs {
  size_t struct_size;
  Extension* extension_start;
  Error* error;
};

struct StreamGetArgs {
  size_t struct_size;
  Extension* extension_start;
  void* context;
  void* stream;  // result
};

struct Api {
  size_t struct_size;
  Extension* extension_start;
  ApiVersion api_version;
  const void* internal_api;
  Error* (*error_create)(ErrorCreateArgs*);
  void* error_get_message;
  void (*error_destroy)(ErrorDestroyArgs*);
  void* handler_register;
  Error* (*stream_get)(StreamGetArgs*);
};

enum DataType : int32_t {
  kPred = 1,
  kS8 = 2,
  kS16 = 3,
  kS32 = 4,
  kS64 = 5,
  kU8 = 6,
  kU16 = 7,
  kU32 = 8,
  kU64 = 9,
  kF16 = 10,
  kF32 = 11,
  kF64 = 12,
  kBF16 = 16
};
// In C order.
struct Buffer {
  size_t struct_size;
  Extension* extension_start;
  int32_t dtype;
  void* data;
  int64_t rank;
  int64_t* dims;
};

struct Buffers {  // of arguments and of results
  size_t struct_size;
  Extension* extension_start;
  int64_t size;
  int32_t* types;
  void** items;
};

struct ByteSpan {  // also the value of an attribute that is a string
  const char* data;
  size_t size;
};
struct ArrayAttribute {
  int32_t dtype;
  size_t size;
  void* data;
};
enum AttributeType : int32_t { kArrayAttribute = 1, kStringAttribute = 4 };
struct Attributes {
  size_t struct_size;
  Extension* extension_start;
  int64_t size;
  int32_t* types;
  ByteSpan** names;
  void** values;
};

enum Stage : int32_t { kExecute = 3 };
struct CallFrame {
  size_t struct_size;
  Extension* extension_start;
  const Api* api;
  void* context;
  int32_t stage;
  Buffers arguments;
  Buffers results;
  Attributes attributes;
};

}  // namespace fastrnn::xla
