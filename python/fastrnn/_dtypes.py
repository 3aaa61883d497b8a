"""Names of dtypes: which of them each engine computes in, and NumPy's dtypes of these names.

The engines themselves check every array.
"""

from __future__ import annotations

from typing import Any

import numpy as np

WIDE = ("float32", "float64")
NARROW = ("float16", "bfloat16")
OF_ENGINE: dict[str, tuple[str, ...]] = {"cpu": (*WIDE, *NARROW), "cuda": (*WIDE, *NARROW)}


def of_cell_state(name: str) -> str:
    """The dtype of states other than h, where h has this one."""
    return "float32" if name in NARROW else name


def name_of(array: Any) -> str:
    """``float32``, ``bfloat16`` ...: the dtype of an array of any library."""
    return str(array.dtype).rpartition(".")[2]


def is_float(dtype: np.dtype) -> bool:
    """Whether elements are floats; NumPy has no kind for bfloat16."""
    return dtype.kind == "f" or dtype.name in NARROW


def numpy_dtype(name: str) -> np.dtype:
    """NumPy's dtype of a name; bfloat16 is that of ml_dtypes, which CuPy's is too."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError("[dtype] bfloat16 needs ml_dtypes, which is not installed") from None
    found: np.dtype = np.dtype(ml_dtypes.bfloat16)
    return found
