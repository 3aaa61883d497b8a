"""What ``torch.utils.flop_counter`` counts of the operators: products, as of torch's own layers.

The formulas are given shapes in the place of tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from .._parameters import by_layer_direction
from .._sizes import SIZES
from ._ops import split_backward


def _each_pass(parameters: Sequence[Any], rows: int, layers: int, directions: int) -> Any:
    """Whether it is the lowest layer, and the operations of x W' and of a step, for each pass."""
    for n, own in enumerate(by_layer_direction(parameters, layers, directions)):
        w_ih, *in_a_step = (a for a in own if len(a) == 2)  # h R', and v W_hr' of a projection
        yield n < directions, 2 * rows * math.prod(w_ih), 2 * rows * sum(map(math.prod, in_a_step))


def _forward_flops(
    x: Any,
    lengths: Any,
    resets: Any,
    states: Any,
    masks: Any,
    parameters: Any,
    cell: str,
    layers: int,
    directions: int,
    *args: Any,
    **kwargs: Any,
) -> int:
    rows = math.prod(x[:-1])  # of padded steps too: how many there are is known to the kernel alone
    return sum(xw + hr for _, xw, hr in _each_pass(parameters, rows, layers, directions))


def _backward_flops(*args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    common, (*_, want_dx, want_parameters) = split_backward(args)
    x, _, _, states, _, parameters, cell, layers, directions, batch_first, recompute, *_ = common
    rows, T = math.prod(x[:-1]), x[1 if batch_first and len(x) == 3 else 0]
    flops = 0
    for lowest, xw, hr in _each_pass(parameters, rows, layers, directions):
        flops += (xw + hr) * want_parameters + xw * (want_dx or not lowest)
        flops += hr if states else hr * (T - 1) // T if T else 0  # none to the first step's zeros
    recomputed = recompute and (SIZES[cell].saved or SIZES[cell].states > 1)
    return flops + (_forward_flops(*common) if recomputed else 0)


for _operator, _formula in (
    (torch.ops.fastrnn.layer, _forward_flops),
    (torch.ops.fastrnn.forward, _forward_flops),
    (torch.ops.fastrnn.backward, _backward_flops),
):
    register_flop_formula(_operator)(_formula)
