"""The stepwise mode from graphs, on the emulated device: a library whose products can be recorded.

A recording is the library's calls themselves there, which a replay makes, so that the host's side
and the kernels are those of a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

import fake_gpu
import on_gpu
from cases import CHOSEN, Case, cells, make_data
from fastrnn import _arrays, cuda, functional
from on_gpu import Results

STEPS = 32  # of a graph, at most
# Below, at and above one graph's steps; where each has as many, and where the last has too many.
DTYPES = ("float32", "float16", "bfloat16", "float64")
LENGTHS = (20, 32, 33, 64, 70)


@pytest.fixture
def recorded(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A library whose products can be recorded, and the streams that it was put on."""
    streams: list[int] = []

    @contextmanager
    def on_stream(self: _arrays.Library, stream: int, array: Any) -> Iterator[None]:
        streams.append(stream)
        yield

    monkeypatch.setattr(_arrays.Library, "can_be_recorded", True)
    monkeypatch.setattr(_arrays.Library, "on_stream", on_stream)
    yield streams
    emulated.refuse_recording(False)


def run(
    emulated: ModuleType, case: Case, recompute: int = 0, refuse: bool = False
) -> tuple[Results, int]:
    """A training step in stepwise mode, and how often a graph was replayed."""
    before = emulated.replays()
    emulated.refuse_recording(refuse)
    with cuda.mode("stepwise"):
        results = on_gpu.run(case, make_data(case), recompute)
    return results, emulated.replays() - before


def assert_same(got: Results, wanted: Results) -> None:
    for name, values in wanted.items():
        assert got[name].tobytes() == values.tobytes(), name


OPTIONS: list[dict[str, Any]] = [{}, {"lengths": True, "resets": True}, {"holds": True}]
CASES = [
    *(
        Case(cell, LENGTHS[i % len(LENGTHS)], 3, 4, 6, D=2, **OPTIONS[i % 3])
        for i, cell in enumerate((*cells(), *CHOSEN))
    ),
    *(Case("lstm", T, 2, 3, 5, L=2) for T in LENGTHS),
    *(Case("lstm", 40, 2, 3, 5, P=P, D=2, dtype=dtype) for P in (2, 7) for dtype in DTYPES),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_graph_changes_no_bit(emulated: ModuleType, recorded: list[int], case: Case) -> None:
    wanted, none = run(emulated, case, refuse=True)
    got, replays = run(emulated, case)
    assert_same(got, wanted)
    assert none == 0
    assert replays == 2 * case.L * -(-case.T // STEPS)
    like = fake_gpu.empty(1)
    assert set(recorded) == {_arrays.gpu_library_of(case.cell, like).stream(like)}


@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before", "rnn_tanh"])
def test_windows(emulated: ModuleType, recorded: list[int], cell: str) -> None:
    """Each window has a graph of its own, for both passes; a short one has none."""
    case = Case(cell, 150, 3, 4, 6, D=2, lengths=True)
    wanted, _ = run(emulated, case, recompute=5, refuse=True)
    got, replays = run(emulated, case, recompute=5)
    assert_same(got, wanted)
    assert replays >= 5 + 3 + 2


def test_few_steps_are_launched_one_by_one(emulated: ModuleType, recorded: list[int]) -> None:
    _, replays = run(emulated, Case("lstm", 5, 3, 4, 6))
    assert (replays, recorded) == (0, [])


def test_a_library_that_cannot_be_recorded(emulated: ModuleType) -> None:
    assert run(emulated, Case("gru", 40, 2, 3, 4))[1] == 0
    assert not _arrays.CuPy.can_be_recorded
    assert _arrays.Torch.can_be_recorded


def test_a_kernel_that_fails_in_a_graph(emulated: ModuleType, recorded: list[int]) -> None:
    case = Case("lstm", 40, 2, 3, 4)
    data = make_data(case)

    def infer() -> None:
        functional.infer(case.cell, on_gpu.put(data.x), on_gpu.put(data.params))

    with cuda.mode("stepwise"):
        infer()
        emulated.fail_next_call("zero")
        with pytest.raises(RuntimeError, match=r"\[lstm\] zero must succeed"):
            infer()
        infer()


def test_other_threads_go_on_while_the_queue_is_full(
    emulated: ModuleType, recorded: list[int]
) -> None:
    """A replay that waits does so without the interpreter's lock: a thread of Python's ends it."""
    emulated.hold_replays(True)
    thread = threading.Timer(0.02, emulated.hold_replays, (False,))
    thread.start()
    try:
        assert run(emulated, Case("lstm", 40, 2, 3, 4))[1] > 0
    finally:
        thread.join()
