"""The CUDA engine: layers made with ``device="cuda"``, and calls with arrays on a GPU.

Arrays of any library that has DLPack or the CUDA array interface go in; results are arrays of the
same library, from its memory, made on its current stream, and nothing waits for the GPU. So what a
kernel alone can find is raised by the next call on that device, or by `check`: a length outside
0..T, where lengths are on the GPU, and a kernel that had to end itself.

Without a GPU everything here can be imported and `is_available` is False.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import _arrays
from . import _native

__all__ = [
    "check",
    "device_count",
    "devices",
    "is_available",
    "mode",
    "tf32",
    "why_not_available",
]


def is_available() -> bool:
    """Whether there are a CUDA engine in this build and a GPU that it can use."""
    return why_not_available() == ""


def why_not_available() -> str:
    """What is missing; empty where nothing is."""
    return _native.why_not_available()


def device_count() -> int:
    """GPUs that can be used; 0 where there is none."""
    return _native.engine.device_count() if _native.engine else 0


def devices() -> list[dict[str, Any]]:
    """What is known of each GPU: name, compute capability, SMs, shared memory."""
    return [_native.engine.device(i) for i in range(device_count())]


def check(array: Any) -> None:
    """Wait for the current stream of an array's library and raise what kernels have found.

    Raises
    ------
    ValueError
        A length outside 0..T, of a call since the last check.
    RuntimeError
        The stream has failed: the message names the CUDA call and the error, or the kernel that has
        ended itself because some of its blocks never arrived at a barrier.
    """
    library = _arrays.gpu_library_of("cuda", array)
    _native.require_engine("cuda").raise_errors(library.index(array), library.stream(array))


@contextmanager
def mode(name: str) -> Iterator[None]:
    """Run passes in one mode, for tests and measurements.

    Parameters
    ----------
    name : {"best", "grid", "flags", "cluster", "stepwise"}
        ``best`` is the quickest by the models of their time. In ``grid``, ``flags`` and ``cluster``
        one launch takes all steps, and its blocks exchange what they have made through memory and a
        counter, through words that are polled, or through the shared memory of a cluster.
        ``stepwise`` launches each step.

    Raises
    ------
    NotImplementedError
        By a call that the mode cannot run.
    ValueError
        The name is unknown.
    """
    engine = _native.require_engine("cuda")
    with _setting(engine.mode(), engine.use_mode, name):
        yield


@contextmanager
def tf32(allow: bool = True) -> Iterator[None]:
    """Let the recurrent products of float32 be made as TF32, by tensor cores.

    Factors are rounded to 10 bits behind the point, sums are float32. This is a choice and never
    the default; it concerns what the engine multiplies itself, in every mode but ``stepwise``, on
    GPUs from compute capability 8.0 on. Products of the array library follow its own setting.

    Parameters
    ----------
    allow : bool
        Whether they may.
    """
    engine = _native.require_engine("cuda")
    with _setting(engine.tf32(), engine.use_tf32, allow):
        yield


@contextmanager
def _setting(before: Any, use: Callable[[Any], None], value: Any) -> Iterator[None]:
    """Use a value of the engine's, and then the one from before again."""
    use(value)
    try:
        yield
    finally:
        use(before)
