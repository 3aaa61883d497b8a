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
    INT8_OUTPUT,
    INT8_ROUNDING,
    NARROW_GRADIENT,
    NARROW_OUTPUT,
    NARROW_ROUNDING,
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

# Where an activation has a kink, a unit within the rounding of it may be on in one and off in the
# other: its whole part of a sum, not a rounding of it.
NARROW_KINK = 256


def _name(dtype: object) -> str:
    return dtype if isinstance(dtype, str) else np.dtype(dtype).name


def output(dtype: object) -> float:
    """Tolerance of y and states."""
    return _tolerances.output(_name(dtype))


def gradient(dtype: object, kink: bool = False) -> float:
    """Tolerance of gradients; `kink`: of a cell with an activation like relu."""
    name = _name(dtype)
    if name in NARROW_ROUNDING and kink:
        return NARROW_KINK * NARROW_ROUNDING[name]
    return _tolerances.gradient(name)


def assert_output(a: np.ndarray, b: np.ndarray, dtype: object, what: str = "") -> None:
    error = output_error(a, b)
    assert error <= output(dtype), f"{what}: error {error:.2e} over {output(dtype):.0e}"


def assert_gradient(
    a: np.ndarray, b: np.ndarray, dtype: object, what: str = "", kink: bool = False
) -> None:
    error, bound = relative(a, b), gradient(dtype, kink)
    assert error <= bound, f"{what}: error {error:.2e} over {bound:.0e}"
