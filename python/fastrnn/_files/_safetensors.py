"""Reading and writing .safetensors files: 8 bytes of length, a header of JSON, the arrays.

The package reads and writes them. What it would allocate is seen here before, from the header.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, BinaryIO

import numpy as np

from .. import _dtypes
from ._json import json_object

_MAX_HEADER = 4 << 20  # some 30,000 arrays; the format itself allows 100 MB
_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I8": "int8",
}


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(
            '.safetensors files need the package: pip install "fastrnn[safetensors]"'
        ) from None


class SafeTensors:
    """The arrays of a .safetensors file.

    Parameters
    ----------
    file : binary file
        At its start; read to its end by `arrays`.

    Attributes
    ----------
    members : dict
        Shape and dtype of each array by its name.
    metadata : dict
        The texts of ``__metadata__``.

    Raises
    ------
    ValueError
        The header is none, is too large, names an array twice or has a field of another type; the
        file is shorter or longer than it says.
    ImportError
        The package is not installed.
    """

    def __init__(self, file: BinaryIO) -> None:
        _package("safetensors")
        self._file = file
        size = os.fstat(file.fileno()).st_size
        self._start = file.read(8)
        length = int.from_bytes(self._start, "little")
        if len(self._start) < 8 or length > min(size - 8, _MAX_HEADER):
            raise ValueError(
                f"the header must be in the file, within {_MAX_HEADER} bytes, got {length}"
            )
        self._start += file.read(length)
        header = json_object(self._start[8:].decode())
        self.metadata: dict[str, Any] = header.pop("__metadata__", {})
        if not isinstance(self.metadata, dict):
            raise ValueError("__metadata__ must be texts by name, got another value")
        self.members = {name: _member(name, entry) for name, entry in header.items()}
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if 8 + length + end != size:
            raise ValueError(f"the file must have {8 + length + end} bytes, got {size}")

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays; the package compares sizes and places with shapes."""
        package = _package("safetensors")
        try:
            found = package.deserialize(self._start + self._file.read())
        except package.SafetensorError as error:
            raise ValueError(f"the header must fit the file, got: {error}") from None
        return {
            name: np.frombuffer(entry["data"], self.members[name][1]).reshape(entry["shape"])
            for name, entry in found
        }


def _member(name: str, entry: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, from its entry in the header."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name[:40]!r} must have dtype, shape and data_offsets, got others")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _NAMES:
        raise ValueError(f"{name[:40]!r} must be of {list(_NAMES)}, got {str(dtype)[:40]}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError(f"{name[:40]!r} must have lists of sizes, got {str(numbers)[:40]}")
    if len(offsets) != 2:
        raise ValueError(f"{name[:40]!r} must have two offsets, got {len(offsets)}")
    return tuple(shape), _dtypes.numpy_dtype(_NAMES[dtype])


def write_safetensors(
    file: BinaryIO, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Write arrays and texts.

    Raises
    ------
    ImportError
        The package is not installed.
    """
    file.write(_package("safetensors.numpy").save(arrays, metadata))
