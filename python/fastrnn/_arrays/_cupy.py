"""CuPy, in which layers on a GPU make their parameters."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from ._library import Library


class CuPy(Library):
    """CuPy, by the namespace that `array_api_compat` makes of it.

    It cannot be recorded: CuPy 14 refuses products while their stream is captured.
    """

    def owns(self, array: Any) -> bool:
        return isinstance(array, sys.modules["cupy"].ndarray)

    def no_grad(self, array: Any) -> AbstractContextManager[Any]:
        # CuPy computes on the current device, and its current stream is that device's.
        device: AbstractContextManager[Any] = array.device
        return device

    def multiply(self, a: Any, b: Any, out: Any, accumulate: bool) -> None:
        if accumulate:
            out += a @ b
        else:
            sys.modules["cupy"].matmul(a, b, out=out)

    def index(self, array: Any) -> int:
        return int(array.device.id)

    def stream(self, array: Any) -> int:
        return int(sys.modules["cupy"].cuda.get_current_stream().ptr)

    def uniform(self, shape: Sequence[int], seed: int, like: Any) -> Any:
        cupy = sys.modules["cupy"]
        with like.device:
            return cupy.random.default_rng(seed).random(tuple(shape), dtype=cupy.float32)
