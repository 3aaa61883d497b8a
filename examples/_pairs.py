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
    """The same network on the same input, run by the package's own code and by fastrnn.

    Parameters
    ----------
    own, ours : callable
        The two results.
    exact : callable, optional
        Of a network where float32 leaves more than 1e-6 open: its result with recurrent layers in
        float64, and one of fastrnn that is within 1e-6 of it.
    """

    own: Callable[[], Result]
    ours: Callable[[], Result]
    exact: Callable[[], tuple[Result, Result]] | None = None


def difference(a: Result, b: Result) -> float:
    """How far the numbers of two results are apart; inf where they do not say the same."""
    if a.values.shape != b.values.shape or list(a.said) != list(b.said):
        return math.inf
    return float(np.abs(a.values - b.values).max())


def load(layer: Any, params: dict[str, Any]) -> Any:
    """A layer of fastrnn with these parameters, in its dtype."""
    dtype = next(iter(layer.state_dict().values())).dtype
    layer.load_state_dict({name: np.asarray(a, dtype) for name, a in params.items()})
    return layer
