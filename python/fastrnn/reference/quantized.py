"""Products with weights of 8 bits, as `fastrnn.Quantized` of ``"int8"`` has them, but for float64
around them: so rows of tiny numbers are no zeros here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _cell_names, _parameters
from .activations import Array

# Functions with values within 0..1, and the others with values within -1..1; of scaled_tanh those
# whose scale is.
_GATES = ("sigmoid", "hard_sigmoid")
_WITHIN_ONE = (*_GATES, "tanh", "softsign")


@dataclass(frozen=True)
class IntegerWeights:
    """Weights (N, K) in the place of an array.

    Attributes
    ----------
    integers : (N, K)
    scales : (N,)
    bounded : bool
        Whether what they multiply usually is within 1.
    """

    integers: Array
    scales: Array
    bounded: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.integers.shape

    def __getitem__(self, rows: slice) -> IntegerWeights:
        return IntegerWeights(self.integers[rows], self.scales[rows], self.bounded)


def multiply(x: Array, w: Array | IntegerWeights) -> Array:
    """Compute ``x w^T``; with integers each row of x (n, K) is rounded to multiples of a scale."""
    if not isinstance(w, IntegerWeights):
        result: Array = x @ w.T
        return result
    largest = np.abs(x).max(axis=-1, initial=1.0 if w.bounded else 0.0, keepdims=True)
    scales = largest / 127
    q = np.rint(np.divide(x, scales, where=scales > 0, out=np.zeros_like(x)))
    q[~np.isfinite(largest[..., 0])] = np.nan
    result = (q @ w.integers.T) * (scales * w.scales)
    return result


def is_quantized(params: Mapping[str, Any]) -> bool:
    """Tell by their names whether parameters are those of quantized layers."""
    return "scale_ih_l0" in params


def of_pass(cell: str, direction: int, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Give the matrices of a pass in that direction, out of its parameters by their kinds."""
    own = _is_bounded(_cell_names.parsed(cell), direction)
    projected = arrays.get("weight_hr") is not None
    bounded = {"weight_ih": False, "weight_hh": own and not projected, "weight_hr": own}
    return {
        kind: IntegerWeights(arrays[kind], arrays[scale], bounded[kind])
        for kind, scale in _parameters.MATRICES.items()
        if arrays.get(kind) is not None
    }


def _is_bounded(cell: _cell_names.CellName, direction: int) -> bool:
    """Tell whether what a step multiplies is within 1 if the h before it is."""
    functions = cell.of_direction(direction)
    gate, last = functions[0], functions[-1]
    if cell.base.startswith("lstm"):  # o f(c)
        return _within_one(gate) and _within_one(last)
    low, high = cell.state_range or (-1.0, 1.0)
    if low > 1 or high < -1:
        return False
    if cell.base.startswith("gru"):  # (1 - z) n + z h
        return gate.name in _GATES and _within_one(last)
    return _within_one(gate)


def _within_one(function: _cell_names.Function) -> bool:
    if function.name == "scaled_tanh":
        return abs(function.numbers[0]) <= 1
    return function.name in _WITHIN_ONE
