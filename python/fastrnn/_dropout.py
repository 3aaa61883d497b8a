"""Masks of dropout between layers: zeros, and where an output is kept 1 / (1 - p)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arrays


@dataclass(frozen=True)
class Masks:
    """Masks to be drawn.

    Parameters
    ----------
    count : int
        Of them.
    shape : tuple of int
        Of each: that of a layer's output.
    p : float
        The probability of a zero.
    dtype : str
    """

    count: int
    shape: tuple[int, ...]
    p: float
    dtype: str

    def draw(self, op: str, seed: np.random.SeedSequence, like: Any) -> list[Any]:
        """Draw them as arrays of the library of an array, which must be right, on its device.

        Raises
        ------
        MemoryError
            There is no memory for them.
        """
        keep = 1.0 - self.p
        scale = 1.0 / keep if keep else 0.0
        library = _arrays.library_of(op, like)
        draws = library.uniforms(self.shape, self.count, seed, like)
        try:
            masks = (library.astype(draw < keep, self.dtype) * scale for draw in draws)
            # A product of bfloat16 and a float is float32.
            return [library.astype(mask, self.dtype) for mask in masks]
        except MemoryError:
            raise MemoryError(
                f"[{op}] memory for the dropout masks must be available, "
                f"got none for shape {self.shape}"
            ) from None
