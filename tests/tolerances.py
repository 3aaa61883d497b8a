"""The one table of tolerances, with reasons.

An error is ``max |a - b| / max(1, max |b|)`` for outputs and states, which are of order 1 by
construction, and ``max |a - b| / max |b|`` of the whole tensor for gradients; b is float64.
"""

from __future__ import annotations

import numpy as np

# Both sides compute in float64 and differ in the order of sums of up to some hundred terms, over up
# to some hundred steps: about 1e3 roundings of 1e-16.
FLOAT64 = 1e-10

# Derivatives of derivatives: both sides sum products of what already is within FLOAT64, over every
# pair of inputs.
SECOND_ORDER = 1e-9

# One chain of H + I roundings of 6e-8 a step, damped by gates below 1; T = 1000 stays within.
FLOAT32_OUTPUT = 1e-5

# The chains of backward run over T steps and dW sums T * B products.
FLOAT32_GRADIENT = 1e-4

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


def _name(dtype: object) -> str:
    return dtype if isinstance(dtype, str) else np.dtype(dtype).name


def output(dtype: object) -> float:
    """Tolerance of y and states."""
    name = _name(dtype)
    if name in NARROW_ROUNDING:
        return NARROW_OUTPUT * NARROW_ROUNDING[name]
    return FLOAT32_OUTPUT if name == "float32" else FLOAT64


def gradient(dtype: object, kink: bool = False) -> float:
    """Tolerance of gradients; `kink`: of a cell with an activation like relu."""
    name = _name(dtype)
    if name in NARROW_ROUNDING:
        return (NARROW_KINK if kink else NARROW_GRADIENT) * NARROW_ROUNDING[name]
    return FLOAT32_GRADIENT if name == "float32" else FLOAT64


def relative(a: np.ndarray, b: np.ndarray, least: float = 0.0) -> float:
    """max |a - b| / max(least, max |b|); 0 for empty arrays, inf where NaNs do not stand alike."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    if a.size == 0:
        return 0.0
    nan = np.isnan(a)
    if (nan != np.isnan(b)).any():
        return np.inf
    difference = np.where(nan, 0.0, np.abs(a - b))
    scale = max(least, float(np.abs(np.where(nan, 0.0, b)).max()))
    return float(difference.max()) / scale if scale else float(difference.max())


def assert_output(a: np.ndarray, b: np.ndarray, dtype: object, what: str = "") -> None:
    error = relative(a, b, least=1.0)
    assert error <= output(dtype), f"{what}: error {error:.2e} over {output(dtype):.0e}"


def assert_gradient(
    a: np.ndarray, b: np.ndarray, dtype: object, what: str = "", kink: bool = False
) -> None:
    error, bound = relative(a, b), gradient(dtype, kink)
    assert error <= bound, f"{what}: error {error:.2e} over {bound:.0e}"
