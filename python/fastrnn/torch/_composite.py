"""The layers in torch's own operations, step by step: slow, and differentiable in every way.

They stand in where no fused kernel exists: for derivatives of second and higher order, for
forward-mode derivatives, and for LSTMs with projections. The equations and the time loop are those
of the reference, `fastrnn.reference.loop`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..reference.call import Arrays, Options
from ..reference.call import run as run_call
from ..reference.namespace import Looping
from ._call import NARROW, Call, Inputs


class _Torch(Looping):
    """torch's tensors, whose shapes may not depend on values: rows that do not run are masked."""

    tanh = staticmethod(torch.tanh)
    sigmoid = staticmethod(torch.sigmoid)
    relu = staticmethod(torch.relu)
    expm1 = staticmethod(torch.expm1)
    stack = staticmethod(torch.stack)
    concatenate = staticmethod(torch.concatenate)
    zeros_like = staticmethod(torch.zeros_like)
    linear = staticmethod(torch.nn.functional.linear)

    def clip(self, a: Tensor, low: float, high: float) -> Tensor:
        return a.clamp(low, high)

    def softplus(self, a: Tensor) -> Tensor:
        return torch.logaddexp(a, torch.zeros_like(a))

    def zeros(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return like.new_zeros(shape)

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
    x, (lengths, resets, holds, _, recurrent_masks), *rest = inputs
    lengths = None if lengths is None else lengths.to(x.device)
    states, masks, parameters = rest
    arrays = Arrays(x, states, lengths, resets, holds, recurrent_masks, masks, parameters)
    sizes = (call.cell, call.layers, call.directions)
    options = Options(*sizes, call.batch_first, False, call.repeat_held)
    y, finals, others = run_call(TORCH, options, arrays)
    results = [y, *finals, *([torch.stack(others)] if call.cells else [])]
    return tuple(a.contiguous() for a in results)
