"""What the engine says of cells that adapters must know."""

from __future__ import annotations

from typing import NamedTuple

from . import _native


class Sizes(NamedTuple):
    """Of a cell: states, and values that a step saves for backward."""

    states: int
    saved: int


class _Sizes(dict[str, Sizes]):
    """Sizes by the names of cells; those of names with functions of their own when first asked."""

    def __missing__(self, cell: str) -> Sizes:
        of_one = (1, 1, 1), 1, 1, False, 0
        _, states, (_, _, saved) = _native.engine.result_shapes(cell, 1, 1, *of_one)
        self[cell] = Sizes(len(states), saved[-2])
        return self[cell]


# A dict and no function: torch's compiler warns of cached ones.
SIZES = _Sizes(
    (cell["name"], Sizes(cell["states"], cell["saved"])) for cell in _native.engine.cells()
)
