"""The limits of this machine, and the time that no program can beat for a case.

`bound` adds up the phases of a call, each the largest of

* arithmetic: its FMAs at the measured rate of all threads,
* bytes: what it must read or write, at the bandwidth of the level that holds a thread's share,
* latency (the recurrent steps alone): T times the dependency chain of one step of one row: its
  product with h, which cannot start before h is known, then the measured chain from h over the
  cell to the next h; with the exchange between cores where the product is split among them, and
  whichever of the two is shorter.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastrnn import _native

from .cases import ITEMSIZE, Case

LEVELS = ("l1", "l2", "l3", "memory")
RATES = ("fma_gflops", "bfloat16_gflops", "int8_gops")
Limits = dict[str, Any]
RUNS = 3  # of the measurement


def cache_sizes() -> list[int]:
    """Bytes of the data caches L1, L2 and L3 as one core sees them; usual ones where none tells."""
    sizes = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            kind, text, level = (
                (folder / name).read_text().strip() for name in ("type", "size", "level")
            )
        except OSError:  # as some containers and emulators have it
            continue
        if kind != "Instruction":
            scale = {"K": 1 << 10, "M": 1 << 20}.get(text[-1:], 1)
            sizes[int(level)] = int(text.rstrip("KM")) * scale
    return [sizes[level] for level in (1, 2, 3)]


def probe(threads: int) -> Limits:
    """Measure this machine, at the highest level of the build that it can run; some seconds."""
    sizes = cache_sizes()
    limits = best([dict(_native.engine.limits(threads, *sizes)) for _ in range(RUNS)])
    return {**limits, "threads": threads, "caches": dict(zip(LEVELS, sizes, strict=False))}


def line(limits: Limits) -> str:
    """What was measured, in a line."""
    one, all_ = limits["fma_gflops"]
    reads = ", ".join(f"{k} {a:.0f}/{b:.0f}" for k, (a, b) in limits["bandwidth"].items())
    steps = ", ".join(f"{cell} {ns:.0f}" for cell, ns in limits["step_ns"].items())
    return (
        f"limits, 1/{limits['threads']} threads: FMA {one:.0f}/{all_:.0f} GF/s; "
        f"reads GB/s: {reads}; chain of a step ns: {steps}; "
        f"exchange {limits['exchange_ns']:.0f} ns"
    )


def best(runs: Sequence[Limits]) -> Limits:
    """Of each figure the best; a core may have been busy for the whole of a run."""

    def most(values: Iterable[Sequence[float]]) -> list[float]:
        return [max(figures) for figures in zip(*values, strict=True)]

    return {
        **{rate: most(run[rate] for run in runs) for rate in RATES},
        "bandwidth": {
            level: most(run["bandwidth"][level] for run in runs) for level in runs[0]["bandwidth"]
        },
        "step_ns": {cell: min(run["step_ns"][cell] for run in runs) for cell in runs[0]["step_ns"]},
        "exchange_ns": statistics.median(run["exchange_ns"] for run in runs),
    }


def level_of(limits: Limits, share: float) -> str:
    """The nearest level that holds so many bytes of one thread."""
    for level in LEVELS[:-1]:
        if share <= limits["caches"][level]:
            return level
    return LEVELS[-1]


def rates(limits: Limits, threads: int, dtype: str) -> tuple[float, dict[str, float]]:
    """FLOP/s, and bytes/s of each level, of one thread or of all. (Of float16 sums are float32; of
    int8 they are integers, whose operations count as FLOP.)
    """
    which = 0 if threads == 1 else 1
    rate = limits[{"bfloat16": "bfloat16_gflops", "int8": "int8_gops"}.get(dtype, RATES[0])][which]
    flops = rate * 1e9 / (2 if dtype == "float64" else 1)
    return flops, {level: limits["bandwidth"][level][which] * 1e9 for level in LEVELS}


def moving(limits: Limits, threads: int, dtype: str, *arrays: tuple[float, float]) -> float:
    """Seconds to move arrays, each given as (elements, times); threads share them."""
    _, bandwidth = rates(limits, threads, dtype)
    seconds = 0.0
    for elements, times in arrays:
        size = elements * ITEMSIZE[dtype]
        seconds += float(times * size / bandwidth[level_of(limits, size / threads)])
    return seconds


def chain(case: Case, limits: Limits) -> float:
    """Seconds of the dependency chain of one step of one row, on one thread or on all."""
    weights = case.gates * case.H * case.outputs + case.P * case.H
    found: list[float] = []
    for threads in {1, limits["threads"]}:
        flops, _ = rates(limits, threads, case.dtype)
        product = max(2 * weights / flops, moving(limits, threads, case.dtype, (weights, 1)))
        exchange = limits["exchange_ns"] if threads > 1 else 0.0
        found.append(product + (limits["step_ns"][case.cell] + exchange) * 1e-9)
    return min(found)


def phases(case: Case, limits: Limits) -> dict[str, float]:
    """Least seconds of each phase of a call, all layers and directions together."""
    threads = limits["threads"]
    N, G, H = case.steps, case.gates, case.H
    T = int(case.row_lengths.max())
    rate, _ = rates(limits, threads, case.dtype)
    train = case.mode == "train"
    kept = N * (G + case.states) * H  # gates and states, written for backward and read by it
    wide = (
        ITEMSIZE[case.elements] / ITEMSIZE[case.dtype]
    )  # bytes of a value beside those of a weight
    # Directions do not wait for each other.
    latency = T * chain(case, limits) / min(case.D, threads)
    total: dict[str, float] = {}

    def add(name: str, flops: float, *arrays: tuple[float, float], least: float = 0.0) -> None:
        bytes_ = moving(limits, threads, case.dtype, *arrays)
        total[name] = total.get(name, 0.0) + max(flops / rate, bytes_, least)

    for inputs in case.layer_inputs():
        for _ in range(case.D):
            w, r = G * H * inputs, (G * case.outputs + case.P) * H
            x, h = wide * N * inputs, wide * N * case.outputs
            add("inputs", 2 * N * w, (w, 1), (x, 1))
            add("steps", 2 * N * r, (r, T), (h, 1), (kept, train), least=latency)
            if train:
                add("dh", 2 * N * r, (r, T), (h, 1), (kept, 1), least=latency)
                add("dx", 2 * N * w, (w, 1), (x, 1))
                add("dw", 2 * N * (w + r), (w + r, 1), (x, 1), (h, 1))
    return total


def bound(case: Case, limits: Limits) -> float:
    """Least seconds of a call of this case."""
    return sum(phases(case, limits).values())
