"""What a cell module provides, and how a cell is found by its registry name.

A cell is one step of a recurrent layer for `n` rows at once, without its matrix products. With G
gates, H units, the weights W = `w_ih` (G*H, in) and R = `w_hh` (G*H, H) and the state h, the time
loop computes for the step t ::

    wx = W x_t + b_ih        (n, G, H)
    rh = R h_(t-1) + b_hh    (n, G, H)

and keeps the two apart, since the GRU treats them differently. (In `csrc/cells` they are x and r.)

The functions that arrays do not bring as operators come as a `Maths`, as in `csrc/cells`: `step`
is plain arithmetic and serves any library of arrays. The time loop (`loop.py`) gives its
`Namespace`, which has them.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Arrays: TypeAlias = tuple[Array, ...]


class Maths(Protocol):
    """The activations, for the arrays of one library."""

    def tanh(self, a: Any, /) -> Any: ...
    def sigmoid(self, a: Any, /) -> Any: ...
    def relu(self, a: Any, /) -> Any: ...


@dataclass(frozen=True)
class Cell:
    """One cell. A module of this package offers its cells as ``CELLS``, a dict by registry name.

    Attributes
    ----------
    gates : int
        G, the number of gates.
    states : int
        Number of states, each (n, H). The first one is h: it is multiplied by R and is the output.
    step : callable
        ``step(m, wx, rh, s_prev) -> s, saved``: the states after the step from those before it, and
        a tuple of the arrays (n, H) that `step_backward` needs; m is a `Maths`.
    step_backward : callable
        ``step_backward(saved, s_prev, ds) -> dwx, drh, ds_prev``: from the gradients of the states
        after the step, the gradients of wx and rh and of the states before it. The path from h
        through rh is left out of ``ds_prev``: the time loop adds ``R^T drh``.
    """

    gates: int
    states: int
    step: Callable[[Maths, Any, Any, tuple[Any, ...]], tuple[tuple[Any, ...], tuple[Any, ...]]]
    step_backward: Callable[[Arrays, Arrays, Arrays], tuple[Array, Array, Arrays]]


@cache
def _cells() -> dict[str, Cell]:
    package = importlib.import_module(__package__)
    modules = (
        importlib.import_module(f".{info.name}", __package__)
        for info in pkgutil.iter_modules(package.__path__)
    )
    return {name: cell for module in modules for name, cell in getattr(module, "CELLS", {}).items()}


def names() -> tuple[str, ...]:
    """Give the registry names of all cells, sorted."""
    return tuple(sorted(_cells()))


def find(name: str) -> Cell:
    """Give the cell of a registry name, e.g. ``"rnn_tanh"``.

    Raises
    ------
    ValueError
        If there is no such cell.
    """
    if name not in _cells():
        raise ValueError(f"[reference] cell must be one of {', '.join(names())}, got {name!r}")
    return _cells()[name]


def sigmoid(a: Array) -> Array:
    """Compute 1 / (1 + exp(-a)) without overflow; small results keep their last bits.

    exp(-|a|) never overflows, and for a < 0 the form exp(a) / (1 + exp(a)) is accurate down to
    subnormal results, where 1 / (1 + exp(-a)) would already have given 0.
    """
    e = np.exp(-np.abs(a))
    result: Array = np.where(a >= 0, 1.0, e) / (1.0 + e)
    return result
