"""The loss curve of a run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._user_error import UserError
from ._train import NATS_PER_BIT

if TYPE_CHECKING:
    from . import Run


def require_plot(path: Path) -> None:
    """Refuse a plot that could not be drawn, before the training and not after it.

    Raises
    ------
    UserError
        No matplotlib; a file type that it does not write.
    """
    try:
        figure = importlib.import_module("matplotlib.figure").Figure()
    except ImportError:
        raise UserError('--plot needs matplotlib: pip install "fastrnn[demo]"') from None
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise UserError(f"--plot must end in one of {', '.join(sorted(known))}, got {path}")


def plot(run: Run, path: Path) -> None:
    """Draw training and validation loss against the characters seen."""
    figure = importlib.import_module("matplotlib.figure").Figure(layout="constrained")
    axes = figure.subplots()
    chars = run.config.batch * run.config.seq_len
    losses = np.array(run.train_losses)
    group = max(1, len(losses) // 200)  # steps averaged into one of about 200 points
    points = len(losses) // group
    means = losses[: points * group].reshape(points, group).mean(axis=1)
    axes.plot((np.arange(points) + 1) * group * chars, means, label="training")
    steps, valid = np.array(run.valid_losses).reshape(-1, 2).T
    axes.plot(steps * chars, valid, "o-", markersize=3, label="validation")
    axes.set_xlabel("characters seen")
    axes.set_ylabel("loss, nats per character")
    bits = axes.secondary_yaxis(
        "right", functions=(lambda x: x / NATS_PER_BIT, lambda x: x * NATS_PER_BIT)
    )
    bits.set_ylabel("bits per character")
    axes.legend()
    try:
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", code=1) from None
