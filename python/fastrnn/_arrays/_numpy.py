"""NumPy, whose arrays the CPU engine takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import _dtypes
from ._library import Library


class NumPy(Library):
    """NumPy: the functions that layers, cells and functional calls use, for arrays of the host."""

    def __init__(self) -> None:
        super().__init__(np)

    def dtype(self, name: str) -> Any:
        return _dtypes.numpy_dtype(name)

    def astype(self, array: Any, dtype: str) -> Any:
        return array.astype(dtype, copy=False)

    def copy(self, array: Any) -> Any:
        return array.copy()

    def with_axis(self, array: Any) -> Any:
        return np.asarray(array)[None]  # not of a subclass that has its own idea of an axis

    def from_host(self, values: np.ndarray) -> Any:
        return values

    def converted(self, values: np.ndarray, like: Any) -> Any:
        return values.astype(like.dtype)

    def uniforms(
        self, shape: Sequence[int], count: int, seed: np.random.SeedSequence, like: Any
    ) -> Iterator[Any]:
        rng = np.random.default_rng(seed)
        for _ in range(count):
            yield rng.random(shape, np.float32)
