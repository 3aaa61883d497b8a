"""Many threads, forked children, foreign settings of OpenMP: no deadlock, the same bits as alone.

Whatever could hang or end a process runs in one of its own, which imports this module again and
calls one of the functions `child_...`.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from builds import ROOT
from cases import flat_state
from fastrnn import functional

# name: (class, I, H, L, T, B). The first two are large enough for two threads, which share the
# units of one row and the rows of a batch.
SHAPES = {
    "units": (fastrnn.LSTM, 24, 512, 1, 6, 1),
    "rows": (fastrnn.GRU, 48, 64, 2, 20, 32),
    "serial": (fastrnn.RNN, 5, 9, 2, 7, 2),
}
shapes = pytest.mark.parametrize("name", SHAPES)
pytestmark = pytest.mark.usefixtures("large_machine")


def layer_of(name: str) -> fastrnn.Recurrent:
    make, I, H, L, _, _ = SHAPES[name]
    return make(I, H, L, bidirectional=True, seed=1)


def call(name: str, layer: fastrnn.Recurrent, train: bool, seed: int = 0) -> bytes:
    """One call of a layer (and its backward): the bytes of all that it gives."""
    _, I, H, _, T, B = SHAPES[name]
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    dy = rng.standard_normal((T, B, 2 * H)).astype(np.float32)
    if train:
        y, state, tape = layer.forward(x)
        dx, dstate, grads = layer.backward(tape, dy)
        results = [y, *flat_state(state), dx, *flat_state(dstate), *grads.values()]
    else:
        y, state = layer(x)
        results = [y, *flat_state(state)]
    return b"".join(hashlib.sha256(a.tobytes()).digest() for a in results)


def digest() -> str:
    """Of everything that every shape gives."""
    whole = hashlib.sha256()
    for name in SHAPES:
        for train in (False, True):
            whole.update(call(name, layer_of(name), train))
    return whole.hexdigest()


def at_once(jobs: list[Callable[[], Any]]) -> list[Any]:
    """Run the jobs in threads that start together; the results, or the first exception."""
    start = threading.Barrier(len(jobs))
    results: list[Any] = [None] * len(jobs)
    errors: list[BaseException] = []

    def run(i: int, job: Callable[[], Any]) -> None:
        try:
            start.wait()
            results[i] = job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i, job)) for i, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def child(function: Callable[[], None], **environment: str) -> str:
    """Call a function of a test module in a fresh interpreter; what it prints."""
    here, package = Path(__file__).parent, Path(fastrnn.__file__).parent.parent
    places = [str(here), str(ROOT / "tests"), str(package), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(places)
    module = function.__module__
    done = subprocess.run(
        # Python 3.12 warns of every fork in a process with threads. That is what is tested here.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c",
         f"import {module}; {module}.{function.__name__}()"],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


# ---- what the shapes stand for -------------------------------------------------------------------


def test_the_shapes_split_as_they_are_meant_to() -> None:
    fastrnn.set_num_threads(2)
    plans = {}
    for name, (_, I, _, _, T, B) in SHAPES.items():
        plan = fastrnn.explain(layer_of(name), (T, B, I))
        plans[name] = [
            (plan[kind]["row_groups"], plan[kind]["unit_members"])
            for kind in ("forward", "forward_with_tape", "backward")
        ]
    assert plans == {"units": [(1, 2)] * 3, "rows": [(2, 1)] * 3, "serial": [(1, 1)] * 3}


# ---- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [False, True], ids=["infer", "train"])
@shapes
def test_one_layer(name: str, train: bool) -> None:
    """Six threads at once on a fresh layer: the first calls pack its weights at the same time."""
    fastrnn.set_num_threads(2)
    alone = call(name, layer_of(name), train)
    for _ in range(4):
        layer = layer_of(name)

        def job(layer: fastrnn.Recurrent = layer) -> list[bytes]:
            return [call(name, layer, train) for _ in range(3)]

        for results in at_once([job] * 6):
            assert results == [alone] * 3


@shapes
def test_one_layer_used_both_ways(name: str) -> None:
    """Some infer, some train: the weights for backward are packed while others already read."""
    fastrnn.set_num_threads(2)
    alone = {train: call(name, layer_of(name), train) for train in (False, True)}
    for _ in range(4):
        layer = layer_of(name)
        kinds = [False, True, False, True, False]
        results = at_once([lambda t=t, a=layer: call(name, a, t) for t in kinds])
        assert results == [alone[train] for train in kinds]


def test_one_layer_with_other_data_in_each_thread() -> None:
    """A thread gets its own results, not those of its neighbour."""
    fastrnn.set_num_threads(2)
    layer = layer_of("rows")
    alone = [call("rows", layer, True, seed) for seed in range(6)]
    assert len(set(alone)) == 6
    for _ in range(3):
        jobs = [lambda seed=seed: call("rows", layer, True, seed) for seed in range(6)]
        assert at_once(jobs) == alone


def test_one_tape_in_many_threads() -> None:
    """A tape is only read."""
    layer = layer_of("rows")
    x = np.random.default_rng(0).standard_normal((20, 32, 48)).astype(np.float32)
    y, _, tape = layer.forward(x)

    def job() -> list[bytes]:
        dx, dstate, grads = layer.backward(tape, y)
        return [a.tobytes() for a in (dx, dstate, *grads.values())]

    alone = job()
    assert all(result == alone for result in at_once([job] * 5))


def test_a_layer_for_each_thread() -> None:
    fastrnn.set_num_threads(2)
    names = [*SHAPES, *SHAPES]
    alone = [call(name, layer_of(name), True) for name in names]
    for _ in range(3):
        assert at_once([lambda n=n: call(n, layer_of(n), True) for n in names]) == alone


def test_dropout_in_many_threads() -> None:
    """Masks come from one generator; together the threads draw what one would have drawn."""
    x = np.ones((4, 3, 5), np.float32)

    def masks(layer: fastrnn.LSTM) -> list[bytes]:
        return [layer.forward(x)[2].masks[0].tobytes() for _ in range(5)]

    one = fastrnn.LSTM(5, 8, 2, dropout=0.5, seed=3)
    alone = [mask for _ in range(4) for mask in masks(one)]
    shared = fastrnn.LSTM(5, 8, 2, dropout=0.5, seed=3)
    together = [mask for part in at_once([lambda: masks(shared)] * 4) for mask in part]
    assert sorted(together) == sorted(alone)


def test_python_threads_that_end() -> None:
    """Each thread has an OpenMP team of its own, which ends with it."""
    fastrnn.set_num_threads(2)
    layer = layer_of("rows")
    alone = call("rows", layer, False)
    before = len(os.listdir("/proc/self/task"))  # other libraries have pools of their own
    for _ in range(30):
        assert at_once([lambda: call("rows", layer, False)]) == [alone]
    threads = len(os.listdir("/proc/self/task")) - before
    assert threads < 20, f"{threads} more threads are left"


def test_lists_that_change_during_a_call() -> None:
    child(child_replaces_arrays_in_lists)


def child_replaces_arrays_in_lists() -> None:
    """A call holds its arrays, even where the list that they came in lets go of them."""
    T, B, H = 2100, 64, 64  # 34 MB, which the system takes back at once when they are freed
    layer = fastrnn.LSTM(H, H, 2, seed=0)
    params = functional.pack("lstm", layer.state_dict())
    x = np.ones((T, B, H), np.float32)

    def states() -> list[np.ndarray]:
        return [np.ones((2, B, H), np.float32) for _ in range(2)]

    def masks() -> list[np.ndarray]:
        return [np.ones((T, B, H), np.float32)]

    wanted = functional.infer("lstm", x, params, states(), dropout_masks=masks())[0]
    for run in (functional.infer, functional.forward):
        lists = states(), masks()

        def replace(old: Any = lists) -> None:
            new = states(), masks()  # equal ones: the same whether the call has begun or not
            time.sleep(0.03)
            old[0][:], old[1][:] = new

        job = threading.Thread(target=replace)
        job.start()
        y = run("lstm", x, params, lists[0], dropout_masks=lists[1])[0]
        job.join()
        assert (y == wanted).all()


# ---- the number of threads -----------------------------------------------------------------------


@shapes
def test_any_number_of_threads(name: str) -> None:
    results = set()
    for n in (1, 2, 3, 4, 5, 2):
        fastrnn.set_num_threads(n)
        assert fastrnn.get_num_threads() == n
        results.add(call(name, layer_of(name), False) + call(name, layer_of(name), True))
    assert len(results) == 1


@shapes
def test_calls_while_the_number_changes(name: str) -> None:
    layer = layer_of(name)
    alone = call(name, layer, True)
    done = threading.Event()

    def change() -> None:
        n = 0
        while not done.is_set():
            n += 1
            fastrnn.set_num_threads(1 + n % 5)
            time.sleep(0.0005)

    def work() -> list[bytes]:
        return [call(name, layer, True) for _ in range(12)]

    changer = threading.Thread(target=change)
    changer.start()
    try:
        results = at_once([work] * 2)
    finally:
        done.set()
        changer.join()
    assert results == [[alone] * 12] * 2


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"OMP_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "4"},
        {"OMP_THREAD_LIMIT": "1"},
        {"OMP_THREAD_LIMIT": "2"},
        {"OMP_DYNAMIC": "true"},
        {"OMP_PROC_BIND": "true"},
        {"OMP_MAX_ACTIVE_LEVELS": "0"},
    ],
    ids=lambda settings: ",".join(f"{k}={v}" for k, v in settings.items()) or "none",
)
def test_foreign_settings_of_openmp(settings: dict[str, str]) -> None:
    """A team may get fewer threads than it asked for; then one does all, with the same bits."""
    wanted = child_wants()
    clean = {name: "" for name in os.environ if name.startswith("OMP_")}
    assert child(child_digests, **{**clean, **settings}).splitlines() == [wanted] * 3


def child_wants() -> str:
    fastrnn.set_num_threads(1)
    return digest()


def child_digests() -> None:
    print(digest())  # as many threads as the settings say
    for n in (2, 5):  # more than they allow
        fastrnn.set_num_threads(n)
        print(digest())


def test_fewer_threads_are_used_when_the_environment_says_so() -> None:
    clean = {name: "" for name in os.environ if name.startswith("OMP_")}
    assert child(child_says_threads, **{**clean, "OMP_NUM_THREADS": "1"}) == "1"


def child_says_threads() -> None:
    print(fastrnn.get_num_threads())


# ---- fork ----------------------------------------------------------------------------------------


def forked(job: Callable[[], bool], seconds: int = 20) -> bool:
    """Whether a forked child does its job, in time."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(seconds)  # a child that hangs ends by the signal
        ok = False
        try:
            ok = job()
        finally:
            os._exit(0 if ok else 1)
    return os.waitpid(pid, 0)[1] == 0


def test_forked_child() -> None:
    child(child_forks)


def child_forks() -> None:
    """After calls of the parent's, with its layers and with fresh ones; then a child of a child."""
    fastrnn.set_num_threads(2)
    wanted = digest()
    layers = {name: layer_of(name) for name in SHAPES}
    results = {name: call(name, layers[name], True) for name in SHAPES}

    def again() -> bool:
        return all(call(name, layers[name], True) == results[name] for name in SHAPES)

    assert forked(lambda: digest() == wanted and again())
    assert forked(lambda: forked(lambda: digest() == wanted and again()) and again())
    assert digest() == wanted
    assert again()
    assert forked(again)


def test_threads_around_a_fork() -> None:
    child(child_has_threads_around_a_fork)


def child_has_threads_around_a_fork() -> None:
    fastrnn.set_num_threads(2)
    wanted = digest()

    def more() -> bool:
        fastrnn.set_num_threads(4)
        return digest() == wanted

    assert forked(more), "the child sets the number of threads"
    assert at_once([lambda: forked(lambda: digest() == wanted)]) == [True], "forked by a thread"
    assert forked(lambda: at_once([digest] * 3) == [wanted] * 3), "the child starts threads"


def test_fork_while_others_call() -> None:
    child(child_forks_under_way)


def child_forks_under_way() -> None:
    """Threads of the parent are in the middle of calls; in the child they do not exist."""
    fastrnn.set_num_threads(2)
    wanted = digest()
    layer = layer_of("rows")
    result = call("rows", layer, True)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            assert call("rows", layer, True) == result

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert forked(lambda: digest() == wanted and call("rows", layer, True) == result)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_fork_while_another_packs() -> None:
    child(child_forks_during_packing)


def child_forks_during_packing() -> None:
    """The first training call packs the weights for backward: here it takes some milliseconds."""
    layer = fastrnn.LSTM(1024, 1024, seed=0)
    x = np.ones((1, 1, 1024), np.float32)
    wanted = layer(x)[0].tobytes()
    begun = threading.Event()

    def first() -> None:
        begun.set()
        layer.forward(x)

    for _ in range(3):
        packs = threading.Thread(target=first)
        begun.clear()
        packs.start()
        begun.wait()
        time.sleep(0.01)
        assert forked(lambda: layer.forward(x)[0].tobytes() == wanted)
        packs.join()
        with layer.mutable():  # so that the next call packs again
            pass
        layer(x)


def test_multiprocessing() -> None:
    child(child_has_a_pool)


def child_has_a_pool() -> None:
    fastrnn.set_num_threads(2)
    wanted = digest()
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            results = [pool.apply_async(digest) for _ in range(4)]
            assert [result.get(timeout=30) for result in results] == [wanted] * 4
    assert digest() == wanted
