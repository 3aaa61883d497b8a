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


def output(dtype: object) -> float:
    """Tolerance of y and states."""
    return FLOAT32_OUTPUT if np.dtype(dtype) == np.float32 else FLOAT64


def gradient(dtype: object) -> float:
    """Tolerance of gradients."""
    return FLOAT32_GRADIENT if np.dtype(dtype) == np.float32 else FLOAT64


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


def assert_gradient(a: np.ndarray, b: np.ndarray, dtype: object, what: str = "") -> None:
    error = relative(a, b)
    assert error <= gradient(dtype), f"{what}: error {error:.2e} over {gradient(dtype):.0e}"
