#include "frame.h"

#include <atomic>
#include <exception>
#include <new>
#include <string_view>

#include "../core/error.h"

namespace fastrnn::xla {

namespace {

// An attribute's value by its name; null where there is none of this type.
const void* find(const Attributes& attributes, std::string_view name, AttributeType type) {
  for (int64_t i = 0; i < attributes.size; ++i)
    if (std::string_view(attributes.names[i]->data, attributes.names[i]->size) == name)
      return attributes.types[i] == type ? attributes.values[i] : nullptr;
  return nullptr;
}

// Of kind '?' where no array of a call has the type.
ElementType element_of(int32_t type) {
  switch (type) {
    case kPred: return {'b', 1};
    case kS8: return {'i', 1};
    case kS16: return {'i', 2};
    case kS32: return {'i', 4};
    case kS64: return {'i', 8};
    case kU8: return {'u', 1};
    case kU16: return {'u', 2};
    case kU32: return {'u', 4};
    case kU64: return {'u', 8};
    case kF16: return {'f', 2};
    case kF32: return {'f', 4};
    case kF64: return {'f', 8};
    case kBF16: return {'B', 2};
    default: return {'?', 1};
  }
}

View view_of(const Buffer& buffer, bool writeable, int device) {
  const ElementType element = element_of(buffer.dtype);
  View view = fresh_view(buffer.data, element, Shape(buffer.dims, buffer.dims + buffer.rank));
  view.writeable = writeable;
  view.fresh = false;
  view.device = device;
  view.rank = static_cast<int>(buffer.rank);
  return view;
}

std::vector<View> views_of(const Buffers& buffers, bool writeable, int device) {
  std::vector<View> views;
  views.reserve(static_cast<size_t>(buffers.size));
  for (int64_t i = 0; i < buffers.size; ++i)
    views.push_back(view_of(*static_cast<const Buffer*>(buffers.items[i]), writeable, device));
  return views;
}

ErrorCode code_of(Fault fault) {
  switch (fault) {
    case Fault::kMemory: return kResourceExhausted;
    case Fault::kNotImplemented: return kUnimplemented;
    case Fault::kRuntime: return kInternal;
    case Fault::kValue:
    case Fault::kRank:
    case Fault::kType: break;
  }
  return kInvalidArgument;
}

Error* error(const CallFrame& frame, ErrorCode code, const char* message) {
  ErrorCreateArgs made{sizeof(ErrorCreateArgs), nullptr, message, code};
  return frame.api->error_create(&made);
}

std::atomic<int> version_major{0}, version_minor{1};

}  // namespace

void set_version(int major, int minor) { version_major = major, version_minor = minor; }

bool answers_query(CallFrame* frame) {
  const Extension* extension = frame->extension_start;
  if (!extension || extension->type != kMetadataExtension) return false;
  Metadata* metadata = reinterpret_cast<const MetadataExtension*>(extension)->metadata;
  metadata->api_version.major_version = version_major;
  metadata->api_version.minor_version = version_minor;
  return true;
}

Request request_of(const CallFrame& frame) {
  const auto* cell = static_cast<const ByteSpan*>(find(frame.attributes, "cell", kStringAttribute));
  const auto* options =
      static_cast<const ArrayAttribute*>(find(frame.attributes, "options", kArrayAttribute));
  if (!cell || !options || options->dtype != kS64)
    throw fastrnn::Error(Fault::kValue, "jax",
                         "a call must have a cell's name and options of int64, got others");
  return Request(std::string(cell->data, cell->size), static_cast<const int64_t*>(options->data),
                 static_cast<int64_t>(options->size));
}

Arrays arrays_of(const CallFrame& frame, int device) {
  return {views_of(frame.arguments, false, device), views_of(frame.results, true, device)};
}

void* stream_of(const CallFrame& frame) {
  StreamGetArgs args{sizeof(StreamGetArgs), nullptr, frame.context, nullptr};
  Error* failed = frame.api->stream_get(&args);
  if (!failed) return args.stream;
  ErrorDestroyArgs destroyed{sizeof(ErrorDestroyArgs), nullptr, failed};
  frame.api->error_destroy(&destroyed);
  throw fastrnn::Error(Fault::kRuntime, "jax", "a call on a GPU must have a stream, got none");
}

Error* report_errors(const CallFrame& frame, void (*body)(const CallFrame& frame)) {
  try {
    body(frame);
    return nullptr;
  } catch (const fastrnn::Error& e) {
    return error(frame, code_of(e.fault()), e.what());
  } catch (const std::bad_alloc&) {
    return error(frame, kResourceExhausted,
                 "[jax] memory for the call must be available, got none");
  } catch (const std::exception& e) {
    return error(frame, kInternal, e.what());
  }
}

}  // namespace fastrnn::xla
