"""What is asked of an array library, beside the array API standard.

`array_api_compat` gives one namespace for CuPy and whatever follows the standard. The few things
that the standard does not have are here, once: streams, names of dtypes, autograd, random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from .. import _dtypes


class Library:
    """An array library.

    Parameters
    ----------
    xp : module
        Its namespace, of the array API standard.
    """

    # Whether its products can be recorded into a graph of CUDA's, by a capture of their stream.
    can_be_recorded = False

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    # ---- dtypes and new arrays -------------------------------------------------------------------

    def dtype(self, name: str) -> Any:
        """The library's dtype of this name."""
        found = getattr(self.xp, name, None)
        return _dtypes.numpy_dtype(name) if found is None else found

    def astype(self, array: Any, dtype: str) -> Any:
        """An array in a dtype; the very array where it has it."""
        wanted = self.dtype(dtype)
        return array if array.dtype == wanted else self.xp.astype(array, wanted)

    def empty(self, shape: Sequence[int], dtype: str, like: Any) -> Any:
        """A new array on an array's device."""
        return self.xp.empty(tuple(shape), dtype=self.dtype(dtype), device=like.device)

    def zeros_like(self, array: Any) -> Any:
        """Zeros of the shape, dtype and device of an array."""
        return self.xp.zeros_like(array)

    def copy(self, array: Any) -> Any:
        """A copy in C order."""
        made = self.empty(array.shape, _dtypes.name_of(array), array)
        made[...] = array
        return made

    def with_axis(self, array: Any) -> Any:
        """A view with one more dimension in front."""
        return array[None]

    # ---- products --------------------------------------------------------------------------------

    def block(self, array: Any, row: int, rows: int, column: int, columns: int) -> Any:
        """A part of an array in C order, which is seen as rows of its last dimension."""
        matrix = array if len(array.shape) == 2 else self.xp.reshape(array, (-1, array.shape[-1]))
        return matrix[row : row + rows, column : column + columns]

    def multiply(self, a: Any, b: Any, out: Any, accumulate: bool) -> None:
        """A product of matrices, written to `out` or added to it."""
        if accumulate:
            out += self.xp.matmul(a, b)
        else:
            out[...] = self.xp.matmul(a, b)

    def multiply_wide(self, a: Any, b: Any, out: Any, accumulate: bool) -> None:
        """The same of factors in 16 bits, where `out` has float32."""
        dtype = _dtypes.name_of(out)
        self.multiply(self.astype(a, dtype), self.astype(b, dtype), out, accumulate)

    def add_rows(self, block: Any, out: Any, accumulate: bool) -> None:
        """The sum over the rows of a block, made in at least float32."""
        wide = self.dtype(_dtypes.of_cell_state(_dtypes.name_of(block)))
        sums = self.astype(self.xp.sum(block, axis=0, dtype=wide), _dtypes.name_of(out))
        if accumulate:
            out += sums
        else:
            out[...] = sums

    # ---- from the host ---------------------------------------------------------------------------

    def from_host(self, values: np.ndarray) -> Any:
        """NumPy's values as an array of the library, on its current device."""
        return self.xp.asarray(values)

    def converted(self, values: np.ndarray, like: Any) -> Any:
        """A copy of NumPy's values in the dtype and in the place of an array."""
        dtype = _dtypes.numpy_dtype(_dtypes.name_of(like))
        return self.xp.asarray(values.astype(dtype), device=like.device)

    def moved(self, values: np.ndarray, like: Any) -> Any:
        """Integers of the host on an array's device, without waiting for it.

        They are copied first, so that the caller may change them at once.
        """
        return self.xp.asarray(values.astype(np.int64), device=like.device)

    # ---- other libraries, devices, streams -------------------------------------------------------

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

    def on_stream(self, stream: int, array: Any) -> AbstractContextManager[Any]:
        """While this is open the library works on the stream with this number.

        Only where `can_be_recorded` says that there is a use for it.
        """
        return nullcontext()

    def no_grad(self, array: Any) -> AbstractContextManager[Any]:
        """While this is open, operations are computed, on an array's device, and nothing else."""
        return nullcontext()

    # ---- random numbers --------------------------------------------------------------------------

    def uniforms(
        self, shape: Sequence[int], count: int, seed: np.random.SeedSequence, like: Any
    ) -> Iterator[Any]:
        """Arrays of float32 numbers within 0..1, determined by a seed, on an array's device.

        Raises
        ------
        MemoryError
            There is no memory for them.
        """
        for each in seed.generate_state(count, np.uint64):
            yield self.uniform(shape, int(each), like)

    def uniform(self, shape: Sequence[int], seed: int, like: Any) -> Any:
        """One of them, from an integer."""
        return self.xp.asarray(
            np.random.default_rng(seed).random(shape, np.float32), device=like.device
        )
