"""What a cell module provides, and how a cell is found by its name.

A cell is one step of a recurrent layer for `n` rows at once, without its matrix products. With G
gates, H units, the weights W = `w_ih` (G*H, in) and R = `w_hh` (G*H, H) and the state h, the time
loop computes for the step t ::

    wx = W x_t + b_ih        (n, G, H)
    rh = R h_(t-1) + b_hh    (n, G, H)

and keeps the two apart, since the GRU treats them differently. (In `csrc/cells` they are x and r.)
A cell may multiply a second time in a step (`Inner`): the last gates' part of rh then is of another
vector than h, one that the first gates make.

The functions that arrays do not bring as operators come as a `Maths`, as in `csrc/cells`: `step`
is plain arithmetic and serves any library of arrays. The time loop (`loop.py`) gives its
`Namespace`, which has them.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from .. import _cell_names
from .activations import Activation, Array, Arrays, Clip, Maths, of_cell

__all__ = ["Array", "Arrays", "Cell", "Maths", "find", "names"]


@dataclass(frozen=True)
class Inner:
    """What a cell whose step has a second product puts between the two.

    Attributes
    ----------
    gates : int
        How many gates, the last ones, are multiplied by v in the place of h.
    step : callable
        ``step(m, wx, rh, s_prev) -> v``, (n, H), from the first gates alone: rh has no others yet.
    step_backward : callable
        ``step_backward(saved, s_prev, dv) -> da, ds_prev``: from the gradient of v, what it adds to
        those of the first gates, both wx and rh (n, G - gates, H), and to those of the states
        before the step.
    """

    gates: int
    step: Callable[[Maths, Any, Any, tuple[Any, ...]], Any]
    step_backward: Callable[[Arrays, Arrays, Array], tuple[Array, Arrays]]


@dataclass(frozen=True)
class Cell:
    """One cell.

    A module of this package offers its cells as ``CELLS``, a dict by registry name; or as
    ``BASES``, a dict of functions ``make(activations, clip)`` by the bases of `fastrnn.cell_name`,
    where activations are those of a base's functions and clip is that of a state.

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
        through rh is left out of ``ds_prev``: the time loop adds ``R^T drh``. So is, in a cell with
        a second product, all that flows through v.
    unit_parameters : int
        K, the number of parameters that each unit has beside its rows of the weights. Where there
        are some, both functions take them last, (K, H), and `step_backward` gives their gradients
        last, (n, K, H).
    inner : Inner, optional
        Of a cell whose step has a second product.
    """

    gates: int
    states: int
    step: Callable[..., tuple[tuple[Any, ...], tuple[Any, ...]]]
    step_backward: Callable[..., tuple[Any, ...]]
    unit_parameters: int = 0
    inner: Inner | None = None


@cache
def _offered(kind: str) -> dict[str, Any]:
    """All that the package's modules have in their dicts of a kind."""
    package = importlib.import_module(__package__)
    modules = (
        importlib.import_module(f".{info.name}", __package__)
        for info in pkgutil.iter_modules(package.__path__)
    )
    return {name: each for module in modules for name, each in getattr(module, kind, {}).items()}


def names() -> tuple[str, ...]:
    """Give the names of all cells, sorted; those with the usual functions."""
    short = [name for name, (base, _) in _cell_names.SHORT.items() if base in _offered("BASES")]
    bases = map(_cell_names.canonical, _offered("BASES"))
    return tuple(sorted({*_offered("CELLS"), *bases, *short}))


@cache
def find(name: str, direction: int = 0) -> Cell:
    """Give the cell of a name, e.g. ``"rnn_tanh"``, as it is in the forward or reverse direction.

    Raises
    ------
    ValueError
        If there is no such cell.
    """
    parsed = _cell_names.find(name)
    if parsed is not None and parsed.base in _offered("BASES"):
        make: Callable[[tuple[Activation, ...], Clip], Cell] = _offered("BASES")[parsed.base]
        return make(of_cell(parsed, direction), Clip(parsed.state_range))
    if name not in _offered("CELLS"):
        raise ValueError(f"[reference] cell must be one of {', '.join(names())}, got {name!r}")
    cell: Cell = _offered("CELLS")[name]
    return cell
