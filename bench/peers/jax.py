"""JAX: one GEMM for all inputs, then `lax.scan` over the steps, jitted; rows padded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._bench.cases import Case, Data, state_names
from fastrnn._bench.peers import Way, missing


def available() -> str | None:
    return missing("jax", "jaxlib")


def version() -> str:
    import jax

    return str(jax.__version__)


def setup(threads: int) -> None:
    # XLA takes its number of threads from the processors that the worker may use.
    import jax

    jax.config.update("jax_enable_x64", True)


def step(case: Case, state: Any, gx: Any, w: Any, b: Any) -> Any:
    """One step; gx holds the inputs' part of the gates and every bias that may stand there."""
    import jax.numpy as jnp
    from jax.nn import sigmoid

    if case.cell == "rnn_tanh":
        return (jnp.tanh(gx + state[0] @ w),)
    if case.cell == "lstm":
        h, c = state
        i, f, g, o = jnp.split(gx + h @ w, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c
    (h,) = state
    gh = h @ w
    H = case.H
    r, z = sigmoid(gx[..., :H] + gh[..., :H]), sigmoid(gx[..., H : 2 * H] + gh[..., H : 2 * H])
    n = jnp.tanh(gx[..., 2 * H :] + r * (gh[..., 2 * H :] + b))
    return ((1 - z) * n + z * h,)


def scan(case: Case, params: Any, x: Any, state: Any) -> Any:
    """y (T, B, D * H) and the final states, (L * D, B, H) each."""
    import jax.numpy as jnp
    from jax import lax

    finals = []
    for k in range(case.L):
        outputs = []
        for d, suffix in enumerate((f"l{k}", f"l{k}_reverse")[: case.D]):
            w_ih, w_hh, b_ih, b_hh = (
                params[f"{name}_{suffix}"]
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            # GRU's n gate keeps its recurrent bias inside the product with r.
            kept = b_hh[2 * case.H :] if case.cell == "gru" else None
            hoisted = b_hh if kept is None else b_hh.at[2 * case.H :].set(0)
            gx, w = x @ w_ih.T + (b_ih + hoisted), w_hh.T

            def body(s: Any, g: Any, w: Any = w, kept: Any = kept) -> Any:
                s = step(case, s, g, w, kept)
                return s, s[0]

            first = tuple(s[k * case.D + d] for s in state)
            if case.mode == "stream":
                final = step(case, first, gx[0], w, kept)
                y = final[0][None]
            else:
                final, y = lax.scan(body, first, gx, reverse=d == 1)
            outputs.append(y)
            finals.append(final)
        x = outputs[0] if case.D == 1 else jnp.concatenate(outputs, axis=-1)
    return x, tuple(jnp.stack(parts) for parts in zip(*finals, strict=True))


def build(case: Case, data: Data, run: Callable[..., Any] = scan) -> dict[str, Way]:
    """The ways of a case; `run` may be another function with its arguments and results."""
    import jax

    jax.clear_caches()
    params = {name: jax.device_put(a) for name, a in data.params.items()}
    x, dy = jax.device_put(data.x), jax.device_put(data.dy)
    state = initial = tuple(jax.device_put(s) for s in data.state)
    forward = jax.jit(lambda p, x, s: run(case, p, x, s))

    @jax.jit
    def train(p: Any, x: Any, s: Any, dy: Any) -> Any:
        (y, final), pull = jax.vjp(lambda *args: run(case, *args), p, x, s)
        return y, final, pull((dy, tuple(0 * f for f in final)))

    def call_forward() -> Any:
        return jax.block_until_ready(forward(params, x, initial))

    def call_train() -> Any:
        return jax.block_until_ready(train(params, x, initial, dy))

    def call_stream() -> Any:
        nonlocal state
        y, state = forward(params, x, state)
        return y.block_until_ready(), state

    def arrays(value: Any) -> dict[str, np.ndarray]:
        y, final, *rest = value
        result = {"y": np.asarray(y)}
        if not case.lengths:
            result.update(zip(state_names(case), map(np.asarray, final), strict=True))
        for grads, dx, dstate in rest:
            result.update({name: np.asarray(g) for name, g in grads.items()})
            result["dx"] = np.asarray(dx)
            result.update(zip(state_names(case, "d", "0"), map(np.asarray, dstate), strict=True))
        return result

    calls = {"forward": call_forward, "train": call_train, "stream": call_stream}
    return {run.__name__: Way(calls[case.mode], arrays)}
