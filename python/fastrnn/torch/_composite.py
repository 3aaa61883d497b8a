"""The layers in torch's own operations, step by step: slow, and differentiable in every way.

They stand in where no fused kernel exists: for derivatives of second and higher order, for
forward-mode derivatives, and for LSTMs with projections. The equations and the time loop are those
of the reference, `fastrnn.reference.loop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import _parameters
from ..reference import loop
from ..reference.cell import Cell, find
from ._call import NARROW, Call, Inputs


class _Torch:
    """torch's tensors, whose shapes may not depend on values: rows that do not run are masked."""

    tanh = staticmethod(torch.tanh)
    sigmoid = staticmethod(torch.sigmoid)
    relu = staticmethod(torch.relu)
    expm1 = staticmethod(torch.expm1)
    stack = staticmethod(torch.stack)
    concatenate = staticmethod(torch.concatenate)
    linear = staticmethod(torch.nn.functional.linear)

    def clip(self, a: Tensor, low: float, high: float) -> Tensor:
        return a.clamp(low, high)

    def softplus(self, a: Tensor) -> Tensor:
        return torch.logaddexp(a, torch.zeros_like(a))

    def where(self, condition: Tensor, a: Any, b: Any) -> Tensor:
        return torch.where(condition, a, b)

    def project(self, x: Tensor, moments: Any, w: Tensor, b: Tensor | None) -> Tensor:
        return self.linear(x, w, b)  # of all steps at once

    def running(self, T: int, lengths: Tensor) -> Tensor:
        return torch.arange(T, device=lengths.device)[:, None] < lengths

    def rows(self, running: Tensor) -> Tensor:
        return running[:, None]

    def at(self, a: Tensor, t: int, rows: Any) -> Tensor:
        return a[t]

    def take(self, a: Tensor, rows: Any) -> Tensor:
        return a

    def put(self, a: Tensor, rows: Tensor | None, values: Tensor) -> Tensor:
        return values if rows is None else torch.where(rows, values, a)


TORCH = _Torch()


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
            steps=inputs.steps.converted(torch.float32),
            states=tuple(s.float() for s in inputs.states),
            masks=tuple(m.float() for m in inputs.masks),
            parameters=tuple(p.float() for p in inputs.parameters),
        ),
    )
    return (y.to(dtype), h.to(dtype), *others)


def _run_packed(call: Call, inputs: Inputs) -> tuple[Tensor, ...]:
    """The rows of a packed x, padded; y packed again."""
    sizes: Any = inputs.steps.batch_sizes
    rows = torch.arange(int(sizes[0]))
    runs = rows < sizes[:, None]  # (T, B)
    places = torch.where(runs, (sizes.cumsum(0) - sizes)[:, None] + rows, 0)
    runs, places = runs.to(inputs.x.device), places.to(inputs.x.device)

    def pad(data: Tensor) -> Tensor:
        return torch.where(runs[:, :, None], data[places], 0.0)

    y, *others = _run(
        replace(call, batch_first=False),
        inputs._replace(
            x=pad(inputs.x),
            steps=inputs.steps.with_lengths(runs.sum(0)),
            masks=tuple(pad(mask) for mask in inputs.masks),
        ),
    )
    return (y.flatten(0, 1)[runs.flatten()], *others)


def _run(call: Call, inputs: Inputs) -> tuple[Tensor, ...]:
    if inputs.steps.batch_sizes is not None:
        return _run_packed(call, inputs)
    cells = [find(call.cell, d) for d in range(call.directions)]
    batched = inputs.x.dim() == 3
    x = _time_first(inputs.x, call, batched)
    T, B = x.shape[:2]
    lengths, *flags, _, recurrent_masks = inputs.steps
    lengths = None if lengths is None else lengths.to(x.device)
    resets, holds = (None if a is None else _time_first(a, call, batched) for a in flags)
    steps = loop.StepInputs(lengths, resets, holds, call.repeat_held)
    weights = _weights(call, cells[0], inputs.parameters)
    states = inputs.states if batched else tuple(s[:, None] for s in inputs.states)
    y, finals, others = loop.run_layers(
        TORCH,
        cells,
        weights,
        [loop.make_schedule(TORCH, T, steps, d == 1) for d in range(call.directions)],
        x,
        states or _zeros(cells[0], weights, x, B),
        loop.Masks(
            [_time_first(mask, call, batched) for mask in inputs.masks],
            _by_pass(recurrent_masks, batched),
        ),
    )
    if not batched:
        results = [y[:, 0], *(final[:, 0] for final in finals)]
    else:
        results = [y.transpose(0, 1) if call.batch_first else y, *finals]
    if call.cells:
        by_pass = (call.layers, call.directions)
        results.append(torch.stack(others).unflatten(1, by_pass))
    return tuple(a.contiguous() for a in results)


def _weights(call: Call, cell: Cell, parameters: Sequence[Tensor]) -> list[loop.Weights]:
    """Of each pass."""
    made = []
    for own in _parameters.by_layer_direction(parameters, call.layers, call.directions):
        *own, w_hr = own if call.projected else (*own, None)
        *own, w_diag = own if cell.unit_parameters else (*own, None)
        w_ih, w_hh, *biases = own
        b_ih, b_hh = biases or (None, None)
        made.append(loop.Weights(w_ih, w_hh, b_ih, b_hh, w_diag, w_hr))
    return made


def _zeros(cell: Cell, weights: list[loop.Weights], x: Tensor, B: int) -> list[Tensor]:
    """The initial states of a call that was given none."""
    w_hh = weights[0].w_hh
    widths = [w_hh.shape[1]] + [w_hh.shape[0] // cell.gates] * (cell.states - 1)
    return [x.new_zeros(len(weights), B, width) for width in widths]


def _by_pass(masks: Tensor | None, batched: bool) -> tuple[Tensor, ...]:
    """The recurrent masks of each pass: (1, B, P), or (G, B, P)."""
    if masks is None:
        return ()
    masks = masks if batched else masks[..., None, :]
    return (masks if masks.dim() == 4 else masks[:, None]).unbind()


def _time_first(a: Tensor, call: Call, batched: bool) -> Tensor:
    if not batched:
        return a[:, None]
    return a.transpose(0, 1) if call.batch_first else a
