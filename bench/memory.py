"""The memory of a training step: its peak of resident bytes, in fastrnn and in torch.

    python -m bench memory [--recompute K ...] [options]

Each figure is of a process of its own. After a small problem has loaded the libraries and started
their threads, the parameters, x and dy are made; what is resident then is the start. The step is
forward and backward for x, the initial states and every parameter, with y and the gradients kept
to its end. Its memory is the peak minus the start; `beyond` takes off what any step returns, y and
dx. Of a peer's ways through a case the one that takes the least counts.

With --recompute K, fastrnn also runs with that option; its result must then equal the plain one's
in every bit. Times are rough: those of a few steps after the measured one, or its own where it is
long.

    python -m bench memory --ragged [--threads N] [--isa LEVEL] [--json FILE]

instead has ragged rows in a PackedSequence: fastrnn.torch.LSTM and torch.nn.LSTM (bench/ragged.py).
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fastrnn._bench import report, runner
from fastrnn._bench.cases import ITEMSIZE, Case, make_data
from fastrnn._bench.peers import Unsupported
from fastrnn._bench.worker import pilot

from . import options as suite_options

OTHER = "torch"
# Small, and yet with work for every thread.
WARM_UP: dict[str, Any] = {"T": 20, "B": 32, "I": 64, "H": 64, "lengths": None}
# Seconds of a step that is not run again to be timed.
LONG_STEP = 1.0


# ---- in the peer's process -----------------------------------------------------------------------


def footprint(module: ModuleType, case: Case, way: int) -> dict[str, Any]:
    """Bytes and seconds of one training step, in a process that has done nothing else.

    Returns
    -------
    dict
        ``bytes`` beyond the start, ``ms``, ``digests`` of the results by name, and how many
        ``ways`` the peer has; or ``unsupported``, the reason why it has none.
    """
    small = replace(case, **WARM_UP)
    try:
        for warm in module.build(small, make_data(small)).values():
            warm.call()
        data = make_data(case)
        ways = list(module.build(case, data).values())
    except Unsupported as reason:
        return {"unsupported": str(reason)}
    start = reset_peak()
    begin = time.perf_counter()
    value = ways[way].call()
    seconds = time.perf_counter() - begin
    taken = resident("VmHWM") - start
    digests = {name: digest(a) for name, a in ways[way].arrays(value).items()}
    del value
    if seconds < LONG_STEP:
        seconds = pilot(ways[way].call)
    return {"bytes": taken, "ms": 1e3 * seconds, "digests": digests, "ways": len(ways)}


def reset_peak() -> int:
    """Let the peak start anew from what is resident now, and return that."""
    # Freed memory that malloc holds would serve the step without becoming resident.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(field: str) -> int:
    """Bytes of this process: VmRSS, now, or VmHWM, at the peak."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) << 10


def digest(array: np.ndarray) -> str:
    return hashlib.blake2b(array.tobytes()).hexdigest()


# ---- the runner's side ---------------------------------------------------------------------------


def measure(peer: str, case: Case, threads: int, isa: str | None) -> dict[str, Any]:
    """`footprint` of the way that takes the least, each in a fresh process.

    Raises
    ------
    SystemExit
        The peer cannot run here, or fails.
    """
    found: list[dict[str, Any]] = []
    while not found or len(found) < found[0]["ways"]:
        with runner.Worker(peer, threads, isa) as worker:
            answer = {} if worker.absent else worker.apply(footprint, case, len(found))
        wrong = worker.absent or answer.get("failed") or answer.get("unsupported")
        if wrong:
            raise SystemExit(f"{case.id}: {peer}: {wrong}")
        found.append(answer)
    return min(found, key=lambda each: int(each["bytes"]))


def result_bytes(case: Case) -> int:
    """Of y and dx."""
    return case.T * case.B * (case.D * case.H + case.I) * ITEMSIZE[case.dtype]


def make_row(case: Case, ours: Mapping[str, Any], other: Mapping[str, Any]) -> report.Row:
    """Bytes of both, whole and beyond y and dx, and fastrnn's over the other's."""
    whole = {runner.OURS: ours["bytes"], OTHER: other["bytes"]}
    beyond = {peer: taken - result_bytes(case) for peer, taken in whole.items()}
    return {
        **report.identity(case),
        "bytes": whole,
        "beyond": beyond,
        "share": whole[runner.OURS] / whole[OTHER],
        "share_beyond": beyond[runner.OURS] / beyond[OTHER],
        "ms": {runner.OURS: ours["ms"], OTHER: other["ms"]},
    }


def rows_of(
    case: Case, recompute: Sequence[int], threads: int, isa: str | None
) -> Iterator[report.Row]:
    """A row of the case as it is, and one for each recompute."""
    other = measure(OTHER, case, threads, None)
    plain = measure(runner.OURS, case, threads, isa)
    yield make_row(case, plain, other)
    for steps in recompute:
        anew = replace(case, recompute=steps)
        ours = measure(runner.OURS, anew, threads, isa)
        wrong = [name for name, bits in plain["digests"].items() if ours["digests"][name] != bits]
        if wrong:
            raise SystemExit(f"{anew.id}: not the bits of the plain step: {', '.join(wrong)}")
        yield make_row(anew, ours, other)


HEADER = (
    f"{'':54} {'whole, MB':^26} {'beyond y and dx, MB':^26} {'ms':^20}\n"
    f"{'case':54} {'torch':>8} {'fastrnn':>9} {'share':>7} "
    f"{'torch':>8} {'fastrnn':>9} {'share':>7} {'torch':>10} {'fastrnn':>9}"
)


def line(row: report.Row) -> str:
    text = f"{row['case']:54}"
    for which, share in (("bytes", "share"), ("beyond", "share_beyond")):
        torch, ours = (row[which][peer] / 1e6 for peer in (OTHER, runner.OURS))
        text += f" {torch:8.2f} {ours:9.2f} {row[share]:7.3f}"
    return f"{text} {row['ms'][OTHER]:10.2f} {row['ms'][runner.OURS]:9.2f}"


def totals(rows: Sequence[report.Row]) -> list[str]:
    """The largest shares, with recompute and without."""
    lines = []
    for recompute in sorted({row["shape"]["recompute"] for row in rows}):
        chosen = [row for row in rows if row["shape"]["recompute"] == recompute]
        name = f"recompute {recompute}" if recompute else "plain"
        for share, what in (("share", "the whole"), ("share_beyond", "beyond y and dx")):
            worst = max(chosen, key=lambda row: float(row[share]))
            lines.append(f"{name}, {what}: at most {worst[share]:.3f} of torch's ({worst['case']})")
    return lines


def main(arguments: Sequence[str]) -> None:
    parser = suite_options.make_parser("bench memory", __doc__)
    suite_options.add_grid(parser, ["train"])
    parser.add_argument(
        "--recompute", nargs="+", type=int, default=[], metavar="K", help="also checkpoint each K"
    )
    parser.add_argument("--ragged", action="store_true", help="of a PackedSequence, under torch")
    options = parser.parse_args(arguments)
    from tqdm import tqdm

    import fastrnn

    threads = options.threads or fastrnn.get_num_threads()
    if options.ragged:
        from . import ragged

        print(f"{report.machine()['processor']}, {threads} threads", ragged.HEADER, sep="\n")
        for row in ragged.rows(threads, options.isa):
            print(ragged.line(row), flush=True)
            if options.json:
                report.append(options.json, {**row, "machine": report.machine()})
        return
    cases = suite_options.chosen_cases(options)
    machine = report.machine()
    print(f"{machine['processor']}, {threads} threads", HEADER, sep="\n")
    rows = []
    bar = tqdm(cases, leave=False, file=sys.stderr)
    for case in bar:
        bar.set_description(case.id)
        for row in rows_of(case, options.recompute, threads, options.isa):
            rows.append({**row, "threads": threads, "machine": machine})
            bar.write(line(row), file=sys.stdout)
            if options.json:
                report.append(options.json, rows[-1])
    print("", *totals(rows), sep="\n")
