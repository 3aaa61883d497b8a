"""The engine's handlers of XLA's foreign function interface, and how calls of them are compiled."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .. import _native
from . import _jaxlib

# Of custom calls in compiled and exported programs. What the name stands for may gain options, but
# programs that were exported before must go on to run.
TARGET = "fastrnn.call"


def platforms() -> list[str]:
    """The platforms that have a handler, which this registers."""
    _native.engine.xla_set_version(*_jaxlib.interface_version(jax.ffi.include_dir()))
    jax.ffi.register_ffi_target(TARGET, _native.engine.xla_handler, platform="cpu")
    return ["cpu"]


def lower(ctx: Any, operands: Any, cell: str, options: tuple[int, ...]) -> Any:
    """The call of a handler; arrays are in C order."""
    numbers = np.array(options, np.int64)
    return jax.ffi.ffi_lowering(TARGET)(ctx, *operands, cell=cell, options=numbers)
