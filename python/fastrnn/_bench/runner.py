"""Alternates short blocks between the workers (A B C A B C ...) and reduces their times.

A drift of the machine's speed meets all peers of a round alike, so ratios are taken within each
round; what is reported is their median and their spread.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from . import peers as all_peers
from .cases import Case, expected
from .peers import AGAINST, OURS, is_ours, runs_engine

HERE = Path(__file__).resolve().parent
BLOCK_SECONDS = 0.05
LEAST_ROUNDS = 5
LIBRARIES = ("OMP", "OPENBLAS", "MKL", "BLIS")


class Worker:
    """The runner's side of a peer's process; in a `with` block the process ends with the block.

    Parameters
    ----------
    name : str
        What its times are called by; the peer's name where it is empty.
    pinned : bool
        Whether it stays on as many processors as it has threads, where there are more.
    python : sequence of str
        The command that starts another environment's Python; this one's where it is empty.

    Raises
    ------
    SystemExit
        There is no such command.
    """

    def __init__(
        self,
        peer: str,
        threads: int,
        isa: str | None,
        name: str = "",
        pinned: bool = True,
        python: Sequence[str] = (),
    ) -> None:
        self.peer = peer
        self.name = name or peer
        self._pipe, far = multiprocessing.Pipe()
        arguments = [str(far.fileno()), peer, str(threads), "pinned" if pinned else "free"]
        arguments += packages(peer, bool(python))
        with far:
            try:
                self._process = subprocess.Popen(
                    [*(python or [sys.executable]), str(HERE / "start.py"), *arguments],
                    env=environment(threads, isa if runs_engine(peer) else None, bool(python)),
                    pass_fds=[far.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            except OSError as error:
                command = shlex.join(python)
                raise SystemExit(f"[bench] {self.name}: {command}: {error.strerror}") from None
        self.hello = self._receive()

    @property
    def absent(self) -> str:
        """Why the peer does not take part, or an empty text."""
        return str(self.hello.get("absent") or self.hello.get("failed") or "")

    @property
    def level(self) -> str:
        """The instruction set that fastrnn uses there."""
        return str(self.hello["version"]).split()[-1]

    @property
    def note(self) -> str:
        """What the peer has of the modes, or an empty text."""
        return str(self.hello.get("note", ""))

    def case(self, case: Case, reference: dict[str, np.ndarray]) -> dict[str, Any]:
        """Build and prove a case; the answer names the way, or why there is none."""
        return dict(self._ask("case", case, reference, BLOCK_SECONDS))

    def block(self) -> float:
        """Mean seconds of a call in one block; returns when the peer's threads are at rest."""
        answer = self._ask("block")
        if isinstance(answer, dict):
            raise SystemExit(f"{self.peer}: {answer['failed']}")
        return float(answer)

    def record(self, seconds: float) -> list[float]:
        """Seconds of each call, for so long."""
        answer = self._ask("record", seconds)
        if isinstance(answer, dict):
            raise SystemExit(f"{self.peer}: {answer['failed']}")
        return list(answer)

    def apply(self, function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        """What `function`, of a module of the suite, returns there for the peer's module."""
        return dict(self._ask("apply", function, *arguments))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        with self._pipe:
            if failed:
                self._process.kill()
            try:
                self._pipe.send(("stop",))
                self._process.wait(20)
            except (OSError, subprocess.TimeoutExpired):  # it has ended, or does not
                self._process.kill()
            self._process.wait()

    def _ask(self, *message: Any) -> Any:
        try:
            self._pipe.send(message)
        except OSError:
            return {"failed": "its process ended"}
        return self._receive()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            return {"failed": f"its process ended with {self._process.wait()}"}


def environment(threads: int, isa: str | None, elsewhere: bool) -> dict[str, str]:
    """The variables of a worker; one of another environment finds nothing by this one's paths."""
    without = ("PYTHONPATH", "PYTHONHOME") if elsewhere else ()
    settings = {name: value for name, value in os.environ.items() if name not in without}
    for library in LIBRARIES:
        settings[f"{library}_NUM_THREADS"] = str(threads)
    return {**settings, "FASTRNN_ISA": isa} if isa else settings


def packages(peer: str, elsewhere: bool) -> list[str]:
    """What a worker brings from here, as `start.py` takes it: the suite, and places of peers.

    Where the worker is of this environment, fastrnn too; beside other libraries its name alone.
    """
    ours = [] if elsewhere else [f"fastrnn={HERE.parent}"]
    found = [*(ours if runs_engine(peer) else ["fastrnn="]), f"{__package__}={HERE}"]
    for place in all_peers.PLACES:
        outermost = place.partition(".")[0]
        if outermost != "fastrnn":
            folder = Path(str(sys.modules[outermost].__file__)).resolve().parent
            found.append(f"{outermost}={folder}")
    return found


@contextmanager
def workers(
    peers: Sequence[str],
    threads: int,
    isa: str | None,
    ours: str = OURS,
    against: Sequence[str] = (),
) -> Iterator[list[Worker]]:
    """A worker for each peer, all of them stopped at the end.

    fastrnn (or the adapter `ours`) is the first; then the same of the environment whose Python
    `against` starts, if it is given.
    """
    with ExitStack() as stack:
        team = [stack.enter_context(Worker(ours, threads, isa, OURS))]
        if against:
            other = Worker(ours, threads, isa, AGAINST, python=against)
            team.append(stack.enter_context(other))
        team += [stack.enter_context(Worker(p, threads, isa)) for p in peers if p != OURS]
        yield team


def share_of_time(deadline: float, left: int) -> float:
    """Seconds to time one of the `left` cases: building and proving take the larger part."""
    return 0.45 * (deadline - time.perf_counter()) / left


def measure(team: Sequence[Worker], case: Case, seconds: float, rounds: int) -> dict[str, Any]:
    """Prove and time one case; `seconds` bound the timing, but for the first 5 of the `rounds`.

    Returns
    -------
    dict
        What `summary` gives, by the workers' names, with ``ways`` and ``without``, the reasons of
        peers left out.
    """
    reference = expected(case)
    taking, ways, without = [], {}, {}
    for worker in team:
        answer = prepare(worker, case, reference)
        if "way" in answer:
            taking.append(worker)
            ways[worker.name] = answer["way"]
        else:
            without[worker.name] = answer.get("failed") or answer["unsupported"]
    times = alternate(taking, seconds, rounds)
    return {**summary(times), "ways": ways, "without": without}


def prepare(worker: Worker, case: Case, reference: dict[str, np.ndarray]) -> dict[str, Any]:
    """`Worker.case`, where fastrnn must have a way; another build of it may be older."""
    answer = worker.case(case, reference)
    if is_ours(worker.peer) and worker.name != AGAINST and "way" not in answer:
        raise SystemExit(f"{case.id}: fastrnn: {answer.get('failed') or answer['unsupported']}")
    return answer


def alternate(team: Sequence[Worker], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Seconds of a call of each worker, round by round: `rounds`, or fewer where that takes longer
    than so many seconds, but not under `LEAST_ROUNDS` for it."""
    times: dict[str, list[float]] = {worker.name: [] for worker in team}
    for worker in team:  # warms up
        worker.block()
    start = time.perf_counter()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() - start > seconds:
            break
        for worker in team:
            times[worker.name].append(worker.block())
    return times


def spread(values: Any) -> dict[str, float]:
    """Median and the 10 and 90 % quantiles."""
    low, middle, high = np.quantile(np.asarray(values, float), (0.1, 0.5, 0.9))
    return {"median": float(middle), "low": float(low), "high": float(high)}


def summary(times: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Reduce the seconds of each round.

    Returns
    -------
    dict
        ``ms``: spread of each peer's milliseconds; ``ratios``: spread of each other peer's time
        over fastrnn's, round by round, above 1 where fastrnn is faster; ``best``: the fastest of
        the other libraries by its median, or None; ``rounds``.
    """
    ours = np.asarray(times[OURS])
    others = [peer for peer in times if peer != OURS]
    rivals = [peer for peer in others if peer != AGAINST]
    ms = {peer: spread(np.asarray(t) * 1e3) for peer, t in times.items()}
    return {
        "ms": ms,
        "ratios": {peer: spread(np.asarray(times[peer]) / ours) for peer in others},
        "best": min(rivals, key=lambda peer: ms[peer]["median"]) if rivals else None,
        "rounds": len(ours),
    }
