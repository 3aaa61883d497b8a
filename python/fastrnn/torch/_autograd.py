"""Derivatives: of first order by the fused kernels, all others by the composite."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import Function

from . import _composite, _engine, _ops, _tracing
from ._call import SIZES, Call, Inputs, cell_state_dtype

_vjp: Any = torch.func.vjp  # its annotations know only calls with an auxiliary result
PLAIN = frozenset({Tensor, torch.nn.Parameter})


def is_plain(inputs: Inputs) -> bool:
    """Whether the engine may read these tensors where they lie, unseen by torch's dispatcher.

    Not so for subclasses (fake, distributed, functional tensors), for tensors that are only a
    transform of what lies in memory, or while something watches every operation.
    """
    if _tracing.is_watched():
        return False
    tensors = [*inputs.states, *inputs.masks, *inputs.parameters, inputs.x]
    if inputs.lengths is not None:
        tensors.append(inputs.lengths)
    if inputs.resets is not None:
        tensors.append(inputs.resets)
    return PLAIN.issuperset(map(type, tensors)) and not any(map(Tensor.is_neg, tensors))


def needs_composite() -> bool:
    """Whether a transform is active that knows torch's operations alone.

    Forward-mode derivatives, for which there is no fused kernel, and `torch.func.functionalize`,
    which has no rule for a `Function`.
    """
    if forward_ad._current_level >= 0:
        return True
    if not torch._C._are_functorch_transforms_active():
        return False
    kinds = torch._C._functorch.TransformType
    levels = torch._C._functorch.get_interpreter_stack()
    return any(level.key() in (kinds.Jvp, kinds.Functionalize) for level in levels)


def lacks_kernel(call: Call, inputs: Inputs) -> bool:
    """Whether the engines cannot compute a call: projections, or cells that have no inputs."""
    return call.projected or inputs.parameters[0].shape[-1] == 0


def _apply(function: type[Function], *args: Any) -> tuple[Any, ...]:
    """``function.apply``, without the 30 us for which it looks at its own signature."""
    if torch._C._are_functorch_transforms_active():
        results: tuple[Any, ...] = function.apply(*args)
    else:
        results = super(Function, function).apply(*args)  # type: ignore[misc]
    return results


_LEGACY_LEVELS = range(1, 65)  # as deep as torch's older vmap nests


def _one_at_a_time(backward: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """A `Function.backward` that takes apart the batches of torch's older vmap.

    It serves ``is_grads_batched=True`` and ``vectorize=True``, and has no rules for a `Function`.
    """

    @functools.wraps(backward)
    def taking_apart(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        is_batched = torch._C._functorch.is_legacy_batchedtensor
        batched = next((d for d in grads if d is not None and is_batched(d)), None)
        if batched is None:
            return backward(ctx, *grads)
        # A tensor without the level would come out with as many elements as are asked for: none.
        sizes = ((n, torch._remove_batch_dim(batched, n, 0, 0).shape[0]) for n in _LEGACY_LEVELS)
        level, size = next(found for found in sizes if found[1])
        apart = [None if d is None else torch._remove_batch_dim(d, level, size, 0) for d in grads]
        calls = [
            taking_apart(ctx, *(None if d is None else d[n] for d in apart)) for n in range(size)
        ]
        return tuple(
            None if each[0] is None else torch._add_batch_dim(torch.stack(each), 0, level)
            for each in zip(*calls, strict=True)
        )

    return taking_apart


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
            _refuse_mixture(call, inputs)
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
        refuses = ctx.call.cell == "lstm" and ctx.call.directions == 1 and y.dtype == torch.float32
        ctx.written = None if refuses else _Written(y)
        kept = y if ctx.written is None else ctx.written.kept
        ctx.save_for_backward(*flat, kept, inner, states, saved)

    @staticmethod
    @_one_at_a_time
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
            given = tuple(torch.zeros_like(like) if d is None else d for d in dfinals)
        else:
            given = ()
        if dcells is not None or needs_composite():
            grads = _gradients(call, inputs, (dy, *given), dcells)
            return (None, *_scatter(call, inputs, *grads))
        wants = ctx.needs_input_grad[1], any(ctx.needs_input_grad[-len(inputs.parameters) :])
        args = (call, *wants, len(given), *flat, y, inner, states, saved, dy, *given)
        recorded = torch.is_grad_enabled() or torch._C._are_functorch_transforms_active()
        grads = _apply(Backward, *args) if recorded else Backward.forward(*args)
        return (None, *_scatter(call, inputs, *_split(call, grads)))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        return _each(Forward, info.batch_size, in_dims, args)


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
        None,
        None,
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
    @_one_at_a_time
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
        return _each(Backward, info.batch_size, in_dims, args)


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
        shape = _composite.run(call, inputs)[1].shape
        dtypes = [inputs.x.dtype] + [cell_state_dtype(inputs.x.dtype)] * (count - 1)
        states = tuple(inputs.x.new_zeros(shape, dtype=dtype) for dtype in dtypes)
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


def _each(
    function: type[Function], size: int, in_dims: tuple[Any, ...], args: tuple[Any, ...]
) -> tuple[Any, Any]:
    """vmap by one fused call for each element."""

    def element(n: int) -> tuple[Any, ...]:
        return tuple(a if d is None else a.select(d, n) for a, d in zip(args, in_dims, strict=True))

    calls = [_apply(function, *element(n)) for n in range(size)]
    stacked = tuple(
        None if each[0] is None else torch.stack(each) for each in zip(*calls, strict=True)
    )
    return stacked, tuple(None if s is None else 0 for s in stacked)


def layer(call: Call, inputs: Inputs, packed: Any = None) -> tuple[Tensor, ...]:
    """Run the layers, with a graph where gradients are wanted; results as `_engine.infer`.

    `packed`: the parameters, packed, for a call that `is_direct`.
    """
    if packed is not None:
        return _engine.infer(call, inputs, packed)
    compiling = torch.compiler.is_compiling()
    if lacks_kernel(call, inputs) or (not compiling and needs_composite()):
        return _composite.run(call, inputs)
    if is_direct(inputs):
        return _engine.infer(call, inputs)
    if not compiling:
        if torch._C._are_functorch_transforms_active() or (
            wants_gradient(inputs) and not torch._C._is_tracing()  # which records no Function
        ):
            return _without_tape(call, _apply(Forward, call, *inputs.flat()))
        if inputs.x.is_meta:
            _refuse_mixture(call, inputs)
    return tuple(torch.ops.fastrnn.layer(*_ops.arguments(call, inputs)))


def is_direct(inputs: Inputs) -> bool:
    """Whether nothing but the engine has to know of a call with these tensors."""
    return not (
        torch.compiler.is_compiling()
        or forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
        or wants_gradient(inputs)
        or inputs.x.is_meta
    ) and is_plain(inputs)


def _refuse_mixture(call: Call, inputs: Inputs) -> None:
    """The dispatcher takes memory and none together; here that is a mistake."""
    for tensor in (*inputs.states, *inputs.parameters):
        if not tensor.is_meta:
            raise RuntimeError(
                f"[{call.cell}] tensors must be on one device, got {inputs.x.device} and "
                f"{tensor.device}"
            )


def wants_gradient(inputs: Inputs) -> bool:
    """Whether autograd records what is done with these tensors."""
    if not torch.is_grad_enabled():
        return False
    return (
        inputs.x.requires_grad
        or any(p.requires_grad for p in inputs.parameters)
        or any(s.requires_grad for s in inputs.states)
    )


def _without_tape(call: Call, results: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    *kept, _, states, _ = results
    return (*kept, states) if call.cells else tuple(kept)


def _layer_autograd(*args: Any) -> list[Tensor]:
    call, inputs = _ops.call_of(*args)
    if wants_gradient(inputs):
        return list(_without_tape(call, _apply(Forward, call, *inputs.flat())))
    with torch._C._AutoDispatchBelowAutograd():
        results: list[Tensor] = torch.ops.fastrnn.layer(*args)
        return results


_ops.library.impl("layer", _layer_autograd, "Autograd")
