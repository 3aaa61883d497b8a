"""What all layers are that can be called: parameters, packed weights, and calls without a tape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import _arguments, _saved
from ._engine import Engine, PackedWeights
from .functional import Packed, State
from .module import Module

# How what a constructor is given is checked: [cell] name must be ...
_CHECKS: dict[str, Callable[[str, str, Any], Any]] = {
    **dict.fromkeys(("input_size", "hidden_size", "num_layers"), _arguments.size),
    **dict.fromkeys(("bias", "batch_first", "bidirectional", "reverse"), _arguments.flag),
    "proj_size": lambda cell, _, value: _arguments.projection(cell, value),
}


class Stack(Module):
    """A stack of layers of any cell, as who calls it knows it.

    A class of such layers sets these before it is initialized with the parameters, most of them by
    `_set_sizes`.

    Attributes
    ----------
    cell : str
    input_size, hidden_size, num_layers, proj_size : int
        I, H, L and P, or 0.
    bias, batch_first, bidirectional, reverse : bool
    dtype : numpy.dtype
    device : str
    """

    cell: str
    device: str
    dtype: np.dtype
    input_size: int
    hidden_size: int
    num_layers: int
    proj_size: int
    bias: bool
    batch_first: bool
    bidirectional: bool
    reverse: bool

    _packed: tuple[int, Packed] | None = None

    def _set_sizes(self, **given: Any) -> None:
        """Check and set what `_CHECKS` names."""
        for name, check in _CHECKS.items():
            setattr(self, name, check(self.cell, name, given[name]))

    def _shapes(self, engine: Engine, elements: str) -> Sequence[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the parameters; `elements`: a dtype, or a scheme of weights."""
        directions = 2 if self.bidirectional else 1
        sizes = (self.num_layers, directions, self.input_size, self.hidden_size)
        return engine.Weights(self.cell, elements, *sizes, self.bias, self.proj_size).parameters

    def __call__(
        self,
        x: np.ndarray,
        state: State = None,
        lengths: Any = None,
        resets: np.ndarray | None = None,
        *,
        holds: np.ndarray | None = None,
        repeat_held: bool = False,
        recurrent_masks: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> tuple[np.ndarray, State]:
        """Run the layers: no tape, no dropout.

        Parameters and results are those of `fastrnn.functional.infer`: ``y, hn``, or
        ``y, (hn, cn)``.
        """
        # This is all that a stream's step passes through in Python: no call that can be left out.
        entry = self._packed
        if entry is None or entry[0] != self._version or self._open:
            entry = self._weights(backward=False)
        if lengths is not None:
            lengths = _arguments.lengths_array(self.cell, lengths)
        # The fields of a Call, which would take time to make.
        call = (
            x, state, lengths, resets, holds, None, recurrent_masks, None, out,
            self.batch_first, self.reverse,
        )  # fmt: skip
        if repeat_held is False:
            return entry[1].native.run(call)
        return entry[1].native.run((*call, _arguments.flag(self.cell, "repeat_held", repeat_held)))

    def _ready(self) -> PackedWeights:
        """The engine's weights of the present version, for calls that keep no tape."""
        entry = self._packed
        if entry is None or entry[0] != self._version or self._open:
            entry = self._weights(backward=False)
        return entry[1].native

    def _weights(self, backward: bool) -> tuple[int, Packed]:
        """Packed weights of the present version."""
        version, entry = self._version, self._packed
        if self._open:  # inside a mutable() block anything may change before the next call
            return version, self._pack(backward)
        if entry is None or entry[0] != version:
            entry = self._packed = version, self._pack(False)
        if backward:
            entry[1].add(self._arrays, backward=True)
        return entry

    def _pack(self, backward: bool) -> Packed:
        return Packed(self.cell, self._arrays, backward=backward)

    save = _saved.save

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["_packed"] = None
        return state

    @classmethod
    def _cell_options(cls, cell: str) -> dict[str, Any]:
        """The options of the class's constructor that make it a layer of this cell."""
        return {"cell": cell}

    def _options(self) -> list[str]:
        own = self._cell_options(self.cell)
        cell = own.pop("cell", None)
        options = [] if cell is None else [repr(cell)]
        options += [str(self.input_size), str(self.hidden_size)]
        for name, usual in (
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
            ("reverse", False),
            ("recompute", 0),
            ("proj_size", 0),
            ("device", "cpu"),
        ):
            if getattr(self, name, usual) != usual:
                options.append(f"{name}={getattr(self, name)!r}")
        if self.dtype != np.float32:
            options.append(f"dtype={self.dtype.name!r}")
        return options + [f"{name}={value!r}" for name, value in own.items()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._options())})"
