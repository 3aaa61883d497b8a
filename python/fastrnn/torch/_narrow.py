"""float16, bfloat16 and autocast: computed in float32, since the engine has no narrower path."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from . import _autograd
from ._call import Call, Inputs

DTYPES = (torch.float16, torch.bfloat16)


def applies(inputs: Inputs) -> bool:
    """Whether these inputs are to be computed in another dtype than their own."""
    return inputs.x.dtype in DTYPES or _autocast(inputs.x)


def _autocast(x: Tensor) -> bool:
    # The first is quick and mostly answers; the second knows the device.
    enabled: bool = (
        torch._C._is_any_autocast_enabled()
        and not x.is_meta
        and torch.is_autocast_enabled(x.device.type)
    )
    return enabled


def layer(call: Call, inputs: Inputs, narrows: bool) -> tuple[Tensor, ...]:
    """As `_autograd.layer`, in float32.

    Results have the input's dtype, or under autocast, where `narrows` says so, autocast's: what
    torch's own layers give.

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
    elif any(t.dtype not in (torch.float32, *DTYPES) for t in floating):
        return _autograd.layer(call, inputs)  # autocast leaves float64 alone
    else:
        dtype = torch.get_autocast_dtype(kind) if narrows else x.dtype
    wide = Inputs(
        x.float(),
        inputs.lengths,
        inputs.resets,
        tuple(s.float() for s in inputs.states),
        tuple(m.float() for m in inputs.masks),
        tuple(p.float() for p in inputs.parameters),
    )
    with contextlib.nullcontext() if x.is_meta else torch.autocast(kind, enabled=False):
        return tuple(r.to(dtype) for r in _autograd.layer(call, wide))
