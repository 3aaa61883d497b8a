"""Makes `reference.txt`: results of the NumPy reference, for tests that have no Python.

    python tests/data/reference_results.py

One case for each cell, and some of LSTMs with a projection: two directions, lengths, resets,
initial states; more rows than a tile has and units that fill no vector. Inputs are multiples of
1/64, which any element type holds exactly.
A line is a name, the sizes of an array and its values; a line `case NAME` comes before those of a
case. To be run again where a cell is new or the cases change.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastrnn import reference
from fastrnn.reference.cell import find

FILE = Path(__file__).with_name("reference.txt")
T, B, I, H, D = 3, 7, 3, 9, 2
# Beside the cells with the usual functions: of the kernels whose functions are chosen, the others.
CHOSEN = (
    "rnn(softsign, elu(0.5))",
    "gru(hard_sigmoid(0.3, 0.4), softplus, clip=0.75)",
    "gru_reset_before(hard_sigmoid(0.3, 0.4), softplus, clip=0.75)",
)
PROJECTED = ("lstm", "lstm_peephole")


def line(name: str, array: np.ndarray, digits: int) -> str:
    values = (f"{v:.{digits}g}" for v in array.ravel().tolist())
    return " ".join([name, *map(str, array.shape), ":", *values]) + "\n"


def case(cell: str, projection: int = 0) -> Iterator[str]:
    """The lines of one case."""
    gates, states, units = find(cell).gates, find(cell).states, find(cell).unit_parameters
    P = projection or H  # values of h
    width = {"h": P, "c": H}
    seeds = itertools.count(1)

    def array(*shape: int, bound: int = 64) -> np.ndarray:
        mixed = (np.arange(np.prod(shape)) * 7919 + next(seeds) * 104729) * 40503 % 65537
        return (mixed % (2 * bound + 1) - bound).reshape(shape) / 64

    params = {}
    for suffix in ("_l0", "_l0_reverse"):
        params["weight_ih" + suffix] = array(gates * H, I, bound=32)
        params["weight_hh" + suffix] = array(gates * H, P, bound=32)
        params["bias_ih" + suffix] = array(gates * H, bound=32)
        params["bias_hh" + suffix] = array(gates * H, bound=32)
        if units:
            params["weight_diag" + suffix] = array(units * H, bound=32)
        if projection:
            params["weight_hr" + suffix] = array(P, H, bound=32)
    x, dy = array(T, B, I), array(T, B, D * P)
    lengths = np.array([3, 2, 0, 3, 1, 3, 2])
    resets = np.zeros((T, B), bool)
    resets[1, :3] = resets[2, 3] = True
    state, dstate = ({k: array(D, B, width[k]) for k in "hc"[:states]} for _ in range(2))

    def tuple_or_one(of: dict[str, np.ndarray]) -> object:
        return tuple(of.values()) if states > 1 else of["h"]

    y, final, tape = reference.forward(
        cell, x, params, tuple_or_one(state), lengths=lengths, resets=resets
    )
    dx, dinitial, grads = reference.backward(cell, params, tape, dy, tuple_or_one(dstate))
    final, dinitial = (s if isinstance(s, tuple) else (s,) for s in (final, dinitial))

    yield f"case {cell}\n"
    given = {**params, "x": x, "dy": dy, "lengths": lengths, "resets": resets.astype(int)}
    given |= {f"{k}0": a for k, a in state.items()} | {f"d{k}n": a for k, a in dstate.items()}
    yield from (line(name, a, 17) for name, a in given.items())
    wanted = {"y": y, "dx": dx, **{f"d{name}": a for name, a in grads.items()}}
    wanted |= {f"{k}n": a for k, a in zip("hc", final, strict=False)}
    wanted |= {f"d{k}0": a for k, a in zip("hc", dinitial, strict=False)}
    yield from (line(name, a, 13) for name, a in wanted.items())


def text() -> str:
    whole = map(case, (*reference.names(), *CHOSEN))
    projected = (case(cell, projection=5) for cell in PROJECTED)
    return "".join(itertools.chain(*whole, *projected))


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
