"""ONNX: one node for each layer, with the directions outermost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import _arguments
from . import _convert, _named
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
        ``lstm``, ``gru``, ``rnn_tanh``, ``rnn_relu`` or ``rnn_sigmoid``: what `activations` says.
    W, R : array
        ``(D, G H, I)`` and ``(D, G H, H)``.
    B : array, optional
        ``(D, 2 G H)``.
    P : array, optional
        Peepholes of an LSTM, ``(D, 3 H)``. Zeros have no effect and are left out.
    layer : int
        The number of the layer in the stack that the names are for.
    linear_before_reset, input_forget : int
        The node's attributes of these names, and their values where it has none. A GRU needs
        ``linear_before_reset=1``.

    Returns
    -------
    dict of str to array
        With D = 2 both directions. A node of ``direction="reverse"`` has D = 1: its weights are
        those of a layer that reads the flipped sequence.

    Raises
    ------
    ValueError
        A shape is wrong, the GRU resets before the product, the LSTM has peepholes or couples its
        gates.
    TypeError
        Something is not an array of floats, or dtypes differ.
    """
    op = "from_onnx"
    convention = _convert.row(op, "onnx", cell)
    reset_after = _arguments.flag(op, "linear_before_reset", linear_before_reset)
    _convert.check_reset(op, cell, reset_after)
    if _arguments.flag(op, "input_forget", input_forget):
        raise ValueError(
            f"[{op}] input_forget must be 0, since a forget gate of 1 - i has no weights of its "
            "own, got 1"
        )
    directions = _convert.read(op, convention, {"W": W, "R": R, "B": B})
    if P is not None:
        _check_peepholes(op, cell, P, (len(directions), 3 * len(directions[0]["weight_hh"][0])))
    return _named.parameters(op, cell, directions, layer)


def to_onnx(cell: str, params: Mapping[str, Any], layer: int = 0) -> Parameters:
    """The inputs of a node of ONNX.

    Parameters
    ----------
    cell, params, layer
        As for `to_keras`.

    Returns
    -------
    dict of str to array
        ``W``, ``R`` and, with biases, ``B``, as `from_onnx` takes them. With two directions the
        node is ``direction="bidirectional"``; a GRU's has ``linear_before_reset=1``, an RNN's the
        `activations` of the cell.

    Raises
    ------
    ValueError, TypeError
        As `from_onnx`.
    """
    convention = _convert.row("to_onnx", "onnx", cell)
    return _convert.write(convention, _named.directions("to_onnx", cell, params, layer))


def _check_peepholes(op: str, cell: str, P: Any, shape: tuple[int, int]) -> None:
    array = _convert.host_array(op, "P", P)
    if cell != "lstm" or array.shape != shape:
        raise ValueError(f"[{op}] P must be an LSTM's, {shape}, got {array.shape} for {cell!r}")
    if array.any():
        raise ValueError(
            f"[{op}] P must be 0, since the gates of 'lstm' do not see the cell state, got "
            "peepholes"
        )
