"""The primitives: a call of the layers, its derivative, and the kernel that goes back.

``layer`` calls the engine, and keeps a tape where it is differentiated. Its derivative is ``push``,
a linear map from tangents to tangents: forward mode computes that by the composite, and reverse
mode its transpose ``back``, the fused kernel. Derivatives of ``push`` and ``back`` themselves are
those of the composite. JAX's own ways to say this refuse something: `jax.custom_vjp` forward mode,
and `jax.custom_derivatives.linear_call` batches.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .._engine import BACKWARD, FORWARD, INFER
from .._sizes import SIZES
from . import _batches, _composite, _handlers
from ._call import (
    Backward,
    Call,
    Inputs,
    Saved,
    Tangents,
    Wants,
    check,
    like,
    options,
    results,
)
from ._varying import alike

layer_p = Primitive("fastrnn_layer")
push_p = Primitive("fastrnn_push")
back_p = Primitive("fastrnn_back")


def layer(call: Call, inputs: Inputs) -> tuple[Any, ...]:
    """y and the final states."""
    leaves, tree = jax.tree.flatten(inputs)
    return tuple(layer_p.bind(*leaves, call=call, tree=tree, keep_tape=False))


def back(
    call: Call, inputs: Inputs, saved: Saved, dy: Any, dstate: tuple[Any, ...], wants: Wants
) -> Tangents:
    """The gradients; None and none for what is not wanted."""
    leaves, tree = jax.tree.flatten(Backward(inputs, saved, dy, dstate))
    gradients = back_p.bind(*leaves, call=call, tree=tree, wants=wants)
    dx = gradients.pop(0) if wants.dx else None
    states = SIZES[call.cell].states
    return Tangents(dx, tuple(gradients[:states]), tuple(gradients[states:]))


# ---- what they make, and how they are compiled --------------------------------------------------


def _numbers(call: Call, keep_tape: bool, inputs: Inputs) -> tuple[int, ...]:
    return options(call, FORWARD if keep_tape else INFER, inputs)


def _numbers_back(call: Call, arrays: Backward, wants: Wants) -> tuple[int, ...]:
    return options(call, BACKWARD, arrays.inputs, arrays.dstate, wants)


def _layer_abstract(*avals: Any, call: Call, tree: Any, keep_tape: bool) -> list[Any]:
    inputs: Inputs = tree.unflatten(avals)
    check(call, _numbers(call, keep_tape, inputs), inputs)
    y, final, tape = results(call, inputs)
    return [y, *final, *(tape if keep_tape else ())]


def _back_abstract(*avals: Any, call: Call, tree: Any, wants: Wants) -> list[Any]:
    arrays: Backward = tree.unflatten(avals)
    check(call, _numbers_back(call, arrays, wants), arrays)
    inputs = arrays.inputs
    made = [inputs.x] if wants.dx else []
    parameters = inputs.parameters if wants.parameters else ()
    return [*made, *results(call, inputs).final, *(like(p, p.shape, p.dtype) for p in parameters)]


def _push_abstract(*avals: Any, call: Call, tree: Any) -> list[Any]:
    inputs, *_ = tree.unflatten(avals)
    y, final, _ = results(call, inputs)
    return [y, *final]


def _layer_lowering(
    platform: str, ctx: Any, *operands: Any, call: Call, tree: Any, keep_tape: bool
) -> Any:
    numbers = _numbers(call, keep_tape, tree.unflatten(operands))
    return _handlers.lower(ctx, operands, call.cell, numbers, platform=platform)


def _back_lowering(
    platform: str, ctx: Any, *operands: Any, call: Call, tree: Any, wants: Wants
) -> Any:
    numbers = _numbers_back(call, tree.unflatten(operands), wants)
    return _handlers.lower(ctx, operands, call.cell, numbers, platform=platform)


def _push(*args: Any, call: Call, tree: Any) -> list[Any]:
    inputs, _, tangents = tree.unflatten(args)
    return list(_composite.push_forward(call, inputs, tangents))


# ---- derivatives --------------------------------------------------------------------------------


def _layer_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, call: Call, tree: Any, keep_tape: bool
) -> tuple[list[Any], list[Any]]:
    made = layer_p.bind(*primals, call=call, tree=tree, keep_tape=True)
    count = 1 + SIZES[call.cell].states
    inputs = tree.unflatten(primals)
    given = tree.unflatten([None if type(d) is ad.Zero else d for d in tangents])
    _refuse_masks(call, given)
    kept = Tangents(given.x, given.state, given.parameters)
    leaves, tree = jax.tree.flatten((inputs, Saved(made[0], *made[count:]), kept))
    pushed = push_p.bind(*leaves, call=call, tree=tree)
    if not keep_tape:
        return made[:count], pushed
    # Of second order the tape is a constant: the composite computes its own.
    tape = [ad.Zero(jax.typeof(a).to_tangent_aval()) for a in made[count:]]
    return made, [*pushed, *tape]


def _refuse_masks(call: Call, tangents: Inputs) -> None:
    for name in ("masks", "recurrent_masks"):
        if jax.tree.leaves(getattr(tangents, name)):
            shown = "dropout_masks" if name == "masks" else name
            raise NotImplementedError(
                f"[{call.cell}] {shown} must not be differentiated: they have no gradient, "
                "jax.lax.stop_gradient says so, got some that are"
            )


def _push_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, call: Call, tree: Any
) -> tuple[list[Any], list[Any]]:
    made = push_p.bind(*primals, call=call, tree=tree)
    pushed = functools.partial(_push, call=call, tree=tree)
    return made, _jvp_of(pushed, primals, tangents)


def _jvp_of(f: Any, primals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """The tangents of f, in which only some primals may have one."""
    chosen = [k for k, d in enumerate(tangents) if type(d) is not ad.Zero]

    def of(*some: Any) -> list[Any]:
        args = list(primals)
        for k, a in zip(chosen, some, strict=True):
            args[k] = a
        made: list[Any] = f(*args)
        return made

    picked = tuple([primals[k] for k in chosen]), tuple([tangents[k] for k in chosen])
    made: list[Any] = jax.jvp(of, *picked)[1]
    return made


def _push_transpose(cts: Sequence[Any], *args: Any, call: Call, tree: Any) -> list[Any]:
    inputs, saved, tangents = tree.unflatten(args)
    unknown = ad.is_undefined_primal
    wants = Wants(unknown(tangents.x), any(map(unknown, tangents.parameters)))
    dy, *dstate = cts
    if all(type(d) is ad.Zero for d in dstate):
        dstate = []
    _, dy, *dstate = alike((saved.y, *map(ad.instantiate_zeros, (dy, *dstate))))
    gradients = back(call, inputs, saved, dy, tuple(dstate), wants)
    made = [
        gradient
        for tangent, gradient in zip(_each(tangents), _each_of(gradients, tangents), strict=True)
        if tangent is not None
    ]
    known = len(args) - len(made)
    linear = [
        gradient if unknown(a) else None for a, gradient in zip(args[known:], made, strict=True)
    ]
    return [None] * known + linear


def _each(tangents: Tangents) -> list[Any]:
    return [tangents.x, *tangents.state, *tangents.parameters]


def _each_of(gradients: Tangents, tangents: Tangents) -> list[Any]:
    """The gradients in the places of the tangents, of which fewer are made than there may be."""
    state = gradients.state[: len(tangents.state)]
    parameters = gradients.parameters or (None,) * len(tangents.parameters)
    return [gradients.x, *state, *parameters]


def _back_composite(*args: Any, call: Call, tree: Any, wants: Wants) -> list[Any]:
    inputs, _, dy, dstate = tree.unflatten(args)
    gradients = _composite.pull_back(call, inputs, dy, dstate)
    dx = [gradients.x] if wants.dx else []
    return [*dx, *gradients.state, *(gradients.parameters if wants.parameters else ())]


def _back_jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, call: Call, tree: Any, wants: Wants
) -> tuple[list[Any], list[Any]]:
    made = back_p.bind(*primals, call=call, tree=tree, wants=wants)
    composite = functools.partial(_back_composite, call=call, tree=tree, wants=wants)
    # It makes a tape of its own: what is saved is a function of the inputs, and adds nothing.
    return made, _jvp_of(composite, primals, tangents)


def _back_transpose(
    cts: Sequence[Any], *args: Any, call: Call, tree: Any, wants: Wants
) -> list[Any]:
    """Of the map from the gradients of the results, which is linear: ``push`` again."""
    inputs, saved, _, dstate = tree.unflatten(args)
    given = [None if type(ct) is ad.Zero else ct for ct in cts]
    dx = given.pop(0) if wants.dx else None
    states = SIZES[call.cell].states
    parameters = tuple(given[states:]) or (None,) * len(inputs.parameters)
    if not inputs.state:  # gradients of the zeros are made too
        finals = results(call, jax.tree.map(jax.typeof, inputs)).final
        zeros = [jnp.zeros(final.shape, final.dtype) for final in finals]
        inputs = inputs._replace(state=alike((inputs.x, *zeros))[1:])
    tangents = Tangents(dx, tuple(given[:states]), parameters)
    leaves, tree = jax.tree.flatten((inputs, saved, tangents))
    pushed = push_p.bind(*leaves, call=call, tree=tree)
    known = len(args) - 1 - len(dstate)
    linear = zip(args[known:], pushed, strict=False)
    return [None] * known + [d if ad.is_undefined_primal(a) else None for a, d in linear]


# ---- registrations ------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _compiled(primitive: Any, **params: Any) -> Any:
    return jax.jit(functools.partial(primitive.bind, **params))


def _run(primitive: Any, *args: Any, **params: Any) -> Any:
    """A call outside any transformation; compiled under `jax.disable_jit` too."""
    with jax.disable_jit(False):
        return _compiled(primitive, **params)(*args)


def _define(primitive: Any, abstract: Any, jvp: Any, batch: Any) -> None:
    primitive.multiple_results = True
    primitive.def_impl(functools.partial(_run, primitive))
    primitive.def_abstract_eval(abstract)
    ad.primitive_jvps[primitive] = jvp
    batching.primitive_batchers[primitive] = batch


_define(layer_p, _layer_abstract, _layer_jvp, functools.partial(_batches.layer, layer_p))
_define(back_p, _back_abstract, _back_jvp, functools.partial(_batches.back, back_p))
_define(push_p, _push_abstract, _push_jvp, functools.partial(_batches.each, _push))
ad.primitive_transposes[push_p] = _push_transpose
ad.primitive_transposes[back_p] = _back_transpose
mlir.register_lowering(push_p, mlir.lower_fun(_push, multiple_results=True))
for _platform in _handlers.platforms():
    for _primitive, _lowering in ((layer_p, _layer_lowering), (back_p, _back_lowering)):
        _of_platform = functools.partial(_lowering, _platform)
        mlir.register_lowering(_primitive, _of_platform, platform=_platform)
