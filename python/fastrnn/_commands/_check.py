"""``python -m fastrnn check``: is this build right?"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import fastrnn
from fastrnn import _check, _dtypes
from fastrnn._user_error import UserError

from ._options import at_least
from ._progress import Progress

if TYPE_CHECKING:
    from ._options import Commands

_SHOWN = 3  # failures of one line of the table
_QUANTIZED = "quantized"
_COLUMNS = (*_dtypes.WIDE, *_dtypes.NARROW, _QUANTIZED)


def add(commands: Commands) -> None:
    check = commands.add_parser(
        "check",
        help="compare every kernel of this build with the reference",
        description="Compare every kernel of this build, at every instruction level that this "
        "processor runs and on each CUDA device, with fastrnn.reference, plain NumPy in float64. "
        "Exit status 0 where all agree, 1 where some do not.",
        argument_default=argparse.SUPPRESS,
    )
    check.add_argument("--level", metavar="NAME", help="one instruction level of the CPU (all)")
    check.add_argument(
        "--cell",
        metavar="NAME",
        help="a cell, all cells of a base, or a name that fastrnn.cell_name makes (all)",
    )
    check.add_argument("--device", metavar="NAME", help="cpu, cuda, or one as cuda:0 (all)")
    check.add_argument(
        "--seed", type=int, metavar="N", default=0, help="seed of the numbers (%(default)s)"
    )
    check.set_defaults(run=_run)


class _Progress(Progress):
    """Without tqdm a plain line every second."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self._said = time.monotonic()

    def update(self) -> None:
        """One more case is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(1)
        elif time.monotonic() - self._said >= 1:
            self._said = time.monotonic()
            print(f"case {self._done}/{self._total}", file=sys.stderr, flush=True)


class _Line:
    """A line of the table: one cell at one place."""

    def __init__(self, place: _check.Place, subject: _check.Subject) -> None:
        self.place, self.subject = place, subject
        self.cases = 0
        self.worst: dict[str, float] = {}  # by the column
        self.failures: list[_check.Failure] = []

    def check(self, case: _check.Case, seed: int) -> None:
        """Run one case, and count it. That a cell is wrong is proved once."""
        outcome = _check.check(self.place, case, seed, redraw=not self.failures)
        self.cases += 1
        column = _QUANTIZED if case.weights else case.dtype
        self.worst[column] = max(self.worst.get(column, 0.0), outcome.share)
        self.failures += outcome.failures

    @property
    def cells(self) -> list[str]:
        """What stands in the columns."""
        shares = [f"{self.worst[name]:.2g}" if name in self.worst else "-" for name in _COLUMNS]
        end = "FAILED" if self.failures else "ok"
        return [self.place.name, self.subject.label, str(self.cases), *shares, end]


class _Table:
    """Lines whose columns are as wide as the names of all places and cells."""

    def __init__(self, lines: list[_Line]) -> None:
        self._place = max(len("place"), *(len(line.place.name) for line in lines))
        self._cell = max(len("cell"), *(len(line.subject.label) for line in lines))

    def row(self, place: str, cell: str, cases: str, *others: str) -> str:
        """One line of text."""
        *shares, end = others
        columns = [f"{place:{self._place}}", f"{cell:{self._cell}}", f"{cases:>5}"]
        return "  ".join([*columns, *(f"{share:>9}" for share in shares), end]).rstrip()


def _run(given: dict[str, Any]) -> None:
    at_least(given, 0, "seed")
    places, subjects = _places(given), _subjects(given)
    lines = {(p, s): _Line(p, s) for s in subjects for p in places}
    table = _Table(list(lines.values()))
    cases = {s: list(_check.cases_of(s)) for s in subjects}
    progress = _Progress(sum(p.serves(case) for p, s in lines for case in cases[s]))
    start = time.monotonic()
    try:
        progress.say(_heading(given))
        progress.say(table.row("place", "cell", "cases", *_COLUMNS, ""))
        for subject in subjects:
            own = [lines[place, subject] for place in places]
            for case in cases[subject]:
                for line in own:
                    if line.place.serves(case):
                        line.check(case, given["seed"])
                        progress.update()
            for line in own:
                if line.cases:
                    progress.say(table.row(*line.cells))
    finally:
        progress.close()
    _conclude(list(lines.values()), time.monotonic() - start)


def _heading(given: dict[str, Any]) -> str:
    build = fastrnn.build_info()
    text = (
        f"fastrnn {build['version']}, threads {build['threads']}; errors as a share of what is "
        "allowed"
    )
    if "bfloat16" not in _check.dtypes():
        text += "\nno bfloat16 is checked: ml_dtypes is not installed"
    no_gpus = _check.why_no_gpus()
    if no_gpus and not {"device", "level"} & set(given):
        text += f"\nno GPU is checked: {no_gpus}"
    return text


def _conclude(lines: list[_Line], seconds: float) -> None:
    total = sum(line.cases for line in lines)
    wrong = [line for line in lines if line.failures]
    for line in wrong:
        where = f"{line.place.name}, {line.subject.name}"
        for failure in line.failures[:_SHOWN]:
            print(f"{where}, {failure}")
        if len(line.failures) > _SHOWN:
            print(f"{where}: {len(line.failures) - _SHOWN} more")
    if wrong:
        names = ", ".join(f"{line.subject.label} at {line.place.name}" for line in wrong)
        raise UserError(f"this build is wrong: {names}", code=1)
    threads = fastrnn.get_num_threads()
    by_teams = threads > 1 and any(line.place.same_bits for line in lines)
    bits = f", with the same bits for 1 and {threads} threads" if by_teams else ""
    print(f"All {total} cases agree with the reference{bits} ({seconds:.0f} s).")


def _subjects(given: dict[str, Any]) -> list[_check.Subject]:
    if "cell" not in given:
        return _check.subjects()
    try:
        return _check.find_subjects(given["cell"])
    except ValueError as error:
        raise UserError(str(error).replace("[check] cell", "--cell")) from None


def _places(given: dict[str, Any]) -> Sequence[_check.Place]:
    device, levels, gpus = given.get("device"), _check.levels(), _check.gpus()
    if "level" in given:
        if device not in (None, "cpu"):
            raise UserError(f"--level must stand beside no --device but cpu, got {device}")
        return [_level(given["level"], levels)]
    if device is None:
        return [*levels, *gpus]
    found: dict[str, Sequence[_check.Place]] = {"cpu": levels}
    if gpus:
        found |= {"cuda": gpus, **{gpu.name: [gpu] for gpu in gpus}}
    if device not in found:
        reason = "" if gpus else f" (no GPU can be checked: {_check.why_no_gpus()})"
        raise UserError(f"--device must be {' or '.join(found)}{reason}, got {device}")
    return found[device]


def _level(name: str, levels: Sequence[_check.Level]) -> _check.Level:
    for level in levels:
        if level.name == name:
            return level
    names = ", ".join(level.name for level in levels)
    raise UserError(
        f"--level must be one that is built and that this processor has ({names}), got {name}"
    )
