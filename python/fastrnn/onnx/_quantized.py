"""The LSTM of integers that ONNX Runtime has, as an LSTM of floats with scales, and back.

Integers of 8 bits are exact in float32, so that weights go the way of all others from one order of
gates to another, and are integers again after it. Scales are one for each row, as biases are, and
go the way of biases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _engine, _parameters, quantized
from ._options import OPERATORS, Options

OPERATOR = "DynamicQuantizeLSTM"
SCHEME = "int8"  # what `fastrnn.Quantized` calls such weights
_ZEROS = {"int8": 0, "uint8": 128}  # the zero points that leave all numbers within int8
_FLOATS = ("W_scale", "R_scale", "B", "P")

Arrays = dict[str, np.ndarray]


def check_zero_points(options: Options, given: Mapping[str, np.ndarray]) -> None:
    """Refuse zero points with which the numbers are not all of int8, or which are not known.

    Raises
    ------
    NotImplementedError
        They are others, or come with each call.
    TypeError
        They are neither int8 nor uint8.
    """
    for what in ("W_zero_point", "R_zero_point"):
        if what not in given:
            raise NotImplementedError(
                f"{options.label} input {what} must be constant, got one that comes with each call"
            )
        points = given[what]
        zero = _zero(options, what, points)
        if (points != zero).any():
            raise NotImplementedError(
                f"{options.label} input {what} must be {zero} where it is {points.dtype.name}, "
                f"since other differences need more than 8 bits, got {points[points != zero][0]}"
            )


def as_lstm(options: Options, given: Mapping[str, np.ndarray]) -> Arrays:
    """W, R, B and P as LSTM has them, W and R in float32, and the scales of all their rows.

    Raises
    ------
    ValueError
        A shape, a scale that is negative or not finite.
    TypeError
        A dtype.
    NotImplementedError
        As `check_zero_points`; sums of more products than 32 bits hold.
    """
    check_zero_points(options, given)
    _check_dtypes(options, given)
    found = {what: given[what] for what in ("B", "P") if what in given}
    units = given["R"].shape[1] if given["R"].ndim == 3 else 0
    for what, columns in (("R", "H"), ("W", "I")):
        found[what] = _matrix(options, what, given, columns, units)
        found[f"{what}_scale"] = _scales(options, f"{what}_scale", given, found[what])
    _check_sums(options, found)
    return found


def _check_dtypes(options: Options, given: Mapping[str, np.ndarray]) -> None:
    _zero(options, "W", given["W"])
    for what, array in given.items():
        wanted, why = ("float32", "") if what in _FLOATS else (given["W"].dtype.name, ", as W is")
        if array.dtype.name != wanted:
            raise TypeError(
                f"{options.label} input {what} must be {wanted}{why}, got {array.dtype.name}"
            )


def _matrix(
    options: Options, what: str, given: Mapping[str, np.ndarray], columns: str, units: int
) -> np.ndarray:
    """W or R with a row for each value that it makes, and without its zero point."""
    matrix, zero = given[what], _zero(options, what, given[what])
    D, gates = len(options.reverse), OPERATORS[options.operator].gates
    if matrix.ndim != 3 or 0 in matrix.shape or matrix.shape[::2] != (D, gates * units):
        raise ValueError(
            f"{options.label} input {what} must have shape ({D}, {columns}, {gates} H), where H is "
            f"that of R, {units}, got {matrix.shape}"
        )
    _check_rows(options, f"{what}_zero_point", given[f"{what}_zero_point"], D, gates * units)
    found: np.ndarray = (matrix.astype(np.float32) - np.float32(zero)).swapaxes(1, 2)
    return found


def _scales(
    options: Options, what: str, given: Mapping[str, np.ndarray], matrix: np.ndarray
) -> np.ndarray:
    """The scale ``(D, G H)`` of each row, of scales of directions or of rows."""
    scales, (D, rows) = given[what], matrix.shape[:2]
    _check_rows(options, what, scales, D, rows)
    for wrong in quantized.unusable(scales):
        raise ValueError(
            f"{options.label} input {what} must be finite and not negative, got {wrong}"
        )
    return np.broadcast_to(scales.reshape(D, -1), (D, rows))


def _check_sums(options: Options, made: Mapping[str, np.ndarray]) -> None:
    """The engine's sums hold so many products, which it says when it makes weights."""
    sizes = made["W"].shape[2], made["R"].shape[2]
    try:
        _engine.for_device("cpu").Weights("lstm", SCHEME, 1, 1, *sizes, True, 0)
    except (ValueError, NotImplementedError) as error:
        raise NotImplementedError(f"{options.label} {error}") from None


def _check_rows(options: Options, what: str, array: np.ndarray, D: int, rows: int) -> None:
    if array.shape not in ((D,), (D, rows)):
        raise ValueError(
            f"{options.label} input {what} must have shape ({D},) or ({D}, {rows}), "
            f"got {array.shape}"
        )


def _zero(options: Options, what: str, array: np.ndarray) -> int:
    if array.dtype.name not in _ZEROS:
        raise TypeError(
            f"{options.label} input {what} must be of {list(_ZEROS)}, got {array.dtype.name}"
        )
    return _ZEROS[array.dtype.name]


# ---- parameters ----------------------------------------------------------------------------------


def parameters(made: Mapping[str, Any], scales: Mapping[str, Any]) -> Arrays:
    """Parameters of int8, of those whose weights are floats, and of some with scales as biases."""
    found = {}
    for name, array in made.items():
        if _parameters.kind_of(name) in _parameters.MATRICES:
            found[name] = array.astype(np.int8)
            found[_parameters.scale_name(name)] = scales[name.replace("weight", "bias")]
        else:
            found[name] = array
    return found


def apart(params: Mapping[str, np.ndarray]) -> tuple[Arrays, Arrays]:
    """The inverse of `parameters`."""
    made, scales = {}, {}
    for name, array in params.items():
        if _parameters.is_scale(name):
            scales[name.replace("scale", "bias")] = array
        else:
            made[name] = array.astype(np.float32)
    return made, {**made, **scales}


def as_node(made: Mapping[str, np.ndarray], scales: np.ndarray) -> Arrays:
    """The weights of a node, out of an LSTM's W, R, B and P and the scales ``(D, 2 G H)``."""
    found = dict(made)
    for what, of_rows in zip(("W", "R"), np.split(scales, 2, axis=1), strict=True):
        found[what] = made[what].swapaxes(1, 2).astype(np.int8)
        found[f"{what}_scale"] = of_rows
        found[f"{what}_zero_point"] = np.zeros(of_rows.shape, np.int8)
    return found
