"""Single steps, with the signatures, shapes and results of ``torch.nn``'s cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np

from . import _arguments, _arrays, _single_step, layers
from ._cell_names import FunctionLike
from .functional import State, Tape
from .module import Module

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


class _Cell(Module):
    """One step of one layer: x ``(B, I)`` or ``(I,)``, state ``(B, H)`` or ``(H,)``."""

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = "float32",
        device: str = "cpu",
        seed: Any = None,
    ) -> None:
        self._layer = layers.Recurrent(
            cell, input_size, hidden_size, bias=bias, dtype=dtype, device=device, seed=seed
        )
        self.input_size, self.hidden_size = self._layer.input_size, self._layer.hidden_size
        self.bias = self._layer.bias
        # The layer's own arrays under torch's names for cells: one truth, and one version below.
        super().__init__(cell, _cell_names(self._layer._arrays))

    @property
    def version(self) -> int:
        """How often the parameters have been written."""
        return self._layer.version

    @contextmanager
    def mutable(self) -> Iterator[Mapping[str, np.ndarray]]:
        """As `Module.mutable`."""
        with self._layer.mutable() as arrays:
            yield MappingProxyType(_cell_names(arrays))

    def __call__(self, x: np.ndarray, state: State = None) -> State:
        """The state after one step: h, or ``(h, c)``; zeros before it if none is given.

        Raises
        ------
        ValueError, TypeError, MemoryError
            As `fastrnn.functional.infer`.
        """
        after = self._layer._ready().step(x, state)
        return after if len(after) > 1 else after[0]

    def forward(self, x: np.ndarray, state: State = None) -> tuple[State, Tape]:
        """The state after one step, and the tape for `backward`."""
        _, final, tape = self._layer.forward(self._with_time(x), self._with_layer("state", state))
        return _without_time(final), tape

    def backward(
        self, tape: Tape, dstate: State
    ) -> tuple[np.ndarray, State, dict[str, np.ndarray]]:
        """Gradients of x, of the state before and of the parameters."""
        dy = self._library(tape.y).zeros_like(tape.y) if isinstance(tape, Tape) else None
        dx, dinitial, grads = self._layer.backward(tape, dy, self._with_layer("dstate", dstate))
        return dx[0], _without_time(dinitial), _cell_names(grads)

    def _with_time(self, x: Any) -> Any:
        if not _arrays.is_array(x):
            raise TypeError(f"[{self._op}] x must be a NumPy array, got {type(x).__name__}")
        return _single_step.with_time(self._op, "x", x)

    def _with_layer(self, name: str, state: State) -> State:
        """(B, H) becomes (1, B, H): the state of a stack of one layer."""

        def one(s: Any) -> Any:
            return _single_step.with_time(self._op, name, s) if _arrays.is_array(s) else s

        return tuple(one(s) for s in state) if isinstance(state, (tuple, list)) else one(state)

    def __repr__(self) -> str:
        options = [str(self.input_size), str(self.hidden_size), *self._options()]
        if not self.bias:
            options.append("bias=False")
        if self._layer.dtype != np.float32:
            options.append(f"dtype={self._layer.dtype.name!r}")
        return f"{type(self).__name__}({', '.join(options)})"

    def _options(self) -> list[str]:
        return []

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._arrays = _cell_names(self._layer._arrays)


class LSTMCell(_Cell):
    """One LSTM step, that of ``torch.nn.LSTMCell``; returns ``(h, c)``.

    The equations and their source are those of `fastrnn.LSTM`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = "float32",
        device: str = "cpu",
        seed: Any = None,
    ) -> None:
        super().__init__("lstm", input_size, hidden_size, bias, dtype, device, seed)


class GRUCell(_Cell):
    """One GRU step, that of ``torch.nn.GRUCell``; returns h.

    The equations and their source are those of `fastrnn.GRU`, and so is `reset_after`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = "float32",
        device: str = "cpu",
        seed: Any = None,
        reset_after: bool = True,
    ) -> None:
        cell = _arguments.gru_cell(reset_after)
        super().__init__(cell, input_size, hidden_size, bias, dtype, device, seed)
        self.reset_after = cell == "gru"

    def _options(self) -> list[str]:
        return [] if self.reset_after else ["reset_after=False"]


class RNNCell(_Cell):
    """One simple step, that of ``torch.nn.RNNCell``; `nonlinearity` is that of `fastrnn.RNN`.

    The equation and its source are those of `fastrnn.RNN`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: FunctionLike = "tanh",
        dtype: Any = "float32",
        device: str = "cpu",
        seed: Any = None,
    ) -> None:
        cell = _arguments.rnn_cell(nonlinearity)
        super().__init__(cell, input_size, hidden_size, bias, dtype, device, seed)
        self.nonlinearity = nonlinearity

    def _options(self) -> list[str]:
        return [] if self.nonlinearity == "tanh" else [f"nonlinearity={self.nonlinearity!r}"]


def _cell_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removesuffix("_l0"): a for name, a in arrays.items()}


def _without_time(state: State) -> State:
    return tuple(s[0] for s in state) if isinstance(state, tuple) else state[0]
