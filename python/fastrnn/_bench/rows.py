"""The rows of a run: who takes part, what all rows share, a row of each case, and their lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import limits, report, runner
from .cases import Case
from .peers import OURS
from .report import Row

Say = Callable[[str], None]


def present(workers: Sequence[runner.Worker], say: Say) -> list[runner.Worker]:
    """The workers whose peers can run here; says which cannot.

    Raises
    ------
    SystemExit
        fastrnn itself, which is the first, cannot.
    """
    for worker in workers[1:]:
        if worker.absent:
            say(f"{worker.peer}: left out: {worker.absent}")
    if workers[0].absent:
        raise SystemExit(f"{workers[0].peer}: {workers[0].absent}")
    return [worker for worker in workers if not worker.absent]


def common(
    team: Sequence[runner.Worker], measured: limits.Limits, machine: Row, command: str
) -> Row:
    """What all rows of a team share."""
    return {
        "threads": measured["threads"],
        "level": team[0].level,
        "limits": measured,
        "machine": machine,
        "command": command,
        "versions": {worker.name: worker.hello["version"] for worker in team},
    }


def heading(team: Sequence[runner.Worker], shared: Row) -> Iterator[str]:
    """Who takes part, with what peers have of the modes."""
    names = ", ".join(f"{peer} {text}" for peer, text in shared["versions"].items())
    yield f"{shared['threads']} threads, level {shared['level']}: {names}"
    yield from (f"{worker.name}: {worker.note}" for worker in team if worker.note)


def measure(
    team: Sequence[runner.Worker], case: Case, seconds: float, rounds: int, shared: Row
) -> Row:
    """`runner.measure` as a row, with the case's bound and the share of it."""
    row: dict[str, Any] = {**report.identity(case), **runner.measure(team, case, seconds, rounds)}
    row.update(shared)
    row["bound_ms"] = 1e3 * limits.bound(case, shared["limits"])
    row["share"] = row["bound_ms"] / row["ms"][OURS]["median"]
    return row


def left_out(team: Sequence[runner.Worker], row: Row) -> Iterator[str]:
    """Which peers are not in a row, and why, but for what the heading has said."""
    for worker in team:
        reason = row["without"].get(worker.name, "")
        if reason not in worker.note:
            yield f"    {worker.name}: left out: {reason}"
