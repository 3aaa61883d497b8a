"""fastrnn itself."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastrnn

from ..cases import Case, Data, as_tuple, state_names
from . import Way

PROJECTS = True


def available() -> str | None:
    return None


def version() -> str:
    info = fastrnn.build_info()
    return f"{info['version']} {info['level']}"


def setup(threads: int) -> None:
    fastrnn.set_num_threads(threads)


def build(case: Case, data: Data) -> dict[str, Way]:
    if case.mode == "cell":
        return {"cell": cell_way(case, data)}
    return {"layer": layer_way(case, data)}


def state_of(arrays: tuple[np.ndarray, ...]) -> Any:
    """As layers take it: in 16 bits a cell state is float32."""
    h, *others = arrays
    wide = "float32" if h.dtype.itemsize == 2 else h.dtype
    return (h, *(c.astype(wide) for c in others)) if others else h


def cell_way(case: Case, data: Data) -> Way:
    kinds = {"lstm": fastrnn.LSTMCell, "gru": fastrnn.GRUCell, "rnn_tanh": fastrnn.RNNCell}
    cell: Any = kinds[case.cell](case.I, case.H, dtype=case.dtype)
    cell.load_state_dict({name[:-3]: a for name, a in data.params.items()})
    x = data.x[0]
    state: Any = state_of(tuple(s[0] for s in data.state))

    def step() -> Any:
        nonlocal state
        state = cell(x, state)
        return state

    def arrays(value: Any) -> dict[str, np.ndarray]:
        finals = [s[None] for s in as_tuple(value)]
        return {"y": finals[0], **dict(zip(state_names(case), finals, strict=True))}

    return Way(step, arrays)


def layer_way(case: Case, data: Data) -> Way:
    # Releases of fastrnn that `--against` measures may be without the option.
    options: dict[str, Any] = {"recompute": case.recompute} if case.recompute else {}
    if case.P:
        options["proj_size"] = case.P
    layer: Any = fastrnn.Recurrent(
        case.cell,
        case.I,
        case.H,
        case.L,
        bidirectional=case.D == 2,
        dtype=case.elements,
        **options,
    )
    layer.load_state_dict(data.params)
    if case.dtype == "int8":
        layer = fastrnn.quantize(layer, "int8")
    lengths = case.row_lengths if case.lengths else None
    initial: Any = state_of(data.state)
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

    return Way({"forward": forward, "train": train, "stream": stream}[case.mode], arrays)
