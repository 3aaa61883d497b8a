"""Draws the pictures of docs/start/numpy.md from what the page's own code has made.

    python tools/start_pictures.py

runs the page's blocks and writes docs/images/start/*.svg. It needs matplotlib.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import snippets

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "start" / "numpy.md"
FOLDER = ROOT / "docs" / "images" / "start"


def names_of_the_page() -> dict[str, Any]:
    """What the blocks of the page have made, and `ragged`, the y of its section on ragged rows."""
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for block in snippets.blocks(PAGE.read_text(encoding="utf-8")):
            exec(block.compiled(str(PAGE)), names)
            if "layer(x, lengths=lengths)" in block.code and "ragged" not in names:
                names["ragged"] = names["y"].copy()
        os.chdir(ROOT)
    return names


def draw_ragged(y: np.ndarray, path: Path) -> None:
    """y of each row, (T, H), side by side."""
    figure, axes = plt.subplots(1, y.shape[1], figsize=(7, 1.9), sharey=True, layout="constrained")
    for b, axis in enumerate(axes):
        shown = np.ma.masked_equal(y[:, b].T, 0)
        axis.pcolormesh(shown, cmap="coolwarm", vmin=-0.4, vmax=0.4, rasterized=True)
        axis.set(title=f"row {b}", xlabel="step", xlim=(0, len(y)))
    axes[0].set_ylabel("unit")
    save(figure, path)


def draw_losses(losses: list[float], path: Path) -> None:
    """The loss of each step of training, beside that of a guess."""
    figure, axis = plt.subplots(figsize=(7, 2.2), layout="constrained")
    axis.axhline(np.log(8), color="grey", linestyle=":", label="a guess, ln 8")
    axis.plot(losses, label="training")
    axis.set(xlabel="step", ylabel="loss", xlim=(0, len(losses) - 1), ylim=(0, None))
    axis.legend()
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    """Write a picture whose bytes depend on the picture alone."""
    figure.savefig(path, metadata={"Date": None}, dpi=80)
    plt.close(figure)


def main() -> None:
    """Draw both."""
    matplotlib.rcParams["svg.hashsalt"] = "fastrnn"
    matplotlib.rcParams["svg.fonttype"] = "none"
    names = names_of_the_page()
    FOLDER.mkdir(parents=True, exist_ok=True)
    draw_ragged(names["ragged"], FOLDER / "ragged.svg")
    draw_losses(names["losses"], FOLDER / "loss.svg")


if __name__ == "__main__":
    main()
