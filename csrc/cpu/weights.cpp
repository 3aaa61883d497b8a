#include <algorithm>
#include <memory>

#include "../core/error.h"
#include "../core/validate.h"
#include "compact.h"
#include "dispatch.h"
#include "engine.h"
#include "team.h"

namespace fastrnn {

namespace {

// A matrix (G*H, K) and where its panels go. The team packs its parts of every one.
struct PackOne {
  Strided w;
  int64_t K;
  bool backward;
  int recurrent;
  char* out;
};
struct PackAll {
  const KernelEntry* kernel;
  int64_t H;
  std::vector<PackOne> matrices;
  int members = 1;

  static Need task(void* self, int member) {
    const PackAll& all = *static_cast<PackAll*>(self);
    const int members = all.members;
    for (const PackOne& m : all.matrices) {
      const StridedMatrix w = m.w.matrix();
      if (m.backward)
        all.kernel->pack_matrix(&w, all.H, m.K, m.recurrent, member, members, m.out);
      else
        all.kernel->pack_gates(&w, all.H, m.K, member, members, m.out);
    }
    return Need::kEnd;
  }
};

}  // namespace

Weights::Weights(const std::string& cell, int element_bytes, int64_t layers, int64_t directions,
                 int64_t inputs, int64_t units, bool bias)
    : kernel_(&find_kernel(cell, element_bytes)) {
  spec_ = {cell,  element_bytes, layers,         directions,      inputs,
           units, bias,          kernel_->gates, kernel_->states, kernel_->saved};
  set_cell(parse_cell_name(cell), &spec_);
  check_spec(spec_);
}

Weights::~Weights() {
  for (const auto& panels : panels_) delete panels.load();
}

int64_t Weights::bytes() const {
  int64_t bytes = 0;
  for (bool backward : {false, true})
    if (const Panels* packed = panels(backward)) bytes += packed->memory.bytes();
  return bytes;
}

void Weights::pack(const std::vector<View>& parameters, bool backward) {
  if (packed(backward)) return;
  check_parameters(spec_, parameters);
  const KernelEntry& k = *kernel_;
  const int64_t H = spec_.units, rows = k.gates * H, element = k.element_bytes;
  const auto matrix_bytes = [&](int64_t K) {
    return whole_lines((backward ? k.matrix_size(rows, K) : k.gates_size(H, K)) * element);
  };
  const int64_t bias_bytes = backward ? 0 : whole_lines(k.gates_size(H, 1) * k.accumulator_bytes);
  const int64_t diag_bytes =
      whole_lines(ceil_div(H, k.lanes) * k.lanes * k.unit_parameters * k.accumulator_bytes);

  int64_t bytes = 0;
  for (int64_t l = 0; l < spec_.layers; ++l)
    bytes += spec_.directions *
             (matrix_bytes(spec_.layer_inputs(l)) + matrix_bytes(H) + 2 * bias_bytes + diag_bytes);
  std::unique_ptr<Panels> made(new Panels{Block(bytes, spec_.op, "packed weights"), {}, {}});
  char* next = made->memory.data();
  const auto take = [&](int64_t n) {
    char* p = next;
    next += n;
    return p;
  };

  PackAll all{kernel_, H, {}};
  const int64_t per_pass = spec_.params_per_pass();
  for (int64_t l = 0; l < spec_.layers; ++l)
    for (int64_t d = 0; d < spec_.directions; ++d) {
      const int64_t I = spec_.layer_inputs(l);
      const View* given = parameters.data() + spec_.pass(l, d) * per_pass;
      const auto vector = [&](bool has, int kind) {
        return has ? Strided(spec_, given[spec_.place_of(kind)]) : Strided();
      };
      char *ih = take(matrix_bytes(I)), *hh = take(matrix_bytes(H)), *diag = take(diag_bytes);
      all.matrices.push_back({Strided(spec_, given[kWeightIh]), I, backward, 0, ih});
      all.matrices.push_back({Strided(spec_, given[kWeightHh]), H, backward, 1, hh});
      const Strided w_diag = vector(spec_.unit_parameters > 0, kWeightDiag);
      const StridedVector of_units = w_diag.vector();
      k.pack_diag(&of_units, H, diag);
      if (backward) {
        made->matrices.push_back({ih, hh, diag});
        continue;
      }
      char *bias_x = take(bias_bytes), *bias_r = take(bias_bytes);
      made->gates.push_back({ih, hh, bias_x, bias_r, diag});
      const Strided b_ih = vector(spec_.bias, kBiasIh), b_hh = vector(spec_.bias, kBiasHh);
      const StridedVector ih_bias = b_ih.vector(), hh_bias = b_hh.vector();
      k.pack_bias(&ih_bias, &hh_bias, H, bias_x, bias_r);
    }
  const Lease lease = lease_for_reading(bytes);
  all.members = lease.members();
  run_job({all.members, 1, &all, PackAll::task});

  const Panels* none = nullptr;
  if (panels_[backward].compare_exchange_strong(none, made.get(), std::memory_order_acq_rel))
    made.release();
}

}  // namespace fastrnn
