// The CPU engine's calls through XLA: a handler of its foreign function interface. Nothing of
// Python's is touched.
#pragma once

#include <vector>

#include "abi.h"
#include "request.h"

namespace fastrnn::xla {

// Runs the call of a frame, parameters and all: they are packed for it.
Error* call_cpu(CallFrame* frame);

// Does this thread run such a call?
bool in_call();

// Checks a call of arrays whose values are not known yet, as a call itself does but for the values
// of lengths. Throws fastrnn::Error.
void check_cpu(const Request& request, const Arrays& arrays);

}  // namespace fastrnn::xla
