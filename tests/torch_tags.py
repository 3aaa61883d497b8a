"""torch's CPU tensors on a machine that says it has a GPU: each is the host's or the GPU's.

On a card a tensor of the host among those of the GPU raises, and so does NumPy where it is to read
one of the GPU. Here all lie in the same memory, so `Tags` raises in their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

READS = {"numpy", "__array__"}
WAITS = {"tolist", "item", "__bool__", "__int__", "__float__", "__index__", "cpu"}
# Functions that take tensors of both by what they are for.
MIXED = {"to", "copy_", "_pad_packed_sequence", "_pack_padded_sequence", "grad", "backward"}


class Tags(TorchFunctionMode):
    """While it is entered, every call of torch's is watched.

    A tensor is on the GPU unless it is known to be the host's: made without a device, made of the
    host's tensors alone, or what torch gives on the host always.

    Parameters
    ----------
    emulated : module
        The engine, which must not read what is the host's.

    Attributes
    ----------
    waits : list of str
        The functions by which values came from the GPU to the host.
    """

    def __init__(self, emulated: ModuleType) -> None:
        super().__init__()
        self.emulated = emulated
        self.waits: list[str] = []
        # Held, so that no other tensor comes to lie there.
        self.of_host: dict[int, Any] = {}

    def on_host(self, tensor: Tensor) -> Tensor:
        """A tensor as one of the host's."""
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in self.of_host:
            self.of_host[storage.data_ptr()] = storage
            self.emulated.leave_to_host(storage.data_ptr(), storage.nbytes())
        return tensor

    def is_on_gpu(self, value: Any) -> bool:
        """Whether this is a tensor on the GPU."""
        return isinstance(value, Tensor) and value.untyped_storage().data_ptr() not in self.of_host

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__
        given = list(tensors([*args, *kwargs.values()]))
        gpu = [t for t in given if self.is_on_gpu(t)]
        host = [t for t in given if not self.is_on_gpu(t)]
        if gpu and name in READS:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if gpu and name in WAITS:
            self.waits.append(name)
        ours = str(func).startswith("fastrnn.")  # operators: the engine looks itself
        if gpu and any(t.dim() for t in host) and name not in MIXED and not ours:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, got cuda:0 and cpu in {name}"
            )
        result = func(*args, **kwargs)
        moves = name == "to" and any(isinstance(a, torch.device) for a in args)
        if moves and host:  # a tensor of its own, on the GPU
            return result.clone()
        if name in ("_pad_packed_sequence", "_pack_padded_sequence"):
            self.on_host(result[1])
        elif name == "cpu":
            return self.on_host(result.clone())
        elif not gpu and not kwargs.get("device"):
            for tensor in tensors([result]):
                self.on_host(tensor)
        return result


def tensors(values: Any) -> Iterator[Tensor]:
    """All tensors of nested containers."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)
