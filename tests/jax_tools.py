"""What the tests of `fastrnn.jax` share: precision, children, and layers by `jax.lax.scan`.

`plain` is written from the equations of the layers alone, and shares no code with the package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np

import fastrnn
from builds import ROOT, run
from tolerances import FLOAT64, relative

leaves = jax.tree.leaves


def precision(dtype: str) -> AbstractContextManager[Any]:
    """Within it JAX has 64 bits or not, in this thread alone, whatever the process has."""
    of_version: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
    context: AbstractContextManager[Any] = of_version.enable_x64(dtype == "float64")
    return context


def compiled(f: Any) -> Any:
    """jax.jit in less time: what runs but once needs no fast code."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(f, compiler_options=options)


def close(a: Any, b: Any, tolerance: float = FLOAT64, what: str = "") -> None:
    """Compare trees of the same structure; each array by its largest value."""
    assert jax.tree.structure(a) == jax.tree.structure(b), what
    for x, y in zip(leaves(a), leaves(b), strict=True):
        error = relative(np.asarray(x), np.asarray(y), least=1e-3)
        assert error <= tolerance, f"{what}: error {error:.2e} over {tolerance:.0e}"


PACKAGE = Path(fastrnn.__file__).parents[1]  # where it was installed


def environment(**own: str) -> dict[str, str]:
    """Of a process that is to have the package, the tests and JAX on the CPU."""
    given = os.environ.get("PYTHONPATH", "")
    paths = [*given.split(os.pathsep), *map(str, (PACKAGE, ROOT / "tests", ROOT))]
    path = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    return {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", **own}


def child(text: str, *args: str) -> None:
    """Run a program in a process of its own, whose output is the test's failure."""
    run([sys.executable, "-c", text, *args], env=environment(), timeout=300)


# ---- layers by jax.lax.scan ----------------------------------------------------------------------


def _rnn(wx: Any, rh: Any, s: Any) -> Any:
    return (jnp.tanh(wx + rh),)


def _lstm(wx: Any, rh: Any, s: Any) -> Any:
    i, f, g, o = jnp.split(wx + rh, 4, -1)
    c = jax.nn.sigmoid(f) * s[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru(wx: Any, rh: Any, s: Any) -> Any:
    (xr, xz, xn), (hr, hz, hn) = jnp.split(wx, 3, -1), jnp.split(rh, 3, -1)
    n = jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
    z = jax.nn.sigmoid(xz + hz)
    return ((1 - z) * n + z * s[0],)


_STEPS = {"rnn_tanh": (_rnn, 1), "lstm": (_lstm, 4), "gru": (_gru, 3)}
CELLS = tuple(_STEPS)


def plain(
    cell: str,
    x: Any,
    params: Mapping[str, Any],
    state: Any = None,
    **options: Any,
) -> tuple[Any, Any]:
    """What `fastrnn.jax.recurrent` must give; options as there, but for holds."""
    if x.ndim == 2:
        rows = {
            name: jax.tree.map(lambda a: a[..., None, :], value)
            for name, value in options.items()
            if name in ("dropout_masks", "recurrent_masks")
        }
        if "resets" in options:
            rows["resets"] = options["resets"][:, None]
        state = jax.tree.map(lambda a: a[:, None], state)
        y, state = plain(cell, x[:, None], params, state, **{**options, **rows})
        return y[:, 0], jax.tree.map(lambda a: a[:, 0], state)
    if options.pop("batch_first", False):
        for name in ("resets", "dropout_masks"):
            if name in options:
                options[name] = jax.tree.map(lambda a: a.swapaxes(0, 1), options[name])
        y, state = plain(cell, x.swapaxes(0, 1), params, state, **options)
        return y.swapaxes(0, 1), state
    return _layers(cell, x, params, state, **options)


def _layers(
    cell: str,
    x: Any,
    params: Mapping[str, Any],
    state: Any,
    reverse: bool = False,
    lengths: Any = None,
    resets: Any = None,
    **masks: Any,
) -> tuple[Any, Any]:
    T, B = x.shape[:2]
    L = sum(name.startswith("weight_ih") and "reverse" not in name for name in params)
    D = 1 + ("weight_ih_l0_reverse" in params)
    P, G = params["weight_hh_l0"].shape[1], _STEPS[cell][1]
    widths = [P, params["weight_hh_l0"].shape[0] // G][: 2 if cell == "lstm" else 1]
    if state is None:
        state = tuple(jnp.zeros((L * D, B, n), x.dtype) for n in widths)
    state = state if isinstance(state, tuple) else (state,)
    runs = jnp.ones((T, B), bool) if lengths is None else jnp.arange(T)[:, None] < lengths
    starts = jnp.zeros((T, B), bool) if resets is None else resets & runs
    entered = jnp.concatenate([starts[1:], jnp.zeros((1, B), bool)])[:T]
    recurrent = masks.get("recurrent_masks")
    finals = []
    for layer in range(L):
        if layer and "dropout_masks" in masks:
            x = x * masks["dropout_masks"][layer - 1]
        outputs = []
        for d in range(D):
            k = layer * D + d
            suffix = f"_l{layer}{'_reverse' if d else ''}"
            own = {n.removesuffix(suffix): a for n, a in params.items() if n.endswith(suffix)}
            backwards = (d == 1) != reverse
            now = (x, runs, entered if backwards else starts)
            mask = 1.0 if recurrent is None else recurrent[k]
            mask = jnp.broadcast_to(mask, (G, B, P)).astype(x.dtype)
            last, y = _direction(cell, now, own, tuple(s[k] for s in state), mask, backwards)
            finals.append(last)
            outputs.append(y)
        x = jnp.concatenate(outputs, -1)
    final = tuple(jnp.stack(each) for each in zip(*finals, strict=True))
    return x, final if len(final) > 1 else final[0]


def _direction(cell: str, now: Any, own: Any, state: Any, mask: Any, backwards: bool) -> Any:
    equations, G = _STEPS[cell]
    R = own["weight_hh"].reshape(G, -1, own["weight_hh"].shape[1])

    def step(s: Any, now: Any) -> Any:
        x, runs, starts = now
        entering = tuple(jnp.where(starts[:, None], 0, a) for a in s)
        wx = x @ own["weight_ih"].T + own.get("bias_ih", 0)
        rh = jnp.einsum("gbp,ghp->bgh", entering[0] * mask, R).reshape(wx.shape)
        h, *others = equations(wx, rh + own.get("bias_hh", 0), entering)
        h = h @ own["weight_hr"].T if "weight_hr" in own else h
        made = (h, *others)
        s = tuple(jnp.where(runs[:, None], a, old) for a, old in zip(made, s, strict=True))
        return s, jnp.where(runs[:, None], s[0], 0)

    return jax.lax.scan(step, state, now, reverse=backwards)
