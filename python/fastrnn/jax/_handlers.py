"""The engines' handlers of XLA's foreign function interface, and how calls of them are compiled."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .. import _dtypes, _native
from . import _gpu, _jaxlib

# Of custom calls in compiled and exported programs. What the name stands for may gain options, but
# programs that were exported before must go on to run.
TARGET = "fastrnn.call"


def platforms() -> list[str]:
    """The platforms that have a handler, which this registers."""
    version = _jaxlib.interface_version(jax.ffi.include_dir())
    engines = {"cpu": _native.engine, "cuda": _gpu.engine()}
    found = {platform: engine for platform, engine in engines.items() if engine is not None}
    for platform, engine in found.items():
        engine.xla_set_version(*version)
        jax.ffi.register_ffi_target(TARGET, engine.xla_handler, platform=_NAMES[platform])
    return list(found)


_NAMES = {"cpu": "cpu", "cuda": "CUDA"}  # as XLA writes them


def lower(ctx: Any, operands: Any, cell: str, options: tuple[int, ...], *, platform: str) -> Any:
    """The call of a platform's handler; arrays are in C order.

    Raises
    ------
    TypeError
        The platform's engine has no kernels for the dtype.
    """
    dtype = ctx.avals_in[0].dtype.name
    if dtype not in _dtypes.OF_ENGINE[platform]:
        *others, last = _dtypes.OF_ENGINE[platform]
        names = f"{', '.join(others)} or {last}"
        raise TypeError(f"[{cell}] dtype must be {names} on {platform}, got {dtype}")
    numbers = np.array(options, np.int64)
    return jax.ffi.ffi_lowering(TARGET)(ctx, *operands, cell=cell, options=numbers)
