"""The layers in torch's own operations, step by step: slow, and differentiable in every way.

They stand in where no fused kernel exists: for derivatives of second and higher order, for
forward-mode derivatives, and for LSTMs with projections. The cells are those of the reference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference.cell import Cell, Maths, find
from ._call import NARROW, Call, Inputs

_TORCH = Maths(torch.tanh, torch.sigmoid, torch.relu)


def run(call: Call, inputs: Inputs) -> tuple[Tensor, ...]:
    """Run the layers: y, the final states and, with `call.cells`, the others of every step.

    Shapes and dtypes are those of the engine; see `Results`. float16 and bfloat16 are computed in
    float32.
    """
    dtype = inputs.x.dtype
    if dtype not in NARROW:
        return _run(call, inputs)
    y, h, *others = _run(
        call,
        inputs._replace(
            x=inputs.x.float(),
            states=tuple(s.float() for s in inputs.states),
            masks=tuple(m.float() for m in inputs.masks),
            parameters=tuple(p.float() for p in inputs.parameters),
        ),
    )
    return (y.to(dtype), h.to(dtype), *others)


def _run(call: Call, inputs: Inputs) -> tuple[Tensor, ...]:
    cell = find(call.cell)
    batched = inputs.x.dim() == 3
    x = _time_first(inputs.x, call, batched)
    T = x.shape[0]
    resets = None if inputs.resets is None else _time_first(inputs.resets, call, batched)
    masks = [_time_first(mask, call, batched) for mask in inputs.masks]
    runs = None if inputs.lengths is None else running(inputs.lengths, T, x.device)
    finals: list[list[Tensor]] = [[] for _ in range(cell.states)]
    beside: list[list[Tensor]] = [[] for _ in range(cell.states - 1)]
    per_pass = len(inputs.parameters) // (call.layers * call.directions)
    for layer in range(call.layers):
        if layer > 0 and masks:
            x = x * masks[layer - 1]
        outputs = []
        for direction in range(call.directions):
            index = layer * call.directions + direction
            weights = _Weights(
                cell, inputs.parameters[index * per_pass : (index + 1) * per_pass], call.projected
            )
            initial = [
                (s[index] if batched else s[index, None]) for s in inputs.states
            ] or weights.zeros(x)
            order = range(T - 1, -1, -1) if direction else range(T)
            steps, s = _pass(weights, x, initial, order, runs, resets)
            outputs.append(_stack([step[0] for step in steps], runs, s[0], T))
            for k in range(1, cell.states):
                beside[k - 1].append(_stack([step[k] for step in steps], runs, s[k], T))
            for final, a in zip(finals, s, strict=True):
                final.append(a if batched else a[0])
        x = torch.cat(outputs, -1)
    y = x if not batched or not call.batch_first else x.transpose(0, 1)
    results = [y if batched else y[:, 0], *(torch.stack(f) for f in finals)]
    if call.cells:
        shape = (cell.states - 1, call.layers, call.directions)
        all_passes = torch.stack([a for arrays in beside for a in arrays])
        results.append(all_passes.unflatten(0, shape))
    return tuple(a.contiguous() for a in results)


class _Weights:
    """The parameters of one pass."""

    def __init__(self, cell: Cell, parameters: tuple[Tensor, ...], projected: bool) -> None:
        self.cell = cell
        self.b_ih: Tensor | None
        self.b_hh: Tensor | None
        self.w_hr = parameters[-1] if projected else None
        self.w_ih, self.w_hh, *biases = parameters[:-1] if projected else parameters
        self.b_ih, self.b_hh = biases if biases else (None, None)
        self.gates = (cell.gates, self.w_hh.shape[0] // cell.gates)

    def zeros(self, x: Tensor) -> list[Tensor]:
        widths = [self.w_hh.shape[1]] + [self.gates[1]] * (self.cell.states - 1)
        return [x.new_zeros(x.shape[1], n) for n in widths]

    def step(self, wx: Tensor, s: list[Tensor]) -> list[Tensor]:
        rh = torch.nn.functional.linear(s[0], self.w_hh, self.b_hh).unflatten(-1, self.gates)
        (h, *others), _ = self.cell.step(_TORCH, wx, rh, tuple(s))
        return [h if self.w_hr is None else torch.nn.functional.linear(h, self.w_hr), *others]


def _pass(
    weights: _Weights,
    x: Tensor,
    s: list[Tensor],
    order: range,
    runs: Tensor | None,
    resets: Tensor | None,
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """One direction of one layer: the states after each step, in the order of time, and at last."""
    T, reverse = x.shape[0], order.step < 0
    wx = torch.nn.functional.linear(x, weights.w_ih, weights.b_ih).unflatten(-1, weights.gates)
    steps: list[list[Tensor]] = [[] for _ in range(T)]
    for t in order:
        # A piece is entered at its end in reverse: at the step before the next one's start.
        start_at = t + 1 if reverse else t
        if resets is not None and start_at < T:
            starts = resets[start_at] if runs is None else resets[start_at] & runs[start_at]
            s = [torch.where(starts[:, None], 0.0, a) for a in s]
        after = weights.step(wx[t], s)
        if runs is not None:  # rows that do not run keep their state
            running = runs[t][:, None]
            after = [torch.where(running, a, b) for a, b in zip(after, s, strict=True)]
        steps[t] = s = after
    return steps, s


def _stack(steps: list[Tensor], runs: Tensor | None, like: Tensor, T: int) -> Tensor:
    """All steps (T, B, n), 0 where a row does not run."""
    if T == 0:
        return like.new_zeros(0, *like.shape)
    stacked = torch.stack(steps)
    return stacked if runs is None else torch.where(runs[:, :, None], stacked, 0.0)


def running(lengths: Tensor, T: int, device: torch.device) -> Tensor:
    """Whether each row runs at each step, (T, B)."""
    return torch.arange(T, device=device)[:, None] < lengths.to(device)


def _time_first(a: Tensor, call: Call, batched: bool) -> Tensor:
    if not batched:
        return a[:, None]
    return a.transpose(0, 1) if call.batch_first else a
