"""A peer's own process: builds cases, proves their results, times blocks of calls."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from itertools import repeat
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import numpy as np

from . import peers
from .cases import STREAM_CHECKS, Case, make_data, valid

# Largest error against the reference, of outputs (relative to max(1, max |b|)) and of gradients
# (relative to max |b|). Wide enough for a peer's own approximations, and no wider: in 16 bits some
# round gates and sums at each step.
TOLERANCE = {
    "float32": (1e-4, 1e-3),
    "float64": (1e-9, 1e-8),
    "float16": (1e-2, 1e-1),
    "bfloat16": (6e-2, 4e-1),
    "int8": (2e-1, 0.0),  # some round a whole batch by one scale
}
OUTPUTS = ("y", "hn", "cn")
WARM_CALLS = 20  # calls of `record` that are not looked at
# Seconds between looks at the processor time of a process that is to come to rest, the share of
# them that its threads may still run, and how often it is looked at: some libraries never rest.
LOOK_SECONDS, AT_REST, LOOKS = 0.01, 0.1, 100


def load(peer: str, threads: int, pinned: bool) -> ModuleType:
    """The peer's module; `pinned` keeps it on as many processors as it has threads."""
    if pinned and threads < len(os.sched_getaffinity(0)):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    return peers.load(peer)


def serve(module: Any, threads: int, pipe: Connection) -> None:
    """Say hello, then answer what `runner.Worker` asks, for as long as it is there."""
    absent = module.available()
    if absent:
        pipe.send({"absent": absent})
        return
    module.setup(threads)
    hello = {"version": module.version(), "note": getattr(module, "NOTE", "")}
    if file := getattr(sys.modules["fastrnn"], "__file__", None):  # None: see `start`
        hello["fastrnn"] = os.path.realpath(file)
    pipe.send(hello)
    call, calls = None, 1
    while True:
        what, *arguments = pipe.recv()
        if what == "stop":
            return
        if what == "case":
            call = None  # lets go of the last case's memory first
            case, expected, block = arguments
            answer, call = prepare(module, case, expected)
            if call:
                seconds = answer["seconds"]
                calls = max(1, int(block / seconds))
            come_to_rest()
            pipe.send(answer)
        elif what == "record":
            assert call is not None
            pipe.send(record(call, *arguments))
        elif what == "apply":
            function, *rest = arguments
            pipe.send(function(module, *rest))
        else:
            assert call is not None
            # Other workers had the caches and the cores meanwhile.
            for _ in repeat(None, 1 if calls > 1 else 0):
                call()
            seconds = time_calls(call, calls)
            come_to_rest()
            pipe.send(seconds)


def prepare(
    module: Any, case: Case, expected: dict[str, np.ndarray]
) -> tuple[dict[str, Any], Callable[[], Any] | None]:
    """Build the case's ways, check each, and keep the fastest."""
    try:
        if case.P and not getattr(module, "PROJECTS", False):
            raise peers.Unsupported("no projection")
        ways = module.build(case, make_data(case))
        best: tuple[float, str] | None = None
        for name, way in ways.items():
            value = None
            for _ in range(STREAM_CHECKS if case.streams else 1):
                value = way.call()
            wrong = difference(case, way.arrays(value), expected)
            if wrong:
                return {"failed": f"{name}: {wrong}", "wrong": True}, None
            seconds = pilot(way.call)
            if best is None or seconds < best[0]:
                best = seconds, name
    except peers.Unsupported as reason:
        return {"unsupported": str(reason)}, None
    except Exception as error:  # a peer's own failure: the runner reports it and goes on without
        lines = str(error).strip().splitlines() or [""]
        return {"failed": f"{type(error).__name__}: {lines[0][:200]}"}, None
    assert best is not None
    return {"way": best[1], "seconds": best[0]}, ways[best[1]].call


def difference(case: Case, got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> str:
    """What is wrong with a result, or an empty text."""
    needed = {name for name in expected if name not in OUTPUTS} | {"y"}
    if not needed <= set(got):
        return f"missing: {', '.join(sorted(needed - set(got)))}"
    for name, b in expected.items():
        if name not in got:
            continue
        a = np.asarray(got[name], np.float64)
        rows = 1 if name.startswith(("weight_", "bias_")) else case.B // case.distinct
        shape = (b.shape[0], rows * b.shape[1], *b.shape[2:]) if rows > 1 else b.shape
        if a.shape != shape:
            return f"{name} must have the shape {shape}, got {a.shape}"
        if name == "y" and case.lengths:
            a = a * valid(case)  # padded rows run on past their end
        tolerance = TOLERANCE[case.dtype][name not in OUTPUTS]
        scale = max(float(np.abs(b).max()), 1.0 if name in OUTPUTS else 1e-30)
        parts = np.split(a, rows, axis=1) if rows > 1 else [a]
        error = max(float(np.abs(part - b).max()) for part in parts) / scale
        if not error <= tolerance:
            return f"{name} must be within {tolerance:.0e} of the reference, got {error:.1e}"
    return ""


def come_to_rest() -> None:
    """Return when no thread of the process runs any more.

    Threads of a pool spin for a while after a call, on the cores that the next library's are to
    have: OpenMP's for some milliseconds, ONNX Runtime's for 50 and more.
    """
    for _ in range(LOOKS):
        before = time.process_time()
        time.sleep(LOOK_SECONDS)
        if time.process_time() - before < AT_REST * LOOK_SECONDS:
            return


def time_calls(call: Callable[[], Any], calls: int) -> float:
    """Mean seconds of a call."""
    start = time.perf_counter()
    for _ in repeat(None, calls):
        call()
    return (time.perf_counter() - start) / calls


def record(call: Callable[[], Any], seconds: float, least: int = 2 * WARM_CALLS) -> list[float]:
    """Seconds of each call, for so long; at least so many."""
    times: list[float] = []
    start = before = time.perf_counter()
    while before - start < seconds or len(times) < least:
        call()
        after = time.perf_counter()
        times.append(after - before)
        before = after
    return times


def pilot(call: Callable[[], Any]) -> float:
    """Seconds of a call, roughly: the fastest of some short blocks after a warm-up."""
    once = time_calls(call, 1)
    calls = max(1, int(0.01 / max(once, 1e-7)))
    return min(time_calls(call, calls) for _ in range(1 if once > 0.2 else 4))
