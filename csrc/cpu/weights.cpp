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

// A matrix (G*H, K) and where its panels go: of gates for a phase of the forward pass, or for a
// product of the backward one. H is P for a projection. The team packs its parts of every one.
struct PackOne {
  Strided w;
  int64_t H, K;
  int phase;
  Product product;
  char* out;
};
struct PackAll {
  const KernelEntry* kernel;
  const ProductEntry* product;
  bool backward;
  std::vector<PackOne> matrices;
  int members = 1;

  static Need task(void* self, int member) {
    const PackAll& all = *static_cast<PackAll*>(self);
    const int members = all.members;
    for (const PackOne& m : all.matrices) {
      const StridedMatrix w = m.w.matrix();
      if (all.backward)
        all.kernel->pack_matrix(&w, m.H, m.K, m.product, member, members, m.out);
      else
        all.product->pack_gates(&all.kernel->phase[m.phase].layout, &w, m.H, m.K, member, members,
                                m.out);
    }
    return Need::kEnd;
  }
};

}  // namespace

Weights::Weights(const std::string& cell, LayerType type, int64_t layers, int64_t directions,
                 int64_t inputs, int64_t units, bool bias, int64_t projection)
    : kernel_(&find_kernel(cell, type.element, projection != 0)),
      product_(&find_product(*kernel_, type.scheme)) {
  spec_ = {cell,
           static_cast<int>(type.element.bytes),
           layers,
           directions,
           inputs,
           units,
           bias,
           kernel_->gates,
           kernel_->states,
           kernel_->saved,
           type.element.kind};
  set_cell(parse_cell_name(cell), &spec_);
  spec_.projection = projection;
  spec_.scheme = type.scheme;
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

namespace {

// Lays out the packed weights of a stack, and lists what is to be packed where. Without memory it
// only counts.
class PanelLayout {
 public:
  PanelLayout(const Weights& weights, const std::vector<View>& parameters)
      : spec_(weights.spec()),
        kernel_(weights.kernel()),
        product_(weights.product()),
        parameters_(parameters) {}

  char* next = nullptr;
  std::vector<PackOne> matrices;

  int64_t bytes() const { return bytes_; }

  GatePanels gates(int64_t pass, int phase) {
    const PhaseEntry& of = kernel_.phase[phase];
    const bool projects = is_projection(phase);
    const int64_t I = spec_.layer_inputs(pass / spec_.directions);
    const int64_t H = projects ? spec_.projection : spec_.units;
    const int64_t K = phase == 0 ? spec_.outputs() : spec_.units;
    GatePanels panels{};
    const auto pack = [&](Parameters kind, int64_t columns) {
      const int64_t lanes = ceil_div(columns, product_.lane_values);
      char* out = take(padded(H) * of.layout.gates * lanes * product_.lane_bytes);
      add({array(pass, kind), H, columns, phase, Product::kInput, out});
      return out;
    };
    if (!projects) panels.w_ih = pack(kWeightIh, I);
    panels.w_hh = pack(projects ? kWeightHr : kWeightHh, K);
    const Strided b_ih = projects ? Strided() : array(pass, kBiasIh);
    const Strided b_hh = projects ? Strided() : array(pass, kBiasHh);
    pack_rows(of, H, b_ih, b_hh, &panels.bias_x, &panels.bias_r);
    if (product_.scaled) {
      const Strided none = Strided(), ih = projects ? Strided() : array(pass, kScaleIh);
      const Strided hh = array(pass, projects ? kScaleHr : kScaleHh);
      pack_rows(of, H, ih, none, &panels.scale_ih, nullptr);
      pack_rows(of, H, hh, none, &panels.scale_hh, nullptr);
    }
    if (phase == 0) panels.w_diag = pack_diag(pass);
    return panels;
  }

  MatrixPanels matrix(int64_t pass) {
    const int64_t I = spec_.layer_inputs(pass / spec_.directions), H = spec_.units;
    const auto pack = [&](Parameters kind, int gates, int64_t rows, int64_t N, Product product) {
      char* out = take(kernel_.matrix_size(gates * rows, N) * kernel_.element_bytes);
      add({array(pass, kind), rows, N, 0, product, out});
      return out;
    };
    const auto gates = [&](int phase) { return kernel_.phase[phase].layout.gates; };
    MatrixPanels panels{};
    panels.w_diag = pack_diag(pass);
    panels.w_ih = pack(kWeightIh, kernel_.gates, H, I, Product::kInput);
    panels.w_hh = pack(kWeightHh, gates(0), H, spec_.outputs(), Product::kFirst);
    if (kernel_.phases == 1) return panels;
    const bool projects = is_projection(1);
    panels.w_v = pack(projects ? kWeightHr : kWeightHh, gates(1), projects ? spec_.projection : H,
                      H, Product::kSecond);
    return panels;
  }

 private:
  const Spec& spec_;
  const KernelEntry& kernel_;
  const ProductEntry& product_;
  const std::vector<View>& parameters_;
  int64_t bytes_ = 0;

  bool is_projection(int phase) const { return phase == 1 && kernel_.projects; }
  // Empty where a pass has no such parameter.
  Strided array(int64_t pass, Parameters kind) const {
    if (!next || !spec_.has(kind)) return Strided();
    const int64_t at = pass * spec_.params_per_pass() + spec_.place_of(kind);
    return Strided(spec_, parameters_[static_cast<size_t>(at)]);
  }
  char* take(int64_t n) {
    char* const at = next ? next + bytes_ : nullptr;
    bytes_ += whole_lines(n);
    return at;
  }
  int64_t padded(int64_t units) const { return ceil_div(units, kernel_.lanes) * kernel_.lanes; }
  // A value for each row of the gates' weights, from vectors as biases are: where they belong to x,
  // and to h.
  void pack_rows(const PhaseEntry& of, int64_t H, const Strided& ih, const Strided& hh,
                 const void** of_x, const void** of_h) {
    const int64_t bytes = padded(H) * of.layout.gates * kernel_.accumulator_bytes;
    char *const x = take(bytes), *const h = take(bytes);
    *of_x = x;
    if (of_h) *of_h = h;
    const StridedVector vectors[] = {ih.vector(), hh.vector()};
    if (next) of.pack_bias(&vectors[0], &vectors[1], H, x, h);
  }
  char* pack_diag(int64_t pass) {
    char* out = take(padded(spec_.units) * kernel_.unit_parameters * kernel_.accumulator_bytes);
    const Strided diag = array(pass, kWeightDiag);
    const StridedVector w = diag.vector();
    if (next) kernel_.pack_diag(&w, spec_.units, out);
    return out;
  }
  void add(PackOne&& one) {
    if (next) matrices.push_back(std::move(one));
  }
};

}  // namespace

void Weights::pack(const std::vector<View>& parameters, bool backward) {
  if (packed(backward)) return;
  if (backward && spec_.scheme)
    throw Error(Fault::kNotImplemented, spec_.op,
                "quantized weights must be packed with backward=False, got True");
  check_parameters(spec_, parameters);
  const auto lay_out = [&](PanelLayout& layout, Panels* panels) {
    for (int64_t pass = 0; pass < spec_.passes(); ++pass) {
      if (backward) {
        const MatrixPanels matrix = layout.matrix(pass);
        if (panels) panels->matrices.push_back(matrix);
      }
      for (int phase = 0; !backward && phase < kernel_->phases; ++phase) {
        const GatePanels gates = layout.gates(pass, phase);
        if (panels) panels->gates.push_back(gates);
      }
    }
  };
  PanelLayout counting(*this, parameters);
  lay_out(counting, nullptr);
  std::unique_ptr<Panels> made(
      new Panels{Block(counting.bytes(), spec_.op, "packed weights"), {}, {}});
  PanelLayout layout(*this, parameters);
  layout.next = made->memory.data();
  lay_out(layout, made.get());

  PackAll all{kernel_, product_, backward, std::move(layout.matrices)};
  const Lease lease = lease_for_reading(counting.bytes());
  all.members = lease.members();
  run_job({all.members, 1, &all, PackAll::task});

  const Panels* none = nullptr;
  if (panels_[backward].compare_exchange_strong(none, made.get(), std::memory_order_acq_rel))
    made.release();
}

}  // namespace fastrnn
