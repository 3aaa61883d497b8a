"""What it costs that rows are held: against lengths with as many running steps.

    python -m bench holds [--held SHARE] [--rounds N] [options]

Of each row this share of the steps is held, here and there; the other call has the same rows with
their running steps first and a length. Both run in alternating blocks, in one process, with all
threads. `ratio` is that of the medians: 1 where holding costs nothing; at most 1.05 is promised.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from fastrnn._bench import report
from fastrnn._bench.cases import Case

from . import options as suite_options
from .side_by_side import call_of, compare, use_engine

SHAPES = ("100,32,256,256", "250,8,96,96", "400,1,128,128", "60,64,64,64")
MOST = 1.05
HEADER = f"{'case':46} {'held ms':>9} {'lengths ms':>11} {'ratio':>7}"


def calls_of(case: Case, held: float) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """One call with holds, and one with lengths."""
    holds = np.random.default_rng(1).random((case.T, case.B)) < held
    return call_of(case, holds=holds), call_of(case, lengths=(~holds).sum(axis=0))


def main(arguments: Sequence[str]) -> None:
    parser = suite_options.make_parser("bench holds", __doc__)
    suite_options.add_grid(parser, ["forward", "train"])
    parser.set_defaults(shapes=list(SHAPES))
    parser.add_argument("--held", type=_share, default=0.4, help="of the steps (0.4)")
    parser.add_argument("--rounds", type=int, default=15, help="blocks of each call (15)")
    options = parser.parse_args(arguments)
    use_engine(options)
    missed = 0
    print(HEADER)
    for case in tqdm(suite_options.chosen_cases(options), leave=False):
        held, ragged = compare(calls_of(case, options.held), options.rounds)
        missed += held > MOST * ragged
        tqdm.write(f"{case.id:46} {held * 1e3:9.3f} {ragged * 1e3:11.3f} {held / ragged:7.3f}")
        if options.json:
            row = {"case": case.id, "held": held, "lengths": ragged}
            report.append(options.json, row)
    sys.exit(f"{missed} cases over {MOST}" if missed else None)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be within 0..1, got {text}")
    return value
