"""Derivatives: of first order by the fused kernels, all others by the composite."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from .._sizes import SIZES
from . import _composite, _engine, _ops
from ._batches import apply, call_each, one_at_a_time
from ._call import Call, Inputs, cell_state_dtype, state_widths
from ._conditions import (
    is_direct,
    is_plain,
    lacks_kernel,
    needs_composite,
    refuse_mixture,
    wants_gradient,
)

_vjp: Any = torch.func.vjp  # its annotations know only calls with an auxiliary result


class _Written:
    """Whether a result was written in place, which torch's layers allow, while backward needs it.

    A copy would cost every call. So a result that was written is made once more, from the inputs:
    to the same bits, since autograd sees to it that those were not written. What tells is torch's
    count of writes, kept by an alias without memory: hooks may move what is saved elsewhere.

    Attributes
    ----------
    kept : Tensor
        The result, for `save_for_backward`: without the count, which autograd would compare.
    """

    def __init__(self, result: Tensor) -> None:
        self._count: Tensor | None = None
        plain = type(result) is Tensor and not torch._C._are_functorch_transforms_active()
        if not plain or torch.compiler.is_compiling():
            self.kept = result.clone()
            return
        self.kept = result.data
        self._count = result.detach()
        self._count.data = result.new_empty(0)
        self._before = self._count._version

    def __bool__(self) -> bool:
        return self._count is not None and self._count._version != self._before


class Forward(Function):
    """From call, *inputs.flat(): y, the final states, and the three arrays of the tape."""

    @staticmethod
    def forward(call: Call, *flat: Any) -> tuple[Tensor, ...]:
        inputs = call.inputs(flat)
        if inputs.x.is_meta:
            refuse_mixture(call, inputs)
        elif is_plain(inputs):
            return _engine.forward(call, inputs)
        return _ops.forward(call, inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.call, *flat = inputs
        y, *_, inner, states, saved = output
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(inner, saved, *(() if ctx.call.cells else (states,)))
        # An LSTM of float32 in one direction keeps its output under torch too, where autograd
        # refuses a backward of an output that was written.
        refuses = (
            ctx.call.cell == "lstm"
            and not ctx.call.projected
            and ctx.call.directions == 1
            and y.dtype == torch.float32
        )
        ctx.written = None if refuses else _Written(y)
        kept = y if ctx.written is None else ctx.written.kept
        ctx.save_for_backward(*flat, kept, inner, states, saved)

    @staticmethod
    @one_at_a_time
    def backward(ctx: Any, dy: Tensor | None, *rest: Tensor | None) -> tuple[Any, ...]:
        call: Call = ctx.call
        if dy is None and all(d is None for d in rest):
            return (None,) * (1 + len(ctx.saved_tensors) - 4)
        *dfinals, _, dcells, _ = rest
        *flat, y, inner, states, saved = ctx.saved_tensors
        inputs = call.inputs(flat)
        if ctx.written:
            with torch.no_grad():
                y = Forward.forward(call, *flat)[0]
        if dy is None:  # a row of zeros, seen from everywhere
            dy = y.new_zeros(y.shape[-1]).expand(y.shape)
        if any(d is not None for d in dfinals):
            like = next(d for d in dfinals if d is not None)
            widths = state_widths(call, inputs.parameters)
            given = tuple(
                like.new_zeros(*like.shape[:-1], width) if d is None else d
                for d, width in zip(dfinals, widths, strict=True)
            )
        else:
            given = ()
        if dcells is not None or needs_composite():
            grads = _gradients(call, inputs, (dy, *given), dcells)
            return (None, *_scatter(call, inputs, *grads))
        wants = ctx.needs_input_grad[1], any(ctx.needs_input_grad[-len(inputs.parameters) :])
        args = (call, *wants, len(given), *flat, y, inner, states, saved, dy, *given)
        recorded = torch.is_grad_enabled() or torch._C._are_functorch_transforms_active()
        grads = apply(Backward, *args) if recorded else Backward.forward(*args)
        return (None, *_scatter(call, inputs, *_split(call, grads)))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        call, *flat = args  # the calls' tapes are stacked
        args = (replace(call, whole_tape=True), *flat)
        return call_each(Forward, info.batch_size, in_dims, args)


def _split(call: Call, grads: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    dx, *others = grads
    states = SIZES[call.cell].states
    return dx, tuple(others[:states]), tuple(others[states:])


def _scatter(
    call: Call,
    inputs: Inputs,
    dx: Tensor | None,
    dinitials: tuple[Any, ...],
    dparameters: tuple[Any, ...],
) -> tuple[Any, ...]:
    """Gradients of the flat inputs."""
    return (
        dx,
        *(None,) * len(inputs.steps),
        *dinitials[: call.states],
        *(None,) * call.masks,
        *(dparameters or (None,) * len(inputs.parameters)),
    )


class Backward(Function):
    """Called with call, want_dx, want_parameters, len(dfinals), *inputs, y, *tape, dy, *dfinals.

    Gives dx, the gradients of the initial states, and those of the parameters; None or nothing for
    what is not wanted. The tape counts as a constant here: gradients of second order come from the
    inputs and dy alone, through the composite.
    """

    @staticmethod
    def forward(
        call: Call, want_dx: bool, want_parameters: bool, count: int, *args: Any
    ) -> tuple[Any, ...]:
        flat, (y, *tape), (dy, *dfinals) = _parts(args, count)
        inputs = call.inputs(flat)
        plain = is_plain(inputs) and type(dy) is Tensor and not dy.is_meta
        run = _engine.backward if plain else _ops.backward
        dx, dinitials, dparameters = run(
            call,
            inputs,
            y,
            tuple(tape),
            dy,
            tuple(dfinals),
            want_dx=want_dx,
            want_parameters=want_parameters,
        )
        return (dx, *dinitials, *(dparameters or ()))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        ctx.call, _, _, ctx.count, *args = inputs
        flat, _, dys = _parts(args, ctx.count)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*flat, *dys)

    @staticmethod
    @one_at_a_time
    def backward(ctx: Any, *ddgrads: Tensor | None) -> tuple[Any, ...]:
        call: Call = ctx.call
        split = len(ctx.saved_tensors) - 1 - ctx.count
        flat, dys = ctx.saved_tensors[:split], ctx.saved_tensors[split:]
        inputs = call.inputs(flat)
        chosen = [k for k, d in enumerate(ddgrads) if d is not None]
        if not chosen:
            return (None,) * (4 + len(flat) + 4 + len(dys))

        def first_order(primals: tuple[Any, ...], dys: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            dx, dinitials, dparameters = _gradients(call, _with(inputs, primals), dys, None)
            grads = (dx, *dinitials, *dparameters)
            return tuple(grads[k] for k in chosen)

        _, pullback = _vjp(first_order, _primals(inputs), dys)
        (dx, dinitials, dparameters), ddys = pullback(tuple(ddgrads[k] for k in chosen))
        scattered = _scatter(call, inputs, dx, dinitials, dparameters)
        return (*(None,) * 4, *scattered, *(None,) * 4, *ddys)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        return call_each(Backward, info.batch_size, in_dims, args)


def _parts(args: Any, dfinals: int) -> tuple[Any, Any, Any]:
    """The flat inputs, y with the tape, dy with the dfinals."""
    dys = len(args) - 1 - dfinals
    return args[: dys - 4], args[dys - 4 : dys], args[dys:]


def _primals(inputs: Inputs) -> tuple[Any, ...]:
    return inputs.x, inputs.states, inputs.parameters


def _with(inputs: Inputs, primals: tuple[Any, ...]) -> Inputs:
    x, states, parameters = primals
    return inputs._replace(x=x, states=states, parameters=parameters)


def _gradients(
    call: Call, inputs: Inputs, dys: tuple[Tensor, ...], dcells: Tensor | None
) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """What `_engine.backward` gives, by the composite: differentiable in everything again."""
    count = SIZES[call.cell].states
    states = inputs.states
    if not states:  # the engine gives gradients of the zeros too
        rows = _composite.run(call, inputs)[1].shape[:-1]
        widths = state_widths(call, inputs.parameters)
        dtypes = [inputs.x.dtype] + [cell_state_dtype(inputs.x.dtype)] * (count - 1)
        states = tuple(
            inputs.x.new_zeros(*rows, width, dtype=dtype)
            for width, dtype in zip(widths, dtypes, strict=True)
        )
    inputs = inputs._replace(states=states)

    def run(*primals: Any) -> tuple[Tensor, ...]:
        return _composite.run(call, _with(inputs, primals))

    results, pullback = _vjp(run, *_primals(inputs))
    dy, *dfinals = dys
    given = dfinals or [torch.zeros_like(r) for r in results[1 : 1 + count]]
    if call.cells:
        given = [*given, torch.zeros_like(results[-1]) if dcells is None else dcells]
    dx, dinitials, dparameters = pullback((dy, *given))
    return dx, dinitials, dparameters


def layer(call: Call, inputs: Inputs, packed: Any = None) -> tuple[Tensor, ...]:
    """Run the layers, with a graph where gradients are wanted; results as `_engine.infer`.

    `packed`: the parameters, packed, for a call that `is_direct`.
    """
    if packed is not None:
        return _engine.infer(call, inputs, packed)
    compiling = torch.compiler.is_compiling()
    if lacks_kernel(inputs) or (not compiling and needs_composite()):
        return _composite.run(call, inputs)
    if is_direct(inputs):
        return _engine.infer(call, inputs)
    if not compiling:
        if torch._C._are_functorch_transforms_active() or (
            wants_gradient(inputs) and not torch._C._is_tracing()  # which records no Function
        ):
            return _without_tape(call, apply(Forward, call, *inputs.flat()))
        if inputs.x.is_meta:
            refuse_mixture(call, inputs)
    return tuple(torch.ops.fastrnn.layer(*_ops.arguments(call, inputs)))


def _without_tape(call: Call, results: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    *kept, _, states, _ = results
    return (*kept, states) if call.cells else tuple(kept)


def _layer_autograd(*args: Any) -> list[Tensor]:
    call, inputs = _ops.call_of(*args)
    if wants_gradient(inputs):
        return list(_without_tape(call, apply(Forward, call, *inputs.flat())))
    with torch._C._AutoDispatchBelowAutograd():
        results: list[Tensor] = torch.ops.fastrnn.layer(*args)
        return results


_ops.library.impl("layer", _layer_autograd, "Autograd")
