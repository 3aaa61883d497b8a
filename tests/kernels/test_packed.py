"""Packed rows: a tape of those that run, and calls whose arrays are packed, to the bits of padded
ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from apart import in_new_process
from cases import Case, cells, flat_state, make_data
from fastrnn import _native, functional
from fastrnn._engine import BACKWARD, FORWARD, Call
from test_bits import assert_same_bits, everything

pytestmark = pytest.mark.usefixtures("large_machine")

f32 = np.float32
RECOMPUTE = (0, 1, 3, 7, 5000)


def cases_of(cell: str) -> list[Case]:
    """Lengths of every kind: zeros, one row, equal ones; few rows for long, many at first."""
    return [
        Case(cell, 11, 7, 9, 40, D=2, lengths=True),
        Case(cell, 10, 9, 8, 17, "float64", D=2, L=3, lengths=True, dropout=True),
        Case(cell, 40, 60, 5, 33, L=2, lengths=True, state=False),
        Case(cell, 30, 1, 5, 18, D=2, L=2, lengths=True),
        Case(cell, 300, 33, 6, 24, D=2, L=2, lengths=True, batch_first=True),
        Case(cell, 11, 7, 9, 40, D=2, L=2, lengths=True, recurrent="gates"),
        Case(cell, 1, 5, 4, 16, lengths=True),
        Case(cell, 5, 0, 3, 6, L=2, lengths=True),
    ]


PROJECTED = [replace(case, P=case.H // 2 + 1) for case in cases_of("lstm")]
ALL = [case for cell in cells() for case in cases_of(cell)] + PROJECTED
STEPS = [
    replace(case, resets=resets, holds=holds, repeat_held=holds)
    for case in cases_of("lstm") + cases_of("gru")[:2] + PROJECTED[:2]
    for resets, holds in ((True, False), (False, True), (True, True))
]


def data_of(case: Case, lengths: Any = None) -> Any:
    data = make_data(case)
    if lengths is not None:
        data.options["lengths"] = lengths
    elif case.T == 300:  # as text has them: one long row
        data.options["lengths"] = np.minimum(300, 3 + 297 // np.arange(1, case.B + 1) ** 2)
    return data


def run_with(case: Case, data: Any, whole: bool, recompute: int) -> list[np.ndarray]:
    """Results of a call whose tape is whole, or may be packed."""
    names = list(data.params)
    packed = functional.pack(case.cell, data.params)
    given = {k: v for k, v in data.options.items() if k != "dropout_masks"}
    masks = data.options.get("dropout_masks")
    call = Call(
        data.x,
        data.state,
        **given,
        masks=masks,
        kind=FORWARD,
        recompute=recompute,
        whole_tape=whole,
    )
    y, final, tape = packed.native.run(call)
    back = call._replace(
        y=y, kind=BACKWARD, tape=tape, dy=data.dy, dstate=data.dstate, want_dx=True,
        want_parameters=True, whole_tape=False,
    )  # fmt: skip
    dx, dstate, grads = packed.native.run(back)
    assert len(grads) == len(names)
    assert all(
        a.ndim == (rank if whole else rank - 1) for a, rank in zip(tape, (4, 6, 6), strict=True)
    )
    return [y, *flat_state(final), dx, *flat_state(dstate), *grads]


@pytest.mark.parametrize("case", ALL + STEPS, ids=lambda case: case.id)
def test_a_packed_tape_changes_no_bit(case: Case, level: str) -> None:
    data = data_of(case)
    _native.engine.set_num_threads(1)
    wanted = run_with(case, data, True, 0)
    for threads, recompute in zip((1, 2, 3, 4, 2), RECOMPUTE, strict=True):
        _native.engine.set_num_threads(threads)
        assert_same_bits(run_with(case, data, False, recompute), wanted)
        assert_same_bits(run_with(case, data, True, recompute), wanted)


def test_the_tape_has_the_rows_that_run() -> None:
    case = Case("lstm", 50, 6, 4, 8, D=2, L=3, lengths=True)
    lengths = np.array([50, 3, 0, 7, 7, 1])
    data, n = data_of(case, lengths), int(lengths.sum())
    for k, kept in ((0, n), (1, n), (4, 13 + 1 + 2 + 2 + 1), (100, 5)):
        options = data.options | {"recompute": k}
        tape = functional.forward("lstm", data.x, data.params, data.state, **options)[2]
        inner, states, saved = tape.arrays
        assert inner.shape == (2, n, 16)
        assert states.shape == (1, 3, 2, kept, 8)
        assert saved.shape == (3, 2, 0 if k else n, 5 - 1, 8)
    whole = functional.forward("lstm", data.x, data.params, data.state)[2]
    assert [a.shape for a in whole.arrays] == [
        (2, 50, 6, 16),
        (1, 3, 2, 50, 6, 8),
        (3, 2, 50, 6, 4, 8),
    ]


def pack_rows(a: np.ndarray, case: Case, lengths: np.ndarray) -> np.ndarray:
    """(T, B, n) to the rows that run, step by step."""
    a = a.transpose(1, 0, 2) if case.batch_first else a
    return a[np.arange(case.T)[:, None] < lengths]


def packed_call(case: Case, data: Any, **options: Any) -> tuple[list[np.ndarray], np.ndarray]:
    """The results of the same call with packed arrays; of padded ones y and dx are packed."""
    lengths = data.options["lengths"]
    rows = replace(data)
    rows.x, rows.dy = (pack_rows(a, case, lengths) for a in (data.x, data.dy))
    steps = np.arange(int(lengths.max(initial=0)))
    sizes = (steps[:, None] < lengths).sum(axis=1)
    rows.options = {"batch_sizes": sizes}
    if case.recurrent:
        rows.options["recurrent_masks"] = data.options["recurrent_masks"]
    if case.dropout:
        masks = data.options["dropout_masks"]
        rows.options["dropout_masks"] = [pack_rows(m, case, lengths) for m in masks]
    return everything(case, rows, **options), lengths


def sorted_data(case: Case) -> Any:
    data = data_of(case)
    lengths = np.maximum(1, np.sort(data.options["lengths"])[::-1])
    data.options["lengths"] = lengths
    return data


def padded_results(case: Case, data: Any) -> list[np.ndarray]:
    states = 2 if case.cell == "lstm" else 1
    results = everything(case, data)
    for i in (0, 1 + states):  # y and dx
        results[i] = pack_rows(results[i], case, data.options["lengths"])
    return results


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_packed_calls_have_the_bits_of_padded_ones(case: Case, level: str) -> None:
    data = sorted_data(case)
    wanted = padded_results(case, data)
    for threads, recompute in zip((1, 2, 3, 4, 2), RECOMPUTE, strict=True):
        _native.engine.set_num_threads(threads)
        results, _ = packed_call(case, data, recompute=recompute)
        assert_same_bits(results, wanted)


@pytest.mark.parametrize("cell", cells())
def test_without_a_tape_and_into_an_array(cell: str, level: str) -> None:
    case = Case(cell, 12, 9, 5, 21, D=2, L=2, lengths=True)
    data = sorted_data(case)
    lengths = data.options["lengths"]
    x = pack_rows(data.x, case, lengths)
    sizes = [int((lengths > t).sum()) for t in range(int(lengths.max()))]
    wanted = padded_results(case, data)[: 2 + (cell == "lstm")]
    wide = np.zeros((len(x), 3 * case.I), f32)[:, :: 3 if case.I > 1 else 1]
    wide[:] = x  # a column stride, which is copied, and a row stride, which is not
    for given in (x, wide, np.repeat(x, 2, axis=0)[::2]):
        out = np.full((len(x), 2 * case.H), np.nan, f32)
        y, state = functional.infer(
            cell, given, data.params, data.state, batch_sizes=sizes, out=out
        )
        assert y is out
        assert_same_bits([y, *flat_state(state)], wanted)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"batch_sizes": [3, 2, 2]}, ValueError, r"batch_sizes must add up to the 8 rows of x, got 7"),
    ({"batch_sizes": [3, 2, 2, 2]}, ValueError, "got 2 at step 3"),
    ({"batch_sizes": [2, 3, 3]}, ValueError, "batch_sizes must be at least 1, never rise.*step 1"),
    ({"batch_sizes": [8, 0]}, ValueError, "got 0 at step 1"),
    ({"batch_sizes": [-1, 9]}, ValueError, "got -1 at step 0"),
    ({"batch_sizes": np.array([2**64 - 1], np.uint64)}, ValueError, f"got {2**64 - 1} at step 0"),
    ({"batch_sizes": []}, ValueError, "add up to the 8 rows of x, got 0"),
    ({"batch_sizes": [[8]]}, ValueError, r"batch_sizes must have shape \(0,\)"),
    ({"batch_sizes": [4.0, 4.0]}, TypeError, "batch_sizes must be integers"),
    ({"batch_sizes": [4, [4]]}, TypeError, "batch_sizes must be integers, got nested lists"),
    ({"x": np.zeros((2, 4, 3), f32)}, ValueError, r"x must have shape \(rows, I\)"),
    ({"x": np.zeros((8, 4), f32)}, ValueError, "x must have 3 features"),
    ({"x": np.zeros((8, 3))}, TypeError, "x must be float32"),
    ({"state": np.zeros((1, 8, 5), f32)}, ValueError, r"h0 must have shape \(1, 4, 5\)"),
    ({"lengths": [2] * 4}, ValueError, "lengths must not stand beside batch_sizes"),
    ({"resets": np.zeros(8, bool)}, NotImplementedError, "resets have no kernel beside batch_siz"),
    ({"holds": np.zeros(8, bool)}, NotImplementedError, "holds have no kernel beside batch_sizes"),
    ({"out": np.zeros((7, 5), f32)}, ValueError, r"y must have shape \(8, 5\)"),
    ({"recompute": -1}, ValueError, "recompute"),
]


@pytest.mark.parametrize(("options", "error", "text"), BAD, ids=lambda v: "")
def test_what_is_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    params = dict(fastrnn.GRU(3, 5).parameters)
    options = {"x": np.zeros((8, 3), f32), "batch_sizes": [4, 4]} | options
    with pytest.raises(error, match=r"^\[gru\] .*" + text):
        functional.forward("gru", options.pop("x"), params, **options)


def test_a_tape_of_other_lengths_is_refused() -> None:
    layer = fastrnn.LSTM(3, 5, seed=0)
    x = np.zeros((6, 4, 3), f32)
    y, _, tape = layer.forward(x, lengths=[6, 2, 3, 1])
    for lengths in (np.array([6, 2, 3, 2]), None):
        with pytest.raises(ValueError, match=r"tape inner must have shape"):
            layer.backward(replace(tape, lengths=lengths), np.ones_like(y))


# ---- memory --------------------------------------------------------------------------------------


def peak_of(call: Callable[[], Any]) -> int:
    """Bytes of the process beyond what it has before."""

    def resident(field: str) -> int:
        found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
        assert found
        return int(found[1]) << 10

    Path("/proc/self/clear_refs").write_text("5")
    start = resident("VmRSS")
    call()
    return resident("VmHWM") - start


def step_of(T: int, B: int, I: int, H: int, packed: bool) -> int:
    """The peak of a training step: one row of T steps, the others of two."""
    rng = np.random.default_rng(0)
    layer = fastrnn.LSTM(I, H, seed=0)
    params = dict(layer.parameters)
    sizes = np.ones(T, np.int64)
    sizes[:2] = B
    lengths = np.full(B, 2)
    lengths[0] = T
    shape = (int(sizes.sum()), I) if packed else (T, B, I)
    x = rng.standard_normal(shape).astype(f32)
    options: Any = {"batch_sizes": sizes} if packed else {"lengths": lengths}
    dy = np.ones((*shape[:-1], H), f32)
    functional.forward("lstm", x[:1, ..., :], params)

    def step() -> None:
        tape = functional.forward("lstm", x, params, **options)[2]
        functional.backward("lstm", params, tape, dy)

    return peak_of(step)


@pytest.mark.parametrize(
    ("T", "B", "I", "H", "packed", "most"),
    [
        (600, 256, 64, 128, True, 24),
        (1000, 2000, 16, 16, True, 24),
        (400, 200, 8, 32, False, 24),  # y and dx are padded: 12.8 MB
    ],
)
def test_memory_goes_with_the_rows_that_run(
    T: int, B: int, I: int, H: int, packed: bool, most: int
) -> None:
    """A tape of all steps and rows would take 393, 768 and 62 MB."""
    assert in_new_process(step_of, T, B, I, H, packed) < most * 1e6
