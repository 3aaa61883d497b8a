// The engine against results of the NumPy reference that are stored (tests/data/reference.txt, by
// reference_results.py), at every usable level, in both element types: where there is no Python.
//
//   test_stored FILE
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "array.h"
#include "check.h"
#include "cpu/dispatch.h"
#include "cpu/engine.h"
#include "cpu/team.h"
#include "run_call.h"

namespace {

using namespace fastrnn;

struct Stored {
  std::string cell;
  std::map<std::string, Array<double>> arrays;
  const Array<double>& at(const std::string& name) const { return arrays.at(name); }
  bool projected() const { return arrays.count("weight_hr_l0") > 0; }
  std::string kernel() const {
    return parse_cell_name(cell).kernel + (projected() ? "_projected" : "");
  }
};

std::vector<Stored> read(const char* path) {
  std::vector<Stored> cases;
  std::ifstream file(path);
  for (std::string text; std::getline(file, text);) {
    std::istringstream line(text);
    std::string name, word;
    line >> name;
    if (name == "case") {
      std::getline(line >> std::ws, word);
      cases.push_back({word, {}});
      continue;
    }
    std::vector<int64_t> sizes;
    while (line >> word && word != ":") sizes.push_back(std::stoll(word));
    Array<double> array(Shape(sizes.data(), sizes.data() + sizes.size()));
    for (double& v : array.values) line >> v;
    EXPECT(!line.fail(), "%s of %s: values are missing", name.c_str(), cases.back().cell.c_str());
    cases.back().arrays.emplace(name, array);
  }
  return cases;
}

// Errors as in tests/tolerances.py, and for its reasons: of outputs relative to 1 or the largest
// value, of gradients to the largest; 1e-10 in double, in float 1e-5 for a chain of H + I roundings
// a step, and 1e-4 for sums over steps and rows. (The file has 13 digits.)
template <class T> void compare(const Array<T>& got, const Array<double>& wanted, bool gradient,
                                const std::string& what) {
  double worst = 0, scale = gradient ? 0 : 1;
  for (size_t i = 0; i < wanted.values.size(); ++i) {
    const double error = std::fabs(static_cast<double>(got.values[i]) - wanted.values[i]);
    if (!(error <= worst)) worst = error;  // NaN too
    scale = std::max(scale, std::fabs(wanted.values[i]));
  }
  const double tolerance = sizeof(T) == 8 ? 1e-10 : gradient ? 1e-4 : 1e-5;
  EXPECT(worst <= tolerance * scale, "%s: error %.2e", what.c_str(), worst / scale);
}

template <class T, class U> Array<T> cast(const Array<U>& from) {
  Array<T> to(from.shape);
  for (size_t i = 0; i < from.values.size(); ++i) to.values[i] = static_cast<T>(from.values[i]);
  return to;
}

template <class T> void run(const Stored& c, const std::string& name) {
  const char* const states[] = {"h", "c"};
  const Array<T> x = cast<T>(c.at("x")), dy = cast<T>(c.at("dy"));
  const Array<int64_t> lengths = cast<int64_t>(c.at("lengths"));
  const Array<uint8_t> resets = cast<uint8_t>(c.at("resets"));
  const int64_t P = c.at("h0").shape[2], D = c.at("h0").shape[0];
  const int64_t H = c.projected() ? c.at("weight_hr_l0").shape[1] : P;
  Weights w(c.cell, ElementType{'f', sizeof(T)}, 1, D, x.shape[2], H, true, c.projected() ? P : 0);
  const Spec& spec = w.spec();
  Problem p;
  p.T = x.shape[0], p.B = x.shape[1];

  // Results are NaN until they are written; those of a step that a row does not take are zero.
  std::map<std::string, Array<T>> inputs, found;
  const auto in = [&](const std::string& of) {
    return inputs.emplace(of, cast<T>(c.at(of))).first->second.view();
  };
  const auto out = [&](const std::string& of) {
    Array<T>& array = found.emplace(of, Array<T>(c.at(of).shape)).first->second;
    for (T& v : array.values) v = static_cast<T>(NAN);
    return array.view();
  };
  const auto shape = [&](Role role) { return role_shape(role, spec, p); };
  const Array<T> inner(shape(Role::kInner)), kept(shape(Role::kStates)), saved(shape(Role::kSaved));

  Call f, b;
  f.kind = Kind::kForward, b.kind = Kind::kBackward;
  f.whole_tape = true;
  f.x = b.x = x.view();
  f.lengths = b.lengths = lengths.view();
  f.resets = b.resets = resets.view();
  f.inner = b.inner = inner.view(), f.states = b.states = kept.view();
  f.saved = b.saved = saved.view();
  f.y = b.y = out("y");
  b.dy = dy.view();
  b.dx = out("dx");
  for (int64_t k = 0; k < spec.states; ++k) {
    const std::string s = states[k];
    f.initial[k] = b.initial[k] = in(s + "0");
    f.final[k] = out(s + "n");
    b.dfinal[k] = in("d" + s + "n");
    b.dinitial[k] = out("d" + s + "0");
  }
  std::vector<View> parameters;
  for (const Parameter& q : parameters_of(spec)) {
    parameters.push_back(in(q.name));
    b.dparameters.push_back(out("d" + q.name));
  }
  w.pack(parameters, false);
  w.pack(parameters, true);
  run_call(w, f);
  run_call(w, b);
  for (const auto& [of, array] : found)
    compare(array, c.at(of), of[0] == 'd', name + " " + c.cell + " " + of);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FILE\n", argv[0]);
    return 2;
  }
  const std::vector<Stored> cases = read(argv[1]);
  const auto serves = [](const KernelEntry& kernel, const Stored& c) {
    return c.kernel() == kernel.cell;
  };
  for (const KernelEntry* kernel : all_kernels())
    EXPECT(std::any_of(cases.begin(), cases.end(),
                       [&](const Stored& c) { return serves(*kernel, c); }),
           "no case of %s", kernel->cell);
  for (const std::string& level : usable_levels()) {
    use_level(level);
    for (const KernelEntry* kernel : all_kernels())
      for (const Stored& c : cases) {
        if (level != kernel->level || !serves(*kernel, c)) continue;
        for (int threads = 1; threads <= 2; ++threads) {
          set_num_threads(threads);
          if (kernel->element_bytes == 4)
            run<float>(c, level + " f32");
          else
            run<double>(c, level + " f64");
        }
      }
  }
  return check::report("test_stored");
}
