"""How many calls went which way, so that no layer is slow in silence."""

from __future__ import annotations

import threading
import warnings
import weakref
from dataclasses import dataclass, field
from typing import Any


class FallbackWarning(UserWarning):
    """A layer of `fastrnn.keras` runs on Keras's own path; the text says why."""


@dataclass
class Calls:
    """How many calls of layers there have been; ``print(report())`` lists them.

    A call that is traced, by JAX or in a `tf.function`, counts when it is traced and not when the
    compiled function runs.

    Attributes
    ----------
    fused : dict of str to int
        Calls that fastrnn's kernels have served, by the name of the cell.
    fallbacks : dict of str to int
        Calls on Keras's own path, by the reason.
    """

    fused: dict[str, int] = field(default_factory=dict)
    fallbacks: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{count} calls on fastrnn: {cell}" for cell, count in self.fused.items()]
        lines += [
            f"{count} calls on Keras's own path: {reason}"
            for reason, count in self.fallbacks.items()
        ]
        return "\n".join(lines) or "no calls"


_calls = Calls()
_lock = threading.Lock()
_warned: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()


def report() -> Calls:
    """The calls of all layers of `fastrnn.keras` in this process so far.

    Returns
    -------
    Calls
        A copy, which later calls do not change.
    """
    with _lock:
        return Calls(dict(_calls.fused), dict(_calls.fallbacks))


def fused(cell: str) -> None:
    """Count a call of a cell on the engine."""
    with _lock:
        _calls.fused[cell] = _calls.fused.get(cell, 0) + 1


def fallback(layer: Any, reason: str) -> None:
    """Count a call on Keras's own path; warn at the first of a layer and a reason."""
    with _lock:
        _calls.fallbacks[reason] = _calls.fallbacks.get(reason, 0) + 1
        known = _warned.setdefault(layer, set())
        new = reason not in known
        known.add(reason)
    if new:
        warnings.warn(
            f"[keras] layer {layer.name!r} runs on Keras's own path: {reason}",
            FallbackWarning,
            stacklevel=2,
        )
