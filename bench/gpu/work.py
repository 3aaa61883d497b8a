"""Work that goes on where it stopped, on a GPU that may hang or be lost in the middle.

A command's cases are done by a process of its own, the worker, which writes a JSON line when a case
begins and another when it ends. `supervise` watches the file: a worker that hangs is killed, and a
worker whose device is lost ends itself; then another one goes on, and the case that has begun and
never ended counts as failed. So one bad case costs itself alone, and a run that is stopped at any
time loses at most the case that it was at.

Needs nothing but the standard library.
"""

from __future__ import annotations

import math
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from fastrnn._bench.report import Row, append, read

LOST = 75  # exit status of a worker whose device does not go on
PATIENCE = 150.0  # seconds without a new row, after which a worker hangs
GRACE = 40.0  # seconds for the case that is running when the minutes are over


@dataclass(frozen=True)
class Task:
    """A piece of work: what names it in the file, and what finds the rest of its row."""

    fields: Row
    run: Callable[[], Row]


def key(row: Row) -> tuple[Any, Any]:
    """What names a row in its file."""
    return row["case"], row.get("mode")


def read_rows(path: Path) -> list[Row]:
    """The rows of a file that say how something ended; of a case that was done again the last."""
    ends = {key(row): row for row in _all_rows(path) if not {"begun", "stopped"} & row.keys()}
    return list(ends.values())


def _all_rows(path: Path) -> list[Row]:
    return read(path) if path.exists() else []


def end(path: Path, how: Row) -> None:
    """Write how the cases ended that have begun and of which the file says no more."""
    last = {key(row): row for row in _all_rows(path)}
    for row in last.values():
        if "begun" in row:
            fields = {name: value for name, value in row.items() if name != "begun"}
            append(path, {**fields, **how})


# ---- the worker ----------------------------------------------------------------------------------


def attempt(task: Task) -> Row:
    """The row of a task: what it finds, or why it was skipped, or how it failed."""
    try:
        return {**task.fields, **task.run()}
    except NotImplementedError as error:
        return {**task.fields, "skipped": str(error)}
    except Exception as error:
        # Of torch, by its name: this module works without torch.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        outcome = "skipped" if type(error).__name__ == "OutOfMemoryError" else "failed"
        return {**task.fields, outcome: reason}


def work_through(
    path: Path,
    tasks: Sequence[Task],
    minutes: float,
    say: Callable[[Row], str],
    still_works: Callable[[], bool] = lambda: True,
) -> int:
    """Do the tasks that the file has no end of, until the minutes are over (0: to the end).

    Returns
    -------
    int
        An exit status: LOST where another process has to go on, else `verdict`'s.
    """
    end(path, {"failed": "it has begun and never ended: it hung, or its process was killed"})
    done = {key(row) for row in read_rows(path)}
    left = [task for task in tasks if key(task.fields) not in done]
    began = time.monotonic()
    count = len(tasks) - len(left)
    print(f"{len(tasks)} cases, {count} done before", flush=True)
    for task in left:
        if minutes and time.monotonic() - began > 60 * minutes:
            break
        append(path, {**task.fields, "begun": round(time.time())})
        row = attempt(task)
        append(path, row)
        count += 1
        print(f"[{count}/{len(tasks)}] {row['case']}: {outcome_of(row, say)}", flush=True)
        if "failed" in row and not still_works():
            print("the device does not go on in this process", flush=True)
            return LOST
    if count < len(tasks):
        print(f"{len(tasks) - count} cases left: run it again")
    return verdict(path)


def outcome_of(row: Row, say: Callable[[Row], str]) -> str:
    """A row in a few words."""
    for outcome in ("failed", "skipped", "unchecked"):
        if outcome in row:
            return f"{outcome}: {row[outcome]}"
    return say(row)


def verdict(path: Path) -> int:
    """Name the failures of a file and what it could not check; 1 where there are some."""
    rows = read_rows(path)
    for outcome, title in (("failed", "FAILED"), ("unchecked", "NOT CHECKED")):
        for row in rows:
            if outcome in row:
                print(f"{title} {row['case']}: {row[outcome]}", flush=True)
    return int(any("failed" in row or "unchecked" in row for row in rows))


# ---- who watches it ------------------------------------------------------------------------------


class Hung(Exception):
    """A worker has written nothing for too long."""


class Over(Exception):
    """The time is over, and the worker still at a case."""


def supervise(
    command: Sequence[str],
    path: Path,
    minutes: float,
    patience: float = PATIENCE,
    grace: float = GRACE,
) -> int:
    """Run workers of a command, one after the other, until its cases are done or the time is over.

    Parameters
    ----------
    command : sequence of str
        Starts a worker, which takes ``--minutes``.
    path : Path
        The file of its rows.
    minutes : float
        0: to the end.
    patience, grace : float
        Seconds.

    Returns
    -------
    int
        An exit status.
    """
    deadline = time.monotonic() + 60 * minutes if minutes else math.inf
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        while True:
            had = _size(path)
            left = max((deadline - time.monotonic()) / 60, 1e-3) if minutes else 0.0
            worker = subprocess.Popen([*command, "--minutes", f"{left:.4f}"])
            status = _watched(worker, path, patience, deadline + grace)
            if status in (0, 1):
                return status
            if time.monotonic() > deadline:
                print("cases left: run it again", flush=True)
                return verdict(path)
            if _size(path) == had:
                print(f"a process has done nothing and ended with status {status}", flush=True)
                return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def _watched(worker: subprocess.Popen[bytes], path: Path, patience: float, deadline: float) -> int:
    """The exit status of a worker; what it leaves open is ended."""
    how: Row = {"stopped": "its process was told to stop"}
    try:
        status = _wait(worker, path, patience, deadline)
        how = {"failed": f"its process ended with status {status}"}
    except Hung:
        status, how = LOST, {"failed": f"it hung: no end within {patience:g} s"}
        print("a case hangs: its process is killed", flush=True)
    except Over:
        status = LOST
    finally:
        worker.kill()
        worker.wait()
        end(path, how)
    return status


def _wait(worker: subprocess.Popen[bytes], path: Path, patience: float, deadline: float) -> int:
    size, since = _size(path), time.monotonic()
    while True:
        try:
            return worker.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if _size(path) != size:
            size, since = _size(path), now
        if now > deadline:
            raise Over
        if now - since > patience:
            raise Hung


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _stop(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)
