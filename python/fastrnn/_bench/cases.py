"""Cases: what is timed, their names, and their data, the same in every process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from . import case as base

CELLS = ("rnn_tanh", "lstm", "gru")
CELL_NAMES = {"rnn": "rnn_tanh", "lstm": "lstm", "gru": "gru"}  # as options have them
GATES = {"rnn_tanh": 1, "lstm": 4, "gru": 3, "gru_reset_before": 3}
MODES = ("forward", "train", "stream", "cell")
# The dtypes of cases, and bytes of an element; of int8 those of a weight: all else is float32.
ITEMSIZE = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int8": 1}
INFERENCE = ("forward", "stream")  # what quantized layers have of the modes
# Calls that are compared with the reference: a stream's state goes from call to call.
STREAM_CHECKS = 4
# Outputs of all layers, T B H D L, beyond which rows repeat: see `Case.distinct`.
LARGE = 2**23


@dataclass(frozen=True)
class Case(base.Case):
    """One cell, mode and shape.

    `forward` runs a sequence without keeping anything for backward; `train` is forward and backward
    for x, the initial states and every parameter; `stream` is one step a call of a layer, `cell`
    one of a class for single steps (``LSTMCell``). With `recompute` fastrnn keeps less for
    backward, as its option of that name says; peers have no such option. `model` is the name of the
    model whose shape it is.
    """

    mode: str = field(kw_only=True)
    lengths: tuple[int, int] | None = None
    sweep: str = ""
    recompute: int = 0
    model: str = ""

    @property
    def id(self) -> str:
        """The name with the mode; unique within a run."""
        return f"{super().id} {self.mode}"

    def words(self) -> dict[str, object]:
        return {
            "len{}to{}".format(*self.lengths or (0, 0)): self.lengths,
            f"sweep{self.sweep}": self.sweep,
            f"recompute{self.recompute}": self.recompute,
            self.model: self.model,
        }

    @property
    def elements(self) -> str:
        """The dtype of arrays, and of weights before they are quantized."""
        return "float32" if self.dtype == "int8" else self.dtype

    @property
    def streams(self) -> bool:
        """Whether a call is one step that goes on from the last one."""
        return self.mode in ("stream", "cell")

    @property
    def gates(self) -> int:
        return GATES[self.cell]

    @property
    def states(self) -> int:
        return 2 if self.cell == "lstm" else 1

    @cached_property
    def row_lengths(self) -> np.ndarray:
        """Steps of each row, (B,), in no order."""
        if not self.lengths:
            return np.full(self.B, self.T)
        low, high = self.lengths
        even = np.linspace(low, high, self.B).round().astype(np.int64)
        return np.random.default_rng(1).permutation(even)

    @property
    def distinct(self) -> int:
        """How many rows have data of their own; the others repeat them.

        What a row gives does not depend on the others, so the reference computes these alone, which
        in float64 would need tens of gigabytes for all rows of the largest models.
        """
        large = self.T * self.B * self.H * self.D * self.L > LARGE
        return math.gcd(self.B, 4) if large and not self.lengths else self.B

    @property
    def steps(self) -> int:
        """Steps of all rows together."""
        return int(self.row_lengths.sum())

    def layer_inputs(self) -> list[int]:
        """Inputs of each layer."""
        return [self.I if k == 0 else self.D * self.outputs for k in range(self.L)]

    def passes(self) -> Iterator[tuple[int, str]]:
        """(layer, suffix of its parameters), layer by layer, forward direction first."""
        for k in range(self.L):
            for suffix in ("", "_reverse")[: self.D]:
                yield k, f"l{k}{suffix}"

    def flops(self) -> float:
        """Of the products alone, in a call."""
        gates = sum(self.gates * self.H * (n + self.outputs) for n in self.layer_inputs())
        per_step = 2 * self.D * (gates + self.L * self.P * self.H)
        return float(self.steps * per_step * (3 if self.mode == "train" else 1))

    def fields(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Data:
    """Arrays of a case: params by torch's names, x (T, B, I), states (L * D, B, H), dy.

    dy (T, B, D * H) has no steps where the mode is not `train`.
    """

    params: dict[str, np.ndarray]
    x: np.ndarray
    state: tuple[np.ndarray, ...]
    dy: np.ndarray


def element_type(dtype: str) -> np.dtype:
    """NumPy's dtype of a case: not by the engine's package, which peers' processes do not load."""
    if dtype == "bfloat16":
        import ml_dtypes

        found: np.dtype = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(dtype)


def make_data(case: Case) -> Data:
    """The same arrays in every process; dy is zero past a row's length."""
    rng = np.random.default_rng(0)
    bound, rows, element = case.H**-0.5, case.gates * case.H, element_type(case.elements)

    def normal(outer: int, inner: int) -> np.ndarray:
        drawn = rng.standard_normal((outer, case.distinct, inner)).astype(element)
        return np.tile(drawn, (1, case.B // case.distinct, 1))

    inputs, params = case.layer_inputs(), {}
    for k, suffix in case.passes():
        shapes = {
            "weight_ih": (rows, inputs[k]),
            "weight_hh": (rows, case.outputs),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }
        if case.P:
            shapes["weight_hr"] = (case.P, case.H)
        for name, shape in shapes.items():
            params[f"{name}_{suffix}"] = rng.uniform(-bound, bound, shape).astype(element)
    steps = case.T if case.mode == "train" else 0
    dy = normal(steps, case.D * case.outputs) * valid(case)[:steps]
    widths = (case.outputs, case.H)[: case.states]
    state = tuple(normal(case.L * case.D, width) for width in widths)
    return Data(params, normal(case.T, case.I), state, dy.astype(element))


def valid(case: Case) -> np.ndarray:
    """True where a row has a step, (T, B, 1)."""
    return (np.arange(case.T)[:, None] < case.row_lengths)[:, :, None]


def state_names(case: Case, prefix: str = "", suffix: str = "n") -> list[str]:
    return [f"{prefix}{s}{suffix}" for s in ("h", "c")[: case.states]]


def expected(case: Case) -> dict[str, np.ndarray]:
    """What the reference gives, in float64: y and final states; for train also every gradient.

    Of rows that repeat it has the first `Case.distinct`; gradients of parameters are of all rows.
    """
    from fastrnn import reference

    data, rows = make_data(case), slice(case.distinct)
    states = [s[:, rows] for s in data.state]
    state: Any = states if case.states == 2 else states[0]
    x = data.x[:, rows]
    if case.streams:
        x = np.repeat(x, STREAM_CHECKS, axis=0)
    lengths = case.row_lengths if case.lengths else None
    y, final, tape = reference.forward(case.cell, x, data.params, state, lengths=lengths)
    result = {"y": y[-1:] if case.streams else y}
    result.update(zip(state_names(case), as_tuple(final), strict=True))
    if case.mode == "train":
        dx, dstate, grads = reference.backward(case.cell, data.params, tape, data.dy[:, rows])
        result["dx"] = dx
        result.update(zip(state_names(case, "d", "0"), as_tuple(dstate), strict=True))
        result.update((name, case.B // case.distinct * grad) for name, grad in grads.items())
    return result


def as_tuple(state: Any) -> tuple[Any, ...]:
    return tuple(state) if isinstance(state, (tuple, list)) else (state,)
