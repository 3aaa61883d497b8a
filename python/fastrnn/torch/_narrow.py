"""float16, bfloat16, autocast: in that dtype where the engine has kernels for it, else in float32.

Cell states are float32 inside in any case, and of the results' dtype outside, as torch's are.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from . import _autograd, _engine
from ._call import NARROW, Call, Inputs, cell_state_dtype


def applies(inputs: Inputs) -> bool:
    """Whether these inputs are to be computed in another dtype than their own."""
    return inputs.x.dtype in NARROW or _autocast(inputs.x)


def _autocast(x: Tensor) -> bool:
    # The first is quick and mostly answers; the second knows the device.
    enabled: bool = (
        torch._C._is_any_autocast_enabled()
        and not x.is_meta
        and torch.is_autocast_enabled(x.device.type)
    )
    return enabled


def _result_dtype(own: torch.dtype, kind: str, narrows: bool) -> torch.dtype:
    """Of results under autocast: torch's layers on the CPU narrow some, those of cuDNN all."""
    return torch.get_autocast_dtype(kind) if narrows or kind == "cuda" else own


def layer(call: Call, inputs: Inputs, narrows: bool, packed: Any = None) -> tuple[Tensor, ...]:
    """As `_autograd.layer`, in a narrow dtype or in float32.

    Results have the input's dtype, or under autocast, where `narrows` says so, autocast's: what
    torch's own layers give. `packed` is as in `_autograd.layer`: of use without a conversion.

    Raises
    ------
    ValueError
        Outside autocast: tensors of different dtypes.
    """
    x = inputs.x
    kind = x.device.type
    floating = [x, *inputs.states, *inputs.parameters]
    if not _autocast(x):
        dtype = x.dtype
        others = {t.dtype for t in floating} - {dtype}
        if others:
            raise ValueError(
                f"[{call.cell}] input, states and parameters must be of one dtype, "
                f"got {dtype} and {others.pop()}"
            )
    elif any(t.dtype not in (torch.float32, *NARROW) for t in floating):
        return _autograd.layer(call, inputs, packed)  # autocast leaves float64 alone
    else:
        dtype = _result_dtype(x.dtype, kind, narrows)
    inner = dtype
    if not _engine.computes(dtype, x.device):
        inner = torch.float32
    converted = Inputs(
        x.to(inner),
        inputs.steps.converted(inner),
        tuple(s.to(cell_state_dtype(inner) if k else inner) for k, s in enumerate(inputs.states)),
        tuple(m.to(inner) for m in inputs.masks),
        tuple(p.to(inner) for p in inputs.parameters),
    )
    with contextlib.nullcontext() if x.is_meta else torch.autocast(kind, enabled=False):
        if inputs.parameters[0].dtype != inner:
            packed = None
        return tuple(r.to(dtype) for r in _autograd.layer(call, converted, packed))
