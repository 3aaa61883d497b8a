"""What a second product in the step costs: against the cell of the same family that has one.

    python -m bench phases [--rounds N] [options]

The GRU that resets before the product stands beside the one that resets after it, and an LSTM with
a projection to a quarter of its units beside one without. Both run in alternating blocks, in one
process, with all threads. `share` is the quotient of their operations a second: 1 where the second
product costs no more than its arithmetic. In a step two products follow each other, each with its
own way through the caches and, where members share units, its own barrier: 0.8 of the rate is asked
of forward, and 0.75 of a training step.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from tqdm import tqdm

from fastrnn._bench import report
from fastrnn._bench.cases import Case

from . import options as suite_options
from .side_by_side import call_of, compare, use_engine

SHAPES = ("100,32,256,256", "50,64,512,512", "100,1,128,128")
LEAST = {"forward": 0.8, "train": 0.75}
HEADER = f"{'case':54} {'GF/s':>8} {'one product':>12} {'share':>7}"


def of_two_phases(case: Case) -> Case:
    """The case of the same family whose step has two products."""
    if case.cell == "gru":
        return replace(case, cell="gru_reset_before")
    return replace(case, P=max(1, case.H // 4))


def main(arguments: Sequence[str]) -> None:
    parser = suite_options.make_parser("bench phases", __doc__)
    suite_options.add_grid(parser, ["forward", "train"])
    parser.set_defaults(shapes=list(SHAPES), cell=["gru", "lstm"])
    parser.add_argument("--rounds", type=int, default=15, help="blocks of each call (15)")
    options = parser.parse_args(arguments)
    use_engine(options)
    missed = 0
    print(HEADER)
    for one in tqdm(suite_options.chosen_cases(options), leave=False):
        if one.cell not in ("gru", "lstm"):
            raise SystemExit(f"[bench] phases are those of gru and lstm, got {one.cell}")
        two = of_two_phases(one)
        seconds = compare((call_of(two), call_of(one)), options.rounds)
        rates = [case.flops() / t / 1e9 for case, t in zip((two, one), seconds, strict=True)]
        share = rates[0] / rates[1]
        missed += share < LEAST[two.mode]
        tqdm.write(f"{two.id:54} {rates[0]:8.1f} {rates[1]:12.1f} {share:7.3f}")
        if options.json:
            row = {"case": two.id, "gflops": rates[0], "one_product": rates[1]}
            report.append(options.json, row)
    sys.exit(f"{missed} cases under their share" if missed else None)
