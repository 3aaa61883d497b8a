"""torch's operations in the streams of the emulated device (tests/streams.py).

`Streams` stands below autograd, where a backend does: results have memory of the device's pool at
once, and their values when the stream comes to it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _disable_current_modes,
    _get_current_dispatch_mode_stack,
)
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from streams import Queue
from torch_tags import Tags

# What gives lengths to the host, what looks at indices before it has a shape, and what has memory
# of its own.
READS = {
    "_pack_padded_sequence",
    "index_select",
    "mkldnn_rnn_layer",
    "mkldnn_rnn_layer_backward",
}


class Streams(TorchDispatchMode):
    """While it is entered, operations on the GPU's tensors wait in the queue's current stream.

    Those on the host's run at once, as does what makes a tensor out of none. What gives a value to
    the host, or a shape that depends on values, waits for the stream.

    Parameters
    ----------
    queue : Queue
    tags : Tags
        Which tensors are the host's.
    """

    def __init__(self, queue: Queue, tags: Tags) -> None:
        super().__init__()
        self.queue, self.tags = queue, tags
        self._of_pool: set[int] = set()  # where its storages begin

    def entered(self) -> AbstractContextManager[Any]:
        """The mode, where it is not entered."""
        return nullcontext() if self in _get_current_dispatch_mode_stack() else self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "fastrnn":  # the engine's own, whose parts come here one by one
            return func(*args, **(kwargs or {}))
        with _plainly():
            return self._dispatch(func, args, kwargs or {})

    def _dispatch(self, func: Any, args: Any, kwargs: Any) -> Any:
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        waits = any(map(self.tags.is_on_gpu, given))
        if waits and _reads(func):
            self.queue.wait()
            waits = False
        if waits and _writes(func):
            self._enqueue(func, args, kwargs)
            return _changed(func, args, kwargs)
        # Of values that may not be there yet; but shapes are right, and a view is all that it is.
        now = func(*args, **kwargs)
        storages = {tensor.untyped_storage().data_ptr() for tensor in given}
        made = tree_map_only(Tensor, partial(self._placed, storages), now)
        new = tree_map(lambda one, other: None if one is other else one, made, now)
        if "empty" in func.__name__:  # it has what nobody may read
            return made
        if waits:
            self._enqueue(partial(_compute, func), (new, *args), kwargs)
        else:
            _assign(new, now)
        return made

    def _placed(self, given: set[int], tensor: Tensor) -> Tensor:
        """A tensor in memory of the pool, or the same if it is in that of an argument."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() in given or not storage.nbytes():
            return tensor
        memory = torch.frombuffer(self.queue.memory((storage.nbytes(),), "u1"), dtype=torch.uint8)
        self._of_pool.add(memory.data_ptr())
        return _like(tensor, memory)

    def _enqueue(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        args, kwargs = tree_map_only(Tensor, self._borrowed, (args, kwargs))

        def call() -> None:
            with _plainly(), torch.no_grad():
                function(*args, **kwargs)

        self.queue.enqueue(call)

    def _borrowed(self, tensor: Tensor) -> Tensor:
        """As a stream has it: no hold on memory of the pool; of the host's, a copy made now."""
        storage = tensor.untyped_storage()
        if not self.tags.is_on_gpu(tensor):
            return tensor.detach().clone()
        if storage.data_ptr() not in self._of_pool:
            return tensor.detach()
        memory = (ctypes.c_uint8 * storage.nbytes()).from_address(storage.data_ptr())
        return _like(tensor, torch.frombuffer(memory, dtype=torch.uint8))


def _like(tensor: Tensor, memory: Tensor) -> Tensor:
    """A tensor's shape and dtype on other memory, which is as long as its own."""
    place = (tensor.size(), tensor.stride(), tensor.storage_offset())
    return memory.view(tensor.dtype).as_strided(*place)


def _reads(func: Any) -> bool:
    gives_tensors = any("Tensor" in str(each.type) for each in func._schema.returns)
    of_values = torch.Tag.dynamic_output_shape in func.tags or func._opname in READS
    return of_values or not (gives_tensors or _writes(func))


def _writes(func: Any) -> bool:
    return func._schema.is_mutable and torch.Tag.inplace_view not in func.tags


@contextmanager
def _plainly() -> Iterator[None]:
    """Whatever modes are entered where an operation comes or is awaited."""
    with (
        _disable_current_modes(),
        torch._C.DisableTorchFunction(),
        torch.autocast("cpu", enabled=False),
    ):
        yield


def _compute(func: Any, new: Any, *args: Any, **kwargs: Any) -> None:
    _assign(new, func(*args, **kwargs))


def _assign(new: Any, values: Any) -> None:
    for to, tensor in zip(tree_leaves(new), tree_leaves(values), strict=True):
        if to is not None:
            to.copy_(tensor)


def _changed(func: Any, args: Any, kwargs: Any) -> Any:
    """The arguments that an operation changes, which it gives back."""
    schema = func._schema
    names = [each.name for each in schema.arguments if each.alias_info and each.alias_info.is_write]
    values = {**dict(zip((each.name for each in schema.arguments), args, strict=False)), **kwargs}
    changed = [values[name] for name in names][: len(schema.returns)]
    return changed[0] if len(changed) == 1 else tuple(changed) or None
