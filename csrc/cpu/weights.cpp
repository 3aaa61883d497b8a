#include <memory>

#include "../core/dispatch.h"
#include "../core/error.h"
#include "../core/validate.h"
#include "compact.h"
#include "engine.h"

namespace fastrnn {

Weights::Weights(const std::string& cell, int element_bytes, int64_t layers, int64_t directions,
                 int64_t inputs, int64_t units, bool bias)
    : kernel_(&find_kernel(cell, element_bytes)) {
  spec_ = {cell,  element_bytes, layers,         directions,      inputs,
           units, bias,          kernel_->gates, kernel_->states, kernel_->saved};
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

  int64_t bytes = 0;
  for (int64_t l = 0; l < spec_.layers; ++l) {
    const int64_t I = spec_.layer_inputs(l);
    const int64_t one = backward ? whole_lines(k.matrix_size(rows, I) * element) +
                                       whole_lines(k.matrix_size(rows, H) * element)
                                 : whole_lines(k.gates_size(H, I) * element) +
                                       whole_lines(k.gates_size(H, H) * element) +
                                       2 * whole_lines(k.gates_size(H, 1) * element);
    bytes += spec_.directions * one;
  }
  std::unique_ptr<Panels> made(new Panels{Block(bytes, spec_.op, "packed weights"), {}, {}});
  char* next = made->memory.data();
  const auto take = [&](int64_t elements) {
    char* p = next;
    next += whole_lines(elements * element);
    return p;
  };

  const int64_t per_pass = spec_.params_per_pass();
  for (int64_t l = 0; l < spec_.layers; ++l)
    for (int64_t d = 0; d < spec_.directions; ++d) {
      const int64_t pass = l * spec_.directions + d, I = spec_.layer_inputs(l);
      const View* given = parameters.data() + pass * per_pass;
      const Strided w_ih(spec_, given[0]), w_hh(spec_, given[1]);
      if (backward) {
        char *ih = take(k.matrix_size(rows, I)), *hh = take(k.matrix_size(rows, H));
        k.pack_matrix(w_ih.data(), w_ih.stride(0), w_ih.stride(1), H, I, 0, ih);
        k.pack_matrix(w_hh.data(), w_hh.stride(0), w_hh.stride(1), H, H, 1, hh);
        made->matrices.push_back({ih, hh});
      } else {
        char *ih = take(k.gates_size(H, I)), *hh = take(k.gates_size(H, H));
        char *bias_x = take(k.gates_size(H, 1)), *bias_r = take(k.gates_size(H, 1));
        k.pack_gates(w_ih.data(), w_ih.stride(0), w_ih.stride(1), H, I, ih);
        k.pack_gates(w_hh.data(), w_hh.stride(0), w_hh.stride(1), H, H, hh);
        if (spec_.bias) {
          const Strided b_ih(spec_, given[2]), b_hh(spec_, given[3]);
          k.pack_bias(b_ih.data(), b_ih.stride(0), b_hh.data(), b_hh.stride(0), H, bias_x, bias_r);
        } else {
          k.pack_bias(nullptr, 0, nullptr, 0, H, bias_x, bias_r);
        }
        made->gates.push_back({ih, hh, bias_x, bias_r});
      }
    }
  const Panels* none = nullptr;
  if (panels_[backward].compare_exchange_strong(none, made.get(), std::memory_order_acq_rel))
    made.release();
}

}  // namespace fastrnn
