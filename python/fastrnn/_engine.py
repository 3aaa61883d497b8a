"""What an engine gives to layers, cells and functional calls, and which one serves an array.

There are two: the compiled CPU module, and the driver of the CUDA engine, which is loaded when it
is first asked for. Nothing else in the package chooses between them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from . import _arrays, _dtypes, _native

DEVICES = tuple(_dtypes.OF_ENGINE)

_State = Any  # an array, or a pair of arrays for a cell with two states


INFER, FORWARD, BACKWARD = 0, 1, 2


class Call(NamedTuple):
    """What an engine is given: arrays, options, and the arrays of backward.

    Engines take any tuple of these fields, and what is left out at its end as its default.

    Parameters
    ----------
    x : array
        ``(T, B, I)``, ``(B, T, I)`` or ``(T, I)``; with batch_sizes ``(rows, I)``.
    state : array, pair of arrays or None
        The initial state, ``(L * D, B, H)`` or ``(L * D, H)``; a projected h has P in the last
        place.
    lengths, resets, holds, batch_sizes : array or None
    recurrent_masks : array or None
        Of what enters the products of a step, ``(L * D, B, P)`` or ``(L * D, G, B, P)``; without a
        batch ``(L * D, P)`` or ``(L * D, G, P)``.
    masks : sequence of arrays or None
        Of dropout, one for each layer but the last.
    y : array or None
        To be written by forward where it is given; of the tape in backward.
    batch_first : bool
    reverse : bool
        Whether the first direction reads from the last step to the first.
    repeat_held : bool
        Whether the output of a held step is that of the last one that ran, and not 0.
    kind : int
        INFER, which keeps no tape; FORWARD, which does; or BACKWARD.
    recompute : int
        Steps from one kept state of the tape to the next; 0 for a whole tape.
    threads : int
        At most so many; 0 for any number.
    want_dx, want_parameters : bool
        Which gradients backward makes beside that of the initial state.
    whole_tape : bool
        Whether the shapes of the tape must depend on the shape of x alone. Else an engine may keep
        a tape of the rows that run; which one a tape is, backward sees.
    tape : sequence of three arrays
        Of backward.
    dy : array
    dstate : array, pair of arrays or None
        Gradient of the final state.
    """

    x: Any
    state: _State = None
    lengths: Any = None
    resets: Any = None
    holds: Any = None
    batch_sizes: Any = None
    recurrent_masks: Any = None
    masks: Sequence[Any] | None = None
    y: Any = None
    batch_first: bool = False
    reverse: bool = False
    repeat_held: bool = False
    kind: int = INFER
    recompute: int = 0
    threads: int = 0
    want_dx: bool = False
    want_parameters: bool = False
    whole_tape: bool = False
    tape: Sequence[Any] | None = None
    dy: Any = None
    dstate: _State = None


class PackedWeights(Protocol):
    """The parameters of a stack of layers, ready for an engine's calls."""

    @property
    def parameters(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes, in torch's order."""

    def pack(self, parameters: tuple[Any, ...], backward: bool, /) -> None:
        """Take the parameters, for forward calls or for backward ones."""

    def output_shape(self, x: Any, batch_first: bool, /) -> tuple[int, ...]:
        """The shape that y will have, where x is one that the calls take."""

    def explain(self, T: int, B: int, recompute: int, /) -> Mapping[str, Any]:
        """The plans of a call of this size; see `fastrnn.explain`."""

    def copy_parameters(self) -> None:
        """Stay as they are when the arrays they were packed from change."""

    def run(self, call: tuple[Any, ...], /) -> tuple[Any, ...]:
        """The results of a `Call`: y and the final state, or with the tape's arrays, or gradients.

        The gradients are dx, that of the initial state, and those of the parameters in their order;
        None in place of the first, and of the last, where they are not wanted.
        """

    def step(self, x: Any, state: _State, threads: int = 0, /) -> tuple[Any, ...]:
        """The states after one step of one layer: x ``(B, I)`` or ``(I,)``, states ``(B, H)``."""


class Engine(Protocol):
    """A module with these: all that the engines have in common."""

    @property
    def Weights(self) -> Callable[[str, str, int, int, int, int, bool, int], PackedWeights]:
        """The class: of a cell, a dtype, L, D, I and H, with biases or without, and of P or 0.

        On the CPU the dtype may be a scheme of quantized weights.
        """

    def pack_new(
        self,
        cell: str,
        layers: int,
        directions: int,
        parameters: tuple[Any, ...],
        forward: bool,
        backward: bool,
        threads: int = 0,
        /,
    ) -> PackedWeights:
        """Weights of the sizes that the parameters have, packed for these uses."""

    def run_new(
        self,
        cell: str,
        layers: int,
        directions: int,
        parameters: tuple[Any, ...],
        call: tuple[Any, ...],
        /,
    ) -> tuple[Any, ...]:
        """`PackedWeights.run` with parameters, of a call that keeps no tape."""

    def step_new(
        self,
        cell: str,
        parameters: tuple[Any, ...],
        x: Any,
        state: _State,
        threads: int = 0,
        /,
    ) -> tuple[Any, ...]:
        """The states after one step of one layer: x ``(B, I)`` or ``(I,)``, states ``(B, H)``."""


def for_device(device: str) -> Engine:
    """The engine of a device, "cpu" or "cuda"."""
    return _native.engine if device == "cpu" else _cuda_driver()


def for_array(array: Any) -> Engine:
    """The engine that takes an array."""
    return for_device("cpu" if _arrays.is_numpy(array) else "cuda")


def usable(device: str) -> Engine | None:
    """The engine of a device of any name, where there is one that can be used."""
    if device == "cpu":
        return _native.engine
    return None if why_not_available(device) else for_device(device)


def why_not_available(device: str) -> str:
    """Why there is no engine for a device; empty where there is one that can be used."""
    if device == "cpu":
        return ""
    if device not in DEVICES:
        return "no engine for this device"
    from .cuda import _native as cuda

    return cuda.why_not_available()


def check_device(op: str, device: Any) -> str:
    """A device that a layer may be made for; whether it is there, its engine says."""
    if not isinstance(device, str) or device not in DEVICES:
        wanted = " or ".join(map(repr, DEVICES))
        raise ValueError(f"[{op}] device must be {wanted}, got {reprlib.repr(device)}")
    return device


def rank_errors() -> tuple[type[Exception], ...]:
    """What the engines raise for an array of a wrong number of dimensions."""
    from .cuda import _native as cuda

    return (_native.engine.RankError, *((cuda.engine.RankError,) if cuda.engine else ()))


@cache
def _cuda_driver() -> Engine:
    from .cuda import _driver

    return _driver
