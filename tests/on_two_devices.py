"""`fastrnn.jax` on two of JAX's devices, which a process has from its start: test_jax_programs.py
runs this file with two CPUs for JAX. What is sharded must give what is not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import fastrnn.jax as fj
from cases import Case, make_data
from jax_tools import close, compiled, leaves

if hasattr(jax, "shard_map"):  # since JAX 0.7
    shard_map: Any = jax.shard_map
else:
    from jax.experimental.shard_map import shard_map

ALL, ROWS, OF_TIME, MANY = (
    PartitionSpec(),
    PartitionSpec("rows"),
    PartitionSpec(None, "rows"),
    PartitionSpec(None, None, "rows"),
)
IN = (OF_TIME, ALL, OF_TIME, ROWS, OF_TIME)  # x, parameters, state, lengths, resets
MESH = jax.sharding.Mesh(np.array(jax.devices()), ("rows",))

CASE = Case("lstm", 5, 4, 3, 5, "float64", D=2, L=2, lengths=True, resets=True)


def layer(x: Any, params: Any, state: Any, lengths: Any, resets: Any) -> Any:
    return fj.lstm(x, params, state, lengths=lengths, resets=resets)


def layer_from_zero(x: Any, params: Any, state: Any, lengths: Any, resets: Any) -> Any:
    """Whose initial state is made where nothing varies from device to device."""
    holds = jnp.roll(resets, 1, axis=0)
    return fj.gru(x, gru_of(params), lengths=lengths, resets=resets, holds=holds, repeat_held=True)


def gru_of(params: Any) -> Any:
    return {name: a[: a.shape[0] // 4 * 3] for name, a in params.items()}


def sharded(f: Callable[..., Any], out: Any, over: Any = IN) -> Any:
    return shard_map(f, mesh=MESH, in_specs=over, out_specs=out)


def loss(f: Callable[..., Any], last: bool = False) -> Callable[..., Any]:
    """Of all results, or of the last alone."""
    return lambda *args: sum(jnp.sum(a**2 + a**3) for a in leaves(f(*args))[-1 if last else 0 :])


def gradient(f: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return lambda *args: jax.grad(loss(f, **options), (0, 1, 2))(*args)


def gradient_within(f: Callable[..., Any]) -> Callable[..., Any]:
    """Of the part of a device; JAX 0.6 has no `jax.grad` of a value that varies, but its steps."""

    def call(x: Any, params: Any, *rest: Any) -> Any:
        value, back = jax.vjp(lambda params: loss(f)(x, params, *rest), params)
        return back(value * 0 + 1)[0]

    return call


def along(args: Any) -> Any:
    return jax.tree.map(jnp.cos, args[:3])


def pushed(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: jax.jvp(lambda *a: f(*a, *args[3:]), args[:3], along(args))[1]


def second(f: Callable[..., Any]) -> Callable[..., Any]:
    return pushed(gradient(f))


def mapped(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, *rest: jax.vmap(lambda x: f(x, *rest))(jnp.stack([x, 2 * x, -x]))


def ensemble(f: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: Any, params: Any, *rest: Any) -> Any:
        several = jax.tree.map(lambda a: jnp.stack([a, a / 2]), params)
        return jax.vmap(lambda params: f(x, params, *rest))(several)

    return call


def main(quick: bool) -> None:
    assert jax.device_count() == 2, jax.devices()
    data = make_data(CASE, 3)
    options = (data.options["lengths"], data.options["resets"])
    args = jax.tree.map(jnp.asarray, (data.x, data.params, data.state, *options))

    def compare(name: str, ours: Any, expected: Any, at: Any = args) -> None:
        close(compiled(ours)(*at), compiled(expected)(*args), what=name)

    out = (OF_TIME, (OF_TIME, OF_TIME))
    for f, specs in ((layer, out), (layer_from_zero, (OF_TIME, OF_TIME))):
        rows = sharded(f, specs)
        name = f.__name__
        compare(f"{name}, gradient", gradient(rows), gradient(f))
        if quick and f is layer:
            continue
        compare(f"{name}, second order", second(rows), second(f))
        within = gradient_within(f)
        compare(f"{name}, gradient within", sharded(within, ALL), within)
        if quick:
            continue
        compare(f"{name}, of one", gradient(rows, last=True), gradient(f, last=True))
        compare(f"{name}, forward", pushed(rows), pushed(f))
        compare(f"{name}, forward within", sharded(pushed(f), specs), pushed(f))
        compare(f"{name}, vmap of shards", mapped(rows), mapped(f))

    many = (MANY, (MANY, MANY))
    compare("vmap in shards", sharded(mapped(layer), many), mapped(layer))
    compare("ensemble in shards", sharded(ensemble(layer), many), ensemble(layer))
    close(sharded(layer, out)(*args), layer(*args), what="not compiled")

    # Where the compiler shards, or the types do, a call takes its arrays whole.
    placed = [
        jax.tree.map(lambda a, spec=spec: jax.device_put(a, NamedSharding(MESH, spec)), arg)
        for arg, spec in zip(args, IN, strict=True)
    ]
    compare("by the compiler", gradient(layer), gradient(layer), placed)
    close(layer(*placed), layer(*args), what="by the compiler, not compiled")
    print("compared on", *map(str, jax.devices()))


if __name__ == "__main__":
    main("quick" in sys.argv[1:])
