// A frame of XLA's, with which it calls a handler: arrays and request out of it, and answers to
// XLA.
#pragma once

#include <string>

#include "abi.h"
#include "request.h"

namespace fastrnn::xla {

// What handlers answer when they are asked for the version that they were made for. Older runtimes
// do not say their own then.
void set_version(int major, int minor);

// XLA asks a handler about itself by such a frame before it may be called: true where it did, and
// was answered.
bool answers_query(CallFrame* frame);

// Throws fastrnn::Error where the attributes are not those of `Request`.
Request request_of(const CallFrame& frame);

// device: where the arrays are, as View has it.
Arrays arrays_of(const CallFrame& frame, int device);

// The GPU's stream that a call is to run on. Throws fastrnn::Error where there is none.
void* stream_of(const CallFrame& frame);

// Runs `body(frame)`. What it throws becomes XLA's own error, with the same text.
Error* report_errors(const CallFrame& frame, void (*body)(const CallFrame& frame));

}  // namespace fastrnn::xla
