"""A stand-in for CuPy, so that a document's code for a GPU runs on the emulated device.

Arrays are those of `fake_gpu`. A function of the module is NumPy's of the same name, as CuPy's are:
arrays of the GPU go in and come out, and one of the host is refused, as there. What a document
needs and NumPy has under no such name stands below. It shows that a program's calls, names and
shapes are right and what its numbers are; not that CuPy has a function, nor anything of a card.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import fake_gpu
import streams
from builds import load_engine
from fake_gpu import Array, asarray


class ndarray:
    """What CuPy's arrays are; those of `fake_gpu` are none, and bring their own namespace."""


def asnumpy(array: Any) -> np.ndarray:
    """The values, on the host."""
    return array.get()


def __getattr__(name: str) -> Any:
    found = getattr(np, name)  # raises as the module would
    if isinstance(found, type) or not callable(found):
        return found
    return _on_the_gpu(found)


def _on_the_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        def apply(*values: Any) -> Any:
            count = len(arguments)
            return function(*values[:count], **dict(zip(options, values[count:], strict=True)))

        return fake_gpu.apply(apply, *arguments, *options.values())

    return call


@contextmanager
def installed(module: Path) -> Iterator[None]:
    """Let ``import cupy`` find this module, and fastrnn the emulated device, in this process.

    Work waits in the device's streams until a value is asked for, as on a card.

    Parameters
    ----------
    module : Path
        The compiled ``_cuda_emulated`` of a build for tests.
    """
    import fastrnn.cuda
    from fastrnn import _arrays

    sys.modules["cupy"] = sys.modules[__name__]
    Array.__float__ = lambda array: float(array.get())  # as CuPy's, which waits for the value
    engine = fastrnn.cuda._native.engine = load_engine(module.parent, "_cuda_emulated")
    engine.use_device(16, 227 << 10, True)
    _arrays.cupy_library = lambda op: _arrays._library(fake_gpu)
    with streams.queued(engine, "forward"):
        yield


__all__ = ["asarray", "asnumpy", "installed", "ndarray"]
