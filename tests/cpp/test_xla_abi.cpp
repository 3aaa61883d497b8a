// csrc/xla/abi.h against the header that a jaxlib brings: the places and the widths of the fields
// that are read, and the numbers. test_jax_headers.py compiles this, with the folder of such
// headers among the includes; there is nothing to run.
#include <type_traits>

#include "xla/abi.h"
#include "xla/ffi/api/c_api.h"

using namespace fastrnn::xla;

// Our struct and field, theirs.
#define PLACE(S, f, Theirs, g) \
  static_assert(offsetof(S, f) == offsetof(Theirs, g), #S "." #f " stands elsewhere")
#define FIELD(S, f, Theirs, g) \
  PLACE(S, f, Theirs, g);      \
  static_assert(sizeof(S::f) == sizeof(Theirs::g), #S "." #f " has another width")
#define NUMBER(ours, theirs) \
  static_assert(static_cast<int>(ours) == static_cast<int>(theirs), #ours " is another number")

// Structs that an XLA may be given have a size that it knows at least.
#define GIVEN(S, Theirs) \
  static_assert(sizeof(S) >= Theirs##_STRUCT_SIZE, #S " ends before what XLA reads")

// Its name is another since version 0.5 of the interface.
using TheirExtension = std::remove_pointer_t<decltype(XLA_FFI_CallFrame::extension_start)>;
FIELD(Extension, struct_size, TheirExtension, struct_size);
FIELD(Extension, type, TheirExtension, type);
FIELD(Extension, next, TheirExtension, next);

FIELD(ApiVersion, struct_size, XLA_FFI_Api_Version, struct_size);
FIELD(ApiVersion, extension_start, XLA_FFI_Api_Version, extension_start);
FIELD(ApiVersion, major_version, XLA_FFI_Api_Version, major_version);
FIELD(ApiVersion, minor_version, XLA_FFI_Api_Version, minor_version);

FIELD(Metadata, struct_size, XLA_FFI_Metadata, struct_size);
FIELD(Metadata, api_version, XLA_FFI_Metadata, api_version);
FIELD(Metadata, traits, XLA_FFI_Metadata, traits);

FIELD(MetadataExtension, base, XLA_FFI_Metadata_Extension, extension_base);
FIELD(MetadataExtension, metadata, XLA_FFI_Metadata_Extension, metadata);

FIELD(ErrorCreateArgs, struct_size, XLA_FFI_Error_Create_Args, struct_size);
FIELD(ErrorCreateArgs, extension_start, XLA_FFI_Error_Create_Args, extension_start);
FIELD(ErrorCreateArgs, message, XLA_FFI_Error_Create_Args, message);
FIELD(ErrorCreateArgs, code, XLA_FFI_Error_Create_Args, errc);
GIVEN(ErrorCreateArgs, XLA_FFI_Error_Create_Args);

FIELD(ErrorDestroyArgs, struct_size, XLA_FFI_Error_Destroy_Args, struct_size);
FIELD(ErrorDestroyArgs, extension_start, XLA_FFI_Error_Destroy_Args, extension_start);
FIELD(ErrorDestroyArgs, error, XLA_FFI_Error_Destroy_Args, error);
GIVEN(ErrorDestroyArgs, XLA_FFI_Error_Destroy_Args);

FIELD(StreamGetArgs, struct_size, XLA_FFI_Stream_Get_Args, struct_size);
FIELD(StreamGetArgs, extension_start, XLA_FFI_Stream_Get_Args, extension_start);
FIELD(StreamGetArgs, context, XLA_FFI_Stream_Get_Args, ctx);
FIELD(StreamGetArgs, stream, XLA_FFI_Stream_Get_Args, stream);
GIVEN(StreamGetArgs, XLA_FFI_Stream_Get_Args);

FIELD(Api, struct_size, XLA_FFI_Api, struct_size);
FIELD(Api, extension_start, XLA_FFI_Api, extension_start);
FIELD(Api, api_version, XLA_FFI_Api, api_version);
FIELD(Api, internal_api, XLA_FFI_Api, internal_api);
FIELD(Api, error_create, XLA_FFI_Api, XLA_FFI_Error_Create);
FIELD(Api, error_destroy, XLA_FFI_Api, XLA_FFI_Error_Destroy);
FIELD(Api, handler_register, XLA_FFI_Api, XLA_FFI_Handler_Register);
FIELD(Api, stream_get, XLA_FFI_Api, XLA_FFI_Stream_Get);

FIELD(Buffer, struct_size, XLA_FFI_Buffer, struct_size);
FIELD(Buffer, extension_start, XLA_FFI_Buffer, extension_start);
FIELD(Buffer, dtype, XLA_FFI_Buffer, dtype);
FIELD(Buffer, data, XLA_FFI_Buffer, data);
FIELD(Buffer, rank, XLA_FFI_Buffer, rank);
FIELD(Buffer, dims, XLA_FFI_Buffer, dims);

FIELD(Buffers, struct_size, XLA_FFI_Args, struct_size);
FIELD(Buffers, extension_start, XLA_FFI_Args, extension_start);
FIELD(Buffers, size, XLA_FFI_Args, size);
FIELD(Buffers, types, XLA_FFI_Args, types);
FIELD(Buffers, items, XLA_FFI_Args, args);
FIELD(Buffers, struct_size, XLA_FFI_Rets, struct_size);
FIELD(Buffers, extension_start, XLA_FFI_Rets, extension_start);
FIELD(Buffers, size, XLA_FFI_Rets, size);
FIELD(Buffers, types, XLA_FFI_Rets, types);
FIELD(Buffers, items, XLA_FFI_Rets, rets);

FIELD(ByteSpan, data, XLA_FFI_ByteSpan, ptr);
FIELD(ByteSpan, size, XLA_FFI_ByteSpan, len);

FIELD(ArrayAttribute, dtype, XLA_FFI_Array, dtype);
FIELD(ArrayAttribute, size, XLA_FFI_Array, size);
FIELD(ArrayAttribute, data, XLA_FFI_Array, data);

FIELD(Attributes, struct_size, XLA_FFI_Attrs, struct_size);
FIELD(Attributes, extension_start, XLA_FFI_Attrs, extension_start);
FIELD(Attributes, size, XLA_FFI_Attrs, size);
FIELD(Attributes, types, XLA_FFI_Attrs, types);
FIELD(Attributes, names, XLA_FFI_Attrs, names);
FIELD(Attributes, values, XLA_FFI_Attrs, attrs);

FIELD(CallFrame, struct_size, XLA_FFI_CallFrame, struct_size);
FIELD(CallFrame, extension_start, XLA_FFI_CallFrame, extension_start);
FIELD(CallFrame, api, XLA_FFI_CallFrame, api);
FIELD(CallFrame, context, XLA_FFI_CallFrame, ctx);
FIELD(CallFrame, stage, XLA_FFI_CallFrame, stage);
FIELD(CallFrame, arguments, XLA_FFI_CallFrame, args);
FIELD(CallFrame, results, XLA_FFI_CallFrame, rets);
PLACE(CallFrame, attributes, XLA_FFI_CallFrame, attrs);

NUMBER(kMetadataExtension, XLA_FFI_Extension_Metadata);
NUMBER(kInvalidArgument, XLA_FFI_Error_Code_INVALID_ARGUMENT);
NUMBER(kResourceExhausted, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED);
NUMBER(kUnimplemented, XLA_FFI_Error_Code_UNIMPLEMENTED);
NUMBER(kInternal, XLA_FFI_Error_Code_INTERNAL);
NUMBER(kPred, XLA_FFI_DataType_PRED);
NUMBER(kS8, XLA_FFI_DataType_S8);
NUMBER(kS16, XLA_FFI_DataType_S16);
NUMBER(kS32, XLA_FFI_DataType_S32);
NUMBER(kS64, XLA_FFI_DataType_S64);
NUMBER(kU8, XLA_FFI_DataType_U8);
NUMBER(kU16, XLA_FFI_DataType_U16);
NUMBER(kU32, XLA_FFI_DataType_U32);
NUMBER(kU64, XLA_FFI_DataType_U64);
NUMBER(kF16, XLA_FFI_DataType_F16);
NUMBER(kF32, XLA_FFI_DataType_F32);
NUMBER(kF64, XLA_FFI_DataType_F64);
NUMBER(kBF16, XLA_FFI_DataType_BF16);
NUMBER(kArrayAttribute, XLA_FFI_AttrType_ARRAY);
NUMBER(kStringAttribute, XLA_FFI_AttrType_STRING);
NUMBER(kExecute, XLA_FFI_ExecutionStage_EXECUTE);
