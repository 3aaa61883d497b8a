"""The CUDA engine on the emulated device: the kernels, the host's side and the Python driver.

Arrays are those of `fake_gpu`, which the engine's own kernels read; the emulator runs them in the
schedules of `SCHEDULES`. Work waits until it is asked for (tests/streams.py; what that shows, and
several streams, test_queue.py has).
"""

from __future__ import annotations

import copy
import itertools
import os
import re
import sys
from contextlib import ExitStack
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fake_gpu
import fastrnn
import on_gpu
import streams
import tiers
from builds import ROOT
from cases import Case, Data, cells, chosen_cases, kernel_cases, make_data, projected_cases
from fastrnn import _arrays, _dtypes, cuda, functional
from on_gpu import GRIDS, MODES, Results, modes, put
from tolerances import NARROW_ROUNDING, assert_gradient, assert_output

SCHEDULES = [("random", 1), ("forward", 0), ("reverse", 0)]
if os.environ.get("FASTRNN_ONE_SCHEDULE"):  # under sanitizers, which take several times as long
    SCHEDULES = SCHEDULES[:1]
DTYPES = ("float32", "float16", "bfloat16", "float64")
KINK = re.compile("relu|hard|clip")  # activations that have one
OUTPUTS = {"y", "hn", "cn"}
NOT_SUMS = OUTPUTS | {"dx", "dh0", "dc0"}  # over all steps, that is


def assert_close(case: Case, got: Results, wanted: Results) -> None:
    assert set(got) == set(wanted)
    for name, array in got.items():
        if name in OUTPUTS:
            assert_output(array, wanted[name], case.dtype, name)
        else:
            assert_gradient(
                array, wanted[name], case.dtype, name, kink=KINK.search(case.cell) is not None
            )


def assert_same(got: Results, wanted: Results, only: set[str] | None = None) -> None:
    for name in only or set(got):
        assert got[name].tobytes() == wanted[name].tobytes(), name


# Where functions are chosen, what multiplies is that of other cells.
VARIANTS = [
    (mode, case)
    for case in (*chosen_cases(), *projected_cases(DTYPES))
    for mode in modes(case)
    if mode == "stepwise" or case.lengths or case.holds
]
RUNS = [(mode, case) for case in kernel_cases(DTYPES) for mode in modes(case)] + VARIANTS
# How blocks exchange rows knows no cell: below the tier full, the ways beside `grid` are run with a
# cell of each number of states.
BESIDE_GRID = {"flags": ("lstm", "rnn_relu"), "cluster": ("lstm", "gru")}
if tiers.chosen != "full":
    RUNS = [(mode, case) for mode, case in RUNS if case.cell in BESIDE_GRID.get(mode, (case.cell,))]


def is_in_dev(mode: str, case: Case) -> bool:
    """Of float32 every case of `grid` and `stepwise`; beside them rows that start and end apart,
    and groups of several blocks.
    """
    if case.dtype != "float32" or ((mode, case) in VARIANTS and not case.lengths):
        return False
    return mode not in BESIDE_GRID or case.lengths or case.H > 100


IN_DEV = [(mode, case) for mode, case in RUNS if is_in_dev(mode, case)]


def others_of(case: Case) -> list[tuple[str, int]]:
    """Schedules beside the first: below the tier full one of them, by turns."""
    others = SCHEDULES[1:]
    return others if tiers.chosen == "full" else others[case.T % 2 :][:1]


@pytest.mark.parametrize(
    ("mode", "case"),
    tiers.thin(RUNS, IN_DEV),
    ids=[f"{m}-{c.id}" for m, c in RUNS],
)
def test_against_reference(emulated: ModuleType, mode: str, case: Case) -> None:
    """Within the tolerances, with the same bits in every schedule and with a smaller tape."""
    data = make_data(case)
    wanted = on_gpu.wanted(case, data)
    with cuda.mode(mode):
        emulated.use_schedule(*SCHEDULES[0])
        first = on_gpu.run(case, data)
        for schedule in others_of(case):
            emulated.use_schedule(*schedule)
            assert_same(on_gpu.run(case, data), first)
        again = on_gpu.run(case, data, recompute=3)
    assert_close(case, first, wanted)
    # Sums over steps are cut where windows meet.
    assert_same(again, first, {n for n in first if case.T <= 64 or n in NOT_SUMS})
    assert_close(case, again, wanted)


@pytest.mark.parametrize("mode", MODES)
def test_windows_of_a_small_tape(emulated: ModuleType, mode: str) -> None:
    """Several windows, with checkpoints between them, in both directions and with lengths."""
    for cell, T, holds in (("lstm", 150, False), ("gru", 150, False), ("lstm", 80, True)):
        held = {"holds": holds, "repeat_held": holds}
        case = Case(cell, T, 3, 4, 6, D=2, lengths=True, resets=True, **held)
        data = make_data(case)
        with cuda.mode(mode):
            whole, again = on_gpu.run(case, data), on_gpu.run(case, data, recompute=5)
        assert_close(case, again, on_gpu.wanted(case, data))
        assert_same(again, whole, NOT_SUMS & set(whole))


@pytest.mark.parametrize("dtype", _dtypes.NARROW)
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before"])
def test_windows_add_up_in_float32(emulated: ModuleType, cell: str, dtype: str) -> None:
    """Gradients of parameters in 16 bits from many windows are those from one.

    Those are sums in float64 which the library here rounds once. A sum in float32 that lies between
    two numbers of 16 bits may be rounded to the other one.
    """
    case = Case(cell, 640, 2, 3, 5, dtype=dtype)
    data = make_data(case)
    one, many = (on_gpu.run(case, data, recompute=k) for k in (0, 64))
    for name in set(one) - NOT_SUMS:
        a, b = (results[name].astype(np.float64) for results in (one, many))
        apart = np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
        assert apart.max() <= 2 * NARROW_ROUNDING[dtype], name
        assert (a == b).mean() > 0.9, name


def use_plan(emulated: ModuleType, processors: int, shared: int = 227 << 10) -> None:
    emulated.use_device(processors, shared, True)


def plan_of(case: Case, mode: str = "grid") -> tuple[Any, ...]:
    stack = cuda._native.engine.Stack(case.cell, case.dtype, 1, case.D, case.I, case.H, True)
    with cuda.mode(mode):
        plan = stack.plan(case.T, case.B, 0, False)
    return tuple(plan[name] for name in ("mode", "blocks", "units", "replicas", "tile_rows"))


# A tensor core makes another number of a sum, but the same one everywhere: of rows alone and in a
# batch, in blocks that share the columns, chunks and rows of tiles in any way.
PLANNED = [(c, "float32", False) for c in cells() if "grid" in modes(Case(c, 1, 1, 1, 1))] + [
    ("lstm", "float32", True),
    ("lstm", "float16", False),
    ("gru", "bfloat16", False),
]


@pytest.mark.parametrize(("cell", "dtype", "tf32"), PLANNED)
def test_bits_do_not_depend_on_the_plan(
    emulated: ModuleType, cell: str, dtype: str, tf32: bool
) -> None:
    """Any number of SMs, so of units in a block and of rows in a group; and all grids agree."""
    case = Case(cell, 4, 19, 5, 37, dtype, D=2, lengths=True, resets=True)
    data = make_data(case)
    plans, results = set(), []
    for mode, processors in itertools.product(GRIDS, (4, 8, 30, 600)):
        use_plan(emulated, processors)
        with cuda.mode(mode), cuda.tf32(tf32):
            results.append(on_gpu.run(case, data))
            plans.add(plan_of(case, mode))
    assert len(plans) >= 5, plans
    for other in results[1:]:
        assert_same(other, results[0])


# A case; SMs, and KiB of shared memory for all weights, for some of them, and for none.
STREAMED = [
    (Case("rnn_tanh", 3, 3, 4, 1100), False, 20, (280, 245, 227)),
    (Case("gru", 3, 5, 4, 260), True, 8, (200, 60, 50)),
    (Case("lstm", 3, 5, 4, 260, "bfloat16"), False, 8, (200, 80, 50)),
]


@pytest.mark.parametrize("mode", ["grid", "flags"])
@pytest.mark.parametrize(("case", "tf32", "processors", "kib"), STREAMED)
def test_weights_that_do_not_fit_are_streamed(
    emulated: ModuleType, mode: str, case: Case, tf32: bool, processors: int, kib: tuple[int, ...]
) -> None:
    """Some of k, and all of it; with the bits of those that stay."""
    data, results, streamed = make_data(case), [], []
    with cuda.tf32(tf32), cuda.mode(mode):
        for each in kib:
            use_plan(emulated, processors, each << 10)
            stack = emulated.Stack(case.cell, case.dtype, 1, 1, case.I, case.H, True)
            streamed.append(stack.plan(case.T, case.B, 0, False)["streamed"])
            results.append(on_gpu.run(case, data))
    assert streamed[0] == 0 < streamed[1] < case.H <= streamed[2], streamed
    for other in results[1:]:
        assert_same(other, results[0])


@pytest.mark.parametrize("mode", GRIDS)
def test_tf32(emulated: ModuleType, mode: str) -> None:
    """A choice, which rounds the factors of the recurrent product to 10 bits and nothing else."""
    case = Case("lstm", 6, 9, 5, 70, D=2, lengths=True)
    data, wide = make_data(case), make_data(replace(case, dtype="float64"))
    wanted = on_gpu.wanted(replace(case, dtype="float64"), wide)
    with cuda.mode(mode):
        exact = on_gpu.run(case, data)
        with cuda.tf32():
            rounded = on_gpu.run(case, data)
            with cuda.tf32(False):
                assert_same(on_gpu.run(case, data), exact)
        assert_same(on_gpu.run(case, data), exact)
    for name in ("y", "dx"):
        scale = np.abs(wanted[name]).max()
        errors = [np.abs(got[name] - wanted[name]).max() / scale for got in (exact, rounded)]
        assert errors[0] < 1e-6 < errors[1] < 2.0**-9, errors


def test_cards_without_tensor_cores(emulated: ModuleType) -> None:
    """Below 8.0 float16 alone has them: what is compiled for 7.5 says so, whatever the card."""
    case = Case("lstm", 3, 2, 4, 20, "bfloat16")
    data = make_data(case)
    results = []
    for architecture in (90, 75):
        emulated.use_device(8, 227 << 10, True, architecture=architecture)
        with cuda.mode("grid"):
            stack = emulated.Stack(case.cell, case.dtype, 1, 1, case.I, case.H, True)
            results.append(stack.plan(3, 2, 0, False)["tensor_cores"])
            assert_close(case, on_gpu.run(case, data), on_gpu.wanted(case, data))
    assert results == [True, False]


def test_rows_and_pieces_have_the_bits_of_the_whole(emulated: ModuleType) -> None:
    """A row alone as in its batch; a sequence step by step as whole; with a tape or without."""
    for cell in ("lstm", "gru", "rnn_tanh"):
        case = Case(cell, 7, 9, 5, 21)
        data = make_data(case)
        with cuda.mode("grid"):
            whole = on_gpu.run(case, data)
            y, _ = infer(case, data)
            assert y.get().tobytes() == whole["y"].tobytes()
            state, steps = on_gpu.put_state(data.state), []
            for t in range(case.T):
                part = replace(data, x=data.x[t : t + 1])
                y, state = infer(case, part, state)
                steps.append(y.get())
            assert np.concatenate(steps).tobytes() == whole["y"].tobytes()
            row = replace(
                data,
                x=data.x[:, 4:5],
                dy=data.dy[:, 4:5],
                state=at_row(data.state, 4),
                dstate=at_row(data.dstate, 4),
            )
            alone = on_gpu.run(replace(case, B=1), row)
        for name in ("y", "dx"):
            assert alone[name].tobytes() == whole[name][:, 4:5].tobytes(), name


def at_row(state: Any, b: int) -> Any:
    if isinstance(state, tuple):
        return tuple(at_row(s, b) for s in state)
    return state[:, b : b + 1].copy()


def infer(case: Case, data: Data, state: Any = None) -> Any:
    given = on_gpu.put_state(data.state) if state is None else state
    return functional.infer(case.cell, put(data.x), put(data.params), given, **put(data.options))


@pytest.mark.parametrize(
    "case",
    [
        Case("rnn_tanh", 2, 9, 3, 530),  # a tile of eight rows, and one of one
        Case("lstm", 2, 3, 3, 132),  # backward, two chunks staged at once
        Case("lstm", 2, 3, 3, 260),  # and two, and then one more
    ],
    ids=lambda case: case.id,
)
def test_products_of_several_chunks(emulated: ModuleType, case: Case) -> None:
    """More than 512 values of k, forward and backward, with more rows than a tile."""
    use_plan(emulated, 40)
    data = make_data(case)
    with cuda.mode("grid"):
        assert_close(case, on_gpu.run(case, data), on_gpu.wanted(case, data))


@tiers.ci
def test_long_sequences(emulated: ModuleType) -> None:
    for cell in ("lstm", "gru"):
        case = Case(cell, 400, 2, 3, 9)
        data = make_data(case, seed=3)
        assert_close(case, on_gpu.run(case, data), on_gpu.wanted(case, data))
    case = Case("rnn_relu", 70_000, 1, 2, 2)
    data = make_data(case)
    with cuda.mode("grid"):
        assert_output(infer(case, data)[0].get(), on_gpu.wanted(case, data)["y"], "float32")


@pytest.mark.parametrize("mode", MODES)
def test_nan_and_infinity_pass_through(emulated: ModuleType, mode: str) -> None:
    for cell in cells():
        case = Case(cell, 6, 4, 5, 18, D=2)
        if mode not in modes(case):
            continue
        data = make_data(case)
        data.x[2, 1, 3], data.x[4, 2, 0], data.x[1, 0, 2] = np.nan, np.inf, -np.inf
        with cuda.mode(mode):
            y = infer(case, data)[0].get()
        wanted = on_gpu.wanted(case, data)["y"]
        infinite = np.isinf(wanted)
        assert_output(np.where(infinite, 0, y), np.where(infinite, 0, wanted), "float32")
        assert (np.isinf(y) == infinite).all()
        assert np.isfinite(y[:, 3]).all(), "a row must not see another row's NaN"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_lengths_of_every_integer_type(emulated: ModuleType, kind: str, mode: str) -> None:
    case = Case("gru", 6, 5, 3, 7, D=2, lengths=True)
    data = make_data(case)
    wanted = on_gpu.wanted(case, data)
    spread = np.zeros(2 * case.B, kind)
    spread[::2] = data.options["lengths"]
    data.options["lengths"] = spread
    options = put(data.options)
    options["lengths"] = options["lengths"][::2]
    with cuda.mode(mode):
        y, _ = functional.infer(
            case.cell, put(data.x), put(data.params), put(data.state), **options
        )
    assert_output(y.get(), wanted["y"], "float32")


@pytest.mark.parametrize("mode", MODES)
def test_lengths_of_the_host(emulated: ModuleType, mode: str) -> None:
    """A list or a NumPy array, read-only and strided too: moved over, for both directions."""
    case = Case("lstm", 6, 4, 3, 7, D=2, lengths=True)
    data = make_data(case)
    lengths = data.options["lengths"]
    spread = np.repeat(lengths.astype("u1"), 2)[::2]
    spread.flags.writeable = False
    params, x, dy = put(data.params), put(data.x), put(data.dy)
    fake_gpu.waits.clear()
    with cuda.mode(mode):
        wanted = on_gpu.run(case, data)
        for given in (lengths.tolist(), tuple(lengths), lengths, spread):
            state = on_gpu.put_state(data.state)
            y, final, tape = functional.forward(case.cell, x, params, state, lengths=given)
            dstate = on_gpu.put_state(data.dstate)
            back = functional.backward(case.cell, params, tape, dy, dstate)
            assert_same(on_gpu.named(y, final, *back), wanted)


@pytest.mark.parametrize("mode", MODES)
def test_padding_may_be_anything(emulated: ModuleType, mode: str) -> None:
    """Where rows do not run, neither kernels nor the library's products see x, dy and masks."""
    given = ({"lengths": True}, {"holds": True}, {"lengths": True, "holds": True})
    for cell, recompute, options in itertools.product(("lstm", "gru"), (0, 3), given):
        case = Case(cell, 7, 5, 3, 6, D=2, L=2, dropout=True, **options)
        data = make_data(case)
        past = np.arange(case.T)[:, None] >= data.options.get("lengths", case.T)
        past = past | data.options.get("holds", False)
        results = []
        for value in (0.0, np.nan):
            for array in (data.x, data.dy, *data.options["dropout_masks"]):
                array[past] = value
            with cuda.mode(mode):
                results.append(on_gpu.run(case, data, recompute))
        clean, padded = results
        assert_same(padded, clean)
        assert not padded["dx"][past].any()


def test_strided_arrays(emulated: ModuleType) -> None:
    """Inputs, gradients, parameters and outputs that are parts of other arrays."""
    case = Case("lstm", 5, 4, 6, 10, D=2)
    data = make_data(case)
    wanted = on_gpu.run(case, data)

    def spread(a: np.ndarray) -> fake_gpu.Array:
        return put(np.repeat(a, 2, axis=-1))[..., ::2]

    x, dy = spread(data.x), spread(data.dy)
    params = {name: spread(a) for name, a in data.params.items()}
    state, dstate = (tuple(spread(s) for s in pair) for pair in (data.state, data.dstate))
    out = fake_gpu.empty((5, 4, 50))[:, :, 7:27]
    y, final, tape = functional.forward(case.cell, x, params, state, out=out)
    assert y is out
    back = functional.backward(case.cell, params, tape, dy, dstate)
    assert_same(on_gpu.named(y, final, *back), wanted)


def test_backward_again_gives_the_same_bits(emulated: ModuleType) -> None:
    case = Case("gru", 5, 3, 4, 6, L=2)
    data = make_data(case)
    params, dy = put(data.params), put(data.dy)
    y, _, tape = functional.forward(case.cell, put(data.x), params, put(data.state))
    kept = [a.get() for a in (y, *tape.arrays)]
    first = functional.backward(case.cell, params, tape, dy)
    second = functional.backward(case.cell, params, tape, dy)
    assert first[0].get().tobytes() == second[0].get().tobytes()
    assert all(
        a.get().tobytes() == b.tobytes() for a, b in zip((y, *tape.arrays), kept, strict=True)
    )


@pytest.mark.parametrize("mode", MODES)
def test_nothing_waits_for_the_device(emulated: ModuleType, mode: str) -> None:
    case = Case("lstm", 5, 3, 4, 6, D=2, L=2, lengths=True, resets=True, dropout=True)
    data = make_data(case)
    arguments = put(data.x), put(data.params), on_gpu.put_state(data.state)
    options, dy, dstate = put(data.options), put(data.dy), on_gpu.put_state(data.dstate)
    fake_gpu.waits.clear()
    with cuda.mode(mode):
        _, _, tape = functional.forward(case.cell, *arguments, recompute=2, **options)
        functional.backward(case.cell, arguments[1], tape, dy, dstate)
    assert fake_gpu.waits == []


def test_kernels_for_an_older_card_know_no_clusters(emulated: ModuleType) -> None:
    """A card of 9.0 may run what was compiled for 8.0, where each block would be alone."""
    stack = emulated.Stack("lstm", "float32", 1, 1, 4, 160, True)  # more than one block can keep
    with cuda.mode("cluster"):
        emulated.use_device(132, 227 << 10, True, architecture=90)
        assert stack.plan(10, 2, 0, False)["blocks"] > 1
        emulated.use_device(132, 227 << 10, True, architecture=80)
        with pytest.raises(NotImplementedError, match="the cluster mode must fit"):
            stack.plan(10, 2, 0, False)


def test_the_plan_prefers_what_fits(emulated: ModuleType) -> None:
    """One launch at small batches and for many steps, stepwise for large ones, by the model."""

    def mode_of(H: int, T: int, B: int, dtype: str = "float32", cooperative: bool = True) -> str:
        emulated.use_device(132, 227 << 10, cooperative)
        stack = emulated.Stack("lstm", dtype, 1, 1, 4, H, True)
        return str(stack.plan(T, B, 0, False)["mode"])

    assert mode_of(1024, 100, 2) in ("grid", "flags")
    assert mode_of(2048, 100, 2, "float16") in ("grid", "flags"), "streamed"
    assert mode_of(1024, 100, 2, cooperative=False) == "stepwise"
    assert mode_of(64, 100, 2, cooperative=False) == "cluster", "of one block, or of few"
    assert mode_of(1024, 100, 4096) == "stepwise"
    assert mode_of(2048, 1, 64) == "stepwise", "no weights are kept for one step"


def test_a_device_that_gives_fewer_blocks_than_it_has(emulated: ModuleType) -> None:
    """Quietly by another mode, which is planned from then on, and said in words."""
    case = Case("lstm", 6, 5, 3, 160, D=2, L=2, lengths=True)  # more than one block can keep
    data = make_data(case)
    stack = emulated.Stack("lstm", "float32", 1, case.D, case.I, case.H, True)

    def plans(of: Any = stack) -> list[dict[str, Any]]:
        return [of.plan(case.T, case.B, 0, backward) for backward in (False, True)]

    emulated.use_device(132, 227 << 10, True, max_cluster=0)
    planned = plans()
    assert all(plan["mode"] in ("grid", "flags") and not plan["instead_of"] for plan in planned)
    with cuda.mode("stepwise"):
        wanted = on_gpu.run(case, data, recompute=3)
    emulated.limit_cooperative(1)
    assert_same(on_gpu.run(case, data, recompute=3), wanted)
    words = r"(grid|flags) with \d+ blocks at once, which this device has refused .*MPS"
    for limit in (1, 10_000):  # what was refused is not tried again
        emulated.limit_cooperative(limit)
        for plan in plans():
            assert plan["mode"] == "stepwise"
            assert re.match(words, plan["instead_of"])
    small = emulated.Stack("lstm", "float32", 1, 1, 3, 8, True)
    assert {plan["mode"] for plan in plans(small)} == {"cluster"}, "of one block"
    with (
        cuda.mode("grid"),
        pytest.raises(
            NotImplementedError, match=r"\[lstm\] the grid mode must have all its blocks"
        ),
    ):
        infer(case, data)


def test_the_plan_knows_what_a_graph_saves(emulated: ModuleType) -> None:
    """A step that is replayed costs its launches, and its share of what the graph costs."""
    stack = emulated.Stack("lstm", "float32", 1, 1, 4, 64, True)

    def cost(T: int, recorded: bool) -> float:
        with cuda.mode("stepwise"):
            return float(stack.plan(T, 2, 0, False, recorded)["model_microseconds"])

    issued = cost(1, True)
    assert {cost(T, False) for T in (1, 100, 1000)} == {issued}
    assert cost(8, True) == issued
    assert issued > cost(64, True) > cost(1000, True) > 0
    assert cost(64, True) == cost(127, True)  # one plan serves both


@pytest.mark.parametrize(
    "case",
    [
        Case("lstm", 2, 41, 3, 300, D=2, lengths=True),  # two pieces of a row
        Case("gru", 2, 300, 3, 5, D=2),  # many rows of a block
        Case("lstm", 2, 37, 3, 5, P=270),
        Case("gru_reset_before", 2, 37, 3, 257),
    ],
    ids=lambda case: case.id,
)
def test_a_block_takes_several_turns(emulated: ModuleType, case: Case) -> None:
    """Where there are more values than threads, in rows longer and shorter than a block."""
    use_plan(emulated, 1)
    data = make_data(case)
    with cuda.mode("stepwise"):
        assert_close(case, on_gpu.run(case, data), on_gpu.wanted(case, data))


# ---- layers --------------------------------------------------------------------------------------


@pytest.fixture
def library(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Parameters of layers on a GPU are made by the library that pretends to be on one."""
    monkeypatch.setattr(_arrays, "cupy_library", lambda op: _arrays._library(fake_gpu))
    return fake_gpu


def test_layers_give_what_they_give_on_the_host(library: ModuleType) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4, 5)).astype(np.float32)
    for make in (fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN):
        host = make(5, 8, 2, bidirectional=True, seed=3)
        gpu = make(5, 8, 2, bidirectional=True, seed=3, device="cuda")
        assert "device='cuda'" in repr(gpu)
        dy = rng.standard_normal((6, 4, 16)).astype(np.float32)
        y, _, tape = host.forward(x)
        dx, _, grads = host.backward(tape, dy)
        y2, _, tape2 = gpu.forward(put(x))
        dx2, _, grads2 = gpu.backward(tape2, put(dy))
        assert isinstance(y2, fake_gpu.Array)
        assert_output(y2.get(), y, "float32")
        assert_gradient(dx2.get(), dx, "float32")
        for name, grad in grads.items():
            assert_gradient(grads2[name].get(), grad, "float32", name)
        assert_output(gpu(put(x))[0].get(), y, "float32")
        for lengths in ([3, 6, 0, 1], np.array([3, 6, 0, 1])):
            ragged, ours = host(x, lengths=lengths)[0], gpu(put(x), lengths=lengths)[0]
            assert_output(ours.get(), ragged, "float32")


def test_explain(library: ModuleType, emulated: ModuleType) -> None:
    layer = fastrnn.LSTM(3, 40, device="cuda")
    emulated.use_device(132, 227 << 10, True)
    plans = fastrnn.explain(layer, (50, 4, 3))
    assert plans["device"]["processors"] == 132
    assert plans["forward"]["mode"] in GRIDS
    assert 0 < plans["forward"]["shared_bytes"] <= 227 << 10
    assert plans["forward"]["units"] * plans["forward"]["blocks"] >= 40
    for options, possible in (
        ({"peepholes": True, "clip": 3.0}, GRIDS),
        ({"proj_size": 20}, ["stepwise"]),
        ({"proj_size": 20, "peepholes": True}, ["stepwise"]),
    ):
        other = fastrnn.explain(fastrnn.LSTM(3, 40, device="cuda", **options), (50, 4, 3))
        assert {other["forward"]["mode"], other["backward"]["mode"]} <= set(possible), options
    with pytest.raises(TypeError, match="modules must be on the CPU, got one on a GPU"):
        fastrnn.training.SGD([layer], lr=0.1)


def test_moving_a_layer_keeps_its_state_dict(library: ModuleType) -> None:
    layer = fastrnn.LSTM(3, 4, seed=0)
    there = layer.to("cuda")
    back = there.to("cpu")
    for name, value in layer.state_dict().items():
        assert there.state_dict()[name].get().tobytes() == value.tobytes()
        assert back.state_dict()[name].tobytes() == value.tobytes()
    assert (layer.device, there.device, back.device) == ("cpu", "cuda", "cpu")
    other = fastrnn.LSTM(3, 4, seed=9, device="cuda")
    other.load_state_dict(there.state_dict())
    x = put(np.ones((2, 1, 3), np.float32))
    assert other(x)[0].get().tobytes() == there(x)[0].get().tobytes()
    there.load_state_dict(fastrnn.LSTM(3, 4, seed=1).state_dict())
    assert other(x)[0].get().tobytes() != there(x)[0].get().tobytes()
    twin = copy.copy(other)
    with twin.mutable() as parameters:
        parameters["weight_hh_l0"][...] = 0
    assert twin.version == other.version + 1
    assert other(x)[0].get().tobytes() != twin(x)[0].get().tobytes()


def test_a_tape_of_the_layer_before_it_moved_is_refused(library: ModuleType) -> None:
    layer = fastrnn.GRU(3, 4, seed=0, device="cuda")
    y, _, tape = layer.forward(put(np.ones((2, 1, 3), np.float32)))
    with pytest.raises(ValueError, match="must be this layer's"):
        layer.to("cuda").backward(tape, y)


def test_narrow_layers(library: ModuleType) -> None:
    for dtype in ("float16", "bfloat16"):
        layer = fastrnn.LSTM(3, 4, seed=0, device="cuda", dtype=dtype)
        x = fake_gpu.astype(put(np.ones((2, 1, 3), np.float32)), layer.dtype)
        y, (hn, cn) = layer(x)
        assert (y.dtype, hn.dtype, cn.dtype) == (layer.dtype, layer.dtype, np.float32)
        again, _ = layer(x, (hn, cn))
        assert np.isfinite(again.get().astype(np.float32)).all()
        on_host, given = layer.to("cpu"), x.get()
        assert_output(y.get(), on_host(given)[0].astype(np.float64), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_is_drawn_from_the_seed(library: ModuleType, dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    x = library.astype(put(x), getattr(library, dtype))

    def draws(seed: int) -> list[bytes]:
        layer = fastrnn.LSTM(3, 8, 3, dropout=0.4, seed=seed, device="cuda", dtype=dtype)
        tapes = [layer.forward(x)[2] for _ in range(2)]
        for tape in tapes:
            for mask in tape.masks:
                assert set(mask.get().ravel()) == {layer.dtype.type(0), layer.dtype.type(1 / 0.6)}
        return [tape.y.get().tobytes() for tape in tapes]

    first = draws(1)
    assert first == draws(1)
    assert first[0] != first[1]
    assert first != draws(2)


def test_cells(library: ModuleType) -> None:
    rng = np.random.default_rng(0)
    x, h = (rng.standard_normal((2, n)).astype(np.float32) for n in (3, 4))
    for make in (fastrnn.LSTMCell, fastrnn.GRUCell, fastrnn.RNNCell):
        host, gpu = make(3, 4, seed=1), make(3, 4, seed=1, device="cuda")
        state = (h, h) if make is fastrnn.LSTMCell else h
        after, tape = host.forward(x, state)
        after2, tape2 = gpu.forward(put(x), put(state))
        dx, _, grads = host.backward(tape, after)
        dx2, _, grads2 = gpu.backward(tape2, after2)
        assert_output(np.array(on_gpu_state(after2)), np.array(after), "float32")
        assert_gradient(dx2.get(), dx, "float32")
        assert_gradient(grads2["weight_hh"].get(), grads["weight_hh"], "float32")
        assert_output(np.array(on_gpu_state(gpu(put(x), put(state)))), np.array(after), "float32")


def on_gpu_state(state: Any) -> Any:
    return [s.get() for s in state] if isinstance(state, tuple) else state.get()


def test_a_training_loop(library: ModuleType) -> None:
    """Losses as on the host, with an optimiser written in the library's own operations."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 4, 3)).astype(np.float32)
    target = rng.standard_normal((8, 4, 5)).astype(np.float32)
    losses: dict[str, list[float]] = {}
    for device in ("cpu", "cuda"):
        layer = fastrnn.GRU(3, 5, seed=0, device=device)
        given, wanted = (x, target) if device == "cpu" else (put(x), put(target))
        losses[device] = []
        for _ in range(5):
            y, _, tape = layer.forward(given)
            difference = y - wanted
            host = difference if device == "cpu" else difference.get()
            losses[device].append(float((host**2).mean()))
            _, _, grads = layer.backward(tape, difference)
            with layer.mutable() as parameters:
                for name, grad in grads.items():
                    parameters[name][...] = parameters[name] - grad * 0.05
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-4)
    assert losses["cuda"][-1] < losses["cuda"][0]


def test_packed_weights_are_a_copy(emulated: ModuleType) -> None:
    case = Case("gru", 3, 2, 4, 5)
    data = make_data(case)
    params = put(data.params)
    packed = functional.pack(case.cell, params)
    before = functional.infer(case.cell, put(data.x), packed)[0].get()
    params["weight_hh_l0"][...] = 0
    assert functional.infer(case.cell, put(data.x), packed)[0].get().tobytes() == before.tobytes()
    assert functional.infer(case.cell, put(data.x), params)[0].get().tobytes() != before.tobytes()


# ---- bad input -----------------------------------------------------------------------------------


def call(**changes: Any) -> Any:
    """A call that is right but for what the test changes in it."""
    case = Case("lstm", 4, 3, 5, 6, lengths=True, resets=True)
    data = make_data(case)
    options = {**put(data.options), "x": put(data.x), "params": put(data.params)}
    options["state"] = put(data.state)
    options.update(changes)
    x, params, state = (options.pop(name) for name in ("x", "params", "state"))
    return functional.infer("lstm", x, params, state, **options)


def array(*shape: int, dtype: Any = np.float32, **where: Any) -> fake_gpu.Array:
    return fake_gpu.Array(np.zeros(shape, dtype), **where)


READ_ONLY = np.zeros((4, 3, 6), np.float32)
READ_ONLY.flags.writeable = False
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": np.zeros((4, 3, 5), np.float32)}, TypeError, "x must be an array on a GPU, got"),
    ({"x": [1.0]}, TypeError, "x must be an array on a GPU, got list"),
    ({"x": array(4, 3, 5, dtype=np.float64)}, TypeError, "x must be float32 .*, got float64"),
    ({"x": array(4, 3, 5, dtype=np.float16)}, TypeError, "x must be float32 .*, got float16"),
    ({"x": array(4, 3, 4)}, ValueError, "x must have 5 features"),
    ({"x": array(5)}, ValueError, "x must have shape"),
    ({"lengths": "abc"}, TypeError, "lengths must be integers in native byte order"),
    ({"lengths": [1.0, 2.0, 3.0]}, TypeError, "lengths must be integers .*, got float64"),
    ({"lengths": np.array([1, 2, 3], ">i4")}, TypeError, "lengths must be integers in native"),
    ({"lengths": [1, 2]}, ValueError, r"lengths must have shape \(3,\), got \(2,\)"),
    ({"lengths": [1, 5, 3]}, ValueError, r"lengths must be within 0..4, got 5"),
    ({"lengths": np.array([1, -1, 3])}, ValueError, r"lengths must be within 0..4, got -1"),
    ({"lengths": np.array([1, 2**64 - 1, 3], "u8")}, ValueError, "within 0..4, got 184467440"),
    ({"lengths": array(3)}, TypeError, "lengths must be integers"),
    ({"lengths": array(2, dtype=np.int64)}, ValueError, r"lengths must have shape \(3,\)"),
    ({"resets": array(4, 3)}, TypeError, "resets must be bool"),
    ({"resets": array(3, 4, dtype=np.bool_)}, ValueError, r"resets must have shape \(4, 3\)"),
    ({"state": array(1, 3, 6)}, TypeError, "state must be a tuple of 2 arrays"),
    ({"state": (array(1, 3, 6),)}, ValueError, "state must hold 2 arrays"),
    ({"state": (array(1, 3, 6), None)}, TypeError, "state must hold arrays, got None"),
    ({"state": (array(1, 3, 6), array(1, 3, 5))}, ValueError, r"c0 must have shape \(1, 3, 6\)"),
    ({"state": (np.zeros((1, 3, 6)),) * 2}, TypeError, "state must be an array on a GPU"),
    ({"out": array(4, 3, 7)}, ValueError, r"y must have shape \(4, 3, 6\)"),
    ({"out": array(4, 3, 12)[:, :, ::2]}, ValueError, "contiguous in its last dimension"),
    ({"out": fake_gpu.Array(READ_ONLY)}, ValueError, "y must be writeable"),
    ({"out": np.zeros((4, 3, 6), np.float32)}, TypeError, "out must be an array on a GPU"),
    ({"dropout_masks": [array(4, 3, 6)]}, ValueError, "dropout_masks must be one for each layer"),
    ({"dropout_masks": array(4, 3, 6)}, TypeError, "dropout_masks must be a tuple or list"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "text"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_input(
    emulated: ModuleType, changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as raised:
        call(**changes)
    assert str(raised.value).startswith("[lstm] ")


def test_bad_parameters(emulated: ModuleType) -> None:
    params = put(make_data(Case("lstm", 4, 3, 5, 6)).params)
    for name, value, error in (
        ("weight_hh_l0", np.zeros((24, 6), np.float32), TypeError),
        ("weight_hh_l0", array(24, 6, dtype=np.float64), TypeError),
        ("bias_hh_l0", array(23), ValueError),
        ("weight_ih_l0", array(24, 5, dtype=np.int32), TypeError),
    ):
        with pytest.raises(error, match=r"^\[lstm\] "):
            call(params={**params, name: value})
    with pytest.raises(TypeError, match="x must be a NumPy array"):
        call(params=make_data(Case("lstm", 4, 3, 5, 6)).params)


def test_arrays_of_several_devices(emulated: ModuleType) -> None:
    arrays: dict[str, Any] = {
        "x": array(4, 3, 5),
        "lengths": put(np.array([4, 2, 1])),
        "state": (array(1, 3, 6), array(1, 3, 6)),
        "out": array(4, 3, 6),
    }
    params = put(make_data(Case("lstm", 4, 3, 5, 6)).params)
    for name, value in (*arrays.items(), ("bias_hh_l0", params["bias_hh_l0"])):
        one = value[1] if isinstance(value, tuple) else value
        emulated.place_on(one._values.ctypes.data, 3)
        rule = "must be on GPU [03], as x is, got an array on GPU [03]"
        with pytest.raises(ValueError, match=rule):
            call(**({name: value} if name in arrays else {"params": params}))
        emulated.place_on(one._values.ctypes.data, -1)
        with pytest.raises(ValueError, match="must be an array on a GPU, got one in host memory"):
            call(**({name: value} if name in arrays else {"params": params}))
        emulated.place_on(one._values.ctypes.data, 0)


def test_arrays_by_dlpack(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library without the CUDA array interface."""
    wanted = call()[0].get()
    monkeypatch.delattr(fake_gpu.Array, "__cuda_array_interface__")

    def export(self: fake_gpu.Array, *, stream: int) -> Any:
        assert stream == -1  # no waiting
        return self._values.__dlpack__()

    monkeypatch.setattr(fake_gpu.Array, "__dlpack__", export, raising=False)
    with pytest.raises(ValueError, match="must be an array on a GPU"):  # as NumPy's capsule says
        call()
    emulated.take_host_arrays(True)
    with streams.work.on(0):  # arrays that name no stream are of the default one
        assert call()[0].get().tobytes() == wanted.tobytes()


def test_cupy_computes_on_the_device_of_the_arrays() -> None:
    """Its products run on the current device, and its current stream is that device's."""
    with ExitStack() as device:  # a context, as CuPy's devices are
        left: list[str] = []
        device.callback(left.append, "left")
        with _arrays.CuPy(fake_gpu).no_grad(SimpleNamespace(device=device)):
            assert left == []
        assert left == ["left"]


@pytest.mark.parametrize("mode", MODES)
def test_lengths_that_only_a_kernel_sees(emulated: ModuleType, mode: str) -> None:
    """The nearest length is used, nothing is written outside, and the next call tells."""
    for bad in (-3, 5, 2**40):
        with cuda.mode(mode):
            y, _ = call(lengths=put(np.array([4, bad, 2])))
            assert np.isfinite(y.get()).all()
            with pytest.raises(ValueError, match=rf"\[lstm\] lengths .* got {bad} for row 1"):
                call()
            call()
            call(lengths=put(np.array([4, bad, 2])))
            with pytest.raises(ValueError, match=rf"\[cuda\] lengths .* got {bad} for row 1"):
                cuda.check(put(np.zeros(1)))
            cuda.check(put(np.zeros(1)))


def test_packed_rows_have_no_kernel(emulated: ModuleType) -> None:
    """Neither those of a call nor those of a tape, which lengths leave whole here."""
    case = Case("gru", 3, 2, 3, 4, lengths=True)
    data = make_data(case)
    x, params = put(data.x), put(data.params)
    with pytest.raises(NotImplementedError, match=r"\[gru\] batch_sizes have no kernel on a GPU"):
        functional.infer(case.cell, x[0], params, batch_sizes=[1, 1])
    with pytest.raises(
        NotImplementedError, match=r"\[gru\] recurrent_masks have no kernel on a GP"
    ):
        functional.infer(case.cell, x, params, recurrent_masks=put(np.ones((1, 2, 4), np.float32)))
    tape = functional.forward(case.cell, x, params, lengths=data.options["lengths"])[2]
    assert [len(a.shape) for a in tape.arrays] == [4, 6, 6]


def test_what_has_no_kernel_is_refused(emulated: ModuleType) -> None:
    """By its name, before anything is written or a layer is made."""

    def refuses(cell: str, rule: str) -> Any:
        return pytest.raises(NotImplementedError, match=rf"^\[{re.escape(cell)}\] {rule}")

    wide = "dtype must be float32 or float64 where functions are chosen, got {}"
    for cell, P in (
        ("lstm_peephole", 0),
        ("gru_reset_before(clip=0.5)", 0),
        ("lstm(clip=1)", 2),
        ("lstm(state=-1.0:1.0)", 0),
    ):
        for dtype in _dtypes.NARROW:
            with refuses(cell, wide.format(dtype)):
                emulated.Stack(cell, dtype, 1, 1, 3, 4, True, P)
    for cell in ("gru", "rnn(softplus)", "lstm_coupled"):
        with refuses(cell, "proj_size must be 0: this cell has no kernels with a projection"):
            emulated.Stack(cell, "float32", 1, 1, 3, 4, True, 2)
    with refuses("lstm(clip=0.5)", wide.format("float16")):
        fastrnn.LSTM(3, 4, clip=0.5, device="cuda", dtype="float16")
    case = Case("gru_reset_before", 2, 3, 4, 5)
    data = make_data(case)
    out = put(np.full((2, 3, 5), 7, np.float32))
    with cuda.mode("grid"), refuses(case.cell, r"the grid mode .*one product in a step"):
        functional.infer(case.cell, put(data.x), put(data.params), out=out)
    assert (out.get() == 7).all()


def test_a_mode_that_cannot_run(emulated: ModuleType) -> None:
    case = Case("gru", 2, 1, 3, 40)
    data = make_data(case)
    use_plan(emulated, 1, 16 << 10)
    with cuda.mode("grid"), pytest.raises(NotImplementedError, match=r"\[gru\] the grid mode must"):
        infer(case, data)
    infer(case, data)
    with (
        pytest.raises(ValueError, match=f"mode must be one of best, {', '.join(MODES)}, got other"),
        cuda.mode("other"),
    ):
        pass
    assert emulated.mode() == "best"


@pytest.mark.parametrize("failing", ["launch", "zero"])
def test_a_lost_device(emulated: ModuleType, failing: str) -> None:
    with cuda.mode("grid"):
        emulated.fail_next_call(failing)
        with pytest.raises(RuntimeError, match=rf"\[lstm\] {failing} must succeed"):
            call()
        call()
    emulated.fail_next_call("synchronize")
    with pytest.raises(RuntimeError, match="synchronize must succeed"):
        cuda.check(put(np.zeros(1)))


@pytest.mark.parametrize("mode", GRIDS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_block_that_never_comes(
    emulated: ModuleType, schedule: tuple[str, int], mode: str
) -> None:
    """The others give up, and the next call names the kernel; the device is lost for good."""
    data = make_data(Case("lstm", 4, 2, 5, 160))  # groups of several blocks
    params, dy = put(data.params), put(data.dy)
    rule = (
        r"all arrive at a barrier, got grid_{}<lstm, float32>, where some did not: .* new process"
    )
    for direction, after in itertools.product(("forward", "backward"), (0, 7)):
        use_plan(emulated, 16)  # and a device that works
        emulated.use_schedule(*schedule)
        with cuda.mode(mode):
            y, _, tape = functional.forward("lstm", put(data.x), params)
            cuda.check(y)
            emulated.lose_arrival(after)
            if direction == "forward":
                functional.infer("lstm", put(data.x), params)
            else:
                functional.backward("lstm", params, tape, dy)
        for wait in (lambda: cuda.check(dy), call, lambda: cuda.check(dy)):
            with pytest.raises(RuntimeError, match=rule.format(direction)):
                wait()
    emulated.lose_arrival(-1)
    use_plan(emulated, 16)
    call()


def test_no_memory(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(*_: Any, **__: Any) -> Any:
        raise MemoryError("out of memory")

    monkeypatch.setattr(fake_gpu, "empty", empty)
    with pytest.raises(MemoryError, match=r"\[lstm\] memory .* got none for shape \(4, 3, 6\)"):
        call()


def test_a_tape_of_another_call(emulated: ModuleType) -> None:
    case = Case("gru", 3, 2, 4, 5)
    data = make_data(case)
    params = put(data.params)
    y, _, tape = functional.forward("gru", put(data.x), params)
    with pytest.raises(ValueError, match="tape saved must have shape"):
        functional.backward("gru", params, replace(tape, arrays=(*tape.arrays[:2], y)), y)
    with pytest.raises(ValueError, match="a tape must hold 3 arrays, got 2"):
        functional.backward("gru", params, replace(tape, arrays=tape.arrays[:2]), y)
    with pytest.raises(ValueError, match=r"dy must have shape \(3, 2, 5\)"):
        functional.backward("gru", params, tape, y[:2])
    with pytest.raises(TypeError, match="dy must be an array on a GPU"):
        functional.backward("gru", params, tape, data.dy)


def test_the_engine_has_the_dtypes_that_are_said_of_it(emulated: ModuleType) -> None:
    for dtype in _dtypes.OF_ENGINE["cuda"]:
        assert emulated.Stack("lstm", dtype, 1, 1, 2, 3, True).parameters
    with pytest.raises(TypeError, match=r"\[lstm\] dtype must be"):
        emulated.Stack("lstm", "int32", 1, 1, 2, 3, True)


# ---- where there is no GPU -----------------------------------------------------------------------


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build with a CUDA engine on a machine without a driver."""

    class Engine:
        @staticmethod
        def why_none() -> str:
            return "cudaGetDeviceCount: cudaErrorInsufficientDriver"

        @staticmethod
        def device_count() -> int:
            return 0

    monkeypatch.setattr(cuda._native, "engine", Engine)


def test_without_a_driver(nothing: None) -> None:
    assert not cuda.is_available()
    assert cuda.device_count() == 0
    assert cuda.devices() == []
    assert "InsufficientDriver" in cuda.why_not_available()
    assert "InsufficientDriver" in fastrnn.build_info()["cuda"]
    for make in (fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN, fastrnn.LSTMCell):
        with pytest.raises(RuntimeError, match=r"a GPU must be available, got none: cudaGetDevice"):
            make(3, 4, device="cuda")


def test_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda._native, "engine", None)
    monkeypatch.setattr(cuda._native, "_missing", "this build has no CUDA engine")
    assert not cuda.is_available()
    assert cuda.device_count() == 0
    with pytest.raises(RuntimeError, match=r"\[lstm\] a GPU .* this build has no CUDA engine"):
        fastrnn.LSTM(3, 4, device="cuda")
    with pytest.raises(RuntimeError, match=r"\[cuda\] a GPU"), cuda.mode("grid"):
        pass


def test_without_optional_packages(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "array_api_compat.cupy", raising=False)
    with pytest.raises(RuntimeError, match=r"need CuPy, .* pip install fastrnn\[cuda\]"):
        fastrnn.LSTM(3, 4, device="cuda")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match="bfloat16 needs ml_dtypes"):
        fastrnn.LSTM(3, 4, device="cuda", dtype="bfloat16")
    monkeypatch.setitem(sys.modules, "array_api_compat", None)
    with pytest.raises(RuntimeError, match=r"need array-api-compat, .* fastrnn\[cuda\]"):
        call()


def test_plans_are_those_of_the_table(emulated: ModuleType) -> None:
    """docs/cuda-plans.txt: what the model's numbers choose on a card of each architecture."""
    sys.path.insert(0, str(ROOT / "tools"))
    import cuda_resources

    table = (ROOT / "docs" / "cuda-plans.txt").read_text(encoding="utf-8").splitlines()
    assert list(cuda_resources.plans_table(emulated)) == table


def test_costs_are_those_of_the_card(emulated: ModuleType) -> None:
    """By compute capability, or the next lower one that costs are known of."""

    def plan_of(architecture: int, dtype: str = "float16") -> dict[str, Any]:
        emulated.use_device(132, 227 << 10, True, architecture=architecture)
        stack = emulated.Stack("lstm", dtype, 1, 1, 512, 512, True)
        return stack.plan(256, 64, 0, False)

    hopper = plan_of(90)
    assert plan_of(80) != hopper
    assert plan_of(87) == plan_of(86) != plan_of(80)
    assert plan_of(121) == plan_of(120)
    assert plan_of(75)["model_microseconds"] > hopper["model_microseconds"]


def test_every_row_of_costs_is_complete() -> None:
    """A number for each column, none of them zero, by ascending capability."""
    header = (ROOT / "csrc" / "cuda" / "costs.h").read_text(encoding="utf-8")
    struct, _, table = header.partition("struct Costs {")[2].partition("constexpr Costs kCosts[]")
    columns = re.findall(r"^  (?:int|double) \w+;", struct, re.MULTILINE)
    rows = [tuple(map(float, row.split(","))) for row in re.findall(r"^    {(.*?)}", table, re.M)]
    assert [row[0] for row in rows] == [75, 80, 86, 89, 90, 100, 120]
    for row in rows:
        assert len(row) == len(columns) == 7
        assert all(value > 0 for value in row)
