#include "validate.h"

#include <algorithm>
#include <cstring>

#include "dtype.h"
#include "error.h"

namespace fastrnn {

namespace {

[[noreturn]] void reject(const Spec& spec, Fault fault, const std::string& rule,
                         const std::string& got) {
  throw Error(fault, spec.op, rule + ", got " + got);
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

// An array of a call as it is checked; its name is made where a message needs it.
struct Item {
  const Spec& spec;
  Kind kind;
  const RoleRule& rule;
  int64_t index;
  const View& view;

  std::string name() const { return name_of(rule, spec, kind, index); }
  [[noreturn]] void reject(Fault fault, const std::string& rule_text,
                           const std::string& got) const {
    fastrnn::reject(spec, fault, name() + rule_text, got);
  }
};

void check_dtype(const Item& item) {
  const View& view = item.view;
  if (item.rule.element == ElementRule::kBool) {
    if (view.kind != 'b') item.reject(Fault::kType, " must be bool", dtype_of(view));
    return;
  }
  if (item.rule.element == ElementRule::kInteger) {
    if ((view.kind != 'i' && view.kind != 'u') || !view.native)
      item.reject(Fault::kType, " must be integers in native byte order", dtype_of(view));
    return;
  }
  const ElementType type = type_of_role(item.rule, item.spec, item.index);
  if (view.kind == type.kind && view.itemsize == type.bytes && view.native) return;
  const std::string name = dtype_name(type.kind, type.bytes);
  item.reject(Fault::kType, " must be " + name + " in native byte order", dtype_of(view));
}

// Is given, and has the dtype and this shape.
void check_values(const Item& item, const Shape& shape) {
  if (!item.view.given)
    item.reject(Fault::kValue, " of shape " + to_string(shape) + " is needed", "none");
  check_dtype(item);
  if (item.view.rank != shape.size() || shape_of(item.view) != shape)
    item.reject(Fault::kValue, " must have shape " + to_string(shape),
                to_string(shape_of(item.view)));
}

// Whether a call of this kind of x may have an array in this role.
void check_place(const Item& item, const Problem& p) {
  const Role role = item.rule.role;
  if (role == Role::kLengths && p.packed_x)
    item.reject(Fault::kValue, " must not stand beside batch_sizes, which say them", "both");
  if (role == Role::kLengths && !p.batched)
    item.reject(Fault::kValue, " need a batch: x must have rank 3", "rank 2");
  if ((role == Role::kResets || role == Role::kHolds) && p.packed_x)
    item.reject(Fault::kNotImplemented, " have no kernel beside batch_sizes", "both");
}

Item x_of(const Spec& spec, const View& x) { return {spec, Kind::kInfer, rule_of(Role::kX), 0, x}; }

void check_features(const Spec& spec, const View& x) {
  if (x.shape[x.rank - 1] != spec.inputs)
    reject(spec, Fault::kValue,
           "x must have " + std::to_string(spec.inputs) + " features in its last dimension",
           to_string(shape_of(x)));
}

void check_recompute(const Spec& spec, int64_t recompute) {
  if (recompute < 0)
    reject(spec, Fault::kValue, "recompute must be at least 1 step, or 0 for none",
           std::to_string(recompute));
}

// Checks the arrays of one call by the table.
class Checker {
 public:
  Checker(const Spec& spec, const Call& call, const Problem& problem)
      : spec_(spec), call_(call), problem_(problem) {}

  void inputs() const {
    for_roles(inputs_of(call_.kind), [&](const RoleRule& rule, const Views& items) {
      if (rule.role == Role::kX) return;  // gave the problem
      check_count(rule, items);
      // A list has all of its items, or is empty. Most calls lack most of what may be given.
      const bool optional = rule.use(call_.kind) == Use::kOptionalInput && !rule.place.list;
      if (optional && none_given(items)) return;
      if (!items.count) return;
      const Shapes shapes(*this, rule);
      for (int64_t i = 0; i < items.count; ++i) {
        const Item item = item_of(rule, items, i);
        if (!item.view.given && optional) continue;
        check_place(item, problem_);
        check_values(item, shapes[i]);
        if (rule.layout == Layout::kBlock &&
            !(has_contiguous_rows(item.view) && is_contiguous(item.view)))
          item.reject(Fault::kValue, " must be aligned and contiguous", "other strides");
        check_device(item);
      }
    });
  }

  void outputs() const {
    bool fresh = true;
    for_roles(outputs_of(call_.kind), [&](const RoleRule& rule, const Views& items) {
      check_count(rule, items);
      for (const View& view : items) fresh &= view.fresh || !view.given;
    });
    if (fresh) return;
    std::vector<Item> before;
    for_roles(outputs_of(call_.kind), [&](const RoleRule& rule, const Views& items) {
      if (!items.count) return;
      const Shapes shapes(*this, rule);
      for (int64_t i = 0; i < items.count; ++i) {
        const Item out = item_of(rule, items, i);
        if (!out.view.given && rule.use(call_.kind) == Use::kOptionalOutput) continue;
        if (!out.view.fresh) {
          check_values(out, shapes[i]);
          check_output(out, before);
        }
        before.push_back(out);
      }
    });
  }

 private:
  const Spec& spec_;
  const Call& call_;
  const Problem& problem_;

  template <class F> void for_roles(const RoleList& roles, F f) const {
    for (const RoleRule* rule : roles) f(*rule, items_of(*rule, spec_, call_));
  }
  static bool none_given(const Views& items) {
    return std::none_of(items.begin(), items.end(), [](const View& view) { return view.given; });
  }
  Item item_of(const RoleRule& rule, const Views& items, int64_t i) const {
    return {spec_, call_.kind, rule, i, items.first[i]};
  }

  // Of the items of a role: one for all, or each parameter's or state's own.
  struct Shapes {
    const Checker& checker;
    const RoleRule& rule;
    Shape all;

    Shapes(const Checker& of, const RoleRule& of_rule) : checker(of), rule(of_rule) {
      if (rule.each == Each::kCall || rule.each == Each::kInnerLayer) all = of_item(0);
    }
    Shape operator[](int64_t i) const {
      if (rule.each == Each::kParameter) return parameter_shape(checker.spec_, i);
      return rule.each == Each::kState ? of_item(i) : all;
    }

   private:
    Shape of_item(int64_t i) const {
      return role_shape(rule.role, checker.spec_, checker.problem_, i);
    }
  };

  void check_count(const RoleRule& rule, const Views& items) const {
    if (rule.each == Each::kInnerLayer && call_.has_masks && items.count != spec_.layers - 1)
      reject(spec_, Fault::kValue,
             "dropout_masks must be one for each layer but the last (" +
                 std::to_string(spec_.layers - 1) + ")",
             std::to_string(items.count));
    const int64_t parameters = spec_.passes() * spec_.params_per_pass();
    if (rule.each == Each::kParameter && items.count && items.count != parameters)
      reject(spec_, Fault::kValue,
             "there must be " + std::to_string(parameters) +
                 (rule.role == Role::kParameter ? " parameters" : " gradients"),
             std::to_string(items.count));
  }

  void check_device(const Item& item) const {
    const auto place = [](int device) {
      return device == kHost ? std::string("in host memory") : "on GPU " + std::to_string(device);
    };
    const int here = item.view.device, wanted = call_.x.device;
    if (here == wanted || (item.rule.role == Role::kLengths && here == kHost)) return;
    item.reject(Fault::kValue, " must be " + place(wanted) + ", as x is",
                "an array " + place(here));
  }

  void check_output(const Item& out, const std::vector<Item>& before) const {
    const View& view = out.view;
    check_device(out);
    if (!view.writeable) out.reject(Fault::kValue, " must be writeable", "a read-only array");
    if (!has_contiguous_rows(view))
      out.reject(Fault::kValue, " must be aligned and contiguous in its last dimension",
                 "other strides");
    if (out.rule.layout == Layout::kBlock && !is_contiguous(view))
      out.reject(Fault::kValue, " must be contiguous", "other strides");
    if (!is_injective(view))
      out.reject(Fault::kValue, " must not overlap itself", "an array whose elements share memory");
    for (const Item& other : before) check_apart(out, other);
    for_roles(inputs_of(call_.kind), [&](const RoleRule& rule, const Views& items) {
      for (int64_t i = 0; i < items.count; ++i)
        if (items.first[i].given && items.first[i].device == view.device)
          check_apart(out, item_of(rule, items, i));
    });
  }
  static void check_apart(const Item& out, const Item& other) {
    if (overlap(out.view, other.view))
      out.reject(Fault::kValue, " must not overlap " + other.name(), "arrays that share memory");
  }
};

}  // namespace

void check_spec(const Spec& spec) {
  const auto positive = [&](const char* name, int64_t n) {
    if (n < 1)
      reject(spec, Fault::kValue, std::string(name) + " must be at least 1", std::to_string(n));
  };
  positive("input_size", spec.inputs);
  positive("hidden_size", spec.units);
  positive("num_layers", spec.layers);
  if (spec.projection < 0)
    reject(spec, Fault::kValue, "proj_size must be at least 1, or 0 for none",
           std::to_string(spec.projection));
  const int64_t products = std::max({spec.inputs, spec.layer_outputs(), spec.widest_state()});
  if (spec.scheme && spec.scheme->integers && products > kMostIntegerProducts)
    reject(spec, Fault::kValue,
           "sums of " + std::string(spec.scheme->name) + " must be of at most " +
               std::to_string(kMostIntegerProducts) + " products",
           std::to_string(products));
  // Padding to whole vectors and the planes of split gates are less than this factor.
  const int64_t slack = 64 * spec.layers * 2 * spec.directions;
  const int64_t widest =
      std::max({spec.inputs, spec.directions * spec.units, spec.directions * spec.projection});
  if (widest > (int64_t{1} << 42) || spec.units > (int64_t{1} << 40) ||
      spec.inputs > (int64_t{1} << 40) || spec.layers > (int64_t{1} << 20) ||
      bytes_of({slack, 2 * spec.gates, spec.units + 64, widest + 64}, spec.element_bytes) < 0)
    reject(spec, Fault::kMemory, "weights must be addressable",
           "input_size " + std::to_string(spec.inputs) + ", hidden_size " +
               std::to_string(spec.units) + ", num_layers " + std::to_string(spec.layers));
}

Spec sizes_of(const std::string& cell, int64_t layers, int64_t directions,
              const std::vector<View>& parameters) {
  Spec spec{};
  spec.op = cell;
  spec.layers = layers, spec.directions = directions;
  const bool diag = parse_cell_name(cell).unit_parameters > 0;
  const auto count = static_cast<int64_t>(parameters.size());
  const int64_t passes = layers * directions, each = passes < 1 ? 0 : count / passes;
  if (passes < 1 || count % passes || each < 2 + diag || each > 5 + diag)
    reject(spec, Fault::kValue,
           std::string("there must be ") + (diag ? "3 to 6" : "2 to 5") +
               " parameters for each layer and direction",
           std::to_string(count));
  const View &w_ih = parameters[0], &w_hh = parameters[1];
  if (w_ih.rank != 2 || w_hh.rank != 2)
    reject(spec, Fault::kValue, "weight_ih_l0 and weight_hh_l0 must have rank 2",
           "shapes " + to_string(shape_of(w_ih)) + " and " + to_string(shape_of(w_hh)));
  spec.kind = w_ih.kind;
  spec.element_bytes = static_cast<int>(w_ih.itemsize);
  spec.inputs = w_ih.shape[1], spec.units = w_hh.shape[1];
  spec.bias = each - diag >= 4;
  if ((each - diag) % 2 == 0) return spec;
  const View& w_hr = parameters[static_cast<size_t>(each) - 1];
  if (w_hr.rank != 2)
    reject(spec, Fault::kValue, "weight_hr_l0 must have rank 2",
           "shape " + to_string(shape_of(w_hr)));
  spec.projection = spec.units, spec.units = w_hr.shape[1];
  return spec;
}

void check_parameters(const Spec& spec, const std::vector<View>& views) {
  const std::vector<Parameter> expected = parameters_of(spec);
  if (views.size() != expected.size())
    reject(spec, Fault::kValue, "there must be " + std::to_string(expected.size()) + " parameters",
           std::to_string(views.size()));
  const RoleRule& rule = rule_of(Role::kParameter);
  for (size_t i = 0; i < expected.size(); ++i) {
    check_values({spec, Kind::kInfer, rule, static_cast<int64_t>(i), views[i]}, expected[i].shape);
    const int64_t kind = spec.kind_at(static_cast<int64_t>(i) % spec.params_per_pass());
    if (kind >= kScaleIh) check_scales(spec.op, expected[i].name, views[i]);
  }
}

void check_sizes(const Spec& spec, int64_t T, int64_t B) {
  if (T < 0 || B < 0)
    reject(spec, Fault::kValue, "T and B must not be negative", to_string({T, B}));
  // One array holds at most this much, whatever the tape and the workspace need.
  const int64_t D = spec.directions;
  const int64_t widest = std::max({D * spec.units, D * spec.projection, spec.inputs}) + 64;
  int64_t steps = 0, rows = 0;
  if (__builtin_add_overflow(T, 2, &steps) || __builtin_add_overflow(B, 1, &rows) ||
      bytes_of({spec.layers * D, 4 * (spec.gates + spec.saved + 2), steps, rows, widest},
               spec.element_bytes) < 0)
    reject(spec, Fault::kMemory, "arrays of a call must be addressable",
           "T and B of " + to_string({T, B}));
}

Problem check_input(const Spec& spec, const View& x, bool batch_first, int64_t recompute) {
  if (!x.given) reject(spec, Fault::kType, "x must be an array", "none");
  check_dtype(x_of(spec, x));
  if (x.rank != 2 && x.rank != 3)
    reject(spec, Fault::kRank,
           std::string("x must have shape ") + (batch_first ? "(B, T, I)" : "(T, B, I)") +
               " or (T, I)",
           to_string(shape_of(x)));
  check_recompute(spec, recompute);
  Problem p;
  p.batched = x.rank == 3;
  p.batch_first = batch_first;
  p.recompute = recompute;
  p.T = x.shape[p.time_axis()];
  p.B = p.batched ? x.shape[p.batch_axis()] : 1;
  check_features(spec, x);
  check_sizes(spec, p.T, p.B);
  return p;
}

namespace {

// An integer of any size; one that int64 cannot hold becomes negative.
int64_t integer_at(const View& view, int64_t i) {
  uint64_t bits = 0;
  std::memcpy(&bits, view.data + i * view.strides[0], view.itemsize);
  const int shift = 64 - 8 * static_cast<int>(view.itemsize);
  return view.kind == 'i' ? static_cast<int64_t>(bits << shift) >> shift
                          : static_cast<int64_t>(bits);
}
std::string text_of(const View& view, int64_t n) {
  return view.kind == 'u' ? std::to_string(static_cast<uint64_t>(n)) : std::to_string(n);
}

// x and batch_sizes as a packed sequence has them.
Problem check_packed_input(const Spec& spec, const Call& call) {
  const View &x = call.x, &sizes = call.batch_sizes;
  check_dtype(x_of(spec, x));
  if (x.rank != 2)
    reject(spec, Fault::kRank, "x must have shape (rows, I) where batch_sizes are given",
           to_string(shape_of(x)));
  check_features(spec, x);
  Problem p;
  p.packed = p.packed_x = true;
  p.batch_first = call.batch_first;
  p.recompute = call.recompute;
  p.rows = x.shape[0];
  p.T = sizes.rank == 1 ? sizes.shape[0] : 0;
  check_values({spec, call.kind, rule_of(Role::kBatchSizes), 0, sizes}, {p.T});
  std::vector<int64_t> all(static_cast<size_t>(p.T));
  read_batch_sizes(spec, sizes, p.rows, all.data());
  p.B = all.empty() ? 0 : all[0];
  for (int64_t t = 0; t < p.T; t += std::max<int64_t>(1, p.recompute))
    p.kept_rows += all[static_cast<size_t>(t)];
  check_sizes(spec, p.rows, 1);
  check_sizes(spec, 1, p.B);
  return p;
}

Problem rows_of(const Spec& spec, const Call& call) {
  if (call.x.given && call.batch_sizes.given) {
    check_recompute(spec, call.recompute);
    return check_packed_input(spec, call);
  }
  Problem p = check_input(spec, call.x, call.batch_first, call.recompute);
  const bool whole = call.backward() ? call.inner.rank != 3 : call.whole_tape;
  if (!call.lengths.given || whole) return p;
  const Item lengths{spec, call.kind, rule_of(Role::kLengths), 0, call.lengths};
  check_place(lengths, p);
  check_values(lengths, {p.B});
  std::vector<int64_t> all(static_cast<size_t>(p.B));
  read_lengths(spec, p, call.lengths, all.data());
  p.packed = true;
  for (const int64_t n : all)
    p.rows += n, p.kept_rows += ceil_div(n, std::max<int64_t>(1, p.recompute));
  return p;
}

}  // namespace

Problem check_rows(const Spec& spec, const Call& call) {
  Problem p = rows_of(spec, call);
  p.masks_of_gates = call.recurrent_masks.rank > (p.batched ? 3 : 2);
  return p;
}

void read_lengths(const Spec& spec, const Problem& problem, const View& lengths, int64_t* all) {
  std::fill_n(all, problem.B, problem.T);
  if (!lengths.given) return;
  for (int64_t b = 0; b < problem.B; ++b) {
    const int64_t n = all[b] = integer_at(lengths, b);
    if (n < 0 || n > problem.T)
      reject(spec, Fault::kValue, "lengths must be within 0.." + std::to_string(problem.T),
             text_of(lengths, n));
  }
}

void read_batch_sizes(const Spec& spec, const View& batch_sizes, int64_t rows, int64_t* all) {
  int64_t left = rows;
  for (int64_t t = 0; t < batch_sizes.shape[0]; ++t) {
    const int64_t n = all[t] = integer_at(batch_sizes, t);
    if (n < 1 || n > left || (t > 0 && n > all[t - 1]))
      reject(spec, Fault::kValue,
             "batch_sizes must be at least 1, never rise, and add up to the " +
                 std::to_string(rows) + " rows of x",
             text_of(batch_sizes, n) + " at step " + std::to_string(t));
    left -= n;
  }
  if (left != 0)
    reject(spec, Fault::kValue,
           "batch_sizes must add up to the " + std::to_string(rows) + " rows of x",
           std::to_string(rows - left));
}

void check_call(const Spec& spec, const Problem& problem, const Call& call) {
  if (spec.scheme && call.kind != Kind::kInfer)
    reject(spec, Fault::kNotImplemented, "calls of quantized weights must keep no tape",
           "one for gradients");
  const Checker checker(spec, call, problem);
  checker.inputs();
  checker.outputs();
}

}  // namespace fastrnn
