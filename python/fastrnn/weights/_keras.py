"""Keras: one list of arrays, with the units last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _arguments
from . import _convert, _named
from ._named import Parameters


def from_keras(
    cell: str, weights: Sequence[Any], layer: int = 0, *, reset_after: bool | None = None
) -> Parameters:
    """Parameters out of the weights of a Keras ``LSTM``, ``GRU`` or ``SimpleRNN``.

    Parameters
    ----------
    cell : str
        ``lstm``, ``gru``, ``gru_reset_before`` or ``rnn_tanh``: what `reset_after` says; or the
        name that `fastrnn.cell_name` makes of `recurrent_activation` and `activation`, which leave
        no trace in the weights.
    weights : sequence of array
        What ``get_weights()`` gives: `kernel` ``(I, G H)``, `recurrent_kernel` ``(H, G H)``, and
        with `use_bias` `bias`, ``(G H,)``, or ``(2, G H)`` for ``gru``; of a ``Bidirectional``
        those of the forward layer, then those of the backward layer.
    layer : int
        The number of the layer in the stack that the names are for.
    reset_after : bool, optional
        The GRU's option of this name, to be compared with the cell: without biases the arrays do
        not tell.

    Returns
    -------
    dict of str to array

    Raises
    ------
    ValueError
        A shape or a number of arrays is wrong, or the GRU is the other one.
    TypeError
        Something is not an array of floats, or dtypes differ.
    """
    op = "from_keras"
    convention = _convert.row(op, "keras", cell)
    if reset_after is not None:
        _convert.check_reset(op, cell, _arguments.flag(op, "reset_after", reset_after))
    arrays = _named.several(op, "weights", weights)
    if len(arrays) not in (2, 3, 4, 6):
        raise ValueError(
            f"[{op}] weights must be 2 or 3 arrays, or twice as many, got {len(arrays)}"
        )
    count = len(arrays) if len(arrays) < 4 else len(arrays) // 2
    names = [part.name for part in convention.parts]
    directions = []
    for at in range(0, len(arrays), count):
        named = dict(zip(names, arrays[at : at + count], strict=False))
        if cell == "gru" and getattr(named.get("bias"), "ndim", 0) == 1:
            _convert.check_reset(op, cell, False)  # which have one bias, (3 H,)
        directions += _convert.read(op, convention, named)
    return _named.parameters(op, cell, directions, layer)


def to_keras(cell: str, params: Mapping[str, Any], layer: int = 0) -> list[np.ndarray]:
    """The weights of a Keras layer, for ``set_weights``.

    Parameters
    ----------
    cell : str
        As for `from_keras`.
    params : mapping of str to array
        Parameters of a stack, by torch's names.
    layer : int
        Which layer of it.

    Returns
    -------
    list of array
        As `from_keras` takes them; 2 without biases, and twice as many with a second direction.
        Those of ``gru`` are for ``reset_after=True``, of ``gru_reset_before`` for False.

    Raises
    ------
    ValueError, TypeError
        As `from_keras`.
    """
    op = "to_keras"
    convention = _convert.row(op, "keras", cell)
    directions = _named.directions(op, cell, params, layer)
    return [
        array for each in directions for array in _convert.write(op, convention, [each]).values()
    ]
