"""An array library whose arrays are, so they say, in a GPU's memory.

Its arrays hide NumPy arrays, in memory that the emulated device (tests/cuda_emulation) works on.
They behave as CuPy's do: no conversion to NumPy that nobody asked for, no mixing with host arrays.
The namespace is what the driver may use: functions of the array API standard, and no others.
"""

from __future__ import annotations

import operator
import sys
from typing import Any

import ml_dtypes
import numpy as np

bool = np.dtype(np.bool_)
int32, int64 = np.dtype(np.int32), np.dtype(np.int64)
float16, float32, float64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
bfloat16 = np.dtype(ml_dtypes.bfloat16)

STREAM = 7  # what the library says its current stream is
waits: list[str] = []  # every time that values came to the host


class Array:
    """An array of the library."""

    def __init__(self, values: np.ndarray, device: int = 0, kind: int = 2) -> None:
        self._values = values
        self.device = device
        self._kind = kind

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    T = property(lambda self: self._like(self._values.T))

    def _like(self, values: np.ndarray) -> Array:
        return Array(values, self.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self._values.__array_interface__, "stream": STREAM, "version": 3}

    def __dlpack_device__(self) -> tuple[int, int]:
        return (self._kind, self.device)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return sys.modules[__name__]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array is not allowed; use get()")

    def __bool__(self) -> bool:
        raise TypeError("the value of an array on a GPU is not known on the host")

    def get(self) -> np.ndarray:
        """The values, on the host."""
        waits.append("get")
        return self._values.copy()

    def __getitem__(self, key: Any) -> Array:
        return self._like(self._values[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        with np.errstate(all="ignore"):
            self._values[key] = _values(value)

    def __matmul__(self, other: Any) -> Array:
        return matmul(self, other)


def _values(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("arrays of the host and of a GPU do not mix")
    return value._values if isinstance(value, Array) else value


def _operator(function: Any, reflected: bool = False) -> Any:
    def apply(self: Array, other: Any) -> Array:
        other = _values(other)
        with np.errstate(all="ignore"):
            result = function(other, self._values) if reflected else function(self._values, other)
        return self._like(result)

    return apply


for _name in ("add", "sub", "mul", "truediv", "lt", "gt", "le", "ge", "and_", "iadd", "imul"):
    _function = getattr(operator, _name)
    setattr(Array, f"__{_name.strip('_')}__", _operator(_function))
for _name in ("add", "sub", "mul"):
    setattr(Array, f"__r{_name}__", _operator(getattr(operator, _name), True))


def empty(shape: Any, *, dtype: Any = float32, device: int = 0) -> Array:
    """Filled with NaN, so that what nobody writes is seen."""
    made = np.empty(shape, dtype)
    made.view(np.uint8).fill(0xFF) if made.size else None
    return Array(made, device)


def zeros(shape: Any, *, dtype: Any = float32, device: int = 0) -> Array:
    """Zeros."""
    return Array(np.zeros(shape, dtype), device)


def arange(start: int, stop: int, *, device: int = 0) -> Array:
    """Whole numbers."""
    return Array(np.arange(start, stop), device)


def zeros_like(array: Array) -> Array:
    """Zeros of the same shape."""
    return Array(np.zeros(array.shape, array.dtype), array.device)


def asarray(values: Any, *, dtype: Any = None, device: int = 0) -> Array:
    """A copy of host values."""
    return Array(np.array(_values_of_host(values), dtype), device)


def _values_of_host(values: Any) -> Any:
    return values._values if isinstance(values, Array) else values


def astype(array: Array, dtype: Any) -> Array:
    """Converted."""
    with np.errstate(all="ignore"):
        return array._like(array._values.astype(dtype))


def matmul(a: Array, b: Array) -> Array:
    """A product, rounded once, so that a row's result does not depend on the rows beside it."""
    assert a.dtype == b.dtype, (a.dtype, b.dtype)
    with np.errstate(all="ignore"):
        product = np.matmul(a._values.astype(float64), b._values.astype(float64))
        return a._like(product.astype(a.dtype))


def sum(array: Array, *, axis: Any = None, dtype: Any = None) -> Array:
    """A sum."""
    with np.errstate(all="ignore"):
        return array._like(array._values.astype(dtype).sum(axis=axis, dtype=dtype))


def stack(arrays: Any, *, axis: int = 0) -> Array:
    """Arrays side by side, copied."""
    return arrays[0]._like(np.stack([a._values for a in arrays], axis))


def permute_dims(array: Array, axes: tuple[int, ...]) -> Array:
    """A view with its dimensions in another order."""
    return array._like(array._values.transpose(axes))


def expand_dims(array: Array, *, axis: int) -> Array:
    """A view with one more dimension."""
    return array._like(np.expand_dims(array._values, axis))


def reshape(array: Array, shape: tuple[int, ...]) -> Array:
    """Another shape."""
    return array._like(array._values.reshape(shape))


def where(condition: Array, a: Any, b: Any) -> Array:
    """A choice."""
    return condition._like(np.where(condition._values, _values(a), _values(b)))
