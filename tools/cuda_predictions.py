"""What the planner's model expects of the cases that bench/gpu times, as a page of the docs.

    python tools/cuda_predictions.py FOLDER > docs/gpu-predicted.md

It asks the planner of the emulated module in FOLDER. cuDNN's times are those of docs/gpu-h200.md.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cuda_resources

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT), str(ROOT / "python")]  # behind an installed fastrnn

from bench.gpu import report, timing  # noqa: E402
from bench.gpu.timing import Case  # noqa: E402
from bench.gpu.ways import MODES, TF32, ways_of  # noqa: E402

H200 = cuda_resources.Card("H200", 132, 227, 1.98, 16)
H100 = cuda_resources.CARDS["90"]
# What docs/gpu-h200.md says of the card, and of its exchanges: the rates that floors are made of.
# (The barrier of a cluster is the one that its shares of the floor follow from.)
RATES = {
    "device": {"processors": 132, "shared_per_block": 227 << 10, "gigahertz": 1.98},
    "tflops": {"float32": 51.0, "float16": 756.0, "bfloat16": 787.0},
    "gigabytes_per_second": 4158.0,
}
EXCHANGES = {
    "barrier": 0.661,
    "barrier_per_block": 0.00235,
    "launch": 3.65,
    "streamed_bytes": 19.1,
    "cluster_barrier": 0.19,
}

TOP = """\
# What the model expects on an H200

**Nothing on this page was measured but cuDNN's times.** The others are what the planner's model
(`csrc/cuda/costs.h`) expects of kernels that no card has run yet. Of the model's numbers some were
measured on an H200 with the kernels before these; what an exchange by flags or in a cluster costs,
and the rate of tensor cores, are assumed, and that a tile takes as long as it did. So the page says
what to compare first. It does not say how fast anything is.

Times are microseconds of a step of a layer with I = H: its scans by the model, and the products
outside of them by the rate of a large product on an H200.

* *grid*, *flags*, *cluster*, *stepwise*: in that mode; empty where it refuses the pass. *stepwise*
  with a graph of its steps, as it has with torch: what a node of one takes is assumed too.
* *best*: what the plan takes, and the first letters of its modes, in training of forward and
  backward. *H100*: the same on an H100, whose clock is lower.
* *TF32*: the best where `fastrnn.cuda.tf32()` allows it.
* *floor*: how much of the best no program can avoid ([gpu.md](gpu.md)).
* *measured*: by these kernels on a card; empty until one has run them.
* *cuDNN*: on an H200, from [gpu-h200.md](gpu-h200.md), where it has it; float32 without TF32.

bfloat16 stands for float16 too, which the model takes for the same; float16 has layers of models
alone."""

HEADER = (
    f"| cell | T | B | H | {' | '.join(MODES)} | best | TF32 | H100 | floor | measured | cuDNN |",
    "|-|-:|-:|-:|-:|-:|-:|-:|-|-:|-:|-:|-:|-:|",
)


# Microseconds of a layer's step and the first letters of its modes, or None where one refuses.
Step = tuple[float, str] | None


def step(engine: Any, case: Case, way: str) -> Step:
    """What the model expects of a case on the card in use, in a way or with ``best``."""
    stack = engine.Stack(case.cell, case.dtype, 1, 1, case.H, case.H, False)
    passes = (False,) if case.kind == "forward" else (False, True)
    engine.use_mode(way if way in MODES else "best")
    engine.use_tf32(way == TF32)
    try:
        plans = [stack.plan(case.T, case.B, 0, backward) for backward in passes]
    except NotImplementedError:
        return None
    finally:
        engine.use_mode("best")
        engine.use_tf32(False)
    scans = sum(plan["model_microseconds"] for plan in plans)
    outside = report.outside_us(case.fields(), RATES)
    return case.L * (scans + outside), "".join(plan["mode"][0] for plan in plans)


def measured_of_cudnn() -> dict[tuple[Any, ...], str]:
    """cuDNN's microseconds of a step, by dtype, kind, cell and sizes."""
    found: dict[tuple[Any, ...], str] = {}
    title = None
    for text in (ROOT / "docs" / "gpu-h200.md").read_text(encoding="utf-8").splitlines():
        if text.startswith("## "):
            title = re.match(r"## (\w+), (\w+)$", text)
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        if title and len(cells) > 6 and cells[1].isdecimal():
            found[(*title.groups(), cells[0], *map(int, cells[1:4]))] = cells[6]
    return found


def line(case: Case, expected: dict[str, Step], cudnn: str) -> str:
    """A line of a table."""

    def us(way: str) -> str:
        found = expected.get(way)
        return f"{found[0]:.2f}" if found else ""

    best = expected["best"]
    assert best, "stepwise takes every pass"
    floor = report.floor_us(case.fields(), RATES, EXCHANGES)
    cells = [
        f"{case.cell} x {case.L}" if case.L > 1 else case.cell,
        *map(str, (case.T, case.B, case.H)),
        *map(us, MODES),
        f"{us('best')} {best[1]}",
        us(TF32),
        us("H100"),
        f"{100 * floor / best[0]:.0f} %",
        "",
        cudnn,
    ]
    return f"| {' | '.join(cells)} |"


def expectations(engine: Any, cases: list[Case]) -> dict[Case, dict[str, Step]]:
    """Of each case each way on an H200, and the best on an H100."""
    cuda_resources.use(engine, H200)
    ways = {case: ("best", *ways_of(case.dtype)) for case in cases}
    found = {case: {way: step(engine, case, way) for way in ways[case]} for case in cases}
    cuda_resources.use(engine, H100)
    for case in cases:
        found[case]["H100"] = step(engine, case, "best")
    return found


def predictions(engine: Any) -> Iterator[str]:
    """The lines of docs/gpu-predicted.md."""
    cases = [*timing.models(), *(c for c in timing.squares() if c.dtype != "float16")]
    expected = expectations(engine, cases)
    cudnn = measured_of_cudnn()
    yield from TOP.splitlines()
    for dtype, kind in itertools.product(timing.DTYPES, timing.KINDS):
        yield from ("", f"## {dtype}, {kind}", "", *HEADER)
        for case in (each for each in cases if (each.dtype, each.kind) == (dtype, kind)):
            key = (case.dtype, case.kind, case.cell, case.T, case.B, case.H)
            yield line(case, expected[case], cudnn.get(key, ""))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    print(*predictions(cuda_resources.load(options.folder, "_cuda_emulated")), sep="\n")


if __name__ == "__main__":
    main()
