"""fastrnn.jax in programs: exported and loaded elsewhere, on several devices, in foreign calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiers
from builds import ROOT, run
from cases import Case, make_data
from fastrnn import _native

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax import export  # noqa: E402

import fastrnn.jax as fj  # noqa: E402
from jax_tools import child, close, environment, leaves, precision  # noqa: E402

OURS = [export.DisabledSafetyCheck.custom_call(target) for target in fj.TARGETS]
CASE = Case("lstm", 5, 3, 2, 4, "float64", D=2, L=2, lengths=True, resets=True, holds=True)


@pytest.fixture(autouse=True)
def _wide() -> Iterator[None]:
    with precision("float64"):
        yield


def exported(f: Callable[..., Any], *arguments: Any) -> Any:
    return export.export(jax.jit(f), disabled_checks=OURS)(*arguments)


def like(a: Any, shape: Any = None) -> Any:
    return jax.ShapeDtypeStruct(a.shape if shape is None else shape, a.dtype)


def layer(x: Any, params: Any, state: Any, lengths: Any, resets: Any, holds: Any) -> Any:
    options = {"lengths": lengths, "resets": resets, "holds": holds, "repeat_held": True}
    return fj.lstm(x, params, state, **options, recompute=2)


def loss(*args: Any) -> Any:
    return sum(jnp.sum(a**2 + a) for a in leaves(layer(*args)))


def push(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: jax.jvp(lambda x: f(x, *args[1:]), args[:1], (jnp.cos(args[0]),))[1]


def samples(x: Any, *rest: Any) -> Any:
    """The gradients of each of n elements, and of their sum."""
    xs = jnp.stack([x, -x])
    of_each = jax.vmap(lambda x: jax.grad(loss, (0, 1))(x, *rest))
    total = jax.grad(lambda xs: jax.vmap(lambda x: loss(x, *rest))(xs).sum())
    return of_each(xs), total(xs)


PROGRAMS: dict[str, Callable[..., Any]] = {
    "value": layer,
    "gradient": jax.grad(loss, (0, 1, 2)),
    "forward mode": push(layer),
    "second order": push(jax.grad(loss)),
    "vmap": samples,
}


def arguments() -> tuple[Any, ...]:
    data = make_data(CASE, 1)
    options = [data.options[name] for name in ("lengths", "resets", "holds")]
    given: tuple[Any, ...] = jax.tree.map(jnp.asarray, (data.x, data.params, data.state, *options))
    return given


def symbolic(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same, for any T and B."""
    T, B = export.symbolic_shape("T, B")
    x, params, state, lengths, resets, holds = args
    return (
        like(x, (T, B, 2)),
        jax.tree.map(like, params),
        tuple(like(s, (4, B, 4)) for s in state),
        like(lengths, (B,)),
        like(resets, (T, B)),
        like(holds, (T, B)),
    )


def longer(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of other T and B."""
    x, params, state, lengths, resets, holds = args
    x, resets, holds = (jnp.concatenate([a, a[:2]])[:, :2] for a in (x, resets, holds))
    return x, params, tuple(s[:, :2] for s in state), lengths[:2], resets, holds


# Loads all programs before it knows the package, and calls them with it.
LOAD = """
import json, pathlib, sys
import jax, numpy as np
import jax.export
jax.config.update("jax_enable_x64", True)
folder = pathlib.Path(sys.argv[1])
cases = json.loads((folder / "cases.json").read_text())
programs = {
    name: jax.export.deserialize(bytearray((folder / name).read_bytes())) for name in cases
}
stored = {name: np.load(folder / f"{name}.npz") for name in cases}

def arguments(name):
    leaves = [stored[name][f"in{k}"] for k in range(cases[name][0])]
    return jax.tree.unflatten(programs[name].in_tree, leaves)

def call(name):
    args, kwargs = arguments(name)
    return jax.tree.leaves(programs[name].call(*args, **kwargs))

try:
    call("value")
except Exception as error:
    assert "fastrnn.call" in str(error), error
else:
    raise AssertionError("called without the package")
import fastrnn.jax
from jax_tools import close
for name, (_, count) in cases.items():
    close(call(name), [stored[name][f"out{k}"] for k in range(count)], what=name)
"""


def test_export(tmp_path: Path) -> None:
    """Programs of numbers and of symbols, in a process that knows the package only later."""
    args, cases = arguments(), {}
    with pytest.raises(ValueError, match=r"fastrnn\.call"):
        export.export(jax.jit(layer))(*args)
    chosen = tiers.choose(dev=["value", "gradient"], ci=[*PROGRAMS], full=[*PROGRAMS])
    for name, f in ((name, PROGRAMS[name]) for name in chosen):
        own = [(f"any {name}", symbolic(args), longer(args))]
        if name in ("value", "gradient"):
            own.append((name, args, args))
        for title, of, given in own:
            program = exported(f, *of)
            (tmp_path / title).write_bytes(program.serialize())
            inputs, outputs = leaves(given), leaves(jax.jit(f)(*given))
            cases[title] = (len(inputs), len(outputs))
            named = {f"in{k}": a for k, a in enumerate(inputs)}
            named |= {f"out{k}": a for k, a in enumerate(outputs)}
            np.savez(tmp_path / f"{title}.npz", **named)
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    child(LOAD, str(tmp_path))


def test_gradient_of_an_exported_program() -> None:
    args = arguments()
    program = export.deserialize(exported(layer, *args).serialize(vjp_order=1))

    def value(*args: Any) -> Any:
        return sum(jnp.sum(a**2 + a) for a in leaves(program.call(*args)))

    close(jax.grad(value, (0, 1, 2))(*args), jax.grad(loss, (0, 1, 2))(*args))


@pytest.mark.parametrize(("T", "B"), [(1, 1), (5, 3), (8, 2)])
def test_stored_program(T: int, B: int) -> None:
    """What an older version exported (tests/data/export_jax.py) goes on to load, and is right."""
    stored = (ROOT / "tests" / "data" / "lstm.jax").read_bytes()
    program = export.deserialize(bytearray(stored))
    data = make_data(Case("lstm", T, B, 3, 4, D=2, L=2, batch_first=True, lengths=True), 2)
    lengths = np.asarray(data.options["lengths"], np.int32)

    def value(x: Any, params: Any) -> Any:
        y, (h, c) = fj.lstm(x, params, lengths=lengths, batch_first=True)
        return jnp.sum(y**2) + jnp.sum(h * c)

    with precision("float32"):
        found = program.call(data.x, data.params, lengths)
        close(found, jax.value_and_grad(value, (0, 1))(data.x, data.params), 1e-6)


def test_format_of_programs() -> None:
    """What stands in exported programs: no number in it may ever come to mean another thing."""
    assert fj.TARGETS[0] == "fastrnn.call"
    engine = _native.engine
    numbers = ("kind", "layers", "directions", "batch_first", "reverse", "repeat_held", "recompute")
    assert engine.xla_options[:8] == (*numbers, "given")
    assert engine.xla_roles == engine.xla_roles | {
        "x": 0,
        "state": 1,
        "lengths": 2,
        "resets": 3,
        "holds": 4,
        "batch_sizes": 5,
        "recurrent_masks": 6,
        "masks": 7,
        "{}": 8,
        "y": 9,
        "hn": 10,
        "dy": 14,
        "dstate": 15,
        "dx": 16,
        "dh0": 17,
        "d{}": 18,
    }


def call_of_a_program(options: list[int], cell: str = "gru") -> Any:
    """The target itself, as a loaded program calls it: one layer of a GRU with lengths."""
    data = make_data(Case("gru", 4, 3, 2, 5, "float64", lengths=True))
    arrays = (data.x, data.options["lengths"], *data.params.values())
    shapes = [jax.ShapeDtypeStruct(shape, np.float64) for shape in ((4, 3, 5), (1, 3, 5))]
    made = jax.ffi.ffi_call(fj.TARGETS[0], shapes)(
        *arrays, cell=cell, options=np.array(options, np.int64)
    )
    wanted = fj.gru(data.x, data.params, lengths=data.options["lengths"])
    return jax.block_until_ready(made), list(wanted)


INFER = [0, 1, 1, 0, 0, 0, 0, 1 << 2 | 1 << 8 | 1 << 10]


def test_options_of_other_versions() -> None:
    """An older program has fewer options, a later one may have more: what is new is 0 by itself."""
    close(*call_of_a_program(INFER), 0.0)
    close(*call_of_a_program([*INFER, 0, 0]), 0.0)
    with pytest.raises(Exception, match=r"\[gru\] options must be those .*, got 3"):
        call_of_a_program([*INFER, 0, 3])


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ([], r"num_layers must be at least 1, got 0"),
        ([7, *INFER[1:]], r"kind must be 0, 1 or 2, got 7"),
        ([0, 0, *INFER[2:]], r"num_layers must be at least 1, got 0"),
        ([0, 2, *INFER[2:]], r"weight_ih_l1 must have shape \(15, 5\), got \(15,\)"),
        ([0, 1, 3, *INFER[3:]], r"parameters for each layer and direction, got 4"),
        ([0, 1, 1, 1, 0, 0, 0, INFER[7]], r"lengths must have shape \(4,\), got \(3,\)"),
        ([0, 1, 1, 0, 0, 0, -1, INFER[7]], r"recompute must be at least 1 step, .*, got -1"),
        ([0, 1, 1, 0, 0, 0, 0, 0], r"arrays must be those that the options say, got 6"),
        ([0, 1, 1, 0, 0, 0, 0, -1], r"arrays must be those that the options say, got 6"),
        ([0, 1, 1, 0, 0, 0, 0, INFER[7] | 1 << 5], r"must have rank 2, got .* and \(15,\)"),
        ([0, 1 << 40, *INFER[2:]], r"num_layers"),
        ([1, *INFER[1:]], r"arrays must be those that the options say, got"),
        ([2, *INFER[1:]], r"arrays must be those that the options say, got"),
    ],
)
def test_programs_that_are_wrong(options: list[int], rule: str) -> None:
    """A file may hold anything; the call is refused by the engine, and JAX raises its text."""
    with pytest.raises(Exception, match=rf"\[gru\].*{rule}"):
        call_of_a_program(options)


FUZZ = """
import sys
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import fastrnn.jax as fj
from cases import Case, make_data

rng, refused = np.random.default_rng(int(sys.argv[1])), 0
calls = int(sys.argv[2])
for _ in range(calls):
    data = make_data(Case("lstm", 4, 3, 2, 5, "float64", L=2, D=2, lengths=True, dropout=True))
    arrays = [data.x, *data.state, data.options["lengths"], *data.options["dropout_masks"]]
    arrays += data.params.values()
    shapes = [(4, 3, 10), (4, 3, 5), (4, 3, 5), (1, 4, 3, 10), (2, 2, 4, 3, 5), (2, 2, 4, 3, 4, 5)]
    options = [1, 2, 2, 0, 0, 0, 0, 1 << 1 | 1 << 2 | 1 << 7 | 1 << 8 | 1 << 10]
    for _ in range(rng.integers(1, 3)):
        what = rng.integers(6)
        if what < 2:
            k = rng.integers(8)
            values = [-1, 0, 1, 2, 3, 5, 1 << 31, 1 << 62, rng.integers(1 << 19)]
            options[k] = int(rng.choice(values))
        elif what == 2:
            del arrays[rng.integers(len(arrays))]
        elif what == 3:
            k = rng.integers(len(arrays))
            arrays[k] = arrays[k].astype(rng.choice(["float32", "int32", "bool", "float16"]))
        elif what == 4:
            k = rng.integers(len(arrays))
            arrays[k] = arrays[k].reshape(-1)[: rng.integers(arrays[k].size + 1)]
        else:
            k = rng.integers(len(shapes))
            shapes[k] = tuple(int(n) for n in rng.integers(0, 6, rng.integers(0, 7)))
    results = [jax.ShapeDtypeStruct(s, np.float64) for s in shapes]
    call = jax.ffi.ffi_call("fastrnn.call", results)
    try:
        jax.block_until_ready(call(*arrays, cell="lstm", options=np.array(options)))
    except Exception as error:
        assert "[lstm]" in str(error), error
        refused += 1
assert refused > calls / 2, refused
"""


def test_fuzzed_programs() -> None:
    """No call ends the process, whatever its options, arrays and results are."""
    child(FUZZ, "0", str(tiers.choose(dev=50, ci=200, full=2000)))


def test_two_devices() -> None:
    """`shard_map` over the batch with every kind of derivative: tests/on_two_devices.py."""
    flags = "--xla_force_host_platform_device_count=2"
    own = environment(XLA_FLAGS=flags, JAX_ENABLE_X64="1")
    command = [sys.executable, str(ROOT / "tests" / "on_two_devices.py")]
    run([*command, *tiers.choose(dev=["quick"], ci=[], full=[])], env=own, timeout=500)
