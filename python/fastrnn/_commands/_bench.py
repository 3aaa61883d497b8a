"""``python -m fastrnn bench``: layers beside other libraries' on this machine."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastrnn
from fastrnn._bench.cases import CELL_NAMES, MODES, Case
from fastrnn._user_error import UserError

from ._options import at_least, use_threads, writable
from ._progress import Progress

if TYPE_CHECKING:
    from ._options import Commands

PEERS = ("torch", "onnxruntime")
# At most, and fewer where they take longer than so many seconds, unless their number is given.
ROUNDS, SECONDS = 15, 10.0
# T, B, I, H of what is common: a batch of sequences, and one row whose steps come one by one.
SHAPE, STREAM = (100, 32, 256, 256), (1, 1, 128, 128)
MOST_ELEMENTS = 2**40  # of x and y, or of the weights: beyond what a machine holds


def add(commands: Commands) -> None:
    bench = commands.add_parser(
        "bench",
        help="time layers beside torch's and ONNX Runtime's",
        description="Time layers beside torch's and ONNX Runtime's, where these are installed. "
        "Each library has a process of its own and proves first that its results are the "
        "reference's; then they take turns in short blocks. A ratio is the other library's time "
        "over fastrnn's, the median of the rounds: above 1 fastrnn is faster. The share of the "
        "limit is the time that no program can beat on this machine over fastrnn's.",
        argument_default=argparse.SUPPRESS,
    )
    bench.add_argument(
        "--cell", nargs="+", choices=CELL_NAMES, help=f"cells ({' '.join(CELL_NAMES)})"
    )
    bench.add_argument(
        "--shape",
        nargs="+",
        metavar="T,B,I,H",
        help="steps, rows, inputs and units; streams have one step a call "
        f"({_text(SHAPE)}; of streams {_text(STREAM)})",
    )
    bench.add_argument(
        "--mode",
        nargs="+",
        choices=MODES[:3],
        help="sequences forward, forward and backward, or a step a call (forward train)",
    )
    bench.add_argument("--threads", type=int, metavar="N", help="of each library (all processors)")
    bench.add_argument("--dtype", choices=("float32", "float64"), help="(float32)")
    bench.add_argument(
        "--peers", nargs="*", choices=PEERS, help="the other libraries (those that are installed)"
    )
    bench.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help=f"turns of each ({ROUNDS}, or what {SECONDS:g} s allow)",
    )
    bench.add_argument("--json", metavar="FILE", help="append a line of JSON for each case")
    bench.set_defaults(run=_bench)


def _text(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))


def _sizes(text: str) -> tuple[int, int, int, int]:
    """A shape as it is given."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"--shape must be T,B,I,H, four positive integers, got {text}")
    T, B, I, H = map(int, parts)
    if max(T * B, 4 * H) * (I + H) > MOST_ELEMENTS:
        raise UserError(f"--shape must be of arrays that memory can hold, got {text}")
    return T, B, I, H


def _cases(given: Mapping[str, Any]) -> list[Case]:
    """The cases that are asked for, none of them twice."""
    shapes = [_sizes(text) for text in given.get("shape", ())]
    dtype = given.get("dtype", "float32")
    found = []
    for cell in given.get("cell", CELL_NAMES):
        for mode in given.get("mode", MODES[:2]):
            stream = mode == "stream"
            for T, B, I, H in shapes or [STREAM if stream else SHAPE]:
                steps = 1 if stream else T
                found.append(Case(CELL_NAMES[cell], steps, B, I, H, dtype, mode=mode))
    return list(dict.fromkeys(found))


def _command(given: Mapping[str, Any]) -> str:
    """The command line that gives these options."""
    words = ["python", "-m", "fastrnn", "bench"]
    for name, value in given.items():
        if name not in ("command", "run"):
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *map(str, values)]
    return shlex.join(words)


class _Progress(Progress):
    """Without tqdm a plain line for each case."""

    def begin(self, name: str) -> None:
        """What goes on now."""
        if self._bar is None:
            print(f"{self._done}/{self._total} done: {name}", file=sys.stderr, flush=True)
        else:
            self._bar.set_description(name)

    def end(self) -> None:
        """One more case is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()


def _bench(given: dict[str, Any]) -> None:
    at_least(given, 1, "rounds")
    use_threads(given)
    cases = _cases(given)
    if "json" in given:
        writable("--json", Path(given["json"]))
    from fastrnn._bench import report

    machine = report.machine()
    info = fastrnn.build_info()
    print(f"fastrnn {info['version']}, {info['compiler']}; {machine['processor']}")
    report.warn_if_busy(machine)
    progress = _Progress(len(cases))
    try:
        found = _measure(given, cases, machine, progress)
    except SystemExit as error:  # what the suite ends with where a library fails
        raise UserError(str(error), 1) from None
    finally:
        progress.close()
    print("", *report.totals(found), sep="\n")


def _measure(
    given: Mapping[str, Any], cases: list[Case], machine: dict[str, Any], progress: _Progress
) -> list[dict[str, Any]]:
    """The rows of all cases, printed and written as they come."""
    from fastrnn._bench import limits, report, rows, runner
    from fastrnn._bench.peers import OURS

    progress.begin("the machine's limits")
    measured = limits.probe(fastrnn.get_num_threads())
    progress.say(limits.line(measured))
    peers = given.get("peers", PEERS)
    rounds, seconds = given.get("rounds", ROUNDS), math.inf if "rounds" in given else SECONDS
    found = []
    with runner.workers(peers, measured["threads"], None) as workers:
        team = rows.present(workers, progress.say)
        shared = rows.common(team, measured, machine, _command(given))
        columns = [name for name in shared["versions"] if name != OURS]
        width = max(len(case.id) for case in cases)
        for line in (*rows.heading(team, shared), "", report.header(columns, width)):
            progress.say(line)
        for case in cases:
            progress.begin(case.id)
            row = rows.measure(team, case, seconds, rounds, shared)
            for line in (report.line(row, columns, width), *rows.left_out(team, row)):
                progress.say(line)
            if "json" in given:
                report.append(given["json"], row)
            found.append(row)
            progress.end()
    return found
