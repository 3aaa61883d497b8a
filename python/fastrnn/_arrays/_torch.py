"""torch, which is never imported here: whoever has a tensor has done so.

Its few names that differ from the standard's are here, so that `fastrnn.torch` needs torch alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np

from ._library import Library


def is_tensor(value: Any) -> bool:
    """Whether this is torch's."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


class _Names:
    """torch with the standard's names for what the driver uses."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules["torch"], name)

    @staticmethod
    def astype(array: Any, dtype: Any) -> Any:
        return array.to(dtype)


class Torch(Library):
    """torch."""

    can_be_recorded = True

    def __init__(self) -> None:
        super().__init__(_Names())

    def owns(self, array: Any) -> bool:
        return is_tensor(array)

    def index(self, array: Any) -> int:
        return int(array.get_device())

    def multiply(self, a: Any, b: Any, out: Any, accumulate: bool) -> None:
        if accumulate:
            out.addmm_(a, b)
        else:
            sys.modules["torch"].mm(a, b, out=out)

    def multiply_wide(self, a: Any, b: Any, out: Any, accumulate: bool) -> None:
        torch = sys.modules["torch"]
        if not a.is_cuda or "dtype" not in torch.ops.aten.mm.overloads():  # torch before 2.8
            super().multiply_wide(a, b, out, accumulate)
        elif accumulate:
            out += torch.mm(a, b, out_dtype=out.dtype)
        else:
            torch.mm(a, b, out_dtype=out.dtype, out=out)

    def moved(self, values: np.ndarray, like: Any) -> Any:
        # From memory that is not pinned, CUDA has read all before the call is back.
        tensor = sys.modules["torch"].from_numpy(values.astype(np.int64))
        return tensor.to(like.device, non_blocking=True)

    def stream(self, array: Any) -> int:
        return int(sys.modules["torch"].cuda.current_stream(array.device).cuda_stream)

    def on_stream(self, stream: int, array: Any) -> AbstractContextManager[Any]:
        cuda = sys.modules["torch"].cuda
        context: AbstractContextManager[Any] = cuda.stream(
            cuda.ExternalStream(stream, device=array.device)
        )
        return context

    def no_grad(self, array: Any) -> AbstractContextManager[Any]:
        torch = sys.modules["torch"]
        stack = ExitStack()
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast("cuda", enabled=False))
        return stack

    def uniform(self, shape: Sequence[int], seed: int, like: Any) -> Any:
        torch = sys.modules["torch"]
        generator = torch.Generator(like.device).manual_seed(seed % 2**63)
        return torch.rand(tuple(shape), generator=generator, device=like.device)
