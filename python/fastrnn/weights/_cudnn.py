"""cuDNN: whole stacks, with a matrix and a bias for each gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _arguments
from . import _convert, _named
from ._conventions import Convention
from ._convert import Directions
from ._named import Parameters


def from_cudnn(
    cell: str,
    matrices: Sequence[Sequence[Any]],
    biases: Sequence[Sequence[Any]] | None = None,
    bidirectional: bool = False,
) -> Parameters:
    """Parameters of a stack out of cuDNN's canonical matrices and biases.

    Parameters
    ----------
    cell : str
        ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``.
    matrices : sequence of sequence of array
        ``matrices[pseudoLayer][linLayerID]``, as ``cudnnGetRNNWeightParams`` numbers them: of each
        gate ``(H, K)`` with the input, then of each gate ``(H, H)`` with the recurrence; of an LSTM
        with a projection ``(H, P)``, and then the projection, ``(P, H)``.
    biases : sequence of sequence of array, optional
        Likewise, ``(H,)``; None for ``CUDNN_RNN_NO_BIAS``. Of the modes with a single bias, the
        other half are None: it is -0.0 then, which changes nothing that it is added to.
    bidirectional : bool
        Whether pseudo-layers are the directions of the layers by turns, forward first.

    Returns
    -------
    dict of str to array

    Raises
    ------
    ValueError
        A shape or a number of arrays is wrong.
    TypeError
        Something is not an array of floats, or dtypes differ.
    """
    op = "from_cudnn"
    convention = _convert.row(op, "cudnn", cell)
    per_layer = 2 if _arguments.flag(op, "bidirectional", bidirectional) else 1
    outer = _named.several(op, "matrices", matrices)
    vectors = [None] * len(outer) if biases is None else _named.several(op, "biases", biases)
    if not outer or len(outer) % per_layer or len(vectors) != len(outer):
        raise ValueError(
            f"[{op}] matrices and biases must be of as many pseudo-layers, {per_layer} for each "
            f"layer, got {len(outer)} and {len(vectors)}"
        )
    found: Parameters = {}
    for at in range(0, len(outer), per_layer):
        directions: Directions = []
        for each, bias in zip(
            outer[at : at + per_layer], vectors[at : at + per_layer], strict=True
        ):
            arrays = _of_pseudo_layer(op, convention, each, bias)
            directions += _convert.read(op, convention, arrays)
        found |= _named.parameters(op, cell, directions, at // per_layer)
    _named.check_stack(op, found)
    return found


def to_cudnn(
    cell: str, params: Mapping[str, Any]
) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]] | None]:
    """cuDNN's canonical matrices and biases of a stack.

    Parameters
    ----------
    cell, params
        As for `to_keras`; all layers are taken.

    Returns
    -------
    matrices : list of list of array
    biases : list of list of array, or None
        As `from_cudnn` takes them, for ``CUDNN_RNN_DOUBLE_BIAS`` or ``CUDNN_RNN_NO_BIAS``.

    Raises
    ------
    ValueError, TypeError
        As `from_cudnn`.
    """
    op = "to_cudnn"
    convention = _convert.row(op, "cudnn", cell)
    matrices: list[list[np.ndarray]] = []
    biases: list[list[np.ndarray]] = []
    for layer in range(_named.layers(op, params)):
        for direction in _named.directions(op, cell, params, layer):
            arrays = _convert.write(op, convention, [direction])
            if "biases" in arrays:
                biases.append(list(arrays.pop("biases")))
            inputs, recurrence, *projection = arrays.values()
            matrices.append([*inputs, *recurrence, *projection])
    _named.check_stack(op, params)
    return matrices, biases or None


def _of_pseudo_layer(op: str, convention: Convention, matrices: Any, biases: Any) -> dict[str, Any]:
    """The arrays of one pseudo-layer, by the names of the table."""
    count = 2 * len(convention.gates)
    each = _named.several(op, "matrices", matrices)
    if len(each) != count and not (convention.projection and len(each) == count + 1):
        more = ", or one more for a projection" if convention.projection else ""
        raise ValueError(
            f"[{op}] matrices must be {count} for each pseudo-layer{more}, got {len(each)}"
        )
    found = {
        "matrices[:G]": _stacked(op, "matrices", each[: count // 2]),
        "matrices[G:]": _stacked(op, "matrices", each[count // 2 : count]),
    }
    if len(each) > count and convention.projection:
        found[convention.projection.name] = each[count]
    if biases is None:
        return found
    vectors = _named.several(op, "biases", biases)
    if len(vectors) != count:
        raise ValueError(f"[{op}] biases must be {count} for each pseudo-layer, got {len(vectors)}")
    halves = vectors[: count // 2], vectors[count // 2 :]
    given = [half for half in halves if any(v is not None for v in half)]
    if not given:
        return found
    stacked = [_stacked(op, "biases", half) for half in given]
    if len(stacked) == 1:
        at = 0 if given[0] is halves[1] else 1
        stacked.insert(at, np.full_like(stacked[0], -0.0))
    found["biases"] = _stacked(op, "biases", [row for half in stacked for row in half])
    return found


def _stacked(op: str, name: str, arrays: Sequence[Any]) -> np.ndarray:
    each = [_convert.host_array(op, name, array) for array in arrays]
    for array in each:
        if array.shape != each[0].shape:
            raise ValueError(
                f"[{op}] {name} must have one shape, got {each[0].shape} and {array.shape}"
            )
        if array.dtype != each[0].dtype:
            raise TypeError(
                f"[{op}] arrays must have one dtype, got {each[0].dtype} and {array.dtype}"
            )
    return np.stack(each)
