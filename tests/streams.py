"""How operations of an array library run on the emulated device: as they come, or in its streams.

The libraries of the tests, `fake_gpu` and torch's tensors under `torch_streams`, bring all they
compute to `work`. In a block of `queued` that waits in the streams of the device beside the
launches of the engine (tests/cuda_emulation/queue.h), and memory is that of a pool of CuPy's or
torch's: when an array has died on the host, others may use its memory, at once in the stream that
it was made on. So in that stream's order it is filled with 0xFF, which is NaN; work that came to
the stream before has the values still, and any other that is not ordered before has not. No memory
is used twice, so that nothing hides a value that is written too late, which the block's end tells.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

POISON = 0xFF
ORDERS = ("forward", "reverse", "random")  # of streams that can go on: see `queued`


class AtOnce:
    """Operations run as they come; there is one stream.

    Attributes
    ----------
    stream : int
        What the library says its current stream is.
    """

    stream = 7

    def memory(self, shape: Any, dtype: Any) -> np.ndarray:
        """An array that is filled with NaN, so that what nobody writes is seen."""
        made = np.empty(shape, dtype)
        made.reshape(-1).view(np.uint8).fill(POISON)
        return made

    def compute(self, function: Callable[..., Any], *values: Any) -> np.ndarray:
        """What a function makes of values: a view of one of them, or a new array."""
        with np.errstate(all="ignore"):
            return np.asarray(function(*values))

    def write(self, function: Callable[..., Any], *values: Any) -> None:
        """Let a function change its values."""
        with np.errstate(all="ignore"):
            function(*values)

    def read(self, values: np.ndarray) -> np.ndarray:
        """A copy for the host, which waits for it."""
        return values.copy()


class Queue(AtOnce):
    """Operations wait in the streams of the emulated device.

    Parameters
    ----------
    device : module
        The emulated engine.
    """

    def __init__(self, device: ModuleType) -> None:
        self.device = device
        self.freed: list[np.ndarray] = []  # held, so that it is nobody else's

    def memory(self, shape: Any, dtype: Any) -> np.ndarray:
        block = _Block(super().memory(shape, dtype).reshape(-1).view(np.uint8))
        weakref.finalize(block, self._free, block.memory, self.stream)
        return np.asarray(block).view(dtype).reshape(shape)

    def compute(self, function: Callable[..., Any], *values: Any) -> np.ndarray:
        # Of values that are not there yet, but its shape is right; and a view needs no more.
        now = super().compute(function, *values)
        if any(isinstance(v, np.ndarray) and np.may_share_memory(now, v) for v in values):
            return now
        result = self.memory(now.shape, now.dtype)
        self.write(partial(_assign, function), result, *values)
        return result

    def write(self, function: Callable[..., Any], *values: Any) -> None:
        self.enqueue(partial(super().write, function, *map(borrowed, values)))

    def read(self, values: np.ndarray) -> np.ndarray:
        found = np.empty_like(values)
        self.write(np.copyto, found, values)
        self.wait()
        return found

    def enqueue(self, call: Callable[[], None]) -> None:
        """Let a call run on the current stream, which must own no memory of the device."""
        self.device.enqueue(self.stream, call)

    def wait(self) -> None:
        """Wait for the current stream."""
        self.device.synchronize(self.stream)

    @contextmanager
    def on(self, stream: int) -> Iterator[None]:
        """Another current stream."""
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def _free(self, memory: np.ndarray, stream: int) -> None:
        self.freed.append(memory)
        self.device.enqueue(stream, partial(memory.fill, POISON))

    def finish(self) -> None:
        """Run what is left; nothing may have been written to memory after it was freed."""
        self.device.synchronize_all()
        late = sum(bool((memory != POISON).any()) for memory in self.freed)
        assert not late, f"{late} arrays were written after they had died"


class _Block:
    """Memory that arrays share; it dies with the last of them."""

    def __init__(self, memory: np.ndarray) -> None:
        self.memory = memory

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.memory.__array_interface__


def borrowed(value: Any) -> Any:
    """The same array without a hold on its memory, if that is the device's."""
    owner = value
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, _Block):
        return value
    offset = value.ctypes.data - owner.memory.ctypes.data
    return np.ndarray(value.shape, value.dtype, owner.memory, offset, value.strides)


def _assign(function: Callable[..., Any], result: np.ndarray, *values: Any) -> None:
    result[...] = function(*values)


work = AtOnce()


@contextmanager
def queued(device: ModuleType, order: str, seed: int = 1) -> Iterator[Queue]:
    """Let all work wait until it is asked for.

    Parameters
    ----------
    device : module
        The emulated engine.
    order : {"forward", "reverse", "random"}
        Which of the streams that can go on does: that with the lowest number, the highest, or one
        by chance.
    seed : int
        Of the chances.
    """
    global work
    device.queue_work(order, seed)
    before, work = work, Queue(device)
    try:
        yield work
        work.finish()
    finally:
        work = before
        device.run_at_once()
