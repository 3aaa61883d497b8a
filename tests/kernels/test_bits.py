"""Results that must be the same to the last bit: design of the engine, held by tests."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fastrnn
import tiers
from cases import (
    CHOSEN,
    CLIPPING,
    Case,
    Data,
    cells,
    chosen_cases,
    flat_state,
    kernel_cases,
    make_data,
    masked_cases,
    projected_cases,
)
from fastrnn import _native, functional
from fastrnn._engine import Call

pytestmark = pytest.mark.usefixtures("large_machine")

DTYPES = ["float32", "float64"]

CASES = [
    Case("lstm", 13, 9, 20, 35, D=2, L=2, lengths=True, resets=True),
    Case("gru", 13, 9, 20, 35, D=2, L=2, lengths=True, dropout=True),
    Case("rnn_tanh", 13, 9, 20, 70, D=2, L=2, resets=True),
    *(Case(cell, 13, 9, 20, 35, D=2, L=2, lengths=True) for cell in CHOSEN[-2:]),
    Case("lstm", 6, 1, 40, 300),
    Case("gru", 6, 1, 40, 300, "float64"),
    Case("rnn_relu", 6, 1, 40, 300),
    Case("lstm", 40, 32, 16, 64),
    Case("lstm", 400, 1, 40, 32),
    Case("gru", 300, 1, 20, 40, "float64", D=2, L=2, resets=True),
    Case("gru_reset_before", 13, 9, 20, 35, D=2, L=2, lengths=True, resets=True, dropout=True),
    Case("gru_reset_before", 6, 1, 40, 300),
    Case("gru_reset_before", 400, 1, 40, 32, "float64"),
    Case("lstm", 13, 9, 20, 35, D=2, L=2, lengths=True, resets=True, dropout=True, P=50),
    Case("lstm", 6, 1, 40, 300, P=64),
    Case("lstm", 400, 1, 40, 32, P=16),
    Case("lstm", 13, 9, 20, 35, D=2, L=2, lengths=True, resets=True, recurrent="shared"),
    Case("gru", 13, 9, 20, 35, D=2, L=2, lengths=True, dropout=True, recurrent="gates"),
    Case("gru_reset_before", 13, 9, 20, 35, D=2, lengths=True, resets=True, recurrent="gates"),
    Case("lstm", 13, 9, 20, 35, D=2, lengths=True, recurrent="gates", P=50),
    Case("gru", 6, 1, 40, 300, recurrent="gates"),
    Case("gru_reset_before", 6, 1, 40, 300, recurrent="shared"),
    Case("lstm", 400, 1, 40, 32, recurrent="gates"),
    # Odd numbers of values and of rows, where products multiply pairs.
    Case("lstm", 13, 9, 20, 35, "bfloat16", D=2, L=2, lengths=True, resets=True),
    Case("gru", 6, 1, 41, 300, "bfloat16"),
    Case("gru_reset_before", 13, 9, 21, 35, "bfloat16", D=2, lengths=True, recurrent="gates"),
    Case("lstm", 13, 9, 20, 35, "bfloat16", D=2, lengths=True, recurrent="gates", P=51),
    Case("lstm", 400, 1, 40, 33, "bfloat16"),
    Case("gru", 13, 9, 20, 35, "float16", D=2, L=2, lengths=True, dropout=True),
]


def everything(case: Case, data: Any, **options: Any) -> list[np.ndarray]:
    options |= data.options
    y, state, tape = functional.forward(case.cell, data.x, data.params, data.state, **options)
    dx, dstate, grads = functional.backward(case.cell, data.params, tape, data.dy, data.dstate)
    return [y, *flat_state(state), dx, *flat_state(dstate), *grads.values()]


def assert_same_bits(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for i, (p, q) in enumerate(zip(a, b, strict=True)):
        assert p.shape == q.shape
        assert p.tobytes() == q.tobytes(), f"array {i} differs by {np.abs(p - q).max()}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_threads_and_repeats(case: Case, level: str) -> None:
    data = make_data(case)
    _native.engine.set_num_threads(1)
    alone = everything(case, data)
    for threads in (1, 2, 3, 4, 7):
        _native.engine.set_num_threads(threads)
        assert_same_bits(everything(case, data), alone)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_without_a_tape(case: Case, level: str) -> None:
    data = make_data(case)
    y, state, _ = functional.forward(case.cell, data.x, data.params, data.state, **data.options)
    y2, state2 = functional.infer(case.cell, data.x, data.params, data.state, **data.options)
    assert_same_bits([y2, *flat_state(state2)], [y, *flat_state(state)])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_backward_twice(case: Case, level: str) -> None:
    data = make_data(case)
    _, _, tape = functional.forward(case.cell, data.x, data.params, data.state, **data.options)
    before = [a.tobytes() for a in (tape.y, *tape.arrays)]
    runs = []
    for _ in range(2):
        dx, ds, grads = functional.backward(case.cell, data.params, tape, data.dy, data.dstate)
        runs.append([dx, *flat_state(ds), *grads.values()])
    assert_same_bits(*runs)
    assert [a.tobytes() for a in (tape.y, *tape.arrays)] == before, "backward wrote to the tape"


@pytest.mark.parametrize("cell", cells())
def test_rows_are_the_same_in_any_batch(cell: str, level: str) -> None:
    """In a large one each step is a chunk of backward's, in a small one all of them are one."""
    case = Case(cell, 5, 300, 8, 130)
    data = make_data(case)
    states = len(flat_state(data.state))
    few = make_data(replace(case, B=3))
    few.x, few.dy = data.x[:, :3], data.dy[:, :3]
    few.params = data.params
    few.state, few.dstate = (
        tuple(s[:, :3] for s in state) if isinstance(state, tuple) else state[:, :3]
        for state in (data.state, data.dstate)
    )
    many, alone = everything(case, data), everything(case, few)
    of_rows = 2 + 2 * states  # y, states, dx, and gradients of the initial states
    assert_same_bits([a[:, :3] for a in many[:of_rows]], alone[:of_rows])


# Backward makes these anew in several windows, whatever the size of the caches.
LONG = [
    *(Case(cell, 300, 9, 40, 70, lengths=True, resets=True, D=2) for cell in cells()),
    Case("lstm", 700, 8, 6, 40, "float64", D=2, L=2, lengths=True, dropout=True),
    Case("gru", 300, 12, 6, 70, L=3, batch_first=True, resets=True, dropout=True, state=False),
    Case("lstm", 400, 1, 20, 300, D=2, resets=True),
    Case("lstm", 300, 9, 40, 70, lengths=True, resets=True, D=2, P=20),
    Case("gru", 300, 9, 40, 70, lengths=True, resets=True, D=2, recurrent="gates"),
    Case("lstm", 300, 9, 40, 71, "bfloat16", lengths=True, resets=True, D=2, P=21),
    Case("gru", 300, 9, 41, 70, "bfloat16", lengths=True, resets=True, D=2),
    Case("lstm", 3000, 1, 20, 30, resets=True),
]


SHORTEST = [LONG[0], LONG[-1]]


def test_calls_are_cut_in_every_way() -> None:
    """What these tests are for: rows, units, and one who takes the steps while others help."""
    ways = set()
    _native.engine.set_num_threads(2)
    for case in (*CASES, *LONG):
        layer = fastrnn.Recurrent(case.cell, case.I, case.H, dtype=case.dtype)
        for call in ("forward", "backward"):
            plan = fastrnn.explain(layer, (case.T, case.B, case.I))[call]
            ways.add((plan["row_groups"], plan["unit_members"], plan["recurrence_threads"]))
    assert {(2, 1, 1), (1, 2, 2), (1, 2, 1)} <= ways


@pytest.mark.parametrize("case", tiers.thin(LONG, SHORTEST), ids=lambda case: case.id)
def test_recompute(case: Case, level: str) -> None:
    data = make_data(case)
    wanted = everything(case, data)
    for recompute in (True, 7, 64, 5000):
        assert_same_bits(everything(case, data, recompute=recompute), wanted)
    _native.engine.set_num_threads(3)
    assert_same_bits(everything(case, data, recompute=16), wanted)


@pytest.mark.parametrize("recompute", [True, 2, 3])
@pytest.mark.parametrize("cell", [*cells(), *CHOSEN, *CLIPPING])
def test_recompute_of_short_sequences(cell: str, recompute: int, level: str) -> None:
    for case in (*kernel_cases(), *chosen_cases(), *projected_cases(), *masked_cases()):
        if case.cell == cell:
            data = make_data(case)
            assert_same_bits(everything(case, data, recompute=recompute), everything(case, data))


# Units for every way that the sums of one row are cut in pieces, and that panels are paired.
@pytest.mark.parametrize("H", [7, 16, 37, 64, 150])
@pytest.mark.parametrize("dtype", tiers.thin(["float32", "bfloat16", "float16"], ["float32"]))
@pytest.mark.parametrize("cell", cells())
def test_row_alone_or_in_a_batch(cell: str, dtype: str, H: int, level: str) -> None:
    case = Case(cell, 9, 11, 21, H, dtype, D=2, L=2, lengths=True, resets=True)
    data = make_data(case)
    together = everything(case, data)
    n = len(flat_state(data.state))
    for b in range(case.B):
        row = slice(b, b + 1)
        single = everything(case, _alone(data, row))
        wanted = [a[:, row] for a in together[: 2 + 2 * n]]  # y, states, dx, dstates
        assert_same_bits(single[: 2 + 2 * n], wanted)


# Widths whose sums are cut in four, in two and not at all, and panels in pairs.
@pytest.mark.parametrize("H", [7, 16, 37, 150])
@pytest.mark.parametrize("cell", [*cells(), *CHOSEN])
def test_masks_of_ones_change_no_bit(cell: str, H: int, level: str) -> None:
    for T, B, P in ((6, 1, 0), (6, 11, 0), (1, 5, 0), (6, 1, H // 2 + 1), (6, 11, H // 2 + 1)):
        if P and cell not in ("lstm", "lstm_peephole"):
            continue
        case = Case(cell, T, B, 21, H, D=2, L=2, lengths=True, resets=True, P=P)
        data = make_data(case)
        wanted = everything(case, data)
        ones = np.ones((4, B, case.outputs), np.float32)
        assert_same_bits(everything(case, data, recurrent_masks=ones), wanted)
        gates = _native.engine.Weights(cell, "float32", 1, 2, 1, H, True).parameters[0][1][0] // H
        ones = np.ones((4, gates, B, case.outputs), np.float32)
        masked = everything(case, data, recurrent_masks=ones)
        if gates == 1:
            assert_same_bits(masked, wanted)
        # What goes back to h is a sum of one product of each gate: other bits, a step before.
        n = len(flat_state(data.state))
        assert_same_bits(masked[: 1 + n], wanted[: 1 + n])
        if T == 1:
            del masked[2 + n], wanted[2 + n]  # dh0
            assert_same_bits(masked, wanted)


@pytest.mark.parametrize("masks", ["shared", "gates"])
@pytest.mark.parametrize("cell", cells())
def test_masks_belong_to_rows(cell: str, masks: str, level: str) -> None:
    """By their place in the batch, whatever order its lengths have them run in."""
    case = Case(cell, 9, 7, 21, 37, D=2, L=2, lengths=True, holds=True, recurrent=masks)
    data = make_data(case)
    together = everything(case, data)
    n = len(flat_state(data.state))
    for b in range(case.B):
        row = slice(b, b + 1)
        single = everything(case, _alone(data, row))
        wanted = [a[:, row] for a in together[: 2 + 2 * n]]
        assert_same_bits(single[: 2 + 2 * n], wanted)


def test_layouts_of_masks_change_no_bit(level: str) -> None:
    """Gaps, columns apart and one mask seen by all rows; one seen by all gates is still theirs."""
    case = Case("gru", 6, 5, 7, 33, D=2, recurrent="gates")
    data = make_data(case)
    given = data.options.pop("recurrent_masks")
    wanted = everything(case, data, recurrent_masks=given)
    for spread in (np.asfortranarray, _spaced, _rows_apart):
        assert_same_bits(everything(case, data, recurrent_masks=spread(given)), wanted)
    for axis in (0, 1, 2):
        part = given.take([1], axis)
        seen = np.broadcast_to(part, given.shape)
        copied = np.ascontiguousarray(seen)
        wanted = everything(case, data, recurrent_masks=copied)
        assert_same_bits(everything(case, data, recurrent_masks=seen), wanted)


@pytest.mark.parametrize("recompute", [False, 3])
@pytest.mark.parametrize("repeat_held", [False, True])
@pytest.mark.parametrize("cell", cells())
def test_held_rows_are_rows_of_fewer_steps(
    cell: str, repeat_held: bool, recompute: int, level: str
) -> None:
    """A row that is held gives the bits of its running steps alone, whatever x has between."""
    case = Case(cell, 12, 7, 21, 23, D=2, L=2, lengths=True, resets=True, holds=True)
    data = make_data(replace(case, repeat_held=repeat_held))
    running = ~data.options["holds"]
    running &= np.arange(case.T)[:, None] < data.options["lengths"]
    data.x[~running] = np.nan
    if not repeat_held:
        data.dy[~running] = np.nan
    together = everything(case, data, recompute=recompute)
    n, H = len(flat_state(data.state)), case.H
    assert not together[1 + n][~running].any(), "dx"
    for b in range(case.B):
        times, row = np.flatnonzero(running[:, b]), slice(b, b + 1)
        own, dy = make_data(case), np.zeros((case.T, 2 * H), np.float32)
        shown = together[0][:, b]
        for d, order in enumerate((range(case.T), range(case.T - 1, -1, -1))):
            of_d, last = slice(d * H, d * H + H), None
            for t in order:
                within = t < data.options["lengths"][b]
                last = t if running[t, b] else last
                if running[t, b] or (repeat_held and within and last is not None):
                    assert shown[t, of_d].tobytes() == shown[last, of_d].tobytes()
                else:
                    assert not shown[t, of_d].any()
        if repeat_held:
            continue  # the order of the sums of dy is the engine's own: see test_kernels
        dy[times] = data.dy[times, b]
        own.x, own.dy = data.x[times, row], dy[times, None]
        own.state, own.dstate = _rows(data.state, row), _rows(data.dstate, row)
        del own.options["holds"], own.options["lengths"]
        own.options["resets"] = _moved_resets(data.options["resets"][:, b], running[:, b])[:, None]
        single = everything(case, own, recompute=recompute)
        wanted = [a[:, row] for a in together[: 2 + 2 * n]]
        wanted[0], wanted[1 + n] = wanted[0][times], wanted[1 + n][times]
        assert_same_bits(single[: 2 + 2 * n], wanted)


def _moved_resets(resets: np.ndarray, running: np.ndarray) -> np.ndarray:
    """The resets of the steps that run: of a held step, the next one's."""
    moved, pending = [], False
    for reset, runs in zip(resets, running, strict=True):
        pending |= bool(reset)
        if runs:
            moved.append(pending)
            pending = False
    return np.array(moved, bool)


@pytest.mark.parametrize("cell", cells())
def test_padding_changes_nothing(cell: str, level: str) -> None:
    """A batch of ragged rows gives what a longer padded one does."""
    case = Case(cell, 8, 5, 6, 19, lengths=True)
    data = make_data(case)
    first = everything(case, data)
    data.x = np.concatenate([data.x, np.full_like(data.x[:3], np.nan)])
    data.dy = np.concatenate([data.dy, np.full_like(data.dy[:3], np.nan)])
    second = everything(case, data)
    n = len(flat_state(data.state))
    second[0], second[1 + n] = second[0][:8], second[1 + n][:8]
    assert_same_bits(second, first)


@pytest.mark.parametrize("recurrent", ["", "shared", "gates"])
@pytest.mark.parametrize("dtype", tiers.thin(["float32", "float64", "bfloat16"], DTYPES))
@pytest.mark.parametrize("cell", cells())
def test_step_by_step(cell: str, dtype: str, recurrent: str, level: str) -> None:
    """y, states, dx and dh0 of a sequence fed whole are those of its steps fed one by one. (In 16
    bits that of y and states: the gradient of h is rounded where it leaves a call.)
    """
    case = Case(cell, 7, 6, 10, 23, dtype, recurrent=recurrent)
    data = make_data(case)
    whole = everything(case, data)
    state, outputs, tapes = data.state, [], []
    for t in range(case.T):
        x = data.x[t : t + 1]
        y, state, tape = functional.forward(cell, x, data.params, state, **data.options)
        outputs.append(y)
        tapes.append(tape)
    n = len(flat_state(data.state))
    assert_same_bits([np.concatenate(outputs), *flat_state(state)], whole[: 1 + n])
    if dtype not in DTYPES:
        return
    dstate, dxs = data.dstate, []
    for t in reversed(range(case.T)):
        dx, dstate, _ = functional.backward(cell, data.params, tapes[t], data.dy[t : t + 1], dstate)
        dxs.append(dx)
    back = [np.concatenate(dxs[::-1]), *flat_state(dstate)]
    assert_same_bits(back, whole[1 + n : 2 + 2 * n])


# Of the cells whose functions are chosen, those that have no others in reverse.
ONE_DIRECTION = [
    cell for cell in (*CHOSEN, *CLIPPING) if not cell.startswith(("rnn(softplus", "lstm("))
]
# Units for every way that sums are cut, whole vectors and edges, narrower than a strip and wider.
STEPS = [(1, 1), (3, 7), (16, 16), (21, 37), (64, 64), (70, 150)]


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16", "float16"])
@pytest.mark.parametrize("cell", [*cells(), *ONE_DIRECTION])
def test_step_without_packing(cell: str, dtype: str, level: str) -> None:
    """A call for one step reads the parameters as they lie, to the bits of packed weights."""
    engine = _native.engine
    for n, ((I, H), (L, D)) in enumerate(itertools.product(STEPS, ((1, 1), (2, 2)))):
        B = (1, 8, 2, 1, 5)[n % 5]
        bias, batch_first, state = n % 3 > 0, n % 4 < 2, n % 5 < 4
        case = Case(cell, 1, B, I, H, dtype, D, L, bias, batch_first, state=state)
        data = make_data(case)
        call = Call(data.x, data.state, batch_first=batch_first)
        params = tuple(data.params.values())
        y, final = engine.pack_new(cell, L, D, params, True, False).run(call)
        wanted = [y, *flat_state(final)]
        for spread in (np.asarray, _rows_apart, np.asfortranarray):
            y, final = engine.run_new(cell, L, D, tuple(map(spread, params)), call)
            assert_same_bits([y, *flat_state(final)], wanted)
        if L == D == 1 and state:
            x, before = data.x.reshape(B, I), tuple(s[0] for s in flat_state(data.state))
            after = engine.step_new(cell, params, x, before if len(before) > 1 else before[0])
            assert_same_bits([s[None] for s in after], wanted[1:])


def test_step_of_weights_that_are_no_numbers(level: str) -> None:
    """Zeros of a state that is not given are multiplied too."""
    engine = _native.engine
    w_ih, w_hh = np.full((64, 4), -0.0, np.float32), np.full((64, 16), np.inf, np.float32)
    x = np.zeros((1, 1, 4), np.float32)
    call = Call(x)
    for cell in ("rnn_tanh", "lstm"):
        rows = 64 if cell == "lstm" else 16
        params = (w_ih[:rows], w_hh[:rows])
        a = engine.run_new(cell, 1, 1, params, call)
        b = engine.pack_new(cell, 1, 1, params, True, False).run(call)
        assert_same_bits([a[0], *flat_state(a[1])], [b[0], *flat_state(b[1])])
        assert np.isnan(a[0]).all()


@pytest.mark.parametrize("cell", cells())
def test_resets_are_pieces(cell: str, level: str) -> None:
    """A row with resets gives exactly what its pieces give alone, in both directions."""
    case = Case(cell, 12, 1, 5, 20, D=2)
    data = make_data(case)
    starts = [0, 4, 5, 9]
    resets = np.zeros((12, 1), bool)
    resets[starts[1:]] = True
    data.options["resets"] = resets
    y, state, tape = functional.forward(cell, data.x, data.params, data.state, resets=resets)
    dx, dstate, _ = functional.backward(cell, data.params, tape, data.dy, data.dstate)
    ends = [*starts[1:], 12]
    for begin, end in zip(starts, ends, strict=True):
        # The forward direction's state enters the first piece, the reverse direction's the last.
        enters = [begin == 0, end == 12]
        leaves = [end == 12, begin == 0]
        piece_state = _keep(data.state, enters)
        piece = functional.forward(cell, data.x[begin:end], data.params, piece_state)
        assert piece[0].tobytes() == y[begin:end].tobytes()
        back = functional.backward(
            cell, data.params, piece[2], data.dy[begin:end], _keep(data.dstate, leaves)
        )
        assert back[0].tobytes() == dx[begin:end].tobytes()
        for d in range(2):
            for whole, part in zip(flat_state(state), flat_state(piece[1]), strict=True):
                if leaves[d]:
                    assert whole[d].tobytes() == part[d].tobytes()
            for whole, part in zip(flat_state(dstate), flat_state(back[1]), strict=True):
                if enters[d]:
                    assert whole[d].tobytes() == part[d].tobytes()


def test_layout_changes_nothing(level: str) -> None:
    """batch_first, strides and read-only inputs are walked, not copied into other sums."""
    case = Case("lstm", 9, 6, 10, 33, D=2)
    data = make_data(case)
    wanted = everything(case, data)
    swapped = make_data(case)
    swapped.x = np.ascontiguousarray(data.x.swapaxes(0, 1))
    swapped.dy = np.ascontiguousarray(data.dy.swapaxes(0, 1))
    swapped.options["batch_first"] = True
    got = everything(case, swapped)
    got[0], got[3] = got[0].swapaxes(0, 1), got[3].swapaxes(0, 1)
    assert_same_bits(got, wanted)

    strided = make_data(case)
    wide = np.zeros((18, 6, 20), np.float32)
    wide[::2, :, ::2] = data.x
    strided.x = wide[::2, :, ::2]
    strided.dy = np.ascontiguousarray(data.dy[::-1])[::-1]
    strided.x.flags.writeable = strided.dy.flags.writeable = False
    for spread in (np.asfortranarray, _spaced):
        strided.params = {name: spread(a) for name, a in data.params.items()}
        assert_same_bits(everything(case, strided), wanted)


def _spaced(a: np.ndarray) -> np.ndarray:
    """The same values with gaps along each axis."""
    wide = np.zeros([2 * n for n in a.shape], a.dtype)
    wide[(slice(None, None, 2),) * a.ndim] = a
    return wide[(slice(None, None, 2),) * a.ndim]


def _rows_apart(a: np.ndarray) -> np.ndarray:
    """The same values; a matrix's rows stay contiguous."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    part = wide[..., : a.shape[-1]] if a.ndim > 1 else wide[::2]
    part[...] = a
    return part


def _rows(state: Any, row: slice) -> Any:
    return tuple(s[:, row] for s in state) if isinstance(state, tuple) else state[:, row]


# Where the batch stands in an option of a call.
_BATCH_AXES = {"lengths": 0, "resets": 1, "holds": 1, "recurrent_masks": -2}


def _alone(data: Data, row: slice) -> Data:
    """The data of one row, (T, B, I) with all states given."""
    options = dict(data.options)
    for name, axis in _BATCH_AXES.items():
        if name in options:
            options[name] = options[name].take(range(row.start, row.stop), axis)
    return Data(
        data.params,
        data.x[:, row],
        _rows(data.state, row),
        data.dy[:, row],
        _rows(data.dstate, row),
        options,
    )


def _keep(state: Any, keep: list[bool]) -> Any:
    """The state with zeros for the directions that it does not enter (or leave)."""
    kept = tuple(
        np.where(np.array(keep)[:, None, None], s, np.float32(0)) for s in flat_state(state)
    )
    return kept if isinstance(state, tuple) else kept[0]
