"""A step of a cell as a layer's call: the dimension of time, of size 1, and of one layer."""

from __future__ import annotations

from typing import Any

from . import _arrays


def with_time(op: str, name: str, array: Any) -> Any:
    """x ``(B, I)`` as ``(1, B, I)``, a state ``(B, H)`` as ``(1, B, H)``.

    Raises
    ------
    ValueError
        The array has neither one nor two dimensions.
    """
    if len(array.shape) not in (1, 2):
        wanted = "(B, I) or (I,)" if name == "x" else "(B, H) or (H,)"
        raise ValueError(f"[{op}] {name} must have shape {wanted}, got {tuple(array.shape)}")
    return _arrays.library_of(op, array).with_axis(array)


def without_time(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inverse, for results."""
    return tuple(a[0] for a in arrays)
