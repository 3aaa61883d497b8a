"""How many threads a call may have, and why; a busy machine; long calls that are interrupted.

What members of a team do when one of them is late is tested in C++ (tests/cpp/test_team.cpp), the
time that it takes by `python -m bench load`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn import _native
from test_concurrency import at_once, child, forked

cpus = len(os.sched_getaffinity(0))


# ---- the quota of a control group ----------------------------------------------------------------


def tree(root: Path, cgroup: str, **files: str) -> str:
    """A made-up root folder: the groups of this process, and files by path with `__` for `/`."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name.replace("__", "/").replace("CPU_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("cgroup", "files", "wanted"),
    [
        ("", {}, 0),
        ("0::/\n", {}, 0),
        ("0::/\n", {"CPU_max": "max 100000\n"}, 0),
        ("0::/\n", {"CPU_max": "200000 100000\n"}, 2),
        ("0::/\n", {"CPU_max": "150000 100000\n"}, 2),
        ("0::/\n", {"CPU_max": "10000 100000\n"}, 1),
        ("0::/\n", {"CPU_max": "300000"}, 0),
        ("0::/\n", {"CPU_max": "nonsense"}, 0),
        ("0::/\n", {"CPU_max": "-5 100000"}, 0),
        ("0::/\n", {"CPU_max": "100000 0"}, 0),
        ("0::/a/b\n", {"a__b__CPU_max": "max 100000", "a__CPU_max": "300000 100000"}, 3),
        ("0::/a/b\n", {"a__b__CPU_max": "500000 100000", "a__CPU_max": "300000 100000"}, 3),
        ("0::/a/b\n", {"a__b__CPU_max": "100000 100000", "a__CPU_max": "300000 100000"}, 1),
        ("0::/a\n", {"b__CPU_max": "100000 100000"}, 0),
        (
            "4:memory:/m\n3:cpu,cpuacct:/docker/1f\n0::/\n",
            {
                "cpu,cpuacct__docker__1f__CPU_cfs_quota_us": "250000\n",
                "cpu,cpuacct__docker__1f__CPU_cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            "3:cpu:/\n",
            {"cpu__CPU_cfs_quota_us": "-1\n", "cpu__CPU_cfs_period_us": "100000\n"},
            0,
        ),
        (
            "3:cpuacct,cpu:/x\n",
            {"cpu__CPU_cfs_quota_us": "400000", "cpu__CPU_cfs_period_us": "100000"},
            4,
        ),
        ("3:cpu:/\n", {"cpu__CPU_cfs_quota_us": "400000"}, 0),
        ("3:cpuset:/\n", {"cpuset__CPU_cfs_quota_us": "1", "cpuset__CPU_cfs_period_us": "1"}, 0),
        ("no colons\n:\n::\n", {"CPU_max": "100000 100000"}, 1),
    ],
)
def test_quota(tmp_path: Path, cgroup: str, files: dict[str, str], wanted: int) -> None:
    assert _native.engine.quota_processors(tree(tmp_path, cgroup, **files)) == wanted


def test_quota_without_any_files(tmp_path: Path) -> None:
    assert _native.engine.quota_processors(str(tmp_path)) == 0


# ---- how many ------------------------------------------------------------------------------------


def test_more_threads_than_processors() -> None:
    fastrnn.set_num_threads(cpus + 6)
    assert fastrnn.get_num_threads() == cpus + 6
    now = fastrnn.build_info()["available"]
    assert now["threads"] <= cpus
    assert now["why"] != "set_num_threads"


@pytest.mark.usefixtures("large_machine")
def test_why() -> None:
    layer = fastrnn.LSTM(64, 64)
    fastrnn.set_num_threads(3)
    wanted = {"threads": 3, "why": "set_num_threads"}
    assert fastrnn.build_info()["available"] == wanted
    assert fastrnn.explain(layer, (100, 32, 64))["available"] == wanted
    _native.engine.pretend_processors(2)
    assert fastrnn.build_info()["processors"]["usable"] == 2
    now = fastrnn.build_info()["available"]
    assert now["threads"] == 2
    assert "processors" in now["why"]
    assert fastrnn.explain(layer, (100, 32, 64))["forward"]["threads"] == 2


def test_the_affinity_mask_counts() -> None:
    assert child(child_has_one_processor) == "1 1 1"


def child_has_one_processor() -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    print(fastrnn.get_num_threads(), end=" ")
    fastrnn.set_num_threads(4)
    info = fastrnn.build_info()
    print(info["available"]["threads"], info["processors"]["usable"])


def test_a_child_of_fork_says_what_runs() -> None:
    child(child_forks_and_asks)


def child_forks_and_asks() -> None:
    fastrnn.set_num_threads(2)

    def ask() -> bool:
        now = fastrnn.build_info()["available"]
        return fastrnn.get_num_threads() == now["threads"] == 1 and "fork" in now["why"]

    assert forked(ask)
    assert fastrnn.get_num_threads() == 2


@pytest.mark.usefixtures("large_machine")
def test_teams_of_all_threads_are_no_larger_than_the_machine() -> None:
    """While a call of another thread has all processors, a call has one thread."""
    _native.engine.pretend_processors(2)
    fastrnn.set_num_threads(2)
    layer = fastrnn.LSTM(128, 512, seed=0)
    x = np.ones((300, 16, 128), np.float32)
    alone = layer(x)[0].tobytes()
    done = threading.Event()
    seen: set[str] = set()

    def watch() -> bytes:
        while not done.is_set():
            seen.add(_native.engine.available()["why"])
            time.sleep(0.0005)
        return alone

    def call() -> bytes:
        try:
            return [layer(x)[0].tobytes() for _ in range(3)][-1]
        finally:
            done.set()

    assert at_once([watch, call]) == [alone, alone]
    assert "calls of other threads" in seen
    assert _native.engine.available() == {"threads": 2, "why": "set_num_threads"}
    assert set(at_once([lambda: layer(x)[0].tobytes()] * 4)) == {alone}


@pytest.mark.usefixtures("large_machine")
def test_a_refused_call_gives_its_members_back() -> None:
    _native.engine.pretend_processors(2)
    fastrnn.set_num_threads(2)
    layer = fastrnn.LSTM(64, 512, seed=0)
    x = np.ones((50, 8, 64), np.float32)
    before = _native.engine.available()
    for _ in range(3):
        with pytest.raises(ValueError, match="lengths"):
            layer(x, lengths=np.full(8, 51))
        layer(x)
    assert _native.engine.available() == before


# ---- interrupts ----------------------------------------------------------------------------------


def test_ctrl_c_ends_a_long_call() -> None:
    child(child_is_interrupted)


def child_is_interrupted() -> None:
    """A call of several seconds; the interrupt comes soon after it has begun."""
    layer = fastrnn.LSTM(512, 1024, seed=0, recompute=True)
    short = np.ones((5, 2, 512), np.float32)
    wanted = layer(short)[0].tobytes()
    x = np.ones((3000, 16, 512), np.float32)
    for threads in (1, 2):
        fastrnn.set_num_threads(threads)
        for run in (lambda: layer(x), lambda: layer.forward(x)):
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            begun = time.perf_counter()
            try:
                run()
            except KeyboardInterrupt:
                assert time.perf_counter() - begun < 2.5, "it took as long as the call"
            else:
                raise AssertionError("not interrupted")
        assert layer(short)[0].tobytes() == wanted
    assert _native.engine.available()["why"] != "calls of other threads"


def test_a_handler_that_returns_lets_a_call_go_on() -> None:
    child(child_has_a_handler)


def child_has_a_handler() -> None:
    layer = fastrnn.GRU(128, 256, seed=0)
    x = np.ones((20000, 8, 128), np.float32)
    wanted = layer(x)[0].tobytes()
    heard = []
    signal.signal(signal.SIGALRM, lambda *_: heard.append(time.perf_counter()))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    assert layer(x)[0].tobytes() == wanted
    end = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert heard
    assert heard[0] < end - 0.01, "heard only after the call"


def test_other_threads_are_not_interrupted() -> None:
    child(child_interrupts_a_thread)


def child_interrupts_a_thread() -> None:
    layer = fastrnn.GRU(128, 256, seed=0)
    x = np.ones((3000, 8, 128), np.float32)
    wanted = layer(x)[0].tobytes()
    results = []
    other = threading.Thread(target=lambda: results.append(layer(x)[0].tobytes()))
    other.start()
    try:
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    except KeyboardInterrupt:
        pass
    other.join()
    assert results == [wanted]
