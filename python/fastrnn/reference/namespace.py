"""What the time loop asks of an array library, and NumPy's answers.

Beside arithmetic and indexing, which all libraries share, these are the functions whose names
differ, and two choices. One is how the rows of a batch that do not run at a step are left alone.
NumPy picks the others out, so that nothing is computed for those. A library that has to know every
shape before it knows a value computes all rows and keeps the old states of some. The other is how
steps are taken: one after the other, or described once, for a compiler that has a loop of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .activations import Array, Maths, sigmoid
from .quantized import IntegerWeights, multiply


class Moment(NamedTuple):
    """A step of a schedule."""

    t: int
    rows: Any  # the n rows that run, as the namespace has them; None for all
    start: Any  # (n, 1): the row starts here, from zero; None where none does


class Namespace(Maths, Protocol):
    """A library. `rows` are those of a step that run, as `rows` gives them; None for all."""

    def zeros(self, shape: tuple[int, ...], like: Any, /) -> Any: ...
    def zeros_like(self, a: Any, /) -> Any: ...
    def stack(self, arrays: list[Any], /) -> Any: ...
    def concatenate(self, arrays: list[Any], axis: int, /) -> Any: ...

    def linear(self, x: Any, w: Any, b: Any, /) -> Any:
        """Compute ``x w^T + b``."""

    def project(self, x: Any, moments: Sequence[Moment], w: Any, b: Any, /) -> Any:
        """Compute ``x_t w^T + b`` for the rows of each step; ``[t]`` finds that of a time."""

    def running(self, T: int, lengths: Any, /) -> Any:
        """Tell for each time and row whether it comes before the row's length: (T, B) bool."""

    def rows(self, running: Any, /) -> Any:
        """Turn the row of `running` of one time into what the functions below take."""

    def at(self, a: Any, t: int, rows: Any, /) -> Any:
        """Take the rows that run out of ``a[t]``."""

    def take(self, a: Any, rows: Any, /) -> Any:
        """Take the rows that run out of the states (B, H)."""

    def put(self, a: Any, rows: Any, values: Any, /) -> Any:
        """Give a copy of the states (B, H) with new values in the rows that run."""

    def moments(self, T: int, running: Any, starts: Any, reverse: bool, /) -> Any:
        """Lay out the steps; (T, B) tell which rows run, and which start, or None for all, none."""

    def scan(self, step: Callable[..., Any], s: Any, moments: Any, projected: Any, /) -> Any:
        """Take ``step(s, moment, projected) -> s`` over the moments.

        It gives the states at the end, and after each step, stacked in the order of time.
        """

    def scan_rows(self, f: Callable[..., Any], s: Any, xs: Any, reverse: bool, /) -> Any:
        """Take ``f(s, x) -> s, y`` over the times of xs, an array or a pair; it gives all y."""


class Looping:
    """How the libraries take steps whose arrays are there at once: one after the other."""

    def moments(self: Any, T: int, running: Any, starts: Any, reverse: bool) -> list[Moment]:
        made = []
        for t in range(T - 1, -1, -1) if reverse else range(T):
            rows = None if running is None else self.rows(running[t])
            start = None if starts is None else self.take(starts[t], rows)[:, None]
            made.append(Moment(t, rows, start))
        return made

    def scan(
        self: Any, step: Callable[..., Any], s: Any, moments: list[Moment], projected: Any
    ) -> Any:
        after = [s] * max(1, len(moments))
        for moment in moments:
            s = after[moment.t] = step(s, moment, projected[moment.t])
        stacked = (self.stack([states[k] for states in after]) for k in range(len(s)))
        return s, tuple(a[: len(moments)] for a in stacked)

    def scan_rows(self: Any, f: Callable[..., Any], s: Any, xs: Any, reverse: bool) -> Any:
        pairs = list(zip(*xs, strict=True)) if isinstance(xs, tuple) else list(xs)
        made = []
        for x in reversed(pairs) if reverse else pairs:
            s, y = f(s, x)
            made.append(y)
        return self.stack(made[::-1] if reverse else made) if made else xs


class NumPy(Looping):
    """NumPy's arrays; `rows` are their numbers, and never None."""

    tanh = staticmethod(np.tanh)
    sigmoid = staticmethod(sigmoid)
    expm1 = staticmethod(np.expm1)
    clip = staticmethod(np.clip)
    where = staticmethod(np.where)
    stack = staticmethod(np.stack)
    concatenate = staticmethod(np.concatenate)
    zeros_like = staticmethod(np.zeros_like)

    def relu(self, a: Array) -> Array:
        result: Array = np.maximum(a, 0.0)
        return result

    def zeros(self, shape: tuple[int, ...], like: Array) -> Array:
        return np.zeros(shape, like.dtype)

    def softplus(self, a: Array) -> Array:
        result: Array = np.logaddexp(0.0, a)
        return result

    def linear(self, x: Array, w: Array | IntegerWeights, b: Array | None) -> Array:
        result: Array = multiply(x, w)
        return result if b is None else result + b

    def project(self, x: Array, moments: Sequence[Moment], w: Array, b: Array) -> dict[int, Array]:
        return {m.t: self.linear(self.at(x, m.t, m.rows), w, b) for m in moments}

    def running(self, T: int, lengths: NDArray[Any]) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = np.arange(T)[:, None] < lengths
        return result

    def rows(self, running: NDArray[np.bool_]) -> NDArray[np.intp]:
        return np.flatnonzero(running)

    def at(self, a: NDArray[Any], t: int, rows: NDArray[np.intp]) -> NDArray[Any]:
        result: NDArray[Any] = a[t, rows]
        return result

    def take(self, a: Array, rows: NDArray[np.intp]) -> Array:
        result: Array = a[rows]
        return result

    def put(self, a: Array, rows: NDArray[np.intp], values: Array) -> Array:
        made: Array = a.copy()
        made[rows] = values
        return made


NUMPY = NumPy()
