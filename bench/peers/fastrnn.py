"""fastrnn itself."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastrnn

from ..cases import Case, Data, as_tuple, state_names
from . import Way


def available() -> str | None:
    return None


def version() -> str:
    info = fastrnn.build_info()
    return f"{info['version']} {info['level']}"


def setup(threads: int) -> None:
    fastrnn.set_num_threads(threads)


def build(case: Case, data: Data) -> dict[str, Way]:
    layer = fastrnn.Recurrent(
        case.cell,
        case.I,
        case.H,
        case.L,
        bidirectional=case.D == 2,
        dtype=case.dtype,
        recompute=case.recompute,
    )
    layer.load_state_dict(data.params)
    lengths = case.row_lengths if case.lengths else None
    initial: Any = data.state if case.states == 2 else data.state[0]
    x, dy, state = data.x, data.dy, initial

    def forward() -> Any:
        return layer(x, initial, lengths)

    def train() -> Any:
        # The weights change between training steps: packing them anew is part of the step.
        with layer.mutable():
            pass
        y, final, tape = layer.forward(x, initial, lengths)
        return y, final, layer.backward(tape, dy)

    def stream() -> Any:
        nonlocal state
        y, state = layer(x, state)
        return y, state

    def arrays(value: Any) -> dict[str, np.ndarray]:
        y, final, *rest = value
        result = {"y": y, **dict(zip(state_names(case), as_tuple(final), strict=True))}
        for dx, dstate, grads in rest:
            result.update(grads, dx=dx)
            result.update(zip(state_names(case, "d", "0"), as_tuple(dstate), strict=True))
        return result

    return {"layer": Way({"forward": forward, "train": train, "stream": stream}[case.mode], arrays)}
