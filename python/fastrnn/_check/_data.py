"""A case, the size and the options of a call, and arrays for it, drawn at random.

The tests draw theirs here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastrnn
from fastrnn._bench.case import Case as NamedCase
from fastrnn._dtypes import numpy_dtype, of_cell_state
from fastrnn.quantized import quantized_parameters
from fastrnn.reference.cell import find


@dataclass(frozen=True)
class Case(NamedCase):
    """A call with every option that one may have; `L2-nobias-bf-len` in its name says which."""

    bias: bool = True
    batch_first: bool = False
    reverse: bool = False
    batched: bool = True
    state: bool = True
    lengths: bool = False
    resets: bool = False
    holds: bool = False
    repeat_held: bool = False
    dropout: bool = False
    recurrent: str = ""  # recurrent masks: "shared" by the gates, or one for each of the "gates"
    weights: str = ""  # how they are quantized, as `fastrnn.quantize` names it

    @property
    def elements(self) -> str:
        """What layers of this case are made of, in the engine's words."""
        return self.weights or self.dtype

    def words(self) -> dict[str, object]:
        return {
            "nobias": not self.bias,
            "bf": self.batch_first,
            "rev": self.reverse,
            "unbatched": not self.batched,
            "h0": self.state,
            "len": self.lengths,
            "res": self.resets,
            "holds": self.holds,
            "repeat": self.repeat_held,
            "drop": self.dropout,
            f"mask{self.recurrent}": self.recurrent,
            self.weights: self.weights,
        }


@dataclass
class Data:
    """Arrays of a case, in its dtype, and the keyword arguments of a call."""

    params: dict[str, np.ndarray]
    x: np.ndarray
    state: Any
    dy: np.ndarray
    dstate: Any
    options: dict[str, Any]


def parameter_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Of each parameter, by its name."""
    layer = fastrnn.Recurrent(
        case.cell,
        case.I,
        case.H,
        case.L,
        bias=case.bias,
        bidirectional=case.D == 2,
        proj_size=case.P,
    )
    return {name: a.shape for name, a in layer.parameters.items()}


def make_data(case: Case, seed: int | tuple[int, ...] = 0) -> Data:
    """Draw the arrays of a case."""
    rng, dtype = np.random.default_rng(seed), numpy_dtype(case.dtype)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    bound = case.H**-0.5
    params = {
        name: rng.uniform(-bound, bound, shape).astype(dtype)
        for name, shape in parameter_shapes(case).items()
    }
    if case.weights:
        params = quantized_parameters(case.cell, params, case.weights)

    def sequence(width: int) -> np.ndarray:
        if not case.batched:
            return normal(case.T, width)
        return normal(*((case.B, case.T) if case.batch_first else (case.T, case.B)), width)

    rows = (case.L * case.D, case.B) if case.batched else (case.L * case.D,)
    states = find(case.cell).states

    def state_arrays() -> Any:
        widths = [case.outputs] + [case.H] * (states - 1)
        arrays = [normal(*rows, width) for width in widths]
        wide = numpy_dtype(of_cell_state(case.dtype))
        return arrays[0] if states == 1 else (arrays[0], *(a.astype(wide) for a in arrays[1:]))

    options: dict[str, Any] = {"batch_first": case.batch_first, "reverse": case.reverse}
    if case.lengths:
        options["lengths"] = rng.integers(0, case.T + 1, case.B)
        options["lengths"][: case.B // 3] = case.T
        rng.shuffle(options["lengths"])
    if case.resets:
        options["resets"] = rng.random(sequence(1).shape[:-1]) < 0.3
    if case.holds:
        held = rng.random(sequence(1).shape[:-1]) < 0.4
        if case.batched and case.B > 2:  # a row that never runs, and one that always does
            held[(0,) if case.batch_first else (slice(None), 0)] = True
            held[(1,) if case.batch_first else (slice(None), 1)] = False
        options |= {"holds": held, "repeat_held": case.repeat_held}
    if case.dropout:
        options["dropout_masks"] = [
            ((rng.random(sequence(case.D * case.outputs).shape) < 0.7) / 0.7).astype(dtype)
            for _ in range(case.L - 1)
        ]
    if case.recurrent:
        gates = (find(case.cell).gates,) if case.recurrent == "gates" else ()
        shape = (rows[0], *gates, *rows[1:], case.outputs)
        options["recurrent_masks"] = ((rng.random(shape) < 0.6) / 0.6).astype(dtype)
    return Data(
        params=params,
        x=sequence(case.I),
        state=state_arrays() if case.state else None,
        dy=sequence(case.D * case.outputs),
        dstate=state_arrays() if case.state else None,
        options=options,
    )


def flat_state(state: Any) -> tuple[Any, ...]:
    """The arrays of a state, or none."""
    if state is None:
        return ()
    return state if isinstance(state, tuple) else (state,)


def named(y: Any, final: Any, dx: Any, dinitial: Any, grads: Mapping[str, Any]) -> dict[str, Any]:
    """The results of a training step by their names."""
    every = {"y": y, "dx": dx, **{f"d{name}": grad for name, grad in grads.items()}}
    every |= {f"{name}n": a for name, a in zip("hc", flat_state(final), strict=False)}
    every |= {f"d{name}0": a for name, a in zip("hc", flat_state(dinitial), strict=False)}
    return every
