"""What the driver asks of an array library, beside the array API standard.

`array_api_compat` gives one namespace for CuPy and whatever follows the standard. The few things
that the standard does not have are here, once: streams, names of dtypes, autograd. torch's few
names that differ are here too, so that `fastrnn.torch` needs torch alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

_CUDA = (2, 13)  # DLPack's types of device: CUDA, and memory that it manages


def is_device_array(value: Any) -> bool:
    """Whether this is an array in a GPU's memory."""
    if _is_torchs(value):  # whose interface refuses a tensor that wants a gradient
        return bool(value.is_cuda)
    if hasattr(value, "__cuda_array_interface__"):
        return True
    device = getattr(value, "__dlpack_device__", None)
    try:
        return device is not None and device()[0] in _CUDA
    except Exception:  # an array that cannot be exported is none of ours
        return False


def on_host(array: Any) -> Any:
    """A NumPy array of the values of one in a GPU's memory; anything else as it is."""
    if not is_device_array(array):
        return array
    if hasattr(array, "get"):  # CuPy
        return array.get()
    return np.from_dlpack(array, device="cpu") if not hasattr(array, "cpu") else array.cpu().numpy()


def lengths_on_host(lengths: Any) -> np.ndarray | None:
    """Lengths that the host has, as a NumPy array; None for those on a GPU, or without lengths."""
    if isinstance(lengths, np.ndarray):
        return lengths
    if not _is_torchs(lengths) or is_device_array(lengths):
        return None
    found: np.ndarray = lengths.detach().numpy()
    return found


def dtype_name(array: Any) -> str:
    """``float32``, ``bfloat16`` ..."""
    return str(array.dtype).rpartition(".")[2]


def host_dtype(array: Any) -> Any:
    """NumPy's dtype of an array's elements."""
    return numpy_dtype(dtype_name(array))


def numpy_dtype(name: str) -> np.dtype:
    """NumPy's dtype of a name; bfloat16 is that of ml_dtypes, which CuPy's is too."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError("[cuda] bfloat16 needs ml_dtypes, which is not installed") from None
    found: np.dtype = np.dtype(ml_dtypes.bfloat16)
    return found


class Library:
    """An array library.

    Parameters
    ----------
    xp : module
        Its namespace, of the array API standard.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def dtype(self, name: str) -> Any:
        """The library's dtype of this name."""
        found = getattr(self.xp, name, None)
        return numpy_dtype(name) if found is None else found

    def empty(self, shape: Sequence[int], dtype: str, like: Any) -> Any:
        """A new array on an array's device."""
        return self.xp.empty(tuple(shape), dtype=self.dtype(dtype), device=like.device)

    def zeros(self, shape: Sequence[int], dtype: str, like: Any) -> Any:
        """The same, of zeros."""
        return self.xp.zeros(tuple(shape), dtype=self.dtype(dtype), device=like.device)

    def copy(self, array: Any) -> Any:
        """A copy in C order."""
        made = self.empty(array.shape, dtype_name(array), array)
        made[...] = array
        return made

    def moved(self, values: np.ndarray, like: Any) -> Any:
        """Integers of the host on an array's device, without waiting for it.

        They are copied first, so that the caller may change them at once.
        """
        return self.xp.asarray(values.astype(np.int64), device=like.device)

    def from_dlpack(self, array: Any) -> Any:
        """An array of another library as one of this, on the same memory."""
        return array if self.owns(array) else self.xp.from_dlpack(array)

    def owns(self, array: Any) -> bool:
        """Whether this is an array of the library."""
        namespace = getattr(array, "__array_namespace__", None)
        return namespace is not None and namespace() is self.xp

    def index(self, array: Any) -> int:
        """The number of the GPU that has an array."""
        return int(array.__dlpack_device__()[1])

    def stream(self, array: Any) -> int:
        """The stream that the library works on now, as a number."""
        interface = getattr(array, "__cuda_array_interface__", {})
        return int(interface.get("stream") or 0)

    def no_grad(self, array: Any) -> AbstractContextManager[Any]:
        """While this is open, operations are computed, on an array's device, and nothing else."""
        return nullcontext()

    def uniform(self, shape: Sequence[int], seed: int, like: Any) -> Any:
        """float32 numbers within 0..1 that a seed determines, on an array's device."""
        return self.xp.asarray(
            np.random.default_rng(seed).random(shape, np.float32), device=like.device
        )


class _CuPy(Library):
    def owns(self, array: Any) -> bool:
        return isinstance(array, sys.modules["cupy"].ndarray)

    def no_grad(self, array: Any) -> AbstractContextManager[Any]:
        # CuPy computes on the current device, and its current stream is that device's.
        device: AbstractContextManager[Any] = array.device
        return device

    def index(self, array: Any) -> int:
        return int(array.device.id)

    def stream(self, array: Any) -> int:
        return int(sys.modules["cupy"].cuda.get_current_stream().ptr)

    def uniform(self, shape: Sequence[int], seed: int, like: Any) -> Any:
        cupy = sys.modules["cupy"]
        with like.device:
            return cupy.random.default_rng(seed).random(tuple(shape), dtype=cupy.float32)


class _TorchNames:
    """torch with the standard's names for what the driver uses."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.modules["torch"], name)

    @staticmethod
    def permute_dims(array: Any, axes: tuple[int, ...]) -> Any:
        return array.permute(axes)

    @staticmethod
    def expand_dims(array: Any, *, axis: int) -> Any:
        return array.unsqueeze(axis)

    @staticmethod
    def astype(array: Any, dtype: Any) -> Any:
        return array.to(dtype)


class _Torch(Library):
    def __init__(self) -> None:
        super().__init__(_TorchNames())

    def owns(self, array: Any) -> bool:
        return _is_torchs(array)

    def index(self, array: Any) -> int:
        return int(array.get_device())

    def moved(self, values: np.ndarray, like: Any) -> Any:
        # From memory that is not pinned, CUDA has read all before the call is back.
        tensor = sys.modules["torch"].from_numpy(values.astype(np.int64))
        return tensor.to(like.device, non_blocking=True)

    def stream(self, array: Any) -> int:
        return int(sys.modules["torch"].cuda.current_stream(array.device).cuda_stream)

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


@cache
def _library(xp: ModuleType) -> Library:
    return (_CuPy if xp.__name__ == "array_api_compat.cupy" else Library)(xp)


@cache
def _torch() -> Library:
    return _Torch()


def _is_torchs(array: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def _compat(op: str) -> Any:
    try:
        import array_api_compat
    except ImportError:
        raise RuntimeError(
            f"[{op}] calls on a GPU need array-api-compat, which is not installed: "
            "pip install fastrnn[cuda]"
        ) from None
    return array_api_compat


def library_of(op: str, array: Any) -> Library:
    """The library of an array.

    Raises
    ------
    TypeError
        It is not an array in a GPU's memory.
    RuntimeError
        ``array_api_compat`` is not installed.
    """
    if not is_device_array(array):
        raise TypeError(f"[{op}] x must be an array on a GPU, got {type(array).__name__}")
    if _is_torchs(array):
        return _torch()
    try:
        return _library(_compat(op).array_namespace(array))
    except TypeError:
        raise TypeError(
            f"[{op}] x must be an array of a library of the array API standard, "
            f"got {type(array).__name__}"
        ) from None


def default_library(op: str) -> Library:
    """The library that a layer's own parameters are made in: CuPy.

    Raises
    ------
    RuntimeError
        It is not installed.
    """
    _compat(op)
    try:
        import array_api_compat.cupy as xp
    except ImportError:
        raise RuntimeError(
            f"[{op}] layers on a GPU need CuPy, which is not installed: pip install fastrnn[cuda]"
        ) from None
    return _library(xp)
