"""What the time loop asks of an array library, and NumPy's answers.

Beside arithmetic and indexing, which all libraries share, these are the functions whose names
differ, and one choice: how the rows of a batch that do not run at a step are left alone. NumPy
picks the others out, so that nothing is computed for those. A library that has to know every shape
before it knows a value computes all rows and keeps the old states of some.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .activations import Array, Maths, sigmoid

if TYPE_CHECKING:
    from .loop import Moment


class Namespace(Maths, Protocol):
    """A library. `rows` are those of a step that run, as `rows` gives them; None for all."""

    def stack(self, arrays: list[Any], /) -> Any: ...
    def concatenate(self, arrays: list[Any], axis: int, /) -> Any: ...

    def linear(self, x: Any, w: Any, b: Any, /) -> Any:
        """Compute ``x w^T + b``."""

    def project(self, x: Any, moments: Sequence["Moment"], w: Any, b: Any, /) -> Any:
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


class NumPy:
    """NumPy's arrays; `rows` are their numbers, and never None."""

    tanh = staticmethod(np.tanh)
    sigmoid = staticmethod(sigmoid)
    expm1 = staticmethod(np.expm1)
    clip = staticmethod(np.clip)
    where = staticmethod(np.where)
    stack = staticmethod(np.stack)
    concatenate = staticmethod(np.concatenate)

    def relu(self, a: Array) -> Array:
        result: Array = np.maximum(a, 0.0)
        return result

    def softplus(self, a: Array) -> Array:
        result: Array = np.logaddexp(0.0, a)
        return result

    def linear(self, x: Array, w: Array, b: Array | None) -> Array:
        result: Array = x @ w.T if b is None else x @ w.T + b
        return result

    def project(
        self, x: Array, moments: Sequence["Moment"], w: Array, b: Array
    ) -> dict[int, Array]:
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
