"""The CUDA engine on arrays of any library: what its C++ asks of Python.

`Weights` has the methods of the CPU engine's class of that name, on arrays in a GPU's memory. The
engine lowers a call to a program and runs it; the arrays' library gives memory and makes the
products between the scans, through `_Calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import _arrays, _dtypes, _engine, _single_step
from . import _native

if TYPE_CHECKING:
    from .._arrays import Library

# A block of an array that is seen as rows of its last dimension: the array, the first of so many
# rows, the first of so many columns.
_Block = tuple[Any, int, int, int, int]
# c = a b or c += a b: the three, whether a and b are transposed, whether it is added.
_Product = tuple[_Block, _Block, _Block, bool, bool, bool]


class Weights:
    """The parameters of a stack of layers, as they came: kernels and libraries read them in place.

    Parameters
    ----------
    cell, dtype : str
        Of the registry; float32, float64, float16 or bfloat16.
    layers, directions, inputs, units : int
        L, D, I and H.
    bias : bool
    projection : int
        P, or 0 where h is not projected.

    Raises
    ------
    NotImplementedError
        A cell that has no kernels with a projection, or none in 16 bits: one whose functions are
        chosen.
    """

    def __init__(
        self,
        cell: str,
        dtype: str,
        layers: int,
        directions: int,
        inputs: int,
        units: int,
        bias: bool,
        projection: int = 0,
    ) -> None:
        engine = _native.require_engine(cell)
        self.native = engine.Stack(cell, dtype, layers, directions, inputs, units, bias, projection)
        self.cell, self.dtype = cell, dtype
        self._given: tuple[Any, ...] | None = None

    @property
    def parameters(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes, in torch's order."""
        return self.native.parameters  # type: ignore[no-any-return]

    def pack(self, parameters: tuple[Any, ...], backward: bool) -> None:
        """Take the parameters, for all calls at once."""
        if self._given is None:
            contiguous = self.native.check_taken(parameters)
            self._given = tuple(
                a if as_it_is else self._library(a).copy(a)
                for a, as_it_is in zip(parameters, contiguous, strict=True)
            )

    def copy_parameters(self) -> None:
        """Take copies, so that the arrays they came from may change."""
        if self._given is not None:
            self._given = tuple(self._library(a).copy(a) for a in self._given)

    def output_shape(self, x: Any, batch_first: bool) -> tuple[int, ...]:
        """The shape that y will have."""
        return self.native.output_shape(x, batch_first)  # type: ignore[no-any-return]

    def explain(self, T: int, B: int, recompute: int) -> dict[str, Any]:
        """The plans of a call of this size; see `fastrnn.explain`."""
        given = self._parameters()[0]
        library = self._library(given)
        index, recorded = library.index(given), library.can_be_recorded
        return {
            "cell": self.cell,
            "dtype": self.dtype,
            "device": _native.require_engine(self.cell).device(index),
            "forward": self.native.plan(T, B, index, False, recorded),
            "backward": self.native.plan(T, B, index, True, recorded),
        }

    def run(self, fields: tuple[Any, ...], into: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The results of a call, as `fastrnn._engine.PackedWeights.run` says.

        into: arrays that all results are written to, in the order of the engine's table of roles;
        where there are none, results are new.
        """
        call = _without_lists(_engine.Call(*fields))
        parameters = self._parameters()
        library = self._library(call.x)
        lengths = _arrays.lengths_on_host(call.lengths)
        if lengths is not None:
            call = call._replace(lengths=lengths)
        with library.no_grad(call.x):
            calls = _Calls(self.cell, library, call.x, into)
            stream, recorded = library.stream(call.x), library.can_be_recorded
            return self.native.run(parameters, call, calls, stream, recorded)  # type: ignore[no-any-return]

    def step(self, x: Any, state: Any, threads: int = 0) -> tuple[Any, ...]:
        """The states after one step of one layer: x ``(B, I)`` or ``(I,)``, states ``(B, H)``."""
        x = _single_step.with_time(self.cell, "x", x)
        if isinstance(state, (tuple, list)):
            given: Any = tuple(_single_step.with_time(self.cell, "state", s) for s in state)
        else:
            given = None if state is None else _single_step.with_time(self.cell, "state", state)
        _, final = self.run((x, given))
        return _single_step.without_time(final if isinstance(final, tuple) else (final,))

    def _library(self, array: Any) -> Library:
        return _arrays.gpu_library_of(self.cell, array)

    def _parameters(self) -> tuple[Any, ...]:
        if self._given is None:
            raise RuntimeError(f"[{self.cell}] weights must be packed before use, got none")
        return self._given


def _without_lists(call: _engine.Call) -> _engine.Call:
    """With tuples in the place of lists, which another thread may change meanwhile."""
    names = ("state", "masks", "tape", "dstate")
    given = {name: getattr(call, name) for name in names}
    fixed: dict[str, Any] = {n: tuple(v) for n, v in given.items() if isinstance(v, list)}
    return call._replace(**fixed) if fixed else call


class _Calls:
    """What the engine asks of the library of a call's arrays."""

    def __init__(self, cell: str, library: Library, like: Any, into: Sequence[Any] = ()) -> None:
        self.cell, self.library, self.like = cell, library, like
        self._into = list(into)  # for the first request, which is that of the results

    def empty(self, requests: Sequence[tuple[tuple[int, ...], str]]) -> list[Any]:
        """New arrays of these shapes and dtypes."""
        if self._into:
            return self._take(requests)
        made = []
        for shape, dtype in requests:
            try:
                made.append(self.library.empty(shape, dtype, self.like))
            except MemoryError as error:  # torch raises an error of its own, which stays as it is
                raise MemoryError(
                    f"[{self.cell}] memory for the call must be available, "
                    f"got none for shape {shape}"
                ) from error
        return made

    def _take(self, requests: Sequence[tuple[tuple[int, ...], str]]) -> list[Any]:
        made, self._into = self._into, []
        found = [(tuple(array.shape), _dtypes.name_of(array)) for array in made]
        wanted = [(tuple(shape), dtype) for shape, dtype in requests]
        if found != wanted:
            raise ValueError(f"[{self.cell}] results must be {wanted}, got {found}")
        return made

    def moved(self, lengths: Any) -> Any:
        """Lengths of the host on the device."""
        return self.library.moved(lengths, self.like)

    def copied(self, array: Any) -> Any:
        """A copy in C order."""
        return self.library.copy(self.library.from_dlpack(array))

    def multiply(
        self, products: Sequence[_Product], sums: Sequence[tuple[Any, int, _Block, bool]]
    ) -> None:
        """Make products, and sums over the rows of blocks into parts of vectors."""
        for vector, first, of, accumulate in sums:
            block = self._block(of)
            self.library.add_rows(block, vector[first : first + block.shape[1]], accumulate)
        self.prepare(products)()

    def round(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Write arrays to others of their shapes, in the dtypes of these."""
        for array, to in pairs:
            to[...] = self.library.astype(array, _dtypes.name_of(to))

    def prepare(self, products: Sequence[_Product]) -> Callable[[], None]:
        """The same products, to be made whenever it is called."""
        made = []
        for c, a, b, transpose_a, transpose_b, accumulate in products:
            left, right = self._block(a), self._block(b)
            left = left.T if transpose_a else left
            right = right.T if transpose_b else right
            out = self._block(c)
            same = left.dtype == out.dtype
            multiply = self.library.multiply if same else self.library.multiply_wide
            made.append(partial(multiply, left, right, out, accumulate))

        def make_all() -> None:
            for product in made:
                product()

        return make_all

    def run_on(self, stream: int, products: Callable[[], None]) -> None:
        """Make prepared products on another stream than that of the call."""
        with self.library.on_stream(stream, self.like):
            products()

    def _block(self, block: _Block) -> Any:
        array, row, rows, column, columns = block
        return self.library.block(self.library.from_dlpack(array), row, rows, column, columns)


def pack_new(
    cell: str,
    layers: int,
    directions: int,
    parameters: tuple[Any, ...],
    forward: bool,
    backward: bool,
    threads: int = 0,
) -> Weights:
    """Weights of the sizes that the parameters have."""
    native = _native.require_engine(cell)
    dtype, *sizes = native.sizes(cell, layers, directions, parameters)
    made = Weights(cell, dtype, layers, directions, *sizes)
    made.pack(parameters, backward)
    return made


def run_new(
    cell: str, layers: int, directions: int, parameters: tuple[Any, ...], call: tuple[Any, ...]
) -> tuple[Any, ...]:
    """`Weights.run` with parameters."""
    return pack_new(cell, layers, directions, parameters, True, False).run(call)


def step_new(
    cell: str, parameters: tuple[Any, ...], x: Any, state: Any, threads: int = 0
) -> tuple[Any, ...]:
    """`Weights.step` with parameters."""
    return pack_new(cell, 1, 1, parameters, True, False).step(x, state, threads)
