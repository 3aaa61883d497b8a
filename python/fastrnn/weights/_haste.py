"""haste: one direction of one layer, with the units last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import _arguments
from . import _convert, _named
from ._named import Parameters


def from_haste(
    cell: str, weights: Mapping[str, Any], layer: int = 0, reverse: bool = False
) -> Parameters:
    """Parameters out of the weights of haste's ``LSTM`` or ``GRU``.

    Parameters
    ----------
    cell : str
        ``lstm`` or ``gru``.
    weights : mapping of str to array
        What the ``state_dict()`` of its layer for PyTorch gives: `kernel` ``(I, G H)``,
        `recurrent_kernel` ``(H, G H)``, `bias` ``(G H,)``, and a GRU's `recurrent_bias` ``(G H,)``.
        Zoneout, which acts in inference too, is no part of them; there is no cell with it.
    layer, reverse
        The layer of the stack, and the direction, that the names are for.

    Returns
    -------
    dict of str to array

    Raises
    ------
    ValueError
        An array is missing or unknown, or a shape is wrong.
    TypeError
        Something is not an array of floats, or dtypes differ.
    """
    op = "from_haste"
    convention = _convert.row(op, "haste", cell)
    names = [part.name for part in convention.parts]
    for name in _named.mapping(op, "weights", weights):
        if name not in names:
            raise ValueError(f"[{op}] weights must be of {names}, got {name!r}")
    (direction,) = _convert.read(op, convention, weights)
    return _named.parameters(op, cell, [direction], layer, _arguments.flag(op, "reverse", reverse))


def to_haste(
    cell: str, params: Mapping[str, Any], layer: int = 0, reverse: bool = False
) -> Parameters:
    """The weights of haste's layer, for its ``load_state_dict`` when made tensors.

    Parameters
    ----------
    cell, params, layer
        As for `to_keras`.
    reverse : bool
        Which direction.

    Returns
    -------
    dict of str to array
        As `from_haste` takes them. Without biases they are zeros, since haste has no such layers.

    Raises
    ------
    ValueError, TypeError
        As `from_haste`.
    """
    op = "to_haste"
    convention = _convert.row(op, "haste", cell)
    directions = _named.directions(op, cell, params, layer)
    at = int(_arguments.flag(op, "reverse", reverse))
    if at >= len(directions):
        raise ValueError(f"[{op}] reverse must be False, since there is one direction, got True")
    return _convert.write(op, convention, [directions[at]])
