"""Array libraries: NumPy's arrays, and those in a GPU's memory, of CuPy, torch and others.

Each is a `Library` with the same few functions, so that layers, cells, functional calls and the
driver of the CUDA engine need not ask whose an array is. Here alone that is found out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from types import ModuleType
from typing import Any, TypeGuard

import numpy as np

from ._cupy import CuPy
from ._library import Library
from ._numpy import NumPy
from ._torch import Torch, is_tensor

__all__ = [
    "CuPy",
    "Library",
    "Torch",
    "cupy_library",
    "default_library",
    "gpu_library_of",
    "is_array",
    "is_device_array",
    "is_numpy",
    "lengths_on_host",
    "library_of",
    "on_host",
    "read_only",
    "set_writeable",
]

_CUDA = (2, 13)  # DLPack's types of device: CUDA, and memory that it manages
_numpy, _torch = NumPy(), Torch()


def is_numpy(value: Any) -> TypeGuard[np.ndarray]:
    """Whether this is a NumPy array, which is in the host's memory."""
    return isinstance(value, np.ndarray)


def is_device_array(value: Any) -> bool:
    """Whether this is an array in a GPU's memory."""
    if is_tensor(value):  # whose interface refuses a tensor that wants a gradient
        return bool(value.is_cuda)
    if hasattr(value, "__cuda_array_interface__"):
        return True
    device = getattr(value, "__dlpack_device__", None)
    try:
        return device is not None and device()[0] in _CUDA
    except Exception:  # an array that cannot be exported is none of ours
        return False


def is_array(value: Any) -> bool:
    """Whether an engine takes this: a NumPy array, or one in a GPU's memory."""
    return isinstance(value, np.ndarray) or is_device_array(value)


def on_host(array: Any) -> Any:
    """A NumPy array of the values of one in a GPU's memory; else as it is, but without a graph."""
    if is_tensor(array):
        array = array.detach()
    if isinstance(array, np.ndarray) or not is_device_array(array):
        return array
    if hasattr(array, "get"):  # CuPy
        return array.get()
    return np.from_dlpack(array, device="cpu") if not hasattr(array, "cpu") else array.cpu().numpy()


def lengths_on_host(lengths: Any) -> np.ndarray | None:
    """Lengths that the host has, as a NumPy array; None for those on a GPU, or without lengths."""
    if is_numpy(lengths):
        return lengths
    if not is_tensor(lengths) or is_device_array(lengths):
        return None
    found: np.ndarray = lengths.detach().numpy()
    return found


def set_writeable(arrays: Iterable[Any], writeable: bool) -> None:
    """Let arrays be written or not; NumPy's alone have a flag for it."""
    for array in arrays:
        if isinstance(array, np.ndarray):
            array.flags.writeable = writeable


def read_only(array: Any) -> Any:
    """A view that cannot be written; the very array where its library has no such views."""
    if not isinstance(array, np.ndarray):
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def library_of(op: str, array: Any) -> Library:
    """The library of an array that an engine takes.

    Raises
    ------
    TypeError, RuntimeError
        As `gpu_library_of`, where it is not NumPy's.
    """
    return _numpy if isinstance(array, np.ndarray) else gpu_library_of(op, array)


def gpu_library_of(op: str, array: Any) -> Library:
    """The library of an array in a GPU's memory.

    Raises
    ------
    TypeError
        It is not an array in a GPU's memory.
    RuntimeError
        ``array_api_compat`` is not installed.
    """
    if not is_device_array(array):
        raise TypeError(f"[{op}] x must be an array on a GPU, got {type(array).__name__}")
    if is_tensor(array):
        return _torch
    try:
        return _library(_compat(op).array_namespace(array))
    except TypeError:
        raise TypeError(
            f"[{op}] x must be an array of a library of the array API standard, "
            f"got {type(array).__name__}"
        ) from None


def default_library(op: str, device: str) -> Library:
    """The library that the parameters of a device's layers are made in.

    Raises
    ------
    RuntimeError
        As `cupy_library`, on a GPU.
    """
    return _numpy if device == "cpu" else cupy_library(op)


def cupy_library(op: str) -> Library:
    """CuPy.

    Raises
    ------
    RuntimeError
        It is not installed.
    """
    _compat(op)
    try:
        import array_api_compat.cupy as xp
    except ImportError:
        raise RuntimeError(
            f"[{op}] layers on a GPU need CuPy, which is not installed: pip install fastrnn[cuda]"
        ) from None
    return _library(xp)


@cache
def _library(xp: ModuleType) -> Library:
    return (CuPy if xp.__name__ == "array_api_compat.cupy" else Library)(xp)


def _compat(op: str) -> Any:
    try:
        import array_api_compat
    except ImportError:
        raise RuntimeError(
            f"[{op}] calls on a GPU need array-api-compat, which is not installed: "
            "pip install fastrnn[cuda]"
        ) from None
    return array_api_compat
