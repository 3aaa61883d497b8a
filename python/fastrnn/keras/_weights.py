"""The weights of a Keras cell with fastrnn's gates, by operations of the backend.

`fastrnn.weights` converts arrays; here gradients go through, so each step is an operation that the
backend differentiates. Where the gates stand, the table of `fastrnn.weights` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from keras import ops

from ..weights import _convert


@lru_cache(maxsize=256)
def gate_order(cell: str) -> tuple[int, ...]:
    """The place at Keras of each of fastrnn's gates."""
    return tuple(_convert.gate_order(_convert.row("keras", "keras", cell)))


@lru_cache(maxsize=256)
def _has_two_biases(cell: str) -> bool:
    parts = _convert.row("keras", "keras", cell).parts
    return any(part.holds == ("bias_ih", "bias_hh") for part in parts)


def in_order(cell: str, array: Any) -> Any:
    """An array with Keras's gates in its last axis, with fastrnn's."""
    order = gate_order(cell)
    if order == tuple(range(len(order))):
        return array
    H = array.shape[-1] // len(order)
    return ops.concatenate([array[..., k * H : (k + 1) * H] for k in order], axis=-1)


def biases_of(cell: str, bias: Any) -> tuple[Any, ...]:
    """The biases of the inputs and of the recurrence; none without."""
    if bias is None:
        return ()
    ordered = in_order(cell, bias)
    if _has_two_biases(cell):
        return ordered[0], ordered[1]
    return ordered, ops.zeros_like(ordered)


def side_by_side(x: Any, masks: Sequence[Any]) -> Any:
    """The inputs of each gate, masked: ``(B, T, G * I)``."""
    return ops.concatenate([x * mask[:, None] for mask in masks], axis=-1)


def block_kernel(kernel: Any, gates: int) -> Any:
    """The kernel for `side_by_side`: each gate reads its own inputs, and zeros stand elsewhere."""
    I, H = kernel.shape[0], kernel.shape[1] // gates
    blocks = [
        ops.pad(kernel[:, k * H : (k + 1) * H], [[k * I, (gates - 1 - k) * I], [0, 0]])
        for k in range(gates)
    ]
    return ops.concatenate(blocks, axis=1)
