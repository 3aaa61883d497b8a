"""What the programs of this folder share: options, progress, figures, pictures, missing packages.

Nothing here is about recurrent networks: each program tells its own story without this file.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Figures = dict[str, dict[str, float]]  # what was measured -> of whom -> the figure


@contextlib.contextmanager
def packages(extra: str = "examples") -> Iterator[None]:
    """End the program with the command that helps where an import inside finds no package."""
    try:
        yield
    except ModuleNotFoundError as error:
        sys.exit(f"this program needs {error.name}; in the clone: pip install '.[{extra}]'")


def folder_of(package: str) -> Path:
    """Find an installed package's folder, without the import that may load models or ask a network.

    Ends the program with the command that helps where there is none.
    """
    with packages():
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise ModuleNotFoundError(name=package)
        return Path(found.origin).parent


def positive(text: str) -> int:
    """Read a count from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """Read a seed from the command line; all libraries take those of 31 bits."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 2^31 - 1, got {text!r}")
    return int(text)


def nearest(known: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Find for each of the texts the place of the nearest of the known ones, by edit distance."""
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    distances = process.cdist(texts, known, scorer=Levenshtein.distance, dtype="uint8")
    return distances.argmin(axis=1).tolist()


def table_of(figures: Figures) -> list[list[str]]:
    """The cells of a table: a line of those compared, then a line for each row of the figures.

    A figure that JSON could not hold, None, is one that is not a number.
    """

    def cell(figure: float | None) -> str:
        if figure is None:
            return "nan"
        return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.4g}"

    columns = list(dict.fromkeys(who for row in figures.values() for who in row))
    lines = [
        [title, *(cell(row[who]) if who in row else "" for who in columns)]
        for title, row in figures.items()
    ]
    return [["", *columns], *lines]


class Program:
    """One run of a program, from its options to its figures.

    Every program has ``--quick``, ``--seed``, ``--folder`` and ``--json``; those on torch also have
    ``--layers``, which tells whose recurrent layers to take.

    Parameters
    ----------
    doc : str
        The program's docstring; its first line is what ``--help`` says.
    on_torch : bool
        Whether the program takes its layers from `layers`.
    """

    def __init__(self, doc: str, *, on_torch: bool) -> None:
        self._on_torch = on_torch
        self.parser = argparse.ArgumentParser(description=doc.splitlines()[0])
        add = self.parser.add_argument
        add("--quick", action="store_true", help="a small run of some seconds")
        add("--seed", type=seed, default=0, help="of all random numbers (default: 0)")
        add("--folder", type=Path, default=Path(), help="where files are written (default: here)")
        add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
        if on_torch:
            add(
                "--layers",
                choices=("fastrnn", "torch"),
                default="fastrnn",
                help="recurrent layers of fastrnn.torch or of torch.nn (default: fastrnn)",
            )

    def start(self, argv: list[str] | None) -> argparse.Namespace:
        """Parse the command line, seed torch and start the clock."""
        self.options = options = self.parser.parse_args(argv)
        with packages():  # at the start: it would be a pity to miss them at the end
            import matplotlib  # noqa: F401
            import tqdm  # noqa: F401
        self._check_files()
        if self._on_torch:
            import torch

            torch.manual_seed(options.seed)
        self._started = time.perf_counter()
        self._in_loops = 0.0
        return options

    def _check_files(self) -> None:
        """Make the folder, and refuse at the start what could not be written at the end."""
        folder, file = self.options.folder, self.options.json
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.parser.error(f"--folder must be a folder, got {folder}: {error.strerror}")
        if not os.access(folder, os.W_OK):
            self.parser.error(f"--folder must be writable, got {folder}")
        if file and (file.is_dir() or not file.parent.is_dir()):
            self.parser.error(f"--json must be a file in a folder that exists, got {file}")

    def pick(self, full: T, quick: T) -> T:
        """Choose a size by ``--quick``."""
        return quick if self.options.quick else full

    @property
    def layers(self) -> Any:
        """The module to take ``RNN``, ``LSTM``, ``GRU`` and their cells from."""
        if self.options.layers == "torch":
            import torch.nn

            return torch.nn
        import fastrnn.torch

        return fastrnn.torch

    def progress(self, steps: Collection[T], what: str) -> Iterator[T]:
        """Go through `steps` behind a bar; the seconds count as those in loops."""
        from tqdm import tqdm

        start = time.perf_counter()
        try:
            with tqdm(steps, desc=what, dynamic_ncols=True) as self._bar:
                yield from self._bar
        finally:
            self._in_loops += time.perf_counter() - start

    def note(self, text: str) -> None:
        """Show a few words behind the bar."""
        self._bar.set_postfix_str(text, refresh=False)

    @contextlib.contextmanager
    def picture(self, name: str, width: float = 8, height: float = 4) -> Iterator[Any]:
        """A matplotlib figure to draw on, width and height in inches; saved as `name` at the end.

        It is one of matplotlib's `Figure`, without `pyplot`, so that no window is ever opened.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(self.file(name), dpi=100)

    def file(self, name: str) -> Path:
        """The path of a file that the program writes; says so."""
        path: Path = self.options.folder / name
        print(f"writes {path}")
        return path

    def report(self, figures: Figures) -> Figures:
        """Print the figures, a row each and a column for each of those compared."""
        seconds = time.perf_counter() - self._started
        table = table_of(figures)
        first, *widths = (2 + max(8, *map(len, column)) for column in zip(*table, strict=True))
        print()
        for title, *cells in table:
            line = "".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
            print(f"{title:{first}}{line}")
        print(f"\nseconds: {seconds:.1f}, of these {self._in_loops:.1f} in the loops with a bar")
        if self.options.json:
            finite = {  # JSON has no NaN
                title: {who: x if math.isfinite(x) else None for who, x in row.items()}
                for title, row in figures.items()
            }
            result = {"figures": finite, "seconds": seconds, "loops": self._in_loops}
            text = json.dumps(result, indent=1, allow_nan=False)
            self.options.json.write_text(text + "\n", encoding="utf-8")
        return figures
