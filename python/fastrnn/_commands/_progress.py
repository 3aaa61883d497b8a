"""How a command that runs many cases shows how far it is."""

from __future__ import annotations

import importlib
import sys


class Progress:
    """tqdm's bar, or where tqdm is not installed what a command prints in its place."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._bar = None
        try:
            tqdm = importlib.import_module("tqdm").tqdm
        except ImportError:
            return
        self._bar = tqdm(total=total, unit="case", leave=False, dynamic_ncols=True)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line, file=sys.stdout)
            sys.stdout.flush()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
