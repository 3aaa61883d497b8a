"""How fastrnn scales: what more threads gain, and how cost grows with T and B.

    python -m bench scale [options]

Threads: for each case of the grid with B of 16 and more, the time with one thread divided by that
with all; two workers take turns. Growth: over each sweep of T and B in bench/shapes.toml the time
of each size, one worker a size, all taking turns. Where cost is linear, a size's cost per unit is
the largest size's, and the slope from one size to the next, in log time over log size, is 1.
`python -m bench plot` draws the sweeps of the --json file.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from fastrnn._bench import report, runner
from fastrnn._bench.cases import MODES, Case, expected

from . import options as suite_options

ALONE = "one thread"
LEAST_ROWS = 16  # below, a batch need not fill two threads
GAIN_HEADER = f"{'case':54} {'alone ms':>10} {'all ms':>10} {'gain':>6} (10 .. 90 %)"
GROWTH_HEADER = f"{'case':54} {'ms':>10} {'per unit':>10} {'slope':>8}"


def gain(case: Case, team: Sequence[runner.Worker], seconds: float, rounds: int) -> report.Row:
    """The row of a case whose ratio is what all threads gain."""
    return {**report.identity(case), **runner.measure(team, case, seconds, rounds), "best": None}


def gain_line(row: report.Row) -> str:
    alone, all_ = (report.milliseconds(row["ms"][name]["median"]) for name in (ALONE, runner.OURS))
    r = row["ratios"][ALONE]
    return f"{row['case']:54} {alone} {all_} {r['median']:6.2f} ({r['low']:.2f} .. {r['high']:.2f})"


def growth(
    cases: Sequence[Case], threads: int, isa: str | None, seconds: float, rounds: int
) -> list[report.Row]:
    """Rows of one sweep in one mode, in ascending sizes; see `compare_sizes`."""
    with ExitStack() as stack:
        team = []
        for case in cases:
            made = runner.Worker(runner.OURS, threads, isa, case.id)
            team.append(stack.enter_context(made))
            runner.prepare(made, case, expected(case))
        times = runner.alternate(team, seconds, rounds)
    sizes = [getattr(case, case.sweep) for case in cases]
    found = compare_sizes(sizes, list(times.values()))
    return [{**report.identity(case), **row} for case, row in zip(cases, found, strict=True)]


def compare_sizes(sizes: Sequence[int], times: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Reduce the seconds of each size and round.

    Returns
    -------
    list of dict
        For each size ``ms``, the spread of its milliseconds; ``per_unit``, its cost per unit
        relative to the last size's; ``slope`` from the size before, None for the first. The last
        two are medians of what each round gives.
    """
    t, n = np.asarray(times), np.asarray(sizes, float)[:, None]
    per_unit = np.median(t / n / (t[-1] / n[-1]), axis=1)
    slopes = np.median(np.diff(np.log(t), axis=0) / np.diff(np.log(n), axis=0), axis=1)
    return [
        {
            "ms": {runner.OURS: runner.spread(seconds * 1e3)},
            "ratios": {},
            "best": None,
            "per_unit": float(relative),
            "slope": slope,
        }
        for seconds, relative, slope in zip(t, per_unit, [None, *slopes.tolist()], strict=True)
    ]


def growth_line(row: report.Row) -> str:
    slope = "" if row["slope"] is None else f"{row['slope']:8.2f}"
    ms = report.milliseconds(row["ms"][runner.OURS]["median"])
    return f"{row['case']:54} {ms} {row['per_unit']:10.2f} {slope}".rstrip()


def totals(rows: Sequence[report.Row]) -> list[str]:
    """The least gain, and for each sweep and mode the slope that is farthest from 1."""
    lines = []
    gains = [row for row in rows if not row["sweep"]]
    if gains:
        least = min(gains, key=lambda row: float(row["ratios"][ALONE]["median"]))
        lines.append(f"least gain {least['ratios'][ALONE]['median']:.2f} ({least['case']})")
    sweeps = [row for row in rows if row["sweep"]]
    for (over, mode), chosen in report.groups(sweeps, "sweep", "mode").items():
        costs = [row["per_unit"] for row in chosen]
        slopes = {row["shape"][over]: row["slope"] for row in chosen[1:]}
        farthest = max(slopes, key=lambda size: abs(slopes[size] - 1))
        lines.append(
            f"over {over}, {mode}: cost per unit {min(costs):.2f} .. {max(costs):.2f} of the "
            f"largest size's; slopes {min(slopes.values()):.2f} .. {max(slopes.values()):.2f}, "
            f"farthest from 1 up to {over}={farthest}"
        )
    return lines


def run(options: argparse.Namespace) -> list[report.Row]:
    """Measure and print everything; returns the rows."""
    from tqdm import tqdm

    import fastrnn

    threads, isa = options.threads or fastrnn.get_num_threads(), options.isa
    chosen = suite_options.chosen_cases(options, sweeps=True)
    grid = [case for case in chosen if not case.sweep and case.B >= LEAST_ROWS and threads > 1]
    sweeps = [case for case in chosen if case.sweep in ("T", "B")]
    machine = report.machine()
    report.warn_if_busy(machine)
    rows: list[report.Row] = []
    deadline = time.perf_counter() + 60 * options.minutes
    bar = tqdm(total=len(grid) + len(sweeps), leave=False, file=sys.stderr)

    def seconds() -> float:
        return runner.share_of_time(deadline, bar.total - bar.n)

    def keep(row: report.Row, text: str) -> None:
        rows.append({**row, **common})
        bar.write(text, file=sys.stdout)
        bar.update()
        if options.json:
            report.append(options.json, rows[-1])

    with (
        runner.Worker(runner.OURS, threads, isa) as together,
        runner.Worker(runner.OURS, 1, isa, ALONE) as alone,
    ):
        common = {"threads": threads, "level": together.level, "machine": machine}
        heading = f"{machine['processor']}, {threads} threads, level {together.level}"
        bar.write(f"{heading}\n{GAIN_HEADER}", file=sys.stdout)
        for case in grid:
            bar.set_description(case.id)
            row = gain(case, (together, alone), seconds(), options.rounds)
            keep(row, gain_line(row))
    bar.write(f"\n{GROWTH_HEADER}", file=sys.stdout)
    for cases in in_groups(sweeps):
        bar.set_description(f"sweep of {cases[0].sweep}, {cases[0].mode}")
        for row in growth(cases, threads, isa, seconds() * len(cases), options.rounds):
            keep(row, growth_line(row))
    bar.close()
    return rows


def in_groups(sweeps: Sequence[Case]) -> list[list[Case]]:
    """The cases of each sweep and mode, in ascending sizes."""
    kinds = dict.fromkeys((case.sweep, case.mode) for case in sweeps)
    return [
        sorted(
            (case for case in sweeps if (case.sweep, case.mode) == kind),
            key=lambda case: int(getattr(case, case.sweep)),
        )
        for kind in kinds
    ]


def main(arguments: Sequence[str]) -> None:
    parser = suite_options.make_parser("bench scale", __doc__)
    suite_options.add_grid(parser, MODES[:2])
    parser.add_argument("--rounds", type=int, default=15, help="at most (15); 5 in a hurry")
    parser.add_argument("--minutes", type=float, default=12, help="aim at so many (12)")
    print("", *totals(run(parser.parse_args(arguments))), sep="\n")
