// Every kind of pass of every cell on the emulator, at the smallest shapes that use every
// primitive: for sanitizers, and for seeing that each primitive that orders memory is missed when
// it is taken away. Forward and backward in each mode must give what the stepwise mode gives, which
// alone has steps of two products.
//
//   test_races [--remove NAME] [--list] [--quick] [--cell NAME]
//
// remove: without a primitive, which must be missed; so the first failure ends the run.
// quick: in one schedule, and without cells whose functions are chosen or that have two products,
// since these add no primitive.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "core/validate.h"
#include "cuda/executor.h"
#include "device_emulated.h"
#include "emulator.h"

namespace {

using namespace fastrnn;
using namespace fastrnn::gpu;

// The cell of a kernel: its own, or one with functions to choose and all parameters; and whether
// its h is projected.
std::pair<std::string, bool> served_by(const std::string& kernel) {
  for (const char* cell :
       {"rnn(softplus)", "lstm", "lstm_peephole", "lstm_coupled_peephole",
        "gru(hard_sigmoid(0.2, 0.5), elu(0.5), clip=0.5)", "gru_reset_before(clip=0.5)"})
    for (const bool projected : {false, true})
      if (kernel_name(parse_cell_name(cell), projected) == kernel) return {cell, projected};
  return {kernel, false};
}

// A projected h has so many values.
constexpr int64_t kProjection = 3;

struct CaseSizes {
  int64_t T, B, H;
  int shared_kib = 227;  // of a block of the device
};

std::mt19937 random_numbers(1);

// An array of floats and its View.
struct Block {
  std::vector<float> values;
  View view;
  explicit Block(const Shape& shape, bool random = true)
      : values(static_cast<size_t>(elements_of(shape))) {
    std::uniform_real_distribution<float> uniform(-0.5f, 0.5f);
    for (float& v : values) v = random ? uniform(random_numbers) : 0.0f;
    view = fresh_view(values.data(), kFloat32, shape);
    view.device = 0;
  }
};

// The library of the arrays: its products are loops.
class Loops : public Library {
 public:
  int add(const View& view) {
    views_.push_back(view);
    return static_cast<int>(views_.size()) - 1;
  }
  std::vector<View> allocate(const std::vector<Request>& requests, int* first) override {
    *first = static_cast<int>(views_.size());
    std::vector<View> made;
    for (const Request& request : requests) {
      blocks_.push_back(std::make_unique<Block>(request.shape, false));
      made.push_back(blocks_.back()->view);
      add(made.back());
    }
    return made;
  }
  void multiply(const Products& products, const ColumnSums& sums) override {
    for (const ColumnSum& sum : sums)
      for (int64_t j = 0; j < sum.of.columns; ++j) {
        float& to = reinterpret_cast<float*>(views_[size_t(sum.vector)].data)[sum.first + j];
        double total = sum.accumulate ? to : 0;
        for (int64_t i = 0; i < sum.of.rows; ++i) total += *at(sum.of, i, j);
        to = float(total);
      }
    for (const Product& product : products) multiply(product);
  }
  void round(int, int, int) override {}  // nothing here has 16 bits
  std::unique_ptr<Repeated> prepare(const Products& products) override {
    struct Again : Repeated {
      Loops* loops;
      Products products;
      void run() override { loops->multiply(products, {}); }
      void run_on(void*) override { run(); }
    };
    auto again = std::make_unique<Again>();
    again->loops = this, again->products = products;
    return again;
  }
  bool can_be_recorded() const override { return true; }

 private:
  std::vector<View> views_;
  std::vector<std::unique_ptr<Block>> blocks_;

  float* at(const Operand& o, int64_t i, int64_t j) const {
    const View& view = views_[size_t(o.array)];
    const int64_t width = view.shape[view.rank - 1];
    return reinterpret_cast<float*>(view.data) + (o.row + i) * width + o.column + j;
  }
  void multiply(const Product& p) {
    const int64_t depth = p.transpose_a ? p.a.rows : p.a.columns;
    for (int64_t i = 0; i < p.c.rows; ++i)
      for (int64_t j = 0; j < p.c.columns; ++j) {
        double sum = p.accumulate ? *at(p.c, i, j) : 0;
        for (int64_t k = 0; k < depth; ++k)
          sum += double(p.transpose_a ? *at(p.a, k, i) : *at(p.a, i, k)) *
                 (p.transpose_b ? *at(p.b, j, k) : *at(p.b, k, j));
        *at(p.c, i, j) = float(sum);
      }
  }
};

using Results = std::map<std::string, std::vector<float>>;

// One layer, two directions, lengths and resets.
struct Case {
  Stack stack;
  CaseSizes n;
  std::vector<Block> parameters, initial, dfinal;
  std::vector<int64_t> lengths;
  std::vector<uint8_t> resets;
  Block x, dy;

  Case(const std::string& kernel, CaseSizes sizes)
      : stack(stack_of(kernel, sizes.H)),
        n(sizes),
        x({n.T, n.B, 3}),
        dy({n.T, n.B, stack.spec.layer_outputs()}) {
    for (const Parameter& p : parameters_of(stack.spec)) parameters.emplace_back(p.shape);
    for (int64_t k = 0; k < stack.spec.states; ++k) {
      initial.emplace_back(Shape{2, n.B, stack.spec.state_width(k)});
      dfinal.emplace_back(Shape{2, n.B, stack.spec.state_width(k)});
    }
    for (int64_t b = 0; b < n.B; ++b) lengths.push_back(b % 2 ? n.T - 1 : n.T);
    for (int64_t i = 0; i < n.T * n.B; ++i) resets.push_back(i % 5 == 3);
  }

  static Stack stack_of(const std::string& kernel, int64_t units) {
    const auto [cell, projected] = served_by(kernel);
    Spec spec{};
    spec.op = cell, spec.projection = projected ? kProjection : 0;
    spec.layers = 1, spec.directions = 2, spec.inputs = 3, spec.units = units, spec.bias = true;
    return make_stack("float32", spec);
  }

  Call inputs() const {
    Call call;
    call.x = x.view;
    for (size_t k = 0; k < initial.size(); ++k) call.initial[k] = initial[k].view;
    call.lengths = fresh_view(const_cast<int64_t*>(lengths.data()), {'i', 8}, {n.B});
    call.lengths.device = 0;
    call.resets = fresh_view(const_cast<uint8_t*>(resets.data()), {'b', 1}, {n.T, n.B});
    call.resets.device = 0;
    for (const Block& p : parameters) call.parameters.push_back(p.view);
    return call;
  }

  // Gives the results of a pass their memory, under the names of the table of roles.
  struct Outputs {
    std::vector<std::unique_ptr<Block>> blocks;
    std::map<std::string, const Block*> named;
  };
  void give(Call& call, const Problem& p, Outputs* outputs) const {
    const std::vector<Parameter> all = parameters_of(stack.spec);
    if (call.backward()) call.dparameters.resize(all.size());
    for (const RoleRule& rule : kRoles) {
      if (!is_output(rule.use(call.kind))) continue;
      const Views items = items_of(rule, stack.spec, call);
      for (int64_t i = 0; i < items.count; ++i) {
        const Shape shape = rule.each == Each::kParameter ? all[size_t(i)].shape
                                                          : role_shape(rule.role, stack.spec, p, i);
        outputs->blocks.push_back(std::make_unique<Block>(shape, false));
        item_of(rule, i, call) = outputs->blocks.back()->view;
        outputs->named[name_of(rule, stack.spec, call.kind, i)] = outputs->blocks.back().get();
      }
    }
  }

  void execute_pass(Call& call, const Problem& p) const {
    check_call(stack.spec, p, call);
    Loops loops;
    Numbers numbers;
    for (const RoleRule& rule : kRoles) {
      const Views items = items_of(rule, stack.spec, call);
      for (const View& view : items) {
        const int number = loops.add(view);
        if (&view == items.first) numbers.first[static_cast<int>(rule.role)] = number;
      }
    }
    gpu::execute(stack, call, p, numbers, loops, nullptr);
  }

  Results run() const {
    Outputs outputs;
    Call forward = inputs();
    forward.kind = Kind::kForward;
    const Problem p = check_input(stack.spec, forward.x, false);
    give(forward, p, &outputs);
    execute_pass(forward, p);
    Call backward = forward;
    backward.kind = Kind::kBackward;
    backward.dy = dy.view;
    for (size_t k = 0; k < dfinal.size(); ++k) backward.dfinal[k] = dfinal[k].view;
    give(backward, p, &outputs);
    execute_pass(backward, p);
    Results results;
    for (const auto& [name, block] : outputs.named) results[name] = block->values;
    return results;
  }
};

int failures = 0;
bool ends_at_first = false;

void fail(const std::string& text) {
  std::printf("FAILED: %s\n", text.c_str());
  ++failures;
  if (ends_at_first) std::exit(1);
}

void compare(const std::string& what, const Results& a, const Results& b) {
  const float tolerance = tf32_in_use() ? 1e-2f : 2e-5f;
  for (const auto& [name, values] : a)
    for (size_t i = 0; i < values.size(); ++i) {
      const float other = b.at(name)[i];
      if (!(std::fabs(values[i] - other) <= tolerance * std::max(1.0f, std::fabs(other)))) {
        fail(what + ": " + name + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) +
             ", stepwise " + std::to_string(other));
        return;
      }
    }
}

void run_schedules(const std::string& what, const Case& one, const Results& wanted, bool quick) {
  using emulation::Schedule;
  for (const Schedule schedule : {Schedule::kRandom, Schedule::kForward, Schedule::kReverse}) {
    emulation::use_schedule(schedule, 3);
    compare(what, one.run(), wanted);
    if (quick) break;
  }
}

// In every mode that takes it, against stepwise; and as TF32.
void run_case(const std::string& cell, const CaseSizes& sizes, bool quick) {
  // Blocks are few, for ThreadSanitizer takes no more than 8128 fibers at once.
  constexpr int kMaxCluster = 8;
  emulation::use_device(18, int64_t{sizes.shared_kib} << 10, true, 1.7, kMaxCluster);
  Case one(cell, sizes);
  use_mode("stepwise");
  const Results wanted = one.run();
  for (const Mode* mode : modes()) {
    const std::string name = mode->name();
    if (name == "stepwise" || one.stack.kernels->products() > 1) continue;
    use_mode(name);
    for (const bool tf32 : {false, true}) {
      use_tf32(tf32);
      try {
        run_schedules(name + " " + cell + " H=" + std::to_string(sizes.H) + (tf32 ? " TF32" : ""),
                      one, wanted, quick || tf32);
      } catch (const Error& e) {
        if (e.fault() != Fault::kNotImplemented) throw;  // what does not fit
      }
    }
    use_tf32(false);
  }
}

void run_all(bool quick, const std::string& only) {
  for (const KernelSet* set : all_kernel_sets()) {
    const std::string cell = set->cell;
    if (set->storage != Storage::kFloat || (!only.empty() && only != cell)) continue;
    if (quick && (set->products() > 1 || served_by(cell).first != cell)) continue;
    // 9 rows: two tiles, but of 16 rows. 24 units with so little shared memory: groups of several
    // blocks, clusters too; and with less, TF32 stages rows in parts and streams its weights. One
    // unit and five: groups of one block.
    std::vector<CaseSizes> shapes;
    if (cell == "lstm") shapes = {{4, 9, 24, 8}, {4, 9, 24, 5}, {4, 3, 1}};
    shapes.push_back({4, 9, 5});
    for (const CaseSizes& shape : shapes) run_case(cell, shape, quick);
  }
}

}  // namespace

int main(int argc, char** argv) {
  bool list = false, quick = false;
  std::string only;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--remove") && i + 1 < argc) {
      emulation::remove(argv[++i]);
      ends_at_first = true;
    }
    if (!std::strcmp(argv[i], "--cell") && i + 1 < argc) only = argv[++i];
    if (!std::strcmp(argv[i], "--list")) list = true;
    if (!std::strcmp(argv[i], "--quick")) quick = true;
  }
  try {
    run_all(quick, only);
  } catch (const Error& e) {
    fail(e.what());
  }
  if (list)
    for (const std::string& name : emulation::executed()) std::printf("%s\n", name.c_str());
  return failures ? 1 : 0;
}
