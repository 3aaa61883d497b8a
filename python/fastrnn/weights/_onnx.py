"""ONNX: one node for each layer, with the directions outermost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _arguments, _parameters
from . import _convert, _named
from ._conventions import ONNX_PEEPHOLES, PEEPHOLES
from ._named import Parameters


def from_onnx(
    cell: str,
    W: Any,
    R: Any,
    B: Any = None,
    P: Any = None,
    layer: int = 0,
    *,
    linear_before_reset: int = 0,
    input_forget: int = 0,
) -> Parameters:
    """Parameters out of the inputs of a node ``LSTM``, ``GRU`` or ``RNN`` of ONNX.

    Parameters
    ----------
    cell : str
        What the node's attributes make of it: ``lstm``, ``lstm_coupled`` with
        ``input_forget=1``, either with ``_peephole`` where there is `P`, ``gru``,
        ``gru_reset_before`` or ``rnn_tanh``; or a name that `fastrnn.cell_name` makes of its
        `activations` and `clip`.
    W, R : array
        ``(D, G H, I)`` and ``(D, G H, H)``.
    B : array, optional
        ``(D, 2 G H)``.
    P : array, optional
        Peepholes of an LSTM, ``(D, 3 H)``. For a cell without peepholes they must be zeros, which
        have no effect; one with peepholes has zeros where there is no `P`.
    layer : int
        The number of the layer in the stack that the names are for.
    linear_before_reset, input_forget : int
        The node's attributes of these names, and their values where it has none. ``gru`` needs
        ``linear_before_reset=1``, ``gru_reset_before`` 0, a coupled LSTM ``input_forget=1``; the
        rows of its forget gate are left out.

    Returns
    -------
    dict of str to array
        With D = 2 both directions. A node of ``direction="reverse"`` has D = 1: its weights are
        those of a layer that reads the flipped sequence.

    Raises
    ------
    ValueError
        A shape is wrong, the GRU is the other one, the cell has no peepholes or not the gates that
        the node has.
    TypeError
        Something is not an array of floats, or dtypes differ.
    """
    op = "from_onnx"
    convention = _convert.row(op, "onnx", cell)
    reset_after = _arguments.flag(op, "linear_before_reset", linear_before_reset)
    _convert.check_reset(op, cell, reset_after)
    coupled = "f" in convention.absent
    if _arguments.flag(op, "input_forget", input_forget) != coupled:
        raise ValueError(
            f"[{op}] input_forget must be {int(coupled)} for {cell!r}, got {int(input_forget)}: a "
            "forget gate of 1 - i has no weights of its own"
        )
    directions = _convert.read(op, convention, {"W": W, "R": R, "B": B})
    made = _named.parameters(op, cell, directions, layer)
    shape = (len(directions), len(ONNX_PEEPHOLES), directions[0]["weight_hh"].shape[1])
    peepholes = _peepholes(op, cell, P, shape, directions[0]["weight_hh"].dtype)
    for at, each in enumerate(peepholes):
        made["weight_diag" + _parameters.suffix(layer, at)] = each.ravel()
    return {name: made[name] for name in sorted(made, key=lambda name: name.endswith("_reverse"))}


def to_onnx(cell: str, params: Mapping[str, Any], layer: int = 0) -> Parameters:
    """The inputs of a node of ONNX.

    Parameters
    ----------
    cell, params, layer
        As for `to_keras`.

    Returns
    -------
    dict of str to array
        ``W``, ``R`` and, with biases, ``B``, with peepholes ``P``, as `from_onnx` takes them. With
        two directions the node is ``direction="bidirectional"``; that of ``gru`` has
        ``linear_before_reset=1``, that of a coupled LSTM ``input_forget=1``, and each the
        `activations` and the `clip` of the cell.

    Raises
    ------
    ValueError, TypeError
        As `from_onnx`.
    """
    op = "to_onnx"
    convention = _convert.row(op, "onnx", cell)
    directions = _named.directions(op, cell, params, layer)
    arrays = _convert.write(op, convention, directions)
    own = PEEPHOLES.get(_convert.base(cell) or "")
    if own is None:
        return arrays
    D, H = len(directions), arrays["R"].shape[2]
    P = np.zeros((D, len(ONNX_PEEPHOLES), H), arrays["R"].dtype)
    for at, each in enumerate(P):
        name = "weight_diag" + _parameters.suffix(layer, at)
        if name not in params:
            raise ValueError(f"[{op}] {name} must be there, got none")
        given = _checked(op, name, params[name], (len(own) * H,), P.dtype)
        each[[ONNX_PEEPHOLES.index(gate) for gate in own]] = given.reshape(len(own), -1)
    return {**arrays, "P": P.reshape(D, -1)}


def _peepholes(
    op: str, cell: str, P: Any, shape: tuple[int, int, int], dtype: np.dtype
) -> list[np.ndarray]:
    """Those of each direction in the cell's order; none for a cell without."""
    D, gates, H = shape
    given = np.zeros((D, gates * H), dtype)
    if P is not None:
        given = _checked(op, "P", P, (D, gates * H), dtype)
    own = PEEPHOLES.get(_convert.base(cell) or "")
    if own is not None:
        return list(given.reshape(shape)[:, [ONNX_PEEPHOLES.index(gate) for gate in own]])
    if given.any():
        raise ValueError(
            f"[{op}] P must be 0, since the gates of {cell!r} do not see the cell state, got "
            "peepholes"
        )
    return []


def _checked(op: str, name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    array = _convert.host_array(op, name, value)
    if array.dtype != dtype:
        raise TypeError(f"[{op}] arrays must have one dtype, got {dtype} and {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"[{op}] {name} must have shape {shape}, got {array.shape}")
    return array
