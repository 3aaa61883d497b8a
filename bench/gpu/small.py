"""Small data for every cell that the engine has, and a training step of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import fastrnn
from fastrnn import _native
from fastrnn.reference.cell import find


class Sizes(NamedTuple):
    """Of a bidirectional stack of L layers."""

    T: int
    B: int
    I: int
    H: int
    L: int


SMALL = Sizes(9, 5, 7, 33, 2)
# Weights that no block has room for, so that a cluster or many blocks share them, and more rows
# than a tile of float32 has; for cells of one state and of two.
WIDE = Sizes(3, 9, 7, 260, 1)
WIDE_CELLS = ("lstm", "gru")

# Of the cells whose functions are chosen one for each kernel.
CHOSEN = (
    "rnn(softplus)",
    "lstm_peephole",
    "lstm_coupled_peephole",
    "gru(hard_sigmoid(0.2, 0.5), softsign, clip=2.0)",
    "gru_reset_before(hard_sigmoid(0.2, 0.5), tanh)",
)
# At the end of a cell's name: its h is projected.
PROJECTED = "_projected"


def small_data(name: str, sizes: Sizes = SMALL) -> dict[str, Any]:
    """A bidirectional stack with lengths, resets and initial states, in float64 on the host."""
    rng = np.random.default_rng(0)
    T, B, I, H, layers = sizes
    cell = name.removesuffix(PROJECTED)
    P = H // 2 if cell != name else 0
    layer = fastrnn.Recurrent(cell, I, H, layers, bidirectional=True, proj_size=P)
    params = {
        name: rng.uniform(-(H**-0.5), H**-0.5, a.shape) for name, a in layer.parameters.items()
    }
    states = find(cell).states

    def state() -> Any:
        widths = [P or H] + [H] * (states - 1)
        arrays = tuple(rng.standard_normal((2 * layers, B, width)) for width in widths)
        return arrays if states > 1 else arrays[0]

    return {
        "params": params,
        "x": rng.standard_normal((T, B, I)),
        "state": state(),
        "dy": rng.standard_normal((T, B, 2 * (P or H))),
        "dstate": state(),
        "lengths": rng.integers(1, T + 1, B),
        "resets": rng.random((T, B)) < 0.2,
    }


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Containers of arrays with a function of each array."""
    if isinstance(value, dict):
        return {name: mapped(v, function) for name, v in value.items()}
    return tuple(map(function, value)) if isinstance(value, tuple) else function(value)


def step_of(module: Any, cell: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Results and gradients of `fastrnn.functional`, or of the reference, by name."""
    cell = cell.removesuffix(PROJECTED)
    options = {"lengths": data["lengths"], "resets": data["resets"]}
    y, final, tape = module.forward(cell, data["x"], data["params"], data["state"], **options)
    dx, dinitial, grads = module.backward(cell, data["params"], tape, data["dy"], data["dstate"])
    found = {"y": y, "dx": dx, **{f"d{name}": grad for name, grad in grads.items()}}
    for names, state in ((("hn", "cn"), final), (("dh0", "dc0"), dinitial)):
        found |= zip(names, state if isinstance(state, tuple) else (state,), strict=False)
    return found


def sizes_of(cell: str) -> list[Sizes]:
    """The sizes at which a cell is run."""
    return [SMALL, WIDE] if cell in WIDE_CELLS else [SMALL]


def all_cells() -> list[str]:
    """Also those that torch does not have."""
    projected = [cell + PROJECTED for cell in ("lstm", "lstm_peephole")]
    return [*(cell["name"] for cell in _native.engine.cells()), *CHOSEN, *projected]
