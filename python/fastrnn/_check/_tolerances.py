"""How an error is measured, and how large it may be, with reasons.

An error is ``max |a - b| / max(1, max |b|)`` for outputs and states, which are of order 1 by
construction, and ``max |a - b| / max |b|`` of the whole tensor for gradients; b is float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Both sides compute in float64 and differ in the order of sums of up to some hundred terms, over up
# to some hundred steps: about 1e3 roundings of 1e-16.
FLOAT64 = 1e-10

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

# Weights and rows of 8 bits, in units of half a step of the largest value's. Errors of the products
# of a row have all signs, and gates below 1 make older ones fade.
INT8_ROUNDING = 0.5 / 127
INT8_OUTPUT = 16


def output(dtype: str) -> float:
    """Tolerance of y and states. int8: of weights, x and h, between two that round alike."""
    if dtype in NARROW_ROUNDING:
        return NARROW_OUTPUT * NARROW_ROUNDING[dtype]
    allowed = {"float32": FLOAT32_OUTPUT, "float64": FLOAT64, "int8": INT8_OUTPUT * INT8_ROUNDING}
    return allowed[dtype]


def gradient(dtype: str) -> float:
    """Tolerance of gradients."""
    if dtype in NARROW_ROUNDING:
        return NARROW_GRADIENT * NARROW_ROUNDING[dtype]
    return {"float32": FLOAT32_GRADIENT, "float64": FLOAT64}[dtype]


def relative(a: Any, b: Any, least: float = 0.0) -> float:
    """max |a - b| / max(least, max |b|); 0 for empty arrays, inf where NaNs do not stand alike."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"[check] shapes must be alike, got {a.shape} and {b.shape}")
    if a.size == 0:
        return 0.0
    nan = np.isnan(a)
    if (nan != np.isnan(b)).any():
        return np.inf
    difference = np.where(nan, 0.0, np.abs(a - b))
    scale = max(least, float(np.abs(np.where(nan, 0.0, b)).max()))
    return float(difference.max()) / scale if scale else float(difference.max())


def output_error(a: Any, b: Any) -> float:
    """The error of outputs and states."""
    return relative(a, b, least=1.0)
