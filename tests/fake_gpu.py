"""An array library whose arrays are, so they say, in a GPU's memory.

Its arrays hide NumPy arrays, in memory that the emulated device (tests/cuda_emulation) works on.
When an operation runs is for `streams` to say: as it comes, or when somebody waits for it.
They behave as CuPy's do: no conversion to NumPy that nobody asked for, no mixing with host arrays.
The namespace is what the driver may use: functions of the array API standard, and no others.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

import streams

bool = np.dtype(np.bool_)
int32, int64 = np.dtype(np.int32), np.dtype(np.int64)
float16, float32, float64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
bfloat16 = np.dtype(ml_dtypes.bfloat16)

waits: list[str] = []  # every time that values came to the host


class Array:
    """An array of the library."""

    def __init__(self, values: np.ndarray, device: int = 0, kind: int = 2) -> None:
        self._values = values
        self.device = device
        self._kind = kind

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    T = property(lambda self: apply(np.transpose, self))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self._values.__array_interface__, "stream": streams.work.stream, "version": 3}

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
        return streams.work.read(self._values)

    def __getitem__(self, key: Any) -> Array:
        return apply(lambda values: values[key], self)

    def __setitem__(self, key: Any, value: Any) -> None:
        streams.work.write(operator.setitem, self._values, key, _values(value))

    def __matmul__(self, other: Any) -> Array:
        return matmul(self, other)


def _values(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("arrays of the host and of a GPU do not mix")
    return value._values if isinstance(value, Array) else value


def apply(function: Callable[..., Any], *given: Any) -> Array:
    """What a function of NumPy's makes of arrays and numbers."""
    device = next((each.device for each in given if isinstance(each, Array)), 0)
    return Array(streams.work.compute(function, *map(_values, given)), device)


def _operator(function: Callable[..., Any]) -> Callable[[Array, Any], Array]:
    return lambda self, other: apply(function, self, other)


def _reflected(function: Callable[..., Any]) -> Callable[[Array, Any], Array]:
    return lambda self, other: apply(function, other, self)


def _in_place(function: Callable[..., Any]) -> Callable[[Array, Any], Array]:
    def change(self: Array, other: Any) -> Array:
        streams.work.write(function, self._values, _values(other))
        return self

    return change


for _name in ("add", "sub", "mul", "truediv", "lt", "gt", "le", "ge", "and_"):
    setattr(Array, f"__{_name.strip('_')}__", _operator(getattr(operator, _name)))
for _name in ("add", "sub", "mul"):
    setattr(Array, f"__r{_name}__", _reflected(getattr(operator, _name)))
for _name in ("iadd", "imul"):
    setattr(Array, f"__{_name}__", _in_place(getattr(operator, _name)))


def empty(shape: Any, *, dtype: Any = float32, device: int = 0) -> Array:
    """Filled with NaN, so that what nobody writes is seen."""
    return Array(streams.work.memory(shape, dtype), device)


def zeros(shape: Any, *, dtype: Any = float32, device: int = 0) -> Array:
    """Zeros."""
    return _new(lambda: np.zeros(shape, dtype), device)


def arange(start: int, stop: int, *, device: int = 0) -> Array:
    """Whole numbers."""
    return _new(lambda: np.arange(start, stop), device)


def zeros_like(array: Array) -> Array:
    """Zeros of the same shape."""
    return zeros(array.shape, dtype=array.dtype, device=array.device)


def asarray(values: Any, *, dtype: Any = None, device: int = 0) -> Array:
    """A copy of host values, which are held until then and read when the work runs."""
    if isinstance(values, Array):
        return apply(lambda values: np.array(values, dtype), values)
    return _new(lambda: np.array(values, dtype), device)


def _new(function: Callable[[], np.ndarray], device: int) -> Array:
    return Array(streams.work.compute(function), device)


def astype(array: Array, dtype: Any) -> Array:
    """Converted."""
    return apply(lambda values: values.astype(dtype), array)


def matmul(a: Array, b: Array) -> Array:
    """A product, rounded once, so that a row's result does not depend on the rows beside it."""
    assert a.dtype == b.dtype, (a.dtype, b.dtype)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.matmul(a.astype(float64), b.astype(float64)).astype(a.dtype)

    return apply(product, a, b)


def sum(array: Array, *, axis: Any = None, dtype: Any = None) -> Array:
    """A sum."""
    return apply(lambda values: values.astype(dtype).sum(axis=axis, dtype=dtype), array)


def stack(arrays: Any, *, axis: int = 0) -> Array:
    """Arrays side by side, copied."""
    return apply(lambda *values: np.stack(values, axis), *arrays)


def permute_dims(array: Array, axes: tuple[int, ...]) -> Array:
    """A view with its dimensions in another order."""
    return apply(lambda values: values.transpose(axes), array)


def expand_dims(array: Array, *, axis: int) -> Array:
    """A view with one more dimension."""
    return apply(lambda values: np.expand_dims(values, axis), array)


def reshape(array: Array, shape: tuple[int, ...]) -> Array:
    """Another shape."""
    return apply(lambda values: values.reshape(shape), array)


def where(condition: Array, a: Any, b: Any) -> Array:
    """A choice."""
    return apply(np.where, condition, a, b)
