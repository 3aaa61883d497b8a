"""A step of a cell as a layer's call: the dimension of time, of size 1, and of one layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def with_time(arrays: Iterable[Any]) -> tuple[Any, ...]:
    """x ``(B, I)`` as ``(1, B, I)``, a state ``(B, H)`` as ``(1, B, H)``."""
    return tuple(a[None] for a in arrays)


def without_time(arrays: Iterable[Any]) -> tuple[Any, ...]:
    """The inverse, for results."""
    return tuple(a[0] for a in arrays)
