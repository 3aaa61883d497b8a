"""The training loop: progress, signals, validation and checkpoints."""

from __future__ import annotations

import contextlib
import importlib
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from .._user_error import UserError
from ._data import Streams

if TYPE_CHECKING:
    from . import Run

NATS_PER_BIT = math.log(2)


class _Progress:
    """tqdm's bar, or without tqdm a plain line every second."""

    def __init__(self, run: Run) -> None:
        self._chars = run.config.batch * run.config.seq_len
        self._steps, self._done = run.config.steps, run.step
        self._start, self._first = time.monotonic(), run.step
        self._said = self._start
        self._average = 0.0
        self._bar = None
        try:
            tqdm = importlib.import_module("tqdm").tqdm
        except ImportError:
            return
        self._bar = tqdm(
            total=self._steps * self._chars,
            initial=self._done * self._chars,
            unit="char",
            unit_scale=True,
            mininterval=0.2,
            dynamic_ncols=True,
        )

    def update(self, loss: float) -> None:
        """One more step is done."""
        self._done += 1
        steps = self._done - self._first
        self._average += (loss - self._average) / min(steps, 20)
        bits = self._average / NATS_PER_BIT
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"loss {self._average:.3f}, {bits:.3f} bits/char", refresh=False
            )
            self._bar.update(self._chars)
            return
        now = time.monotonic()
        if now - self._said >= 1 or self._done == self._steps:
            self._said = now
            speed = steps * self._chars / (now - self._start)
            line = f"step {self._done}/{self._steps}  loss {self._average:.3f}  "
            print(f"{line}{bits:.3f} bits/char  {speed:,.0f} char/s", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line)
            sys.stdout.flush()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


class Stopped(KeyboardInterrupt):
    """Training that a signal has ended; `number` is the signal's."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


# What a second signal does. (A second Ctrl-C is a KeyboardInterrupt, at once.)
_SECOND: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """Within: the first Ctrl-C or SIGTERM is noted in the list; a second one ends what goes on.

    A signal that is ignored, as under nohup, stays so, and one whose handler is not Python's
    stays with it. Outside the main thread, where Python lets no signal be handled, nothing is
    noted.
    """
    noted: list[int] = []
    previous = {number: signal.getsignal(number) for number in _SECOND}
    if threading.current_thread() is not threading.main_thread():
        previous = {}
    previous = {n: by for n, by in previous.items() if by not in (signal.SIG_IGN, None)}

    def note(number: int, _: FrameType | None) -> None:
        noted.append(number)
        for each in previous:
            signal.signal(each, _SECOND[each])

    for number in previous:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def train(run: Run, streams: Streams, held_out: Streams, out: Path) -> None:
    """Train until ``run.config.steps``; validate and write the checkpoint at intervals.

    Parameters
    ----------
    run : Run
        A new one, or a loaded one to go on with.
    streams, held_out : Streams
        What ``run.split`` gave.
    out : Path
        The checkpoint to write.

    Raises
    ------
    UserError
        A loss that is no longer finite, a checkpoint that cannot be written. The last
        checkpoint stays.
    Stopped
        A KeyboardInterrupt: after Ctrl-C or SIGTERM, once the step under way is done and the
        checkpoint written.
    BrokenPipeError
        Nobody reads what is printed any more; the checkpoint is written.
    """
    first = run.step
    with interrupts() as noted:
        try:
            with contextlib.closing(_Progress(run)) as progress:
                while run.step < run.config.steps and not noted:
                    _train_on(run, streams, held_out, out, progress)
        except BrokenPipeError:
            if run.step > first:
                run.save(out)
            raise
        if noted:
            run.save(out)
    if noted:
        message = f"stopped at step {run.step}; checkpoint written to {out}"
        raise Stopped(message, noted[0])


def _train_on(
    run: Run, streams: Streams, held_out: Streams, out: Path, progress: _Progress
) -> None:
    """One step; where they are due, the validation and the checkpoint after it."""
    c = run.config
    loss = run.train_step(streams)
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss} at step {run.step}; a smaller --lr may help", code=1)
    due = run.step % c.eval_every == 0 or run.step >= c.steps
    if due:
        valid = run.model.evaluate(held_out, c.seq_len)
        since = run.valid_losses[-1][0] if run.valid_losses else 0
        run.valid_losses.append((run.step, valid))
        run.save(out)  # before anything is printed, which may fail
    progress.update(loss)
    if due:
        mean = float(np.mean(run.train_losses[since:]))
        progress.say(
            f"step {run.step:6}  train {mean:.3f}  validation {valid:.3f} nats  "
            f"= {valid / NATS_PER_BIT:.3f} bits/char"
        )
