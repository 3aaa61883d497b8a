"""A character language model, from text to checkpoint to sample.

The way of the data: `load_text` -> `Vocabulary` (characters to integers) -> `Streams` (B parallel
pieces of the text, cut into windows of T steps) -> `Model` (one-hot characters into the layer,
the layer into the softmax head) -> `Run` (model, optimiser and position; what a checkpoint holds)
-> `train` (the loop, with validation and checkpoints).

Training is truncated backpropagation through time with carried state: each window starts from the
final state of the window before it, and gradients stop at its start.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

from fastrnn.training import Adam, clip_grad_norm_

from .._user_error import UserError
from . import _checkpoint
from ._data import Streams, Vocabulary, load_text
from ._model import Config, Model, State
from ._plot import plot, require_plot
from ._train import Stopped, interrupts, train

__all__ = [
    "Config",
    "Model",
    "Run",
    "Stopped",
    "Streams",
    "UserError",
    "Vocabulary",
    "interrupts",
    "load_text",
    "plot",
    "require_plot",
    "train",
]

_VALIDATION_SHARE = 0.05


class Run:
    """A model, its optimiser and the place in the text: all that training goes on from.

    Parameters
    ----------
    config : Config
        Kept in the checkpoint.
    vocabulary : Vocabulary
        Likewise.
    text_hash : str
        SHA-256 of the text, by which a later run knows it again.
    """

    def __init__(self, config: Config, vocabulary: Vocabulary, text_hash: str) -> None:
        self.config = config
        self.text_hash = text_hash
        self.model = Model(config, vocabulary)
        self.optimizer = Adam(list(self.model.modules.values()), config.lr)
        self.step = 0
        self.state: State = None
        self.train_losses: list[float] = []  # one per step
        self.valid_losses: list[tuple[int, float]] = []  # (step, loss)

    def reconfigure(self, **changes: Any) -> None:
        """Change what may change within a run: steps, lr, clip, eval_every, text."""
        self.config = dataclasses.replace(self.config, **changes)
        self.optimizer.lr = self.config.lr

    @classmethod
    def start(cls, config: Config, text: str) -> Run:
        """A new run on `text`.

        Raises
        ------
        UserError
            No text; a model that this machine's memory cannot hold.
        """
        if not text:
            raise UserError("the text is empty")
        vocabulary = Vocabulary("".join(sorted(set(text))))
        # Asked before: a system may promise more than it has, and then ends the process.
        need, have = config.training_bytes(len(vocabulary)), _memory()
        if need > have:
            raise UserError(
                f"--layers {config.layers} of --hidden {config.hidden} must fit in this machine's "
                f"memory of {have / 2**30:,.0f} GiB, got {need // 2**30:,} GiB to train them"
            )
        return cls(config, vocabulary, _hash(text))

    def split(self, text: str) -> tuple[Streams, Streams]:
        """The streams to train on and those to validate with (the end of the text).

        Raises
        ------
        UserError
            Another text than the run's, or one too short for a single window.
        """
        if _hash(text) != self.text_hash:
            raise UserError("the text is not the one that this checkpoint was trained on")
        c = self.config
        held_out = max(2, round(len(text) * _VALIDATION_SHARE))
        ids = self.model.vocabulary.encode(text)
        train_ids, valid_ids = ids[:-held_out], ids[-held_out:]
        if len(train_ids) <= c.batch * c.seq_len:
            raise UserError(
                f"the text is too short: {len(train_ids)} characters to train on, and --batch "
                f"{c.batch} times --seq-len {c.seq_len} needs more than {c.batch * c.seq_len}"
            )
        # A piece must be long against the steps that a zero state needs to warm up.
        pieces = max(1, min(c.batch, held_out // (4 * c.seq_len)))
        return Streams(train_ids, c.batch), Streams(valid_ids, pieces)

    def train_step(self, streams: Streams) -> float:
        """One window: loss in nats before the update."""
        c = self.config
        window = self.step % (len(streams) // c.seq_len)
        if window == 0:
            self.state = None  # the streams start anew, far from where they ended
        inputs, targets = streams.window(window * c.seq_len, c.seq_len)
        loss, self.state, grads = self.model.loss_and_grad(inputs, targets, self.state)
        clip_grad_norm_(grads, c.clip)
        self.optimizer.step(grads)
        self.step += 1
        self.train_losses.append(loss)
        return loss

    def save(self, path: Path) -> None:
        """Write the checkpoint: to a temporary file beside `path`, which then takes its place.

        So `path` is at any moment whole, the old one or the new one.

        Raises
        ------
        UserError
            The checkpoint cannot be written.
        """
        _checkpoint.write(self, path, keep=True)

    def rehearse_save(self, path: Path) -> None:
        """Do all that `save` does and leave `path` as it is: what fails now would fail later.

        Raises
        ------
        UserError
            As `save`.
        """
        _checkpoint.write(self, path, keep=False)

    @classmethod
    def load(cls, path: Path) -> Run:
        """The run of a checkpoint.

        Raises
        ------
        UserError
            A file that is missing or is no whole checkpoint. Nothing in it is ever executed.
        """
        return _checkpoint.read(cls, path)


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
