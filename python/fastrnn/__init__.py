"""Recurrent layers for NumPy and for arrays on a GPU: fused kernels, one semantics.

`RNN`, `LSTM` and `GRU` take the arguments and give the results of ``torch.nn``'s layers, on NumPy
arrays, or with ``device="cuda"`` on arrays in a GPU's memory; `functional` has the same calls
without a layer, `reference` the same in plain NumPy and float64, `training` what a small training
loop needs, `weights` converters to and from other libraries' parameters. `load` reads the layers
that ``layer.save`` wrote.
"""

from __future__ import annotations

# First: in a subinterpreter the engine refuses, and says so, where NumPy may warn or fail.
from . import _native  # isort: skip

import importlib
import operator
import platform
import reprlib
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arguments, functional, reference, training, weights
from ._cell_names import cell_name
from ._loading import load
from .cells import GRUCell, LSTMCell, RNNCell
from .layers import GRU, LSTM, RNN, Recurrent
from .module import Module
from .quantized import Quantized, quantize

if TYPE_CHECKING:
    from . import cuda

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "Module",
    "Quantized",
    "RNNCell",
    "Recurrent",
    "build_info",
    "cell_name",
    "cuda",
    "explain",
    "functional",
    "get_num_threads",
    "load",
    "quantize",
    "reference",
    "release_memory",
    "set_num_threads",
    "training",
    "weights",
]

__version__ = _native.engine.__version__


def __getattr__(name: str) -> Any:
    """`fastrnn.cuda`, which is loaded when it is first used."""
    if name == "cuda":
        return importlib.import_module(".cuda", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def set_num_threads(n: int) -> None:
    """Let a call use up to `n` threads. Results do not depend on it.

    The teams of all calls together have no more members than there are processors, and fewer while
    other programs keep members from theirs.

    Raises
    ------
    ValueError
        `n` is not within 1..4096.
    TypeError
        `n` is not an integer.
    """
    try:
        if isinstance(n, (bool, np.bool_)):
            raise TypeError
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"[set_num_threads] n must be an integer, got {reprlib.repr(n)}") from None
    if not 1 <= n <= 4096:
        raise ValueError(f"[set_num_threads] n must be within 1..4096, got {n}")
    _native.engine.set_num_threads(n)


def get_num_threads() -> int:
    """Threads that a call may use: what was set, or the processors this process may run on.

    Processors are those of the affinity mask, and no more than a control group's quota pays for.
    In a child of ``fork()`` it is 1. ``build_info()["available"]`` says how many a call would have
    now, and what limits them.
    """
    return _native.engine.get_num_threads()


def release_memory() -> int:
    """Give back to the system the memory that is kept for the next calls; returns its bytes.

    Packed weights, workspaces and results of 256 KiB and more are kept when they are freed, at most
    512 MiB together: fresh memory costs more than a step of a small batch.
    """
    return _native.engine.release_memory()


def build_info() -> dict[str, Any]:
    """What this build has and what of it is in use: the facts that a bug report should hold."""
    from . import cuda

    engine = _native.engine
    return {
        "version": __version__,
        "compiler": engine.compiler(),
        "cells": [cell["name"] for cell in engine.cells()],
        "levels_built": engine.built_levels(),
        "levels_supported": engine.usable_levels(),
        "level": engine.level(),
        "team": engine.team(),
        "threads": engine.get_num_threads(),
        "available": engine.available(),
        "processors": engine.processors(),
        "caches": engine.caches(),
        "machine": platform.machine(),
        "cuda": cuda.why_not_available() or cuda.devices(),
    }


def explain(layer: Recurrent | Quantized, shape: tuple[int, ...]) -> dict[str, Any]:
    """The plan of a call: instruction set, what bounds it, blocking, threads, bytes.

    Parameters
    ----------
    layer : Recurrent or Quantized
    shape : tuple of int
        The shape of x: ``(T, B, I)``, ``(B, T, I)`` for a layer with `batch_first`, or ``(T, I)``.

    Returns
    -------
    dict
        ``cell``, ``dtype``, ``level``, ``tile``, ``tape_bytes``, ``packed_bytes``, and for
        ``forward``, ``forward_with_tape`` and ``backward`` the plan: regime, threads, how rows and
        units are split, who of those that share rows takes the steps, steps in a chunk, bytes of
        workspace; ``available``, the threads that a call may have now and why. On a GPU ``cell``,
        ``dtype``, ``device``, and for ``forward`` and ``backward`` the mode, blocks and threads,
        units of a block, groups of rows, bytes of shared memory, microseconds of a step as the
        model has it, and, where the device has refused a quicker plan, which one this is
        ``instead_of``.

    Raises
    ------
    ValueError
        The shape is not one that the layer takes.
    TypeError
        Not a layer, not a tuple of integers.
    MemoryError
        No array of this shape can be addressed.
    """
    if not isinstance(layer, (Recurrent, Quantized)):
        raise TypeError(f"[explain] layer must be a recurrent layer, got {type(layer).__name__}")
    if not isinstance(shape, (tuple, list)) or not all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in shape
    ):
        raise TypeError(
            f"[{layer.cell}] shape must be a tuple of integers, got {reprlib.repr(shape)}"
        )
    if not all(-(2**63) <= n < 2**63 for n in shape):
        raise ValueError(f"[{layer.cell}] shape must be of sizes below 2**63, got {tuple(shape)}")
    if len(shape) not in (2, 3) or shape[-1] != layer.input_size:
        raise ValueError(
            f"[{layer.cell}] shape must be (T, B, {layer.input_size}) or (T, {layer.input_size}), "
            f"got {tuple(shape)}"
        )
    T, B = (shape[0], 1) if len(shape) == 2 else shape[:2]
    if len(shape) == 3 and layer.batch_first:
        T, B = B, T
    recompute = layer.recompute if isinstance(layer, Recurrent) else 0
    recompute = _arguments.checkpoint_steps(layer.cell, recompute)
    weights = layer._weights(backward=isinstance(layer, Recurrent))[1]
    return dict(weights.native.explain(T, B, recompute))
