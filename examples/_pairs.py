"""A network run twice, by its own code and by fastrnn, and how far the results are apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Result:
    """What a network gives: numbers, and what is read out of them (classes, phonemes)."""

    values: np.ndarray
    said: Sequence[Any] = ()


@dataclass(frozen=True)
class Pair:
    """The same network on the same input, run by the package's own code and by fastrnn."""

    own: Callable[[], Result]
    ours: Callable[[], Result]


def difference(a: Result, b: Result) -> float:
    """How far the numbers of two results are apart; inf where they do not say the same."""
    if a.values.shape != b.values.shape or list(a.said) != list(b.said):
        return math.inf
    return float(np.abs(a.values - b.values).max())


def load(layer: Any, params: dict[str, Any]) -> Any:
    """A layer of fastrnn with these parameters."""
    layer.load_state_dict(params)
    return layer
