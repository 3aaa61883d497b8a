"""Show that the tests can fail: break the engine on purpose, one way at a time, and run them.

    python tests/mutants.py [--only WORD] [--level LEVEL]

Each mutant is one textual change of one file in a copy of the sources. The copy is built at one
level and the tests named with the mutant must fail. Takes about half a minute for each mutant on 2
cores, so pytest runs it in the tier `full` alone. Exits with 1 if a mutant survives or no longer
applies.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pybind11
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
KERNELS, BITS = "kernels/test_kernels.py", "kernels/test_bits.py"
NARROW, INT8 = "kernels/test_narrow.py", "kernels/test_int8.py"
MEMORY, INFINITE = "kernels/test_memory.py", "kernels/test_chosen.py"
PACKED = "kernels/test_packed.py"
TORCH, TRANSFORMS = "adapters/test_torch.py", "adapters/test_torch_transforms.py"
CUDA, QUEUE = "emulated/test_cuda.py", "emulated/test_queue.py"
BUSY, QUANTIZED = "unit/test_busy.py", "unit/test_quantized.py"
TEAM = "test_team"  # a program of tests/cpp
# The copy that a call has made is dropped before the call ends.
DROPPED = "const_cast<py::object&>(library_.object(array)) = py::none();"

# file, what stands there, what is put in its place, the tests that must notice
MUTANTS = [
    # the cells
    ("cells/lstm.h", "return fma(f, c, i * g);", "return fma(i, c, f * g);", KERNELS),
    ("cells/lstm.h", "dc * f.y)", "dc * i.y)", KERNELS),
    ("cells/lstm.h", "f.gradient(dc * s_prev[1])", "f.gradient(dc * s[1])", KERNELS),
    ("cells/lstm.h", "peep(m, x, 2, c, x[3])", "peep(m, x, 2, s[1], x[3])", KERNELS),
    ("cells/lstm.h", "dx[6] = dx[3] * s[1];", "dx[6] = dx[3] * s_prev[1];", KERNELS),
    ("cells/lstm_coupled.h", "return fma(i, g - c, c);", "return fma(i, g, c);", KERNELS),
    ("cells/lstm_coupled.h", "dc * (g.y - s_prev[1])", "dc * g.y", KERNELS),
    ("cells/lstm_coupled.h", "m.peephole(dx[3], dx[0], dc * (V(1) - i.y))", "dc * (V(1) - i.y)",
     KERNELS),
    ("cells/chosen.h", "return value_of(function(f), clipped(x));",
     "return value_of(function(f), x);", KERNELS),
    ("cells/chosen.h", "Mask<V> flat = absolute(x) > limit;", "Mask<V> flat = x < x;", KERNELS),
    ("cells/chosen.h", "return select(flat, V(0), dy * slope);", "return dy * slope;", INFINITE),
    ("cells/chosen.h", "select(flat, to, fma(dy, slope, to))", "fma(dy, slope, to)", INFINITE),
    ("cells/chosen.h", "if (is_made_of_lines(chosen.function)) flat", "flat", INFINITE),
    ("cells/chosen.h", "maths->peepholes ? fma(p, a, to) : to", "fma(p, a, to)", INFINITE),
    ("cells/chosen.h", "select(raw < low, low, select(raw > high, high, raw))", "raw", KERNELS),
    ("cells/chosen.h", "select(low <= raw, select(raw <= high, d, none), none)", "d", KERNELS),
    ("cells/chosen.h", "select(low <= raw, select(raw <= high, d, none), none)",
     "select(low < raw, select(raw < high, d, none), none)", INFINITE),
    ("cells/lstm.h", "c = m.state(next_c(f, s[1], i, g));", "c = next_c(f, s[1], i, g);", KERNELS),
    ("cells/gru_reset_before.h", "dh = m.state_gradient(Gru::next_h(z, n.y, h), dh);", "", KERNELS),
    ("cells/rnn.h", "h.gradient(m.state_gradient(h.y, ds[0]))", "h.gradient(ds[0])", KERNELS),
    ("cells/chosen.h", "alpha * expm1_of(x), x)", "expm1_of(x), x)", KERNELS),
    ("cells/chosen.h", "V kept(V x, V) const { return x; }", "V kept(V, V y) const { return y; }",
     KERNELS),
    ("cells/gru.h", "return fma(z, h - n, n);", "return fma(z, n - h, n);", KERNELS),
    ("cells/gru.h", "dr[2] = dn * r.y;", "dr[2] = dn;", KERNELS),
    ("cells/gru.h", "ds[0] = dh * z.y;", "ds[0] = V(0);", KERNELS),
    ("cells/gates.h", "select(y <= V(0), V(0), dy)", "select(y <= V(0), dy, V(0))", KERNELS),
    # the kernels for GPUs, on the emulator (for their barriers see test_cuda_native.py)
    ("cuda/steps.cuh", "(K::is_split(g) ? b_ih : b_ih + b_hh)", "(b_ih + b_hh)", CUDA),
    ("cuda/steps.cuh", "const V sum(in.from_zero ? A(0) : sums[g]);",
     "const V sum(sums[g]);", CUDA),
    ("cuda/steps.cuh", "if (cut) ds[k] = A(0);", "(void)0;", CUDA),
    ("cuda/steps.cuh", "ds[0] = cut ? A(0) : ds[0] + sum;", "ds[0] = cut ? A(0) : sum;", CUDA),
    ("cuda/steps.cuh", "if (in.runs || in.repeats) ds[0] = ds[0] + widen(in.dy);", "", CUDA),
    ("cuda/steps.cuh", "const void* given = first ? at.d.initial[k] : at.d.entering[k];",
     "const void* given = at.d.initial[k];", CUDA),
    ("cuda/steps.cuh", "if (at.pass.end < at.pass.scan.T) return", "if (false) return", CUDA),
    ("cuda/copy_rows.cuh", "const bool runs = pass.rule == CopyRule::kRows ||",
     "const bool runs = true ||", CUDA),
    ("cuda/copy_rows.cuh", "pass.rule == CopyRule::kBefore", "false", CUDA),
    ("cuda/copy_rows.cuh", "narrow<S>(widen(value) * widen(mask[i]))", "value", CUDA),
    ("cuda/pass_view.cuh", "return n < 0 && !above ? 0 : scan.T;", "return n;", CUDA),
    ("cuda/product.cuh", "keep = upper ? v[i + n] : v[i];", "keep = v[i];", CUDA),
    ("cuda/product.cuh", "any ? total[i] + sum[i] : sum[i];", "sum[i];", CUDA),
    ("cuda/product.cuh", "any && at(i) ? *at(i) : 0.0f;", "0.0f;", CUDA),
    ("cuda/product.cuh", "bool any = part.begin > 0 && slot == 0;", "bool any = part.begin > 0;",
     CUDA),
    ("cuda/product.cuh", "column + lane / 4 + i % 4 / 2 * 8", "column + lane / 4", CUDA),
    ("cuda/product.cuh", "lane % 4 * 2 + i % 2", "lane % 4 * 2", CUDA),
    ("cuda/product.cuh", "lane / 8 % 2 * kHalf", "lane / 8 % 2 * 0", CUDA),
    ("cuda/product.cuh", "lane / 16 * kHalf", "lane / 16 * 0", CUDA),
    ("cuda/product.cuh", "i % of_rows * 8 * N", "0 * N", CUDA),
    ("cuda/product.cuh", "bits_of(round_to_tf32(float_of(bits[i])));", "bits[i] & 0xffff0000;",
     CUDA),
    ("cuda/product.cuh", "for (int i = 1; i < slots; ++i)", "for (int i = 1; i < 1; ++i)", CUDA),
    ("cuda/layout.h", "rows <= 4 ? 4 : kTileRows;", "4;", CUDA),
    ("cuda/steps.cuh", "f(g, made.planes[K::recurrent_plane(g)]);", "f(g, made.planes[g]);",
     CUDA),
    ("cuda/steps.cuh", "if (before == i.t) return h;", "", CUDA),
    ("cuda/grid.cuh", "row_begin(group % p.grid.replicas * p.grid.rows)", "row_begin(0)", CUDA),
    ("cuda/grid.cuh", "const bool quads = H % 4 == 0 &&", "const bool quads =", CUDA),
    ("cuda/exchange.cuh", "of_slot = exchange % 2;", "of_slot = 0 * exchange;", CUDA),
    ("cuda/exchange.cuh", "shared() + exchange % 2 *", "shared() + 0 * exchange *", CUDA),
    ("cuda/exchange.cuh", "u + 1 == H && u + i < grid.padded", "false", CUDA),
    ("cuda/exchange.cuh", "found[j].v[0].tag == number && found[j].v[1].tag == number",
     "found[j].v[0].tag == number", CUDA),
    ("cuda/copy.cuh", "if (column >= n) column -= n, ++row;", "", CUDA),
    ("cuda/grid_plan.cpp", "grid_.rows > rows) return false;", "false) return false;", CUDA),
    ("cuda/costs.h", "found = &costs;", "found = kCosts + 4;", CUDA),
    ("cuda/stepwise.cuh", "if (in.runs) static_cast<S*>(d.factor[0])",
     "static_cast<S*>(d.factor[0])", CUDA),
    ("cuda/arrays.cpp", "(layer * shape[1] + d) * shape[2]", "layer * shape[1] * shape[2]", CUDA),
    ("cuda/executor.cpp", "add(kBiasHh, gate, plane, count);", "add(kBiasHh, gate, gate, count);",
     CUDA),
    ("bindings/run_cuda.h", "gpu::raise_device_errors(spec_.op, call_.x.device);", "", CUDA),
    ("bindings/run_cuda.h", "read_lengths(spec_, p, call_.lengths, values.data());", "", CUDA),
    ("cuda/gpu.h", "if (--left == 0) give_up();", ";", CUDA),
    ("cuda/device_errors.h", "    raise_abandoned(op, error);\n    throw;", "    throw;", CUDA),
    # what is seen where work waits in streams (tests/streams.py): memory that is dropped too early,
    # and work or waits on another stream than the call's
    ("bindings/run_cuda.h", '"lengths", library_.object(array));',
     f'"lengths", library_.object(array));\n    {DROPPED}', QUEUE),
    ("bindings/run_cuda.h", '"a copy", library_.object(array));',
     f'"a copy", library_.object(array));\n      if (role != Role::kX) {DROPPED}', QUEUE),
    ("bindings/python_library.h", "add(py::reinterpret_borrow<py::object>(array));\n    }",
     "add(requests[views.size() - 1].elements == gpu::Elements::kInt32\n"
     "      ? py::object() : py::reinterpret_borrow<py::object>(array));\n    }", QUEUE),
    ("cuda/executor.cpp", "launch(op, {blocks, kMaxThreads, 0, false, stream_}",
     "launch(op, {blocks, kMaxThreads, 0, false, nullptr}", QUEUE),
    ("cuda/executor.cpp", "launch(stack_.spec.op, {blocks, kLanes, 0, false, stream_}",
     "launch(stack_.spec.op, {blocks, kLanes, 0, false, nullptr}", QUEUE),
    ("cuda/executor.cpp", "zero(op, arrays_->data(c.to), bytes, stream_);",
     "zero(op, arrays_->data(c.to), bytes, nullptr);", QUEUE),
    ("cuda/executor.cpp", "arrays_->data(c.from), bytes, stream_);",
     "arrays_->data(c.from), bytes, nullptr);", QUEUE),
    ("cuda/grid_mode.cpp", "- kAlignment, site.stream);", "- kAlignment, nullptr);", QUEUE),
    ("cuda/grid_mode.cpp", "plan.cooperative, site.stream,", "plan.cooperative, nullptr,", QUEUE),
    ("cuda/stepwise_mode.cpp", "plan.threads, 0, false, site_.stream}",
     "plan.threads, 0, false, nullptr}", QUEUE),
    ("cuda/device_errors.cpp", "synchronize(op, stream);", "synchronize(op, nullptr);", QUEUE),
    ("../python/fastrnn/_arrays/_library.py", "values.astype(np.int64)",
     "values.astype(np.int64, copy=False)", QUEUE),
    ("../python/fastrnn/cuda/_driver.py", "= library.stream(call.x), library", "= 0, library",
     QUEUE),
    # times of steps, in both engines
    ("core/call.h", "(direction == 1) != reverse", "direction == 1", KERNELS),
    ("core/call.h", "(direction == 1) != reverse", "direction == 1", CUDA),
    ("core/schedule.h", "reverse ? steps - 1 - s : s", "s", KERNELS),
    ("core/schedule.h", "reverse ? steps - 1 - s : s", "s", CUDA),
    ("core/schedule.h", "reverse ? t + 1 : t - 1", "t - 1", CUDA),
    ("core/schedule.h", "return t == time(0, length) ?", "return t == 0 ?", CUDA),
    ("core/schedule.h", "if (!reverse) return inputs.reset.is_set(t, b);", "", KERNELS),
    ("core/schedule.h", "if (!reverse) return inputs.reset.is_set(t, b);", "", CUDA),
    ("core/schedule.h", "t + 1 < length &&", "", CUDA),
    ("core/schedule.h", "inputs.reset.is_set(t + 1, b)", "inputs.reset.is_set(t, b)", KERNELS),
    ("core/schedule.h", "inputs.reset.is_set(t + 1, b)", "inputs.reset.is_set(t, b)", CUDA),
    ("core/schedule.h", "return inputs.reset.data != nullptr;", "return false;", KERNELS),
    # rows that are held
    ("core/schedule.h", "(reset & !run) |", "reset |", KERNELS),
    ("core/schedule.h", "(reset & !run) |", "", KERNELS),
    ("core/schedule.h", "last >= 0 || !schedule.reverse", "true", CUDA),
    ("core/schedule.h", "(here & schedule.reverse)", "false", CUDA),
    ("core/schedule.h", "    reset |= here & !schedule.reverse;\n", "", KERNELS),
    ("cpu/batch.h", "by_position(held_->times);", "", KERNELS),
    ("cpu/batch.h", "by_position(held_->end);", "", KERNELS),
    ("cpu/rows.h", "for (; t < scan.times[position][i]; ++t) f(t);", "t = scan.times[position][i];",
     KERNELS),
    ("cpu/rows.h", "last ? scan.end[position] : next;", "last ? pass.T : next;", KERNELS),
    ("cpu/forward.h", "    repeat_output(s, active);\n", "", KERNELS),
    ("cpu/backward.h", "steps.repeats() && steps.has_idle_rows(pass.dy)", "false", KERNELS),
    ("cpu/backward.h", "scattered = steps.is_scattered(states);", "scattered = false;", KERNELS),
    ("cuda/pass_view.cuh", "t < length && !pass.scan.inputs.hold.is_set(t, b);",
     "t < length;", CUDA),
    ("cuda/steps.cuh", "if (in.runs || in.repeats) ds", "if (in.runs) ds", CUDA),
    ("cuda/pass_view.cuh", "t < length && before(t, b, length) >= 0;", "t < length;", CUDA),
    ("cuda/pass_view.cuh",
     "if (d.before) return d.before[pass.scan.T * pass.scan.B + b];", "", CUDA),
    ("cuda/lay_out.cuh", "before[T * B] = static_cast<int32_t>(row.last);", "", CUDA),
    ("core/lower.cpp", " && !call_.holds.given", "", CUDA),
    # calls as programs
    ("core/lower.cpp", "dy = dx;", "", KERNELS),
    ("core/lower.cpp", "return masked(layer) ? array(Role::kMask",
     "return false ? array(Role::kMask", KERNELS),
    ("core/lower.cpp", "          op(again);\n        }", "        }", BITS),
    ("core/lower.cpp", "columns(dgates, plane * H, count * H)",
     "columns(dgates, gate * H, count * H)", CUDA),
    ("core/lower.cpp", "!batch_first(layer) && !call_.lengths.given", "!batch_first(layer)", CUDA),
    ("core/lower.cpp", "d > 0 || add_to_dx", "d > 0", CUDA),
    # tensors, and what of a call is wanted
    ("bindings/dlpack.h", "tensor.strides[i] * view.itemsize :",
     "(i ? tensor.strides[i] : 1) * view.itemsize :", TORCH),
    ("bindings/dlpack.h", "if (!is_empty(tensor) && !tensor.data)", "if (false)", TORCH),
    ("bindings/fields.h", "&& !fields.flag(kWantDx)) continue;", "&& false) continue;", TRANSFORMS),
    # rows, lengths, directions, resets, windows
    ("cpu/rows.h", "pass.reverse ? -q.t_stride : q.t_stride", "q.t_stride", KERNELS),
    ("cpu/rows.h", "scan.length[begin + count - 1] <= s",
     "scan.length[begin + count - 1] < s", KERNELS),
    ("cpu/rows.h", "position, pass.begin - 1)", "position, pass.begin)", BITS),
    ("cpu/rows.h", "(s + 1 - q.first_step) % q.steps_per_row",
     "(s - q.first_step) % q.steps_per_row", BITS),
    # tiles and packing
    ("cpu/microkernel.h", "args.shared_init : args.init[r]",
     "args.init[r] : args.shared_init", KERNELS),
    ("cpu/microkernel.h", "acc[0][v] = acc[0][v] + acc[c][v];", ";", KERNELS),
    ("cpu/microkernel.h", "piece = lanes / kChains,", "piece = lanes / kChains / 2,", BITS),
    ("cpu/microkernel.h", "args->offset += N * Vec<Acc<B>>::kLanes;", "", KERNELS),
    ("cpu/pack.h", "return v / N * N * lanes + v % N;", "return v;", KERNELS),
    ("cpu/backward_memory.h", "max(kMostVectors * L, blocks", "max(kPanel, blocks", KERNELS),
    ("cpu/recurrent_masks.h", "vector_at(v, N, lanes)", "vector_at(v, N, 1)", KERNELS),
    ("cpu/pack.h", "? x : x + r)", "? x + r : x)", KERNELS),
    ("cpu/pack.h", "transpose(v);", "", KERNELS),
    # a step without packing
    ("cpu/step.h", "if (chain > 0) add(vectors, piece, &sums);", "", BITS),
    ("cpu/step.h", "each = lanes_of<Storage>(H) / chains * kValues;",
     "each = lanes_of<Storage>(H) / chains / 2 * kValues;", BITS),
    ("cpu/step.h", "k = v < whole ? strips : 0;", "k = v < whole ? n : 0;", BITS),
    ("cpu/step.h", "a[r] = rows_of[r] + from;", "a[r] = rows_of[r];", BITS),
    ("cpu/step.cpp", "char* const inner = memory.data() + (zeros ? row : 0);",
     "char* const inner = memory.data();", BITS),
    ("cpu/step.cpp", "if (!has_contiguous_columns(call.parameters[i + kWeightIh])", "if (false",
     BITS),
    ("cpu/step.cpp", "pass.y = out.base + d * H * element", "pass.y = out.base", BITS),
    ("cpu/pack.h", "from ? from[(n0 + n) * col] : zero;", "from ? from[n0 + n] : zero;", BITS),
    # forward
    ("cpu/forward.h", "product.factors(x.at[r], mask.at[r],",
     "product.factors<Storage>(x.at[r], nullptr,", KERNELS),
    ("cpu/forward_cell.h", "([&](auto k) { to(states[k.value], row.after.at(k)); });",
     "([&](auto k) { if (k.value) to(states[k.value], row.after.at(k)); });", KERNELS),
    ("cpu/forward.h", "panel_step = product.lanes(args.K) * Panels<p>::kVectors * L;",
     "panel_step = product.lanes(args.K) * L;", KERNELS),
    ("cpu/forward.h", "    clear_idle_rows();\n", "", KERNELS),
    ("cpu/forward.h", "return work.unit_members > 1 ? Need::kGroup : Need::kNothing;",
     "return Need::kNothing;", BITS),
    ("cpu/forward.h", "if (has_helpers(work)) return Need::kGroup;",
     "if (has_helpers(work)) return Need::kNothing;", BITS),
    ("cpu/forward.h", "    finish_empty_rows();\n", "", KERNELS),
    ("cpu/forward.h", "if (s > pass.begin) advance_to(s, active);",
     "if (taken > 0) advance_to(s, active);", BITS),
    # backward
    ("cpu/backward.h", "if (pass.dw_ih) weights.pack_b(memory.listed, count, all_count);", "",
     KERNELS),
    ("cpu/backward_cell.h", "V::load(chain + i) + d[0] +", "V::load(chain + i) +", KERNELS),
    ("cpu/backward.h", "if (pass.accumulate_dx)", "if (false)", KERNELS),
    ("cpu/backward.h", "values[i] *= widen(row.mask[n0 + i]);", ";", KERNELS),
    ("cpu/backward.h", "if (steps.schedule().may_start_from_zero())", "if (false)", KERNELS),
    ("cpu/backward.h", "ends || steps.starts_from_zero(position, s + 1)", "ends", KERNELS),
    ("cpu/backward.h", "cut ? T(0) : own[u]", "own[u]", KERNELS),
    ("cpu/weight_gradients.h", "begins ? zeros : args.out[r];", "zeros;", KERNELS),
    ("cpu/weight_gradients.h", "    pack(carry + m, k - apart, k);\n", "", KERNELS),
    # packed rows, and chunks of so many rows
    ("core/validate.cpp", "n < 1 || n > left ||", "n < 1 ||", PACKED),
    ("core/validate.cpp", "whole = call.backward() ? call.inner.rank != 3 : call.whole_tape;",
     "whole = call.backward() && call.inner.rank != 3;", PACKED),
    ("cpu/batch.h", "while (lengths[active - 1] <= s) --active;",
     "while (lengths[active - 1] < s) --active;", PACKED),
    ("cpu/batch.h", "return kept_offsets_ ? kept_offsets_->data() : offsets();",
     "return offsets();", PACKED),
    ("cpu/rows.h", "(q.offset ? pass.reverse != 0 : held)", "held", PACKED),
    ("cpu/rows.h", "q.offset ? q.offset[running(position, s)] : time(position, s)",
     "q.offset ? q.offset[running(0, s)] : time(position, s)", PACKED),
    ("cpu/rows.h", "q.offset[i] - q.first_row + position", "q.offset[i] + position", PACKED),
    ("cpu/rows.h", "q.steps_per_row ? s / q.steps_per_row : running(position, s)",
     "q.steps_per_row ? s : running(position, s)", PACKED),
    ("cpu/rows.h", "(q.offset[(s + 1) / n] - q.offset[s / n])",
     "(q.offset[s + 1] - q.offset[s])", PACKED),
    ("cpu/rows.h", "return !q.steps_per_row && !q.offset;", "return !q.steps_per_row;", PACKED),
    ("cpu/forward.h", "    taken += active;\n", "", KERNELS),
    ("cpu/backward_memory.h", "carry[one == carry[0]]", "carry[0]", BITS),
    ("cpu/backward.h", "*memory.carried = latest == dgates.carry[1];", "*memory.carried = 0;",
     BITS),
    ("cpu/weight_gradients.h", "totals[i] = *sum;", "totals[i] = T(0 * *sum);", KERNELS),
    ("cpu/weight_gradients.h", "pass.dw_diag, at, i);", "pass.dw_diag, at, 0);", KERNELS),
    ("cpu/pack.h", "block * Cell::kUnit * L);", "0);", KERNELS),
    ("cpu/executor.cpp", "&spec_.maths[r.direction]", "&spec_.maths[0]", KERNELS),
    ("cuda/pass_view.cuh", "[k * H + u]) : Acc<S>(0);", "[k * H]) : Acc<S>(0);", CUDA),
    ("cuda/steps.cuh", "dgates[(kPlanes + k) * at.pass.H] = gradients[k];",
     "dgates[kPlanes * at.pass.H] = gradients[k];", CUDA),
    ("cuda/arrays.cpp", "out->maths = stack_.spec.maths[d];", "out->maths = stack_.spec.maths[0];",
     CUDA),
    # steps of two products there
    ("cuda/phases.cuh", "if (at.runs(t, b, length)) step(at, {s, t", "step(at, {s, t", CUDA),
    ("cuda/phases.cuh", "V(from_zero ? A(0) : carry[k - 1]);", "V(carry[k - 1]);", CUDA),
    ("cuda/phases.cuh", ": at.repeats(t, b, length) ? h_before", ": false ? h_before", CUDA),
    ("cuda/phases.cuh", "if (runs) dh = A(0);  // all", "dh = A(0);  // all", CUDA),
    ("cuda/phases.cuh", "if (runs || at.repeats(t, b, length)) dh", "if (runs) dh", CUDA),
    ("cuda/phases.cuh", "Unit::pass_on(at, at.time(s + 1), b, length, A(0)",
     "Unit::pass_on(at, 0, b, 0, A(0)", CUDA),
    ("cuda/phases.cuh", "[u] = narrow<S>(v.v);", "[u] = narrow<S>(A(0));", CUDA),
    ("cuda/phases.cuh", "leaves && pass.H > pass.P ? pass.H : pass.P", "pass.P", CUDA),
    ("core/lower.cpp", "add_hh(gate + n, plane + n, count - n, v);",
     "add_hh(gate + n, plane + n, count - n, before);", CUDA),
    ("cuda/stepwise_mode.cpp", "StepProduct{of_v, H, of_h}", "StepProduct{of_v, H, 0}", CUDA),
    ("cpu/backward.h", "return work.unit_members > 1 ? Need::kGroup : Need::kNothing;",
     "return Need::kNothing;", BITS),
    ("cpu/backward.h", "return Need::kTeam;  // all parts",
     "return Need::kNothing;  // all parts", BITS),
    ("cpu/backward.h", "end > pass.begin ? Need::kTeam :",
     "end > pass.begin ? Need::kNothing :", BITS),
    # a second product in the step
    ("cells/gru_reset_before.h", "ds[0] = fma(ds[0], z.y, dv * r.y);",
     "ds[0] = ds[0] * z.y;", KERNELS),
    ("cells/gru_reset_before.h", "    v = r.y * h;\n  }", "    v = h;\n  }", KERNELS),
    ("cells/projected.h", "ds[0] = v;", "ds[0] = v + v;", KERNELS),
    ("cells/lstm.h", ".y * m.value(Output(), s[1]);", ".y * s[1];", KERNELS),
    ("cpu/phases.h", "~Of::kSecond : Of::kSecond;", "~0u : Of::kSecond;", KERNELS),
    ("cpu/forward.h", "args.K = p == 0 ? P : H;", "args.K = P;", KERNELS),
    ("cpu/forward.h", "max(Panels<0>::U, Panels<kLast>::U)", "Panels<p>::U", BITS),
    ("cpu/forward.h", "      phase = 1 - phase;\n", "", BITS),
    ("cpu/forward.h", "v -= first_of_group / int64_t{sizeof(Storage)};", "(void)0;", BITS),
    ("cpu/forward_cell.h", "saved[k].store(x + k * L);", "(void)k;", KERNELS),
    ("cpu/backward_cell.h", "to(V(T(0)), row.ds[0] + i);", "(void)0;", KERNELS),
    ("cpu/backward_cell.h", "to(rounded<Storage>(v), row.out + gradient.v() + i);", "(void)v;",
     KERNELS),
    ("cpu/backward.h", "      if (phase == 1) take_first_phase();\n",
     "      take_first_phase();\n", BITS),
    ("cpu/backward_cell.h", "row.out + gradient.of_units() + k * H + i",
     "row.out + gradient.of_units() + i", KERNELS),
    ("cpu/weight_gradients.h", "return m - gradient.to_v();", "return 0;", KERNELS),
    # recurrent masks
    ("core/validate.cpp", "rank > (p.batched ? 3 : 2);", "rank > 3;", KERNELS),
    ("cpu/sequences.h", "static_cast<const char*>(masks.base) + pass * pass_bytes",
     "static_cast<const char*>(masks.base)", KERNELS),
    ("cpu/recurrent_masks.h", "row[position] * of.b_stride", "position * of.b_stride", BITS),
    ("cpu/recurrent_masks.h", "gate * of.gate_stride", "0 * of.gate_stride", KERNELS),
    ("cpu/recurrent_masks.h", "args.shared_init : args.init[k]", "args.init[k] : args.init[k]",
     KERNELS),
    ("cpu/recurrent_masks.h", "count() > 0 && !Phase<Cell, phase>::kIsProjection;", "count() > 0;",
     KERNELS),
    ("cpu/back_product.h", "if (Phase<Cell, phase>::kIsProjection) masks.of = {};", "", KERNELS),
    ("cpu/weight_gradients.h", "masked = !Phase<Cell, phase>::kIsProjection;", "masked = true;",
     KERNELS),
    ("cpu/forward.h", "masked.at(Panels<p>::gate(0), done + r)", "masked.at(0, done + r)", KERNELS),
    ("cpu/back_product.h", "args.out[r][k] + value;", "value;", KERNELS),
    ("cpu/back_product.h", "(args->b) + begin / kValues * args->b_step;", "(args->b);", KERNELS),
    ("cpu/back_product.h", "masks.at(gate, position_of(r)) + u", "masks.at(gate, position_of(r))",
     KERNELS),
    ("cpu/weight_gradients.h", "i), r.position) : nullptr;", "0), r.position) : nullptr;", KERNELS),
    ("cpu/weight_gradients.h", "++i, of.columns += Memory::packed_b_size(of.N, max_k))", "++i)",
     KERNELS),
    # 16 bits
    ("simd/factors.h", "V(p[1 - part]);", "V(p[part]);", NARROW),
    ("simd/factors.h", "part == 0 ? high_halves(lanes)", "part == 0 ? low_halves(lanes)", NARROW),
    ("simd/narrow.h", "opaque(bits_of(v) >> 16) << 16", "bits_of(v) >> 8 << 8", INT8),
    ("cpu/microkernel.h", "M::add(sum, y, M::template", "M::add(sum, x, M::template", NARROW),
    ("simd/factors.h", "kParts = 2, kLastPart = 1;", "kParts = 2, kLastPart = 0;", NARROW),
    ("simd/factors.h", "return rounded<S>(x);", "return x;", NARROW),
    ("simd/narrow.h", "bits + 0x7fff + ((bits >> 16) & 1)", "bits", NARROW),
    ("cpu/microkernel.h", "if (ends && whole < lanes)", "if (false)", NARROW),
    ("cpu/pack.h", "w[lane * row + k * col] : narrow<S>(T(0));", "w[lane * row] : narrow<S>(T(0));",
     BITS),
    ("cpu/weight_gradients.h", "if (ends) put_rounded(sum, 1, array, at);", "", NARROW),
    ("cpu/weight_gradients.h", "r < R && ends; ++r)", "r < R && begins; ++r)", NARROW),
    ("cpu/back_product.h", "if (args->K == n) continue;", "continue;", NARROW),
    ("cpu/backward_cell.h", "    to(rounded<Storage>(dgate[g]), row.out + Plane::of_x(g)",
     "    to(dgate[g], row.out + Plane::of_x(g)", NARROW),
    ("cpu/step.cpp", "k == 0 ? element : spec.accumulator_bytes();", "element;", BITS),
    # weights of 8 bits
    ("cpu/integers.h", "kOfPairs[] = {0, 2, 1, 3}", "kOfPairs[] = {0, 1, 2, 3}", INT8),
    ("cpu/integers.h", "most > bound ? most : bound", "bound > 0 ? bound : most", INT8),
    ("cpu/integers.h", "-128 * total", "-127 * total", INT8),
    ("cpu/integers.h", "limit / 127;", "limit / 128;", INT8),
    ("cpu/integers.h", "checked += check.raw[i];", "checked += 0;", INT8),
    ("cpu/integers.h", "inverse > 3.4e38f ? 0 :", "", INT8),
    ("cpu/integers.h", "return mask ? v *", "return false ? v *", INT8),
    ("cpu/integers.h", "p + 2 * part, sizeof", "p, sizeof", INT8),
    ("cpu/integers.h", "w[lane * row + (k0 + i) * col] : 0", "w[lane * row + k0 + i] : 0", INT8),
    ("cpu/integers.h", "return fma(scaled, V(header_of(row).scale), V::load(init));",
     "return scaled * V(header_of(row).scale) + V::load(init);", INT8),
    ("cpu/gate_product.h", "static_cast<const T*>(scales) + rows", "static_cast<const T*>(scales)",
     INT8),
    ("cpu/recurrent_masks.h", "own.scales += v * L", "own.scales += 0", INT8),
    ("cpu/executor.cpp", "pass.bounds[0] = spec_.projection ? 0 : bound", "pass.bounds[0] = 0",
     INT8),
    ("core/cell_name.cpp", 'name != "rnn_relu"', "true", INT8),
    ("cpu/integers.h", "<BytePairs>(lanes) << 8", "<BytePairs>(lanes)", INT8),
    ("cpu/integers.h", "pairs & 0xff", "pairs & 0x7f", INT8),
    ("core/validate.cpp", "if (kind >= kScaleIh)", "if (kind > kScaleIh)", QUANTIZED),
    ("cpu/microkernel.h", "M::kExact || !M::kInPieces ? 1 : args.chains", "args.chains", INT8),
    ("cpu/weights.cpp", "projects ? kScaleHr : kScaleHh", "kScaleHh", INT8),
    # the team
    ("cpu/team.cpp", "parts_[k].progress().tasks() < at.tasks()) return false;",
     "parts_[k].progress().tasks() < at.tasks()) return true;", TEAM),
    ("cpu/team.cpp",
     "!part.claimed.compare_exchange_strong(tasks, tasks + 1, std::memory_order_acq_rel)",
     "false", TEAM),
    ("cpu/team.cpp", "const FloatScope as_the_caller(state_);", "", TEAM),
    ("cpu/team.cpp", "steal_or_watch(me);", "", TEAM),
    ("cpu/team.cpp", "if (now - polled_ < kPollAfter) return;", "", TEAM),
    ("cpu/thread_count.cpp", "at_work.fetch_sub(members_ - left, std::memory_order_relaxed);",
     "", BUSY),
    ("cpu/thread_count.cpp", "if (in_child_of_fork()) return 1;", "", BUSY),
    ("cpu/processors.cpp", "group.resize(slash);", "return min;", BUSY),
    # the engine
    ("cpu/batch.h", "length[static_cast<size_t>(a)] > length",
     "length[static_cast<size_t>(a)] < length", KERNELS),
    ("cpu/sequences.h", "q.first_step = r.begin;", "q.first_step = 0;", BITS),
    ("cpu/executor.cpp", "return back ? Need::kTeam : Need::kGroup;", "return Need::kNothing;",
     TEAM),
    ("cpu/memory.cpp", "if (kept && size_of(kept) == bytes)", "if (kept)", MEMORY),
]  # fmt: skip


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


def build(copy: Path, folder: Path) -> bool:
    targets = ["_cpu", "_cuda_emulated", TEAM]
    if run(["cmake", "--build", str(folder), "--target", *targets], copy).returncode:
        return False
    (module,) = folder.glob("_cpu.*.so")
    shutil.copy(module, copy / "python" / "fastrnn")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="mutants whose text has this word")
    parser.add_argument("--level", default="avx2")
    options = parser.parse_args()
    mutants = [m for m in MUTANTS if options.only in " ".join(map(str, m))]
    survivors = []
    with tempfile.TemporaryDirectory() as temporary:
        copy, folder = Path(temporary) / "copy", Path(temporary) / "build"
        for part in (
            "bench",
            "cmake",
            "csrc",
            "docs",
            "python",
            "tests",
            "tools",
            "CMakeLists.txt",
            "CMakePresets.json",
            "pyproject.toml",
        ):
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("*.so"))
            else:
                copy.mkdir(exist_ok=True)
                shutil.copy(source, copy / part)
        configured = run(
            ["cmake", "--preset", "release", "-B", str(folder), f"-DFASTRNN_LEVELS={options.level}",
             "-DFASTRNN_TESTS=ON", "-DFASTRNN_CUDA=OFF",
             f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"],
            copy,
        )  # fmt: skip
        if configured.returncode or not build(copy, folder):
            sys.exit(f"the copy does not build\n{configured.stdout}")
        for file, old, new, tests in (bar := tqdm(mutants)):
            path = copy / "csrc" / file
            text = path.read_text(encoding="utf-8")
            name = f"{file}: {old!r} -> {new!r}"
            if text.count(old) < 1:
                survivors.append(f"does not apply: {name}")
                continue
            path.write_text(text.replace(old, new, 1), encoding="utf-8")
            try:
                if not build(copy, folder):
                    survivors.append(f"does not build: {name}")
                    continue
                command = [
                    sys.executable,
                    "-m",
                    "pytest",
                    "-q",
                    "--tier",
                    "ci",
                    "-x",
                    "-k",
                    "not wide",
                    "-p",
                    "no:cacheprovider",
                    f"tests/{tests}",
                ]
                if tests == TEAM:
                    command = [str(folder / "tests" / "cpp" / TEAM)]
                done = run(
                    command,
                    copy,
                    PYTHONPATH=str(copy / "python"),
                    FASTRNN_EMULATED_BUILD=str(folder),
                )  # fmt: skip
                # A failed test, or a crash of the interpreter.
                caught = done.returncode == 1 or done.returncode < 0
            except subprocess.TimeoutExpired:
                caught = True
            finally:
                path.write_text(text, encoding="utf-8")
            bar.write(f"{'caught' if caught else 'SURVIVED'}: {name}")
            if not caught:
                survivors.append(f"survived: {name}")
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants caught", *survivors, sep="\n")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
