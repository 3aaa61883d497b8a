"""The layers in JAX's own operations, a `jax.lax.scan` over time: differentiable in every way.

They stand in where no fused kernel exists: for forward-mode derivatives and those of second and
higher order. The equations and the time loop are those of the reference, `fastrnn.reference.loop`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..reference import call as reference_call
from ._call import Call, Inputs, Tangents
from ._varying import alike, zeros_like


class _Moments(NamedTuple):
    """All steps of a direction, in the order of time: a `Moment` of arrays, (T, B, 1) or None."""

    t: Any
    rows: Any
    start: Any


class _Steps(NamedTuple):
    moments: _Moments
    reverse: bool


class _Jax:
    """JAX's arrays, whose shapes may not depend on values: rows that do not run are masked."""

    tanh = staticmethod(jnp.tanh)
    sigmoid = staticmethod(jax.nn.sigmoid)
    relu = staticmethod(jax.nn.relu)
    expm1 = staticmethod(jnp.expm1)
    stack = staticmethod(jnp.stack)
    concatenate = staticmethod(jnp.concatenate)
    zeros_like = staticmethod(jnp.zeros_like)

    def zeros(self, shape: tuple[int, ...], like: Any) -> Any:
        return jnp.zeros(shape, like.dtype)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return jnp.where(condition, a, b)

    def clip(self, a: Any, low: float, high: float) -> Any:
        return jnp.clip(a, low, high)

    def softplus(self, a: Any) -> Any:
        return jnp.logaddexp(a, 0.0)

    def linear(self, x: Any, w: Any, b: Any) -> Any:
        return x @ w.T if b is None else x @ w.T + b

    def project(self, x: Any, steps: Any, w: Any, b: Any) -> Any:
        return self.linear(x, w, b)  # of all steps at once

    def running(self, T: int, lengths: Any) -> Any:
        return jnp.arange(T)[:, None] < lengths

    def rows(self, running: Any) -> Any:
        return running[:, None]

    def at(self, a: Any, t: Any, rows: Any) -> Any:
        return a[t]

    def take(self, a: Any, rows: Any) -> Any:
        return a

    def put(self, a: Any, rows: Any, values: Any) -> Any:
        return values if rows is None else jnp.where(rows, values, a)

    def moments(self, T: int, running: Any, starts: Any, reverse: bool) -> _Steps:
        columns = (None if flags is None else flags[:, :, None] for flags in (running, starts))
        return _Steps(_Moments(jnp.arange(T), *columns), reverse)

    def scan(self, step: Callable[..., Any], s: Any, steps: _Steps, projected: Any) -> Any:
        def body(s: Any, now: Any) -> Any:
            after = step(s, *now)
            return after, after

        s, projected = alike((s, projected))
        return jax.lax.scan(body, s, (steps.moments, projected), reverse=steps.reverse)

    def scan_rows(self, f: Callable[..., Any], s: Any, xs: Any, reverse: bool) -> Any:
        s, xs = alike((s, xs))
        return jax.lax.scan(f, s, xs, reverse=reverse)[1]


JAX = _Jax()


def run(call: Call, inputs: Inputs) -> tuple[Any, ...]:
    """Run the layers: y and the final states, with the engine's shapes and dtypes."""
    y, finals, _ = reference_call.run(JAX, call, inputs)
    return (y, *finals)


def _of(call: Call, inputs: Inputs) -> Callable[..., tuple[Any, ...]]:
    """`run` as a function of what has tangents."""

    def of(x: Any, state: Any, parameters: Any) -> tuple[Any, ...]:
        return run(call, inputs._replace(x=x, state=state, parameters=parameters))

    return of


def push_forward(call: Call, inputs: Inputs, tangents: Tangents) -> tuple[Any, ...]:
    """The tangents of `run`'s results from those of its inputs, None for zeros."""
    primals = (inputs.x, inputs.state, inputs.parameters)
    given = (tangents.x, tangents.state, tangents.parameters)
    # The leaves of `given` may be None, of which a tree would have none.
    tree: Any
    leaves, tree = jax.tree.flatten(primals)
    wanted = jax.tree.leaves(given, is_leaf=lambda leaf: leaf is None)
    filled = [zeros_like(leaf) if d is None else d for leaf, d in zip(leaves, wanted, strict=True)]
    made: tuple[Any, ...] = jax.jvp(_of(call, inputs), primals, tree.unflatten(filled))[1]
    return made


def pull_back(call: Call, inputs: Inputs, dy: Any, dstate: tuple[Any, ...]) -> Tangents:
    """The gradients of x, the initial state, given or not, and the parameters."""
    state = inputs.state
    if not state:  # the engine gives gradients of the zeros too
        _, *finals = jax.eval_shape(lambda i: run(call, i), inputs)
        zeros = tuple(jnp.zeros(final.shape, final.dtype) for final in finals)
        state = alike((inputs.x, zeros))[1]
    results, pullback = jax.vjp(_of(call, inputs), inputs.x, state, inputs.parameters)
    given = dstate or tuple(zeros_like(final) for final in results[1:])
    return Tangents(*pullback((dy, *given)))
