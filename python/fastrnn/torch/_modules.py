"""What layers and cells share: their parameters as they are now, and what calls are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._sizes import SIZES
from ._call import StepInputs


def parameters_of(module: nn.Module, names: Sequence[str]) -> tuple[Tensor, ...]:
    """As they are now: parametrised, swapped by `torch.func.functional_call`, or gathered."""
    try:
        return tuple(map(module._parameters.__getitem__, names))  # type: ignore[arg-type]
    except KeyError:
        return tuple(getattr(module, name) for name in names)


def states_of(cell: str, hx: Any) -> tuple[Tensor, ...]:
    """The initial states that a call was given."""
    if hx is None:
        return ()
    count = SIZES[cell].states
    states = (hx,) if count == 1 else hx
    if not isinstance(states, (tuple, list)) or len(states) != count:
        got = f"{len(hx)} values" if isinstance(hx, (tuple, list)) else type(hx).__name__
        raise TypeError(f"[{cell}] hx must be a tuple of {count} tensors, got {got}")
    for state in states:
        if not isinstance(state, Tensor):
            raise not_a_tensor(cell, "hx", state)
    return tuple(states)


def check_given(cell: str, steps: StepInputs) -> None:
    """That what a call says of its steps are tensors, of which none wants a gradient."""
    for name, tensor in zip(steps._fields, steps, strict=True):
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise not_a_tensor(cell, name, tensor)
        if tensor.requires_grad and torch.is_grad_enabled():
            raise NotImplementedError(
                f"[{cell}] {name} must not require a gradient, which has no kernel, "
                "got one that does"
            )


def not_a_tensor(op: str, name: str, value: Any) -> TypeError:
    return TypeError(f"[{op}] {name} must be a tensor, got {type(value).__name__}")
