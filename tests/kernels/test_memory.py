"""Memory that is kept between calls: reused, given back, never seen by a user."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastrnn
from cases import Case, make_data
from test_bits import assert_same_bits, everything

f32 = np.float32
LARGE = Case("lstm", 40, 24, 96, 128)  # results and workspace of several blocks


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    gc.collect()
    fastrnn.release_memory()


def test_release_memory_gives_back_what_is_kept() -> None:
    assert fastrnn.release_memory() == 0
    y = fastrnn.LSTM(64, 256, seed=0)(np.zeros((40, 16, 64), f32))[0]
    kept = fastrnn.release_memory()  # the workspace; y is in use
    del y
    assert fastrnn.release_memory() >= 40 * 16 * 256 * 4
    assert kept > 0
    assert fastrnn.release_memory() == 0


def test_a_result_is_not_reused_while_a_view_lives() -> None:
    layer = fastrnn.GRU(64, 256, seed=0)
    x = np.random.default_rng(0).standard_normal((40, 16, 64)).astype(f32)
    part = layer(x)[0][3:5, :, 7]
    before = part.copy()
    address = part.__array_interface__["data"][0]
    for _ in range(3):
        other = layer(-x)[0]
        assert not np.shares_memory(other, part)
    assert np.array_equal(part, before)
    del part
    again = [layer(x)[0] for _ in range(4)]  # one of them in the memory that has become free
    first = [y.__array_interface__["data"][0] for y in again]
    assert any(a <= address < a + again[0].nbytes for a in first)
    assert all(np.array_equal(y, again[0]) for y in again)


def test_results_do_not_depend_on_what_memory_held() -> None:
    """Blocks come back full of whatever the last call left: here NaN everywhere."""
    data = make_data(LARGE)
    wanted = [a.copy() for a in everything(LARGE, data)]
    poison = make_data(LARGE)
    poison.x = np.full_like(poison.x, np.nan)
    for _ in range(3):
        everything(LARGE, poison)
        assert_same_bits(everything(LARGE, data), wanted)


def test_threads_share_what_is_kept() -> None:
    data = make_data(LARGE)
    wanted = everything(LARGE, data)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(15):
                assert_same_bits(everything(LARGE, data), wanted)
                fastrnn.release_memory()
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


CALLS_OF_MANY_SIZES = """
import numpy as np
import fastrnn

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

layer = fastrnn.RNN(8, 16, seed=0)
layer(np.zeros((4, 512, 8), np.float32))
start = resident()
for T in range(40, 4000, 150):  # up to 130 MB each, 1.7 GB together
    layer(np.zeros((T, 512, 8), np.float32))
held = resident() - start
released = fastrnn.release_memory()
left = resident() - start
print(held, released, left)
"""


def test_what_is_kept_is_bounded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALLS_OF_MANY_SIZES], check=True, stdout=subprocess.PIPE, text=True
    )
    held, released, left = map(int, done.stdout.split())
    assert released <= 2**29
    assert held <= 2**29 + 2**26
    assert left <= 2**26


def test_large_results_are_ordinary_arrays() -> None:
    layer = fastrnn.LSTM(64, 256, seed=0)
    x = np.zeros((40, 16, 64), f32)
    for a in (layer(x)[0], *layer.forward(x)[2].arrays):
        if a.size:
            assert a.flags.c_contiguous
            assert a.flags.aligned
            a.flags.writeable = False
            a.flags.writeable = True
