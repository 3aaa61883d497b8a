"""fastrnn on a busy machine, and beside other threads of its own process.

    python -m bench load [options]

Times are multiples of the mean call of one thread on the quiet machine, `alone`. The scenes:

    quiet    nothing else runs
    spin     as many processes as cores spin beside it: a fair share of the machine is half of it
    half     as many processes spin 10 ms and sleep 10 ms
    pool     a session of ONNX Runtime is called in turns in the same process; its threads go on
             spinning for a while after each call
    on-off   spinning processes come for half a second and go for half a second
    after    half a second to a second after they have gone for good: the median, as a multiple of
             the quiet median of as many threads

`mean` and `p95` are of all calls after the first 20. torch and ONNX Runtime, where installed, are
measured in the quiet and the spin scene, with all threads, as multiples of the same `alone`.
At last, 8 Python threads call at once: their calls in a second, as multiples of those of one Python
thread with one thread, and with the default.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from fastrnn._bench import report, runner
from fastrnn._bench.cases import MODES, Case, expected, make_data
from fastrnn._bench.worker import WARM_CALLS, time_calls

from . import options as suite_options

SHAPES = ("400,1,128,128", "250,2,96,96", "100,1,512,512", "100,4,256,256", "60,32,200,200")
THREADS = (1, 2, 8)
CALLERS = 8
# What is promised; see the module's text. Of the mean, of the 95th percentile, of what is left
# half a second after the load, and of 8 Python threads against one.
MOST_MEAN, MOST_P95, MOST_AFTER = 3.0, 6.0, 1.05
LEAST_CALLERS, LEAST_DEFAULT = 1.6, 1.0
HEADER = f"{'case':46} {'threads':>7} {'scene':8} {'mean':>7} {'p95':>7} {'bar':>9}"


# ---- neighbours ----------------------------------------------------------------------------------


def spin(busy: float, idle: float) -> None:
    """Hold a processor for `busy` seconds, let it go for `idle`, and so on."""
    while True:
        until = time.perf_counter() + busy
        while time.perf_counter() < until:
            pass
        if idle:
            time.sleep(idle)


@contextmanager
def neighbours(count: int, busy: float, idle: float) -> Iterator[None]:
    """Other processes beside the block."""
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=spin, args=(busy, idle), daemon=True) for _ in range(count)]
    for other in others:
        other.start()
    time.sleep(0.5)  # until all run
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.join()


# ---- in the worker's process ---------------------------------------------------------------------


def beside_a_pool(module: Any, case: Case, seconds: float) -> dict[str, Any]:
    """Times of fastrnn's calls, and of ONNX Runtime's, between calls of another of its sessions."""
    from fastrnn._bench.peers import load

    others = load("onnxruntime")
    if absent := others.available():
        return {"absent": absent}
    others.setup(len(os.sched_getaffinity(0)))
    data = make_data(case)
    forward = replace(case, mode="forward")
    session = others.build(forward, data)["run"].call
    ours = module.build(case, data)["layer"].call
    found: dict[str, Any] = {}
    for name, call in (("ours", ours), ("theirs", session)):
        times: list[float] = []
        start = time.perf_counter()
        while time.perf_counter() - start < seconds or len(times) < 2 * WARM_CALLS:
            session()
            times.append(time_calls(call, 1))
        found[name] = times
    return found


def count_calls(
    module: Any, case: Case, threads: int, callers: int, seconds: float
) -> dict[str, float]:
    """Calls in a second of so many Python threads together; 0 threads: the default."""
    module.setup(threads or len(os.sched_getaffinity(0)))
    call = module.build(case, make_data(case))["layer"].call
    counts = [0] * callers
    start = threading.Barrier(callers + 1)
    end = time.perf_counter() + 1e9

    def run(k: int) -> None:
        start.wait()
        while time.perf_counter() < end:
            call()
            counts[k] += 1

    all_callers = [threading.Thread(target=run, args=(k,)) for k in range(callers)]
    for caller in all_callers:
        caller.start()
    start.wait()
    end = time.perf_counter() + seconds
    for caller in all_callers:
        caller.join()
    return {"rate": sum(counts) / seconds}


# ---- scenes --------------------------------------------------------------------------------------


def reduce(times: Sequence[float], unit: float) -> dict[str, float]:
    """Mean, median and 95th percentile of the calls after the first, as multiples of `unit`."""
    t = np.asarray(times[WARM_CALLS:]) / unit
    return {
        "mean": float(t.mean()),
        "p95": float(np.quantile(t, 0.95)),
        "median": float(np.median(t)),
        "calls": len(t),
    }


def bar_of(scene: str, row: dict[str, float]) -> tuple[str, bool]:
    """The figure that a scene is held to, and whether it is met."""
    if scene == "spin":
        return f"{row['mean']:.2f}<={MOST_MEAN:g}", row["mean"] <= MOST_MEAN
    if scene in ("half", "pool", "on-off"):
        return f"{row['p95']:.2f}<={MOST_P95:g}", row["p95"] <= MOST_P95
    if scene == "after":
        return f"{row['mean']:.2f}<={MOST_AFTER:g}", row["mean"] <= MOST_AFTER
    return "", True


class Measured:
    """Collects rows, prints and keeps them."""

    def __init__(self, common: dict[str, Any], file: str | None, bar: Any) -> None:
        self.rows: list[report.Row] = []
        self._common, self._file, self._bar = common, file, bar

    def add(
        self,
        case: Case,
        name: str,
        threads: int,
        scene: str,
        row: dict[str, Any],
        held: bool = True,
    ) -> None:
        text, met = bar_of(scene, row) if held else ("", True)
        who = "" if name == runner.OURS else f" {name}"
        self._bar.write(
            f"{case.id:46} {threads:7} {scene:8} {row['mean']:7.2f} {row['p95']:7.2f} "
            f"{text:>9}{'' if met else '  missed'}{who}",
            file=sys.stdout,
        )
        full = {**report.identity(case), "peer": name, "threads": threads, "scene": scene}
        self.rows.append({**full, **row, "met": met, **self._common})
        if self._file:
            report.append(self._file, self.rows[-1])


def measure(case: Case, cores: int, isa: str | None, seconds: float, keep: Measured) -> None:
    """All scenes of one case."""
    reference = expected(case)
    with ExitStack() as stack:

        def start(peer: str, threads: int, isa: str | None) -> runner.Worker:
            return stack.enter_context(runner.Worker(peer, threads, isa, pinned=False))

        made = {n: start(runner.OURS, n, isa) for n in THREADS}
        for each in made.values():
            runner.prepare(each, case, reference)
        peers = {}
        for peer in ("torch", "onnxruntime"):
            other = start(peer, cores, None)
            if not other.absent and "way" in other.case(case, reference):
                peers[peer] = other
        run_scenes(case, cores, made, peers, seconds, keep)


def run_scenes(
    case: Case,
    cores: int,
    made: dict[int, runner.Worker],
    peers: dict[str, runner.Worker],
    seconds: float,
    keep: Measured,
) -> None:
    quiet = {n: each.record(seconds / 2) for n, each in made.items()}
    unit = float(np.mean(quiet[1][WARM_CALLS:]))
    for n, times in quiet.items():
        keep.add(case, runner.OURS, n, "quiet", {**reduce(times, unit), "alone_ms": unit * 1e3})
    for name, other in peers.items():
        keep.add(case, name, cores, "quiet", reduce(other.record(seconds / 2), unit))
    with neighbours(cores, 1.0, 0.0):
        for n, each in made.items():
            keep.add(case, runner.OURS, n, "spin", reduce(each.record(seconds), unit))
        for name, other in peers.items():
            row = reduce(other.record(seconds), unit)
            keep.add(case, name, cores, "spin", row, held=False)
    with neighbours(cores, 0.01, 0.01):
        for n, each in made.items():
            keep.add(case, runner.OURS, n, "half", reduce(each.record(seconds), unit))
    for n, each in made.items():
        found = each.apply(beside_a_pool, case, seconds / 2)
        if "absent" not in found:
            keep.add(case, runner.OURS, n, "pool", reduce(found["ours"], unit))
            if n == cores and case.mode == "forward":
                row = reduce(found["theirs"], unit)
                keep.add(case, "onnxruntime", n, "pool", row, held=False)
    for n, each in made.items():
        with neighbours(cores, 0.5, 0.5):
            keep.add(case, runner.OURS, n, "on-off", reduce(each.record(2 * seconds), unit))
    # Quiet and after in turns: the machine's own speed drifts.
    ratios = []
    for _ in range(3):
        before = float(np.median(made[2].record(0.5)))
        with neighbours(cores, 1.0, 0.0):
            made[2].record(0.5)
        made[2].record(0.5)
        ratios.append(float(np.median(made[2].record(0.5))) / before)
    middle = float(np.median(ratios))
    keep.add(case, runner.OURS, 2, "after", {"mean": middle, "p95": max(ratios)})


def callers(isa: str | None, cores: int, seconds: float, keep: Any) -> list[report.Row]:
    """8 Python threads against one, with one thread and with the default, taking turns."""
    rows = []
    for shape in ((100, 1, 128), (400, 1, 128)):
        T, B, H = shape
        case = Case("lstm", T, B, H, H, mode="forward")
        with runner.Worker(runner.OURS, cores, isa, pinned=False) as each:
            ratios = []
            for _ in range(3):
                rate = [
                    each.apply(count_calls, case, threads, n, seconds)["rate"]
                    for threads, n in ((0, CALLERS), (1, 1), (0, 1))
                ]
                ratios.append((rate[0] / rate[1], rate[0] / rate[2]))
        to_one, to_default = np.median(ratios, axis=0).tolist()
        met = to_one >= LEAST_CALLERS and to_default >= LEAST_DEFAULT
        keep(
            f"{case.id:46} {CALLERS} Python threads: {to_one:.2f} times one with one thread "
            f"(at least {LEAST_CALLERS:g}), {to_default:.2f} times one at the default "
            f"(at least {LEAST_DEFAULT:g}){'' if met else '  missed'}"
        )
        row = {"to_one": to_one, "to_default": to_default, "met": met}
        rows.append({**report.identity(case), "scene": "callers", **row})
    return rows


def run(options: argparse.Namespace) -> list[report.Row]:
    from tqdm import tqdm

    import fastrnn

    cores = len(os.sched_getaffinity(0))
    info = fastrnn.build_info()
    machine = report.machine()
    report.warn_if_busy(machine)
    chosen = suite_options.chosen_cases(options)
    bar = tqdm(total=len(chosen) + 1, leave=False, file=sys.stderr)
    level = options.isa or info["level"]
    bar.write(f"{machine['processor']}, level {level}\n{HEADER}", file=sys.stdout)
    keep = Measured({"level": level, "machine": machine}, options.json, bar)
    for case in chosen:
        bar.set_description(case.id)
        measure(case, cores, options.isa, options.seconds, keep)
        bar.update()
    bar.set_description("many Python threads")
    rows = callers(
        options.isa, cores, options.seconds, lambda text: bar.write(text, file=sys.stdout)
    )
    bar.close()
    return [*keep.rows, *rows]


def totals(rows: Sequence[report.Row]) -> list[str]:
    """The worst of each scene, and how many bars are missed."""
    lines = []
    for scene, held in (("spin", "mean"), ("half", "p95"), ("pool", "p95"), ("on-off", "p95"),
                        ("after", "mean")):  # fmt: skip
        ours = [row for row in rows if row["scene"] == scene and row["peer"] == runner.OURS]
        if ours:
            worst = max(ours, key=lambda row: float(row[held]))
            lines.append(
                f"{scene}: {held} at most {worst[held]:.2f} "
                f"({worst['case']}, {worst['threads']} threads)"
            )
    missed = sum(not row["met"] for row in rows)
    lines.append(f"{len(rows)} rows, {missed} bars missed")
    return lines


def main(arguments: Sequence[str]) -> None:
    parser = suite_options.make_parser("bench load", __doc__)
    suite_options.add_grid(parser, MODES[:2])
    parser.set_defaults(shapes=list(SHAPES), cell=["lstm", "gru"])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (1)")
    print("", *totals(run(parser.parse_args(arguments))), sep="\n")
