"""The emulated device's streams, and calls of the engine whose work waits in them.

What runs as it comes hides memory that is given back too early and an order between two streams
that nobody asked for. In a queue (tests/streams.py) both become wrong numbers: little programs with
one mistake each show that, and in every order of streams the engine's calls must have the bits that
they have at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fake_gpu
import fastrnn
import on_gpu
import streams
from cases import Case, cells, make_data
from fastrnn import _arrays, cuda, functional
from on_gpu import MODES, Results, modes, put
from streams import ORDERS, Queue

HOME, OTHER = streams.AtOnce.stream, 8  # two streams: where tests begin, and another
ONES = np.ones(5, np.float32)


# ---- programs of an array library, right and with one mistake ------------------------------------

# Each gives ones.
Program = Callable[[Queue, bool], np.ndarray]


def after(queue: Queue, first: int, second: int) -> None:
    """What comes to the second stream runs after what the first has."""
    queue.device.wait(second, queue.device.record(first))


def doubled(queue: Queue, array: fake_gpu.Array) -> fake_gpu.Array:
    """As a kernel makes it, which has addresses and holds nothing."""
    made = fake_gpu.empty(array.shape)
    x, y = streams.borrowed(array._values), streams.borrowed(made._values)
    queue.enqueue(partial(np.add, x, x, y))
    return made


def an_order_between_streams(queue: Queue, mistaken: bool) -> np.ndarray:
    x = fake_gpu.asarray(ONES / 2)
    if not mistaken:
        after(queue, HOME, OTHER)
    with queue.on(OTHER):
        return doubled(queue, x).get()


def memory_of_a_launch(queue: Queue, mistaken: bool) -> np.ndarray:
    """It may die on the host once the launch is there, and not before."""
    x = fake_gpu.asarray(ONES / 2)
    address = streams.borrowed(x._values)
    made = fake_gpu.empty(x.shape)
    if mistaken:
        del x
    queue.enqueue(partial(np.add, address, address, streams.borrowed(made._values)))
    return made.get()


def memory_of_another_stream(queue: Queue, mistaken: bool) -> np.ndarray:
    """It may die once its own stream comes after the other one's work."""
    x = fake_gpu.asarray(ONES / 2)
    after(queue, HOME, OTHER)
    with queue.on(OTHER):
        y = doubled(queue, x)
    if not mistaken:
        after(queue, OTHER, HOME)
    del x
    with queue.on(OTHER):
        return y.get()


def a_buffer_of_the_host(queue: Queue, mistaken: bool) -> np.ndarray:
    """It may change once the copy has run."""
    host = ONES.copy()
    x = fake_gpu.asarray(host)
    if not mistaken:
        queue.wait()
    host[:] = 0
    return x.get()


def values_for_the_host(queue: Queue, mistaken: bool) -> np.ndarray:
    """They are there for who waits for the stream that makes them."""
    x = fake_gpu.asarray(ONES)
    with queue.on(OTHER):
        y = doubled(queue, fake_gpu.asarray(ONES / 2))
        del x
    with queue.on(HOME if mistaken else OTHER):
        return y.get()


PROGRAMS = (
    an_order_between_streams,
    memory_of_a_launch,
    memory_of_another_stream,
    a_buffer_of_the_host,
    values_for_the_host,
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_mistake_is_a_wrong_number(device: ModuleType, program: Program) -> None:
    """In one of the orders; and the right program gives the right one in each."""
    seen = []
    for order in ORDERS:
        with streams.queued(device, order) as queue:
            np.testing.assert_array_equal(program(queue, False), ONES)
            seen.append(not np.array_equal(program(queue, True), ONES))
    assert any(seen)


def write_late(device: ModuleType) -> None:
    with streams.queued(device, "forward") as queue:
        x = fake_gpu.zeros((3,))
        address = streams.borrowed(x._values)
        del x
        queue.enqueue(partial(address.fill, 0))


def test_what_is_written_after_it_was_freed_is_told(device: ModuleType) -> None:
    with pytest.raises(AssertionError, match="1 arrays were written after they had died"):
        write_late(device)


def test_a_view_keeps_its_memory(device: ModuleType) -> None:
    with streams.queued(device, "forward") as queue:
        part = fake_gpu.asarray(np.arange(12.0).reshape(3, 4)).T[1:3]
        np.testing.assert_array_equal(part.get(), [[1, 5, 9], [2, 6, 10]])
        assert not any(memory.size == 12 * 8 for memory in queue.freed)
        del part
        assert any(memory.size == 12 * 8 for memory in queue.freed)


# ---- the engine's calls --------------------------------------------------------------------------


def assert_as_at_once(device: ModuleType, program: Callable[[], Results]) -> None:
    wanted = program()
    for order in ORDERS:
        with streams.queued(device, order):
            assert_same(program(), wanted)


def assert_same(got: Results, wanted: Results) -> None:
    assert set(got) == set(wanted)
    for name, array in wanted.items():
        assert got[name].tobytes() == array.tobytes(), name


def small(cell: str) -> Iterator[Case]:
    yield Case(cell, 3, 2, 3, 5)
    yield Case(cell, 5, 3, 4, 6, D=2, L=3, lengths=True, resets=True, dropout=True)
    yield Case(cell, 4, 3, 2, 5, D=2, L=2, lengths=True, holds=True, repeat_held=True)
    yield Case(cell, 4, 2, 3, 5, L=2, batch_first=True, reverse=True, state=False)
    yield Case(cell, 0, 2, 3, 5, D=2, L=2)


CALLS = [*(case for cell in cells() for case in small(cell)), Case("lstm", 3, 2, 3, 5, D=2, P=4)]
RUNS = [(mode, case) for case in CALLS for mode in modes(case)]


@pytest.mark.parametrize(("mode", "case"), RUNS, ids=[f"{m}-{case.id}" for m, case in RUNS])
def test_calls(device: ModuleType, mode: str, case: Case) -> None:
    """Training steps, with a whole tape and with windows that are recomputed."""
    data = make_data(case)
    with cuda.mode(mode):
        for recompute in (0, 2):
            assert_as_at_once(device, partial(on_gpu.run, case, data, recompute))


CASE = Case("lstm", 4, 3, 3, 5, D=2, L=2)
of_every_mode = pytest.mark.parametrize("mode", MODES)


def infer(x: Any, params: Any, **options: Any) -> fake_gpu.Array:
    y: fake_gpu.Array = functional.infer(CASE.cell, x, params, **options)[0]
    return y


@of_every_mode
def test_a_call_is_on_the_stream_of_its_library(device: ModuleType, mode: str) -> None:
    """All of it: ordered after its inputs and before its reader it is right, else it is not."""
    data, wrong = make_data(CASE), []

    def result(queue: Queue, ordered: bool) -> np.ndarray:
        x, params = put(data.x), put(data.params)
        if ordered:
            after(queue, HOME, OTHER)
        with queue.on(OTHER):
            y = infer(x, params)
        if ordered:
            after(queue, OTHER, HOME)
        return y.get()

    with cuda.mode(mode):
        wanted = infer(put(data.x), put(data.params)).get()
        for order in ORDERS:
            with streams.queued(device, order) as queue:
                np.testing.assert_array_equal(result(queue, True), wanted)
                wrong.append(not np.array_equal(result(queue, False), wanted))
    assert any(wrong)


@of_every_mode
def test_calls_on_two_streams_share_nothing_but_weights(device: ModuleType, mode: str) -> None:
    first, second = make_data(CASE, seed=1), make_data(CASE, seed=2)
    with cuda.mode(mode):
        packed = functional.pack(CASE.cell, put(first.params))
        wanted = [infer(put(data.x), packed).get() for data in (first, second)]
        for order in ORDERS:
            with streams.queued(device, order) as queue:
                packed = functional.pack(CASE.cell, put(first.params))
                after(queue, HOME, OTHER)
                y = infer(put(first.x), packed)
                with queue.on(OTHER):
                    y2 = infer(put(second.x), packed)
                    found = [y2.get()]
                np.testing.assert_array_equal([y.get(), *found], wanted)


@of_every_mode
def test_lengths_of_the_host_may_change_at_once(device: ModuleType, mode: str) -> None:
    """A list, and arrays of NumPy's: also in the dtype that they are moved in."""
    data = make_data(CASE)

    def program() -> Results:
        x, params, found = put(data.x), put(data.params), {}
        for given in ([4, 1, 3], *(np.array([4, 1, 3], kind) for kind in ("u1", "i4", "i8"))):
            y = infer(x, params, lengths=given)
            given[:] = [0, 0, 0]
            found[f"{len(found)}"] = y
        return on_gpu.read(found)

    with cuda.mode(mode):
        assert_as_at_once(device, program)


def test_inputs_that_are_copied_into_order(device: ModuleType) -> None:
    """Parameters, x, states and gradients that are parts of other arrays; results in one."""
    data = make_data(CASE)

    def spread(array: np.ndarray) -> fake_gpu.Array:
        return put(np.repeat(array, 2, axis=-1))[..., ::2]

    def program() -> Results:
        params = {name: spread(array) for name, array in data.params.items()}
        state, dstate = (tuple(map(spread, each)) for each in (data.state, data.dstate))
        out = fake_gpu.empty((4, 3, 20))[:, :, 7:17]
        y, final, tape = functional.forward(CASE.cell, spread(data.x), params, state, out=out)
        back = functional.backward(CASE.cell, params, tape, spread(data.dy), dstate)
        return on_gpu.named(y, final, *back)

    assert_as_at_once(device, program)


def test_layers(device: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their parameters, dropout, cells, and steps of an optimiser, which changes weights in use."""
    monkeypatch.setattr(_arrays, "cupy_library", lambda op: _arrays._library(fake_gpu))
    rng = np.random.default_rng(0)
    x, h = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 2, 3), (2, 4)))

    def program() -> Results:
        layer = fastrnn.LSTM(3, 4, 2, dropout=0.4, seed=1, device="cuda")
        cell = fastrnn.GRUCell(4, 4, seed=1, device="cuda")
        found = {}
        for i in range(3):
            y, _, tape = layer.forward(put(x), lengths=[4, 2])
            found[f"y {i}"] = y
            _, _, grads = layer.backward(tape, y)
            with layer.mutable() as parameters:
                for name, grad in grads.items():
                    parameters[name][...] = parameters[name] - grad * 0.5
            state, tape = cell.forward(y[i], put(h))
            found[f"dh {i}"] = cell.backward(tape, state)[1]
        return on_gpu.read(found)

    assert_as_at_once(device, program)


@of_every_mode
def test_what_kernels_find_is_told_when_they_have_run(device: ModuleType, mode: str) -> None:
    data = make_data(CASE)
    with cuda.mode(mode), streams.queued(device, "forward"):
        x, params = put(data.x), put(data.params)
        for _ in range(2):  # the second knows nothing of the first, which has not begun
            y = infer(x, params, lengths=put(np.array([4, 9, 2])))
        with pytest.raises(ValueError, match=r"\[cuda\] lengths .* got 9 for row 1"):
            cuda.check(y)
        cuda.check(y)


def test_a_block_that_never_comes(device: ModuleType) -> None:
    """The call is back before its kernel ends itself; whoever waits learns it."""
    data = make_data(replace(CASE, H=160))  # groups of several blocks
    with cuda.mode("grid"), streams.queued(device, "forward"):
        x, params = put(data.x), put(data.params)
        cuda.check(x)
        device.lose_arrival(3)
        y = infer(x, params)
        with pytest.raises(RuntimeError, match="all arrive at a barrier, got grid_forward<lstm"):
            cuda.check(y)
    device.lose_arrival(-1)
