#include "validate.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "error.h"

namespace fastrnn {

namespace {

[[noreturn]] void reject(const Spec& spec, Fault fault, const std::string& rule,
                         const std::string& got) {
  throw Error(fault, spec.op, rule + ", got " + got);
}

void check_dtype(const Spec& spec, const std::string& name, const View& view, bool wide = false) {
  const char kind = wide ? 'f' : spec.kind;
  const int64_t bytes = wide ? spec.wide_bytes() : spec.element_bytes;
  if (view.kind == kind && view.itemsize == bytes && view.native) return;
  reject(spec, Fault::kType, name + " must be " + dtype_name(kind, bytes) + " in native byte order",
         dtype_of(view));
}

// Product of sizes times the element's bytes, or -1 where int64 cannot hold it.
int64_t bytes_of(const Shape& shape, int64_t itemsize) {
  int64_t bytes = itemsize;
  for (int64_t n : shape) {
    if (n == 0) return 0;
    if (__builtin_mul_overflow(bytes, n, &bytes)) return -1;
  }
  return bytes;
}

// The bytes from the lowest to past the highest element.
struct Extent {
  const char *low, *high;
};

bool is_empty(const View& view) {
  for (int i = 0; i < view.rank; ++i)
    if (view.shape[i] == 0) return true;
  return false;
}

Extent extent_of(const View& view) {
  Extent e{view.data, view.data + view.itemsize};
  for (int i = 0; i < view.rank; ++i) {
    const int64_t reach = view.strides[i] * (view.shape[i] - 1);
    (reach < 0 ? e.low : e.high) += reach;
  }
  return e;
}

// Do two arrays share memory? Arrays whose extents interleave (two halves of the rows of one
// buffer) are apart if, modulo the common divisor of all outer strides, their inner rows are.
bool overlap(const View& a, const View& b) {
  if (is_empty(a) || is_empty(b)) return false;
  const Extent ea = extent_of(a), eb = extent_of(b);
  if (ea.high <= eb.low || eb.high <= ea.low) return false;
  int64_t period = 0;
  int64_t low[2] = {0, 0}, width[2] = {0, 0};
  const View* views[2] = {&a, &b};
  for (int v = 0; v < 2; ++v) {
    const View& view = *views[v];
    width[v] = view.itemsize;
    for (int i = 0; i < view.rank; ++i) {
      if (view.shape[i] == 1) continue;
      if (i == view.rank - 1) {
        const int64_t reach = view.strides[i] * (view.shape[i] - 1);
        low[v] = std::min<int64_t>(0, reach);
        width[v] += std::abs(reach);
      } else {
        period = std::gcd(period, view.strides[i]);
      }
    }
  }
  if (period == 0) return true;
  const int64_t gap = ((b.data + low[1]) - (a.data + low[0])) % period;
  const int64_t offset = gap < 0 ? gap + period : gap;
  return !(offset >= width[0] && offset + width[1] <= period);
}

// Does every element have an address of its own? Sorted by stride, each dimension must step over
// all that the smaller ones span.
bool is_injective(const View& view) {
  if (is_empty(view)) return true;
  std::vector<std::pair<int64_t, int64_t>> dims;
  for (int i = 0; i < view.rank; ++i)
    if (view.shape[i] > 1) dims.push_back({std::abs(view.strides[i]), view.shape[i]});
  std::sort(dims.begin(), dims.end());
  int64_t span = view.itemsize;
  for (const auto& [stride, count] : dims) {
    if (stride < span) return false;
    span += stride * (count - 1);
  }
  return true;
}

// What a kernel can store to by vectors.
bool has_whole_rows(const View& view) {
  if (is_empty(view)) return true;
  if (reinterpret_cast<uintptr_t>(view.data) % static_cast<uintptr_t>(view.itemsize)) return false;
  for (int i = 0; i < view.rank; ++i)
    if (view.shape[i] > 1 && (i == view.rank - 1 ? view.strides[i] != view.itemsize
                                                 : view.strides[i] % view.itemsize != 0))
      return false;
  return true;
}

}  // namespace

bool is_contiguous(const View& view) {
  if (is_empty(view)) return true;
  int64_t expected = view.itemsize;
  for (int i = view.rank - 1; i >= 0; --i) {
    if (view.shape[i] > 1 && view.strides[i] != expected) return false;
    expected *= view.shape[i];
  }
  return true;
}

void check_spec(const Spec& spec) {
  const auto positive = [&](const char* name, int64_t n) {
    if (n < 1)
      reject(spec, Fault::kValue, std::string(name) + " must be at least 1", std::to_string(n));
  };
  positive("input_size", spec.inputs);
  positive("hidden_size", spec.units);
  positive("num_layers", spec.layers);
  // Padding to whole vectors and the planes of split gates are less than this factor.
  const int64_t slack = 64 * spec.layers * 2 * spec.directions;
  const int64_t widest = std::max(spec.inputs, spec.directions * spec.units);
  if (spec.units > (int64_t{1} << 40) || spec.inputs > (int64_t{1} << 40) ||
      spec.layers > (int64_t{1} << 20) ||
      bytes_of({slack, 2 * spec.gates, spec.units + 64, widest + 64}, spec.element_bytes) < 0)
    reject(spec, Fault::kMemory, "weights must be addressable",
           "input_size " + std::to_string(spec.inputs) + ", hidden_size " +
               std::to_string(spec.units) + ", num_layers " + std::to_string(spec.layers));
}

void check_values(const Spec& spec, const std::string& name, const View& view, const Shape& shape,
                  bool wide) {
  if (!view.given)
    reject(spec, Fault::kValue, name + " of shape " + to_string(shape) + " is needed", "none");
  check_dtype(spec, name, view, wide);
  if (view.rank != shape.size() || shape_of(view) != shape)
    reject(spec, Fault::kValue, name + " must have shape " + to_string(shape),
           to_string(shape_of(view)));
}

void check_block(const Spec& spec, const std::string& name, const View& view, const Shape& shape,
                 bool wide) {
  check_values(spec, name, view, shape, wide);
  if (!has_whole_rows(view) || !is_contiguous(view))
    reject(spec, Fault::kValue, name + " must be aligned and contiguous", "other strides");
}

void check_rows(const Spec& spec, const std::string& name, const View& view, const Shape& shape) {
  check_values(spec, name, view, shape);
  if (!has_whole_rows(view))
    reject(spec, Fault::kValue, name + " must be aligned and contiguous in its last dimension",
           "other strides");
}

Spec sizes_of(const std::string& cell, int64_t layers, int64_t directions,
              const std::vector<View>& parameters) {
  Spec spec{};
  spec.op = cell;
  spec.layers = layers, spec.directions = directions;
  const auto count = static_cast<int64_t>(parameters.size());
  const int64_t passes = layers * directions;
  if (passes < 1 || (count != 4 * passes && count != 2 * passes))
    reject(spec, Fault::kValue, "there must be 2 or 4 parameters for each layer and direction",
           std::to_string(count));
  const View &w_ih = parameters[0], &w_hh = parameters[1];
  if (w_ih.rank != 2 || w_hh.rank != 2)
    reject(spec, Fault::kValue, "weight_ih_l0 and weight_hh_l0 must have rank 2",
           "shapes " + to_string(shape_of(w_ih)) + " and " + to_string(shape_of(w_hh)));
  spec.kind = w_ih.kind;
  spec.element_bytes = static_cast<int>(w_ih.itemsize);
  spec.inputs = w_ih.shape[1], spec.units = w_hh.shape[1];
  spec.bias = count == 4 * passes;
  return spec;
}

void check_parameters(const Spec& spec, const std::vector<View>& views) {
  const std::vector<Parameter> expected = parameters_of(spec);
  if (views.size() != expected.size())
    reject(spec, Fault::kValue, "there must be " + std::to_string(expected.size()) + " parameters",
           std::to_string(views.size()));
  for (size_t i = 0; i < expected.size(); ++i)
    check_values(spec, expected[i].name, views[i], expected[i].shape);
}

void check_sizes(const Spec& spec, int64_t T, int64_t B) {
  if (T < 0 || B < 0)
    reject(spec, Fault::kValue, "T and B must not be negative", to_string({T, B}));
  // One array holds at most this much, whatever the tape and the workspace need.
  const int64_t D = spec.directions, widest = std::max(D * spec.units, spec.inputs) + 64;
  int64_t steps = 0, rows = 0;
  if (__builtin_add_overflow(T, 2, &steps) || __builtin_add_overflow(B, 1, &rows) ||
      bytes_of({spec.layers * D, 4 * (spec.gates + spec.saved + 2), steps, rows, widest},
               spec.element_bytes) < 0)
    reject(spec, Fault::kMemory, "arrays of a call must be addressable",
           "T and B of " + to_string({T, B}));
}

Problem check_input(const Spec& spec, const View& x, bool batch_first, int64_t recompute) {
  if (!x.given) reject(spec, Fault::kType, "x must be an array", "none");
  check_dtype(spec, "x", x);
  if (x.rank != 2 && x.rank != 3)
    reject(spec, Fault::kRank,
           std::string("x must have shape ") + (batch_first ? "(B, T, I)" : "(T, B, I)") +
               " or (T, I)",
           to_string(shape_of(x)));
  if (recompute < 0)
    reject(spec, Fault::kValue, "recompute must be at least 1 step, or 0 for none",
           std::to_string(recompute));
  Problem p;
  p.batched = x.rank == 3;
  p.batch_first = batch_first;
  p.recompute = recompute;
  p.T = x.shape[p.batched && batch_first ? 1 : 0];
  p.B = p.batched ? x.shape[batch_first ? 0 : 1] : 1;
  if (x.shape[x.rank - 1] != spec.inputs)
    reject(spec, Fault::kValue,
           "x must have " + std::to_string(spec.inputs) + " features in its last dimension",
           to_string(shape_of(x)));
  check_sizes(spec, p.T, p.B);
  return p;
}

void check_lengths(const Spec& spec, const Problem& problem, const View& lengths) {
  if (!lengths.given) return;
  if (!problem.batched)
    reject(spec, Fault::kValue, "lengths need a batch: x must have rank 3", "rank 2");
  if ((lengths.kind != 'i' && lengths.kind != 'u') || !lengths.native)
    reject(spec, Fault::kType, "lengths must be integers in native byte order", dtype_of(lengths));
  if (lengths.rank != 1 || lengths.shape[0] != problem.B)
    reject(spec, Fault::kValue, "lengths must have shape " + to_string({problem.B}),
           to_string(shape_of(lengths)));
}

void read_lengths(const Spec& spec, const Problem& problem, const View& lengths, int64_t* all) {
  check_lengths(spec, problem, lengths);
  std::fill_n(all, problem.B, problem.T);
  if (!lengths.given) return;
  for (int64_t b = 0; b < problem.B; ++b) {
    const char* p = lengths.data + b * lengths.strides[0];
    uint64_t bits = 0;
    std::memcpy(&bits, p, lengths.itemsize);
    const int shift = 64 - 8 * static_cast<int>(lengths.itemsize);
    const int64_t n = lengths.kind == 'i' ? static_cast<int64_t>(bits << shift) >> shift
                                          : static_cast<int64_t>(bits);
    if (n < 0 || n > problem.T)
      reject(spec, Fault::kValue, "lengths must be within 0.." + std::to_string(problem.T),
             lengths.kind == 'u' ? std::to_string(bits) : std::to_string(n));
    all[b] = n;
  }
}

int check_device(const Spec& spec, const std::vector<Named>& arrays) {
  const auto place = [](int device) {
    return device == kHost ? std::string("in host memory") : "on GPU " + std::to_string(device);
  };
  const Named* first = nullptr;
  for (const Named& array : arrays) {
    if (!array.view->given) continue;
    if (!first) first = &array;
    if (array.view->device != first->view->device)
      reject(spec, Fault::kValue,
             array.name + " must be " + place(first->view->device) + ", as " + first->name + " is",
             "an array " + place(array.view->device));
  }
  return first ? first->view->device : kHost;
}

void check_resets(const Spec& spec, const Problem& problem, const View& resets) {
  if (!resets.given) return;
  if (resets.kind != 'b') reject(spec, Fault::kType, "resets must be bool", dtype_of(resets));
  Shape shape = problem.sequence(1);
  shape.pop_back();
  if (resets.rank != shape.size() || shape_of(resets) != shape)
    reject(spec, Fault::kValue, "resets must have shape " + to_string(shape),
           to_string(shape_of(resets)));
}

void check_outputs(const Spec& spec, const std::vector<Output>& outputs,
                   const std::vector<Named>& inputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Output& out = outputs[i];
    if (out.view->fresh) continue;
    check_values(spec, out.name, *out.view, out.shape, out.wide);
    if (!out.view->writeable)
      reject(spec, Fault::kValue, out.name + " must be writeable", "a read-only array");
    if (!has_whole_rows(*out.view))
      reject(spec, Fault::kValue,
             out.name + " must be aligned and contiguous in its last dimension", "other strides");
    if (out.contiguous && !is_contiguous(*out.view))
      reject(spec, Fault::kValue, out.name + " must be contiguous", "other strides");
    if (!is_injective(*out.view))
      reject(spec, Fault::kValue, out.name + " must not overlap itself",
             "an array whose elements share memory");
    for (size_t j = 0; j < i; ++j)
      if (overlap(*out.view, *outputs[j].view))
        reject(spec, Fault::kValue, out.name + " must not overlap " + outputs[j].name,
               "arrays that share memory");
    for (const Named& in : inputs)
      if (in.view->given && overlap(*out.view, *in.view))
        reject(spec, Fault::kValue, out.name + " must not overlap " + in.name,
               "arrays that share memory");
  }
}

namespace {

// Names of the states' arrays, for messages.
const char* const kInitial[kMaxStates] = {"h0", "c0"};
const char* const kFinal[kMaxStates] = {"hn", "cn"};
const char* const kInitialGradient[kMaxStates] = {"dh0", "dc0"};
const char* const kFinalGradient[kMaxStates] = {"dhn", "dcn"};

}  // namespace

Problem check_inputs(const Spec& spec, const CallInputs& call) {
  const Problem p = check_input(spec, call.x, call.batch_first, call.recompute);
  const Shape state = state_shape(spec, p);
  for (int k = 0; k < spec.states; ++k)
    if (call.initial[k].given) check_values(spec, kInitial[k], call.initial[k], state, k > 0);
  check_resets(spec, p, call.resets);
  if (call.has_masks && static_cast<int64_t>(call.masks.size()) != spec.layers - 1)
    throw Error(Fault::kValue, spec.op,
                "dropout_masks must be one for each layer but the last (" +
                    std::to_string(spec.layers - 1) + "), got " +
                    std::to_string(call.masks.size()));
  for (size_t l = 0; l < call.masks.size(); ++l)
    check_values(spec, "dropout mask " + std::to_string(l), call.masks[l], y_shape(spec, p));
  return p;
}

std::vector<Named> named_inputs(const Spec& spec, const CallInputs& call) {
  std::vector<Named> in = {{"x", &call.x}, {"lengths", &call.lengths}, {"resets", &call.resets}};
  for (int k = 0; k < spec.states; ++k) in.push_back({kInitial[k], &call.initial[k]});
  for (const View& mask : call.masks) in.push_back({"a dropout mask", &mask});
  return in;
}

void check_forward(const Spec& spec, const Problem& p, const ForwardCall& call) {
  bool fresh = call.y.fresh;
  for (const View* v : {&call.tape.inner, &call.tape.states, &call.tape.saved})
    fresh &= !call.keep_tape || v->fresh;
  for (int k = 0; k < spec.states; ++k) fresh &= call.final[k].fresh || !call.final[k].given;
  if (fresh) return;
  std::vector<Output> out = {{"y", &call.y, y_shape(spec, p)}};
  for (int k = 0; k < spec.states; ++k)
    if (call.final[k].given)
      out.push_back({kFinal[k], &call.final[k], state_shape(spec, p), false, k > 0});
  if (call.keep_tape) {
    const TapeShapes shapes = tape_shapes(spec, p);
    out.push_back({"tape inner", &call.tape.inner, shapes.inner, true});
    out.push_back({"tape states", &call.tape.states, shapes.states, true, true});
    out.push_back({"tape saved", &call.tape.saved, shapes.saved, true});
  }
  check_outputs(spec, out, named_inputs(spec, call));
}

void check_backward(const Spec& spec, const Problem& p, const BackwardCall& call) {
  const TapeShapes shapes = tape_shapes(spec, p);
  check_values(spec, "y of the tape", call.y, y_shape(spec, p));
  check_block(spec, "tape inner", call.tape.inner, shapes.inner);
  check_block(spec, "tape states", call.tape.states, shapes.states, true);
  check_block(spec, "tape saved", call.tape.saved, shapes.saved);
  check_values(spec, "dy", call.dy, y_shape(spec, p));
  for (int k = 0; k < spec.states; ++k)
    if (call.dfinal[k].given)
      check_values(spec, kFinalGradient[k], call.dfinal[k], state_shape(spec, p), k > 0);
  const int64_t count = spec.layers * spec.directions * spec.params_per_pass();
  if (!call.dparameters.empty() && static_cast<int64_t>(call.dparameters.size()) != count)
    throw Error(Fault::kValue, spec.op,
                "there must be " + std::to_string(count) + " gradients, got " +
                    std::to_string(call.dparameters.size()));
  bool fresh = call.dx.fresh || !call.dx.given;
  for (int k = 0; k < spec.states; ++k) fresh &= call.dinitial[k].fresh;
  for (const View& v : call.dparameters) fresh &= v.fresh;
  if (fresh) return;

  std::vector<Named> in = named_inputs(spec, call);
  for (const View* v : {&call.y, &call.tape.inner, &call.tape.states, &call.tape.saved, &call.dy})
    in.push_back({"the tape or dy", v});
  std::vector<Output> out;
  if (call.dx.given) out.push_back({"dx", &call.dx, p.sequence(spec.inputs)});
  for (int k = 0; k < spec.states; ++k) {
    in.push_back({kFinalGradient[k], &call.dfinal[k]});
    out.push_back({kInitialGradient[k], &call.dinitial[k], state_shape(spec, p), false, k > 0});
  }
  const std::vector<Parameter> parameters = parameters_of(spec);
  for (size_t i = 0; i < call.dparameters.size(); ++i)
    out.push_back({"d" + parameters[i].name, &call.dparameters[i], parameters[i].shape, true});
  check_outputs(spec, out, in);
}

}  // namespace fastrnn
