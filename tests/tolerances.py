"""Tolerances of the tests, with reasons: those of the check that a wheel makes of itself, which
`fastrnn._check._tolerances` has with its measure of errors, and what only tests need.
"""

from __future__ import annotations

import numpy as np

from fastrnn._check import _tolerances
from fastrnn._check._tolerances import (
    FLOAT32_GRADIENT,
    FLOAT32_OUTPUT,
    FLOAT64,
    output_error,
    relative,
)

__all__ = [
    "FLOAT32_GRADIENT",
    "FLOAT32_OUTPUT",
    "FLOAT64",
    "INT8_OUTPUT",
    "INT8_ROUNDING",
    "NARROW_GRADIENT",
    "NARROW_KINK",
    "NARROW_OUTPUT",
    "NARROW_ROUNDING",
    "SECOND_ORDER",
    "assert_gradient",
    "assert_output",
    "gradient",
    "output",
    "relative",
]

# Derivatives of derivatives: both sides sum products of what already is within FLOAT64, over every
# pair of inputs.
SECOND_ORDER = 1e-9

# Storage of 16 bits, in units of its rounding, half the distance from 1 to the next number. A step
# rounds what is stored: W x, in the stepwise mode R h, and h, and the cells' slopes are at most 1,
# so a step adds up to three roundings of values of order 1; gates below 1 make older ones fade.
NARROW_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
NARROW_OUTPUT = 4
# Backward reads h and the gates so rounded and rounds the gradient of each gate at each step. They
# are sums over units and steps, compared with the largest of the tensor.
NARROW_GRADIENT = 32
# Where an activation has a kink, a unit within the rounding of it may be on in one and off in the
# other: its whole part of a sum, not a rounding of it.
NARROW_KINK = 256

# Weights and rows of 8 bits, in units of half a step of the largest value's. Errors of the products
# of a row have all signs, and gates below 1 make older ones fade.
INT8_ROUNDING = 0.5 / 127
INT8_OUTPUT = 16


def _name(dtype: object) -> str:
    return dtype if isinstance(dtype, str) else np.dtype(dtype).name


def output(dtype: object) -> float:
    """Tolerance of y and states."""
    name = _name(dtype)
    if name in NARROW_ROUNDING:
        return NARROW_OUTPUT * NARROW_ROUNDING[name]
    return _tolerances.output(name)


def gradient(dtype: object, kink: bool = False) -> float:
    """Tolerance of gradients; `kink`: of a cell with an activation like relu."""
    name = _name(dtype)
    if name in NARROW_ROUNDING:
        return (NARROW_KINK if kink else NARROW_GRADIENT) * NARROW_ROUNDING[name]
    return _tolerances.gradient(name)


def assert_output(a: np.ndarray, b: np.ndarray, dtype: object, what: str = "") -> None:
    error = output_error(a, b)
    assert error <= output(dtype), f"{what}: error {error:.2e} over {output(dtype):.0e}"


def assert_gradient(
    a: np.ndarray, b: np.ndarray, dtype: object, what: str = "", kink: bool = False
) -> None:
    error, bound = relative(a, b), gradient(dtype, kink)
    assert error <= bound, f"{what}: error {error:.2e} over {bound:.0e}"
