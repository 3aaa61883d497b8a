// Times a step of a stream, T = B = 1 and I = H, in the engine called from C++, as JSON:
//
//   cell -> H -> [ns of a step inside a call over 1000 steps, ns of a call for one step]
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "cpu/engine.h"
#include "cpu/team.h"
#include "native.h"

namespace {

using namespace fastrnn;
constexpr int64_t kSteps = 1000;

struct Array {
  Shape shape;
  std::vector<float> values;

  Array(const Shape& s, double bound) : shape(s) {
    static std::mt19937 rng;
    std::uniform_real_distribution<float> uniform(static_cast<float>(-bound),
                                                  static_cast<float>(bound));
    size_t count = 1;
    for (int64_t n : s) count *= static_cast<size_t>(n);
    values.resize(count);
    for (float& value : values) value = uniform(rng);
  }

  View view() {
    View v;
    v.data = reinterpret_cast<char*>(values.data());
    v.itemsize = sizeof(float);
    v.kind = 'f';
    v.given = v.writeable = true;
    v.fresh = true;  // all arrays here are apart
    v.rank = shape.size();
    int64_t stride = sizeof(float);
    for (int i = v.rank - 1; i >= 0; --i) {
      v.shape[i] = shape[i];
      v.strides[i] = stride;
      stride *= shape[i];
    }
    return v;
  }
};

// A layer and the arrays of a call over T steps, whose states go from call to call.
struct Stream {
  Weights weights;
  Problem problem;
  Array x, y;
  std::vector<Array> states;  // those before a call, then those after it
  Call call;

  Stream(const std::string& cell, int64_t H, int64_t T)
      : weights(cell, kFloat32, 1, 1, H, H, true),
        problem{T, 1},
        x(problem.sequence(H), 1),
        y(problem.sequence(H), 0) {
    std::vector<Array> parameters;
    for (const Parameter& p : parameters_of(weights.spec()))
      parameters.emplace_back(p.shape, 1 / std::sqrt(static_cast<double>(H)));
    std::vector<View> views;
    for (Array& parameter : parameters) views.push_back(parameter.view());
    weights.pack(views, false);
    const int64_t count = weights.spec().states;
    for (int64_t k = 0; k < 2 * count; ++k)
      states.emplace_back(role_shape(Role::kInitial, weights.spec(), problem), 0);
    call.x = x.view();
    call.y = y.view();
    for (int64_t k = 0; k < count; ++k) {
      call.initial[k] = states[k].view();
      call.final[k] = states[count + k].view();
    }
  }

  void run() {
    fastrnn::run(weights, problem, call);
    for (int k = 0; k < kMaxStates; ++k) std::swap(call.initial[k], call.final[k]);
  }
};

double step_ns(const std::string& cell, int64_t H, int64_t steps_of_a_call) {
  Stream stream(cell, H, steps_of_a_call);
  const double time = bench::seconds([&] {
    for (int64_t step = 0; step < kSteps; step += steps_of_a_call) stream.run();
  });
  return 1e9 * time / kSteps;
}

}  // namespace

int main() {
  set_num_threads(1);
  const char* separator = "{";
  for (const char* cell : {"lstm", "gru"}) {
    std::printf("%s\"%s\": {", separator, cell);
    for (int H : {16, 32, 64, 128})
      std::printf("%s\"%d\": [%.2f, %.2f]", H == 16 ? "" : ", ", H, step_ns(cell, H, kSteps),
                  step_ns(cell, H, 1));
    std::printf("}");
    separator = ", ";
  }
  std::printf("}\n");
}
