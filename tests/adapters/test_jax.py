"""fastrnn.jax against the reference, the engine and `jax.lax.scan`: numbers and gradients."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastrnn
import tiers
from cases import CHOSEN, CLIPPING, Case, cells, flat_state, make_data
from fastrnn import _dtypes, functional, reference
from fastrnn.reference.cell import find
from tolerances import assert_gradient, assert_output

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import fastrnn.jax as fj  # noqa: E402
from jax_tools import CELLS, close, compiled, leaves, plain, precision  # noqa: E402

OF_CELL = tiers.choose(dev=1, ci=8, full=100)  # configurations of each cell
OF_SCAN = tiers.choose(dev=1, ci=8, full=100)  # of each cell that the tests themselves have
DTYPES = ("float32", "float64")


def _directions(cell: str) -> int:
    """The least that the cell has: some have functions of their own for each of two."""
    try:
        fastrnn.Recurrent(cell, 1, 1)
    except ValueError:
        return 2
    return 1


def drawn(cell: str, seed: int, dtype: str | None = None) -> tuple[Case, int]:
    """A random configuration of a cell, and a number of steps for `recompute`."""
    rng = np.random.default_rng([seed, *cell.encode()])

    def chance(p: float) -> bool:
        return bool(rng.random() < p)

    sizes = [int(rng.integers(0, 12)), int(rng.integers(0, 8))]  # T, B
    sizes += [int(rng.integers(1, 12)), int(rng.integers(1, 34))]  # I, H
    L, D, batched = int(rng.integers(1, 4)), int(rng.integers(_directions(cell), 3)), chance(0.8)
    projects = cell.startswith("lstm") and "coupled" not in cell
    return Case(
        cell,
        *sizes,
        dtype or DTYPES[rng.integers(2)],
        D=D,
        L=L,
        P=int(rng.integers(1, 10)) if projects and chance(0.3) else 0,
        bias=chance(0.8),
        batch_first=chance(0.5),
        reverse=chance(0.3),
        batched=batched,
        state=chance(0.7),
        lengths=batched and chance(0.4),
        resets=chance(0.4),
        holds=chance(0.3),
        repeat_held=chance(0.5),
        dropout=L > 1 and chance(0.5),
        recurrent=str(rng.choice(["", "shared", "gates"])),
    ), int(rng.integers(0, 4))


def random_cases() -> Iterator[Any]:
    for cell in (*cells(), *CHOSEN, *CLIPPING):
        for seed in range(OF_CELL):
            case, recompute = drawn(cell, seed)
            yield pytest.param(case, recompute, id=f"{case.id}-{recompute}")


def gradients(f: Any, data: Any) -> tuple[Any, Any]:
    """Results and, for the data's gradients of these, those of x, the parameters and the state."""
    (y, state), back = jax.vjp(f, data.x, data.params, data.state)
    dstate = jax.tree.map(jnp.zeros_like, state) if data.state is None else data.dstate
    return (y, state), back((data.dy, dstate))


@pytest.mark.parametrize(("case", "recompute"), [*random_cases()])
def test_against_the_reference(case: Case, recompute: int) -> None:
    """And bit for bit as the engine itself."""
    data = make_data(case, 1)
    cell, dtype = case.cell, case.dtype
    with precision(dtype):

        def call(x: Any, params: Any, state: Any) -> Any:
            return fj.recurrent(cell, x, params, state, recompute=recompute, **data.options)

        (y, state), (dx, grads, dstate) = gradients(call, data)
        alone = call(data.x, data.params, data.state)
    assert {a.dtype.name for a in leaves((y, state, dx, grads, dstate))} == {dtype}
    close(alone, (y, state), 0.0, "without a derivative")

    y2, state2, tape = functional.forward(cell, data.x, data.params, data.state, **data.options)
    close([y, *flat_state(state)], [y2, *flat_state(state2)], 0.0, "the engine's")
    dx2, dstate2, grads2 = functional.backward(cell, data.params, tape, data.dy, data.dstate)
    close([dx, grads], [dx2, grads2], 0.0, "the engine's gradients")

    y2, state2, tape = reference.forward(cell, data.x, data.params, data.state, **data.options)
    dx2, dstate2, grads2 = reference.backward(cell, data.params, tape, data.dy, data.dstate)
    assert_output(y, y2, dtype, "y")
    for a, b in zip(flat_state(state), flat_state(state2), strict=True):
        assert_output(a, b, dtype, "final state")
    assert_gradient(dx, dx2, dtype, "dx")
    for a, b in zip(leaves(dstate), flat_state(dstate2), strict=data.state is not None):
        assert_gradient(a, b, dtype, "initial state")
    assert grads.keys() == grads2.keys()
    for name, a in grads.items():
        assert_gradient(a, grads2[name], dtype, name)


def scan_cases() -> Iterator[Any]:
    for cell in CELLS:
        for seed in range(OF_SCAN):
            case, recompute = drawn(cell, 1000 + seed, "float64")
            case = Case(**{**vars(case), "holds": False, "repeat_held": False})
            yield pytest.param(case, recompute, id=case.id)


@pytest.mark.parametrize(("case", "recompute"), [*scan_cases()])
def test_against_scan(case: Case, recompute: int) -> None:
    """Value and every gradient."""
    data = make_data(case, 2)
    with precision("float64"):
        ours = gradients(
            lambda *args: fj.recurrent(case.cell, *args, recompute=recompute, **data.options), data
        )
        theirs = compiled(
            lambda: gradients(lambda *args: plain(case.cell, *args, **data.options), data)
        )
        close(ours, theirs())


CELLS_OF_ENGINE = [*cells(), *CHOSEN, *CLIPPING]


def everything(cell: str) -> Case:
    """A small case with everything that a call may have."""
    masks: dict[str, Any] = {"dropout": True, "recurrent": "gates"}
    steps = {"lengths": True, "resets": True, "holds": True, "repeat_held": True}
    return Case(cell, 5, 3, 4, 6, "float64", D=2, L=2, **masks, **steps)


@pytest.mark.parametrize("cell", tiers.thin(CELLS_OF_ENGINE, [CHOSEN[2], CLIPPING[4]]))
def test_forward_mode(cell: str) -> None:
    """It has no kernel: its composite against the kernel that goes back, <g, J d> = <J^T g, d>."""
    data, along = make_data(everything(cell), 3), make_data(everything(cell), 4)
    at, direction = (data.x, data.params, data.state), (along.x, along.params, along.state)
    with precision("float64"):

        def call(x: Any, params: Any, state: Any) -> Any:
            return fj.recurrent(cell, x, params, state, **data.options)

        made, pushed = compiled(lambda: jax.jvp(call, at, direction))()
        again, back = jax.vjp(call, *at)
        close(made, again, 0.0)
        pulled = back((data.dy, data.dstate))
        close(_dot(pushed, (data.dy, data.dstate)), _dot(pulled, direction))


@pytest.mark.parametrize(
    "cell", tiers.thin(["lstm", "gru", *CHOSEN[:4], CLIPPING[5]], [CLIPPING[5]])
)
def test_second_order(cell: str) -> None:
    """The derivative of the gradient, against differences of it."""
    data, along = make_data(everything(cell), 3), make_data(everything(cell), 4)
    at, direction = (data.x, data.params, data.state), (along.x, along.params, along.state)
    with precision("float64"):

        def value(*args: Any) -> Any:
            made = fj.recurrent(cell, *args, **data.options)
            return _dot(made, made)

        gradient = jax.grad(value, (0, 1, 2))
        made = compiled(lambda: jax.jvp(gradient, at, direction)[1])()
        close(made, _difference(compiled(gradient), at, direction), 1e-6)


def _dot(a: Any, b: Any) -> Any:
    return sum(jnp.vdot(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def _difference(f: Any, at: Any, direction: Any, step: float = 1e-6) -> Any:
    ahead = f(*jax.tree.map(lambda a, d: a + step * d, at, direction))
    behind = f(*jax.tree.map(lambda a, d: a - step * d, at, direction))
    return jax.tree.map(lambda a, b: (a - b) / (2 * step), ahead, behind)


def test_named_calls() -> None:
    """`lstm`, `gru` and `rnn` are `recurrent` with their cells."""
    with precision("float32"):
        for cell, call in [
            ("lstm", fj.lstm),
            ("gru", fj.gru),
            ("rnn_tanh", fj.rnn),
            ("rnn_relu", lambda *args: fj.rnn(*args, nonlinearity="relu")),
        ]:
            data = make_data(Case(cell, 3, 2, 4, 5))
            given = (data.x, data.params, data.state)
            close(call(*given), fj.recurrent(cell, *given), 0.0, cell)


# ---- arrays --------------------------------------------------------------------------------------


def test_numpys_arrays_and_lists_of_lengths() -> None:
    for dtype in DTYPES:
        case = Case("gru", 5, 3, 4, 6, dtype)
        data = make_data(case)
        with precision(dtype):
            given = [3, 0, 5]
            y, state = fj.gru(data.x, data.params, data.state, lengths=given)
            for kind in (np.array, np.int32, np.uint8, jnp.array, jnp.int32):
                own = jax.tree.map(jnp.array, (data.x, data.params, data.state))
                close(fj.gru(*own, lengths=kind(given)), (y, state), 0.0)
        options = {"lengths": np.array(given)}
        close(y, functional.infer("gru", data.x, data.params, data.state, **options)[0], 0.0)


def test_what_jax_has_not_enabled() -> None:
    """Without 64 bits JAX makes float64 float32; it must not make a length another one."""
    with precision("float32"):
        data = make_data(Case("gru", 5, 2, 4, 6, "float64"))
        assert fj.gru(data.x, data.params)[0].dtype == jnp.float32
        for lengths in ([2**32 + 3, 2], np.array([2**32 + 3, 2])):
            with pytest.raises(
                ValueError, match=r"\[gru\] lengths must be .*int32, got 4294967299"
            ):
                fj.gru(data.x, data.params, lengths=lengths)


def test_without_jit() -> None:
    data = make_data(Case("lstm", 4, 3, 4, 6, L=2))
    with precision("float32"):
        expected = gradients(fj.lstm, data)
        with jax.disable_jit():
            close(gradients(fj.lstm, data), expected, 0.0)
            vmapped = jax.vmap(lambda b: fj.lstm(data.x, {**data.params, "bias_ih_l0": b})[0])
            bias = data.params["bias_ih_l0"]
            close(vmapped(jnp.stack([bias, bias]))[1], fj.lstm(data.x, data.params)[0], 0.0)


def test_donated_buffers() -> None:
    """JAX may write results where the arguments were."""
    data = make_data(Case("lstm", 6, 4, 12, 12))
    with precision("float32"):
        expected = fj.lstm(data.x, data.params, data.state)

        def step(x: Any, state: Any) -> Any:
            return fj.lstm(x, data.params, state)

        x, *state = (jnp.array(a, copy=True) for a in (data.x, *data.state))
        made = jax.jit(step, donate_argnums=(0, 1))(x, tuple(state))
        assert x.is_deleted(), "x was not donated"
        close(made, expected, 0.0)


def test_static_sizes() -> None:
    """Options may be static arguments, and are then parts of what is compiled."""
    data = make_data(Case("gru", 6, 4, 3, 5))
    with precision("float32"):
        call = jax.jit(
            lambda x, recompute, reverse: fj.gru(
                x, data.params, recompute=recompute, reverse=reverse
            )[0],
            static_argnums=(1, 2),
        )
        for reverse in (False, True):
            wanted = functional.infer("gru", data.x, data.params, reverse=reverse)[0]
            for recompute in (False, True, 2):
                close(call(data.x, recompute, reverse), wanted, 0.0)


def test_many_threads() -> None:
    """Calls of their own sizes from many threads at once, with one engine's threads beneath."""
    calls = []
    for seed in range(8):
        data = make_data(Case("lstm", 7, 5 + seed, 9, 20, L=2), seed)
        with precision("float32"):
            calls.append((data, gradients(fj.lstm, data)))

    def check(k: int) -> None:
        data, expected = calls[k % len(calls)]
        with precision("float32"):
            close(gradients(jax.jit(fj.lstm) if k % 3 else fj.lstm, data), expected, 0.0)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(check, k) for k in range(tiers.choose(dev=24, ci=96, full=1000))]:
            done.result()


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", tiers.thin(["gru", "lstm_peephole"], ["lstm_peephole"]))
def test_init(cell: str) -> None:
    projected = 3 if find(cell).states == 2 else 0
    options = {"bidirectional": True, "bias": cell != "gru", "proj_size": projected}
    layer = fastrnn.Recurrent(cell, 5, 16, 2, **options)
    with precision("float32"):
        draw = compiled(lambda key: fj.init(key, cell, 5, 16, 2, **options))
        params = draw(jax.random.key(3))
        shapes = {name: a.shape for name, a in layer.parameters.items()}
        assert {name: a.shape for name, a in params.items()} == shapes
        values = np.concatenate([np.ravel(a) for a in params.values()])
        assert values.dtype == np.float32
        assert np.abs(values).max() <= 0.25
        assert abs(values.mean()) < 0.02
        assert abs(values.std() - 0.25 / 3**0.5) < 0.01, "uniform within 1 / sqrt(H)"
        assert len(np.unique(values)) > 0.9 * values.size, "each is drawn by itself"
        other = draw(jax.random.key(4))
        assert all((a != b).any() for a, b in zip(leaves(params), leaves(other), strict=True))


@tiers.ci
def test_init_alone_and_of_an_ensemble() -> None:
    with precision("float64"):
        keys = jax.random.split(jax.random.key(1), 3)
        params = fj.init(keys[1], "gru", 2, 3, dtype="float64")
        assert list(params) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
        assert {a.dtype.name for a in params.values()} == {"float64"}
        many = jax.vmap(lambda key: fj.init(key, "gru", 2, 3, dtype="float64"))(keys)
        close({name: a[1] for name, a in many.items()}, params, 0.0)


@pytest.mark.parametrize("dtype", _dtypes.NARROW)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_16_bits(cell: str, dtype: str) -> None:
    """The bits of the engine's own calls, compiled and with gradients."""
    data = make_data(Case(cell, 7, 4, 5, 9, dtype, D=2))
    y, final, tape = functional.forward(cell, data.x, data.params, data.state)
    dx, _, grads = functional.backward(cell, data.params, tape, data.dy)

    def call(x: jax.Array, params: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
        return fj.recurrent(cell, x, params, data.state)

    (found, states), pull = jax.vjp(jax.jit(call), jnp.asarray(data.x), dict(data.params))
    zeros = jax.tree.map(jnp.zeros_like, states)
    back = pull((jnp.asarray(data.dy), zeros))
    pairs = [(found, y), (back[0], dx), *((back[1][name], grad) for name, grad in grads.items())]
    pairs += zip(flat_state(states), flat_state(final), strict=True)
    for a, b in pairs:
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == b.tobytes()
