"""Keras on NumPy: inference, by the functional calls. Other backends' calls of the host use it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _dtypes, functional
from ._call import Call, Tensors

STARTS_FROM_STATE = True
where = np.where


def why_not(x: Any, recurrent_masks: bool) -> str:
    """See `_backends`."""
    return ""


def computes(cell: str, dtype: str, x: Any) -> bool:
    """See `_backends`. In 16 bits Keras has cell states of the layer's dtype, and calls float32."""
    return dtype in _dtypes.WIDE


def keeps(state: Any) -> Any:
    """See `_backends`."""
    return state


def run(call: Call, tensors: Tensors) -> tuple[Any, tuple[Any, ...]]:
    """See `_backends`."""
    y, final = functional.infer(call.cell, **arguments(call, tensors))
    return y, without_layers(final)


def arguments(call: Call, tensors: Tensors) -> dict[str, Any]:
    """What `fastrnn.functional` is called with."""
    return {
        "x": tensors.x,
        "params": parameters(tensors),
        "state": of_one_layer(tensors.states),
        "batch_first": True,
        "holds": tensors.holds,
        "repeat_held": call.repeat_held,
        "recurrent_masks": tensors.recurrent_masks,
    }


def parameters(tensors: Tensors) -> dict[str, Any]:
    """The weights by torch's names: views of those that Keras has."""
    named = {"weight_ih_l0": tensors.kernel.T, "weight_hh_l0": tensors.recurrent_kernel.T}
    if tensors.biases:
        named["bias_ih_l0"], named["bias_hh_l0"] = tensors.biases
    return named


def of_one_layer(states: tuple[Any, ...]) -> Any:
    """States ``(B, H)`` as functional calls have them."""
    of_layer = tuple(state[None] for state in states)
    return of_layer if len(of_layer) > 1 else of_layer[0]


def without_layers(state: Any) -> tuple[Any, ...]:
    """The inverse of `of_one_layer`."""
    return tuple(each[0] for each in (state if isinstance(state, tuple) else (state,)))
