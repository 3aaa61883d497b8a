"""The operators: what torch.compile, torch.export and fake tensors see of the engine.

``fastrnn::layer`` is the one that graphs hold. Where gradients are wanted its autograd kernel runs
`_autograd.Forward`, and so a compiled graph holds ``fastrnn::forward``, with the tape as results,
and ``fastrnn::backward``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _engine
from ._call import Call, Inputs, Results, StepInputs

_INPUTS = (
    "Tensor x, Tensor? lengths, Tensor? resets, Tensor[] states, Tensor[] masks, "
    "Tensor[] parameters"
)
_OPTIONS = "str cell, int layers, int directions, bool batch_first, int recompute, bool cells"
_COMMON = 12
# What later versions have added stands last and has defaults: saved programs do without.
_ADDED = (
    "Tensor? holds=None, bool repeat_held=False, Tensor? batch_sizes=None, "
    "Tensor? recurrent_masks=None"
)

library = torch.library.Library("fastrnn", "DEF")
# Tensor?[] has no place in a list of results, so what is not wanted comes as an empty tensor.
library.define(f"layer({_INPUTS}, {_OPTIONS}, {_ADDED}) -> Tensor[]")
library.define(f"forward({_INPUTS}, {_OPTIONS}, {_ADDED}) -> Tensor[]")
library.define(
    f"backward({_INPUTS}, {_OPTIONS}, Tensor y, Tensor[] tape, Tensor dy, Tensor[] dfinals, "
    f"bool want_dx, bool want_parameters, {_ADDED}) -> Tensor[]"
)


def arguments(call: Call, inputs: Inputs, *rest: Any) -> tuple[Any, ...]:
    """The operators' arguments; rest: those that `backward` has besides."""
    x, (lengths, resets, holds, batch_sizes, recurrent_masks), *others = inputs
    options = (call.layers, call.directions, call.batch_first, call.recompute, call.cells)
    added = holds, call.repeat_held, batch_sizes, recurrent_masks
    return (x, lengths, resets, *others, call.cell, *options, *rest, *added)


def call_of(
    x: Tensor,
    lengths: Tensor | None,
    resets: Tensor | None,
    states: Sequence[Tensor],
    masks: Sequence[Tensor],
    parameters: Sequence[Tensor],
    cell: str,
    layers: int,
    directions: int,
    batch_first: bool,
    recompute: int,
    cells: bool,
    holds: Tensor | None = None,
    repeat_held: bool = False,
    batch_sizes: Tensor | None = None,
    recurrent_masks: Tensor | None = None,
) -> tuple[Call, Inputs]:
    """The inverse of `arguments`. torch leaves out what has its default at the end.

    The tape is whole: graphs hold its shapes.
    """
    steps = StepInputs(lengths, resets, holds, batch_sizes, recurrent_masks)
    inputs = Inputs(x, steps, tuple(states), tuple(masks), tuple(parameters))
    projected = len(parameters) // (layers * directions) % 2 == 1
    sizes = (layers, directions, batch_first, recompute, cells, projected, len(states), len(masks))
    return Call(cell, *sizes, repeat_held, whole_tape=True), inputs


def split_backward(args: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The arguments that `backward` has in common with the others, and its own."""
    own = _COMMON + 6
    return (*args[:_COMMON], *args[own:]), args[_COMMON:own]


def _layer(*args: Any) -> list[Tensor]:
    return list(_engine.infer(*call_of(*args)))


def _forward(*args: Any) -> list[Tensor]:
    return list(_engine.forward(*call_of(*args)))


def _backward(*args: Any) -> list[Tensor]:
    common, (y, tape, dy, dfinals, want_dx, want_parameters) = split_backward(args)
    call, inputs = call_of(*common)
    dx, dinitials, dparameters = _engine.backward(
        call, inputs, y, tuple(tape), dy, tuple(dfinals), want_dx, want_parameters
    )
    return [inputs.x.new_empty(0) if dx is None else dx, *dinitials, *(dparameters or ())]


def _fake_layer(*args: Any) -> list[Tensor]:
    call, inputs = call_of(*args)
    results = Results(call, inputs)
    return [results.y, *results.finals, *(results.tape[1:2] if call.cells else [])]


def _fake_forward(*args: Any) -> list[Tensor]:
    results = Results(*call_of(*args))
    return [results.y, *results.finals, *results.tape]


def _fake_backward(*args: Any) -> list[Tensor]:
    common, (*_, want_dx, want_parameters) = split_backward(args)
    call, inputs = call_of(*common)
    dx: Any = inputs.x.shape if want_dx else (0,)
    dparameters = [p.new_empty(p.shape) for p in inputs.parameters] if want_parameters else []
    return [inputs.x.new_empty(dx), *Results(call, inputs).finals, *dparameters]


for _name, _kernel, _fake in (
    ("layer", _layer, _fake_layer),
    ("forward", _forward, _fake_forward),
    ("backward", _backward, _fake_backward),
):
    for _key in ("CPU", "CUDA"):  # `_engine.for_device` knows which there are
        library.impl(_name, _kernel, _key)
    torch.library.register_fake(f"fastrnn::{_name}", _fake, lib=library)


def forward(call: Call, inputs: Inputs) -> tuple[Tensor, ...]:
    """As `_engine.forward`, for tensors of any kind."""
    return tuple(torch.ops.fastrnn.forward(*arguments(call, inputs)))


def backward(
    call: Call, inputs: Inputs, *rest: Any, want_dx: bool, want_parameters: bool
) -> tuple[Tensor | None, tuple[Tensor, ...], tuple[Tensor, ...] | None]:
    """As `_engine.backward`, for tensors of any kind."""
    results = torch.ops.fastrnn.backward(*arguments(call, inputs, *rest, want_dx, want_parameters))
    dx, *others = results
    states = len(others) - (len(inputs.parameters) if want_parameters else 0)
    return (
        dx if want_dx else None,
        tuple(others[:states]),
        tuple(others[states:]) if want_parameters else None,
    )
