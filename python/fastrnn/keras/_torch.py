"""Keras on torch: the calls of `fastrnn.torch`, below its modules."""

from __future__ import annotations

from typing import Any

import torch

from ..torch import _autograd, _engine, _narrow, _tracing
from ..torch._call import NARROW, Inputs, step_inputs
from ..torch._call import Call as TorchCall
from ._call import Call, Tensors

STARTS_FROM_STATE = False
where = torch.where


def why_not(x: Any, recurrent_masks: bool) -> str:
    """See `_backends`."""
    missing = _engine.missing_for(x.device)
    if missing:
        return f"tensors are on {x.device}: {missing}"
    if recurrent_masks and _engine.name_for(x.device) != "cpu":
        return f"recurrent_dropout has no kernel on {x.device.type}"
    if _tracing.holds_torchs():
        return "torch records the call for a file that is to run without fastrnn"
    return ""


def computes(cell: str, dtype: str, x: Any) -> bool:
    """See `_backends`. On a GPU cells with functions of one's own have no kernels of 16 bits."""
    own = getattr(torch, dtype)
    return _engine.computes(own, x.device) and not (own in NARROW and "(" in cell)


def keeps(state: Any) -> Any:
    """See `_backends`: autograd refuses a backward of what was written."""
    return state.clone()


def run(call: Call, tensors: Tensors) -> tuple[Any, tuple[Any, ...]]:
    """See `_backends`. Weights are views; the engine packs them from any strides."""
    inputs = Inputs(
        tensors.x,
        step_inputs(None, None, tensors.holds, None, tensors.recurrent_masks),
        tuple(state[None] for state in tensors.states),
        (),
        (tensors.kernel.T, tensors.recurrent_kernel.T, *tensors.biases),
    )
    options = 1, 1, True, 0, False, False, len(inputs.states), 0, call.repeat_held
    asked = TorchCall(call.cell, *options)
    if _narrow.applies(inputs):
        y, *finals = _narrow.layer(asked, inputs, True)
    else:
        y, *finals = _autograd.layer(asked, inputs)
    return y, tuple(state[0] for state in finals)
