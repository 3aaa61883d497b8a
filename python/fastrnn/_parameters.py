"""How parameters lie one after the other: by layer, in it by direction, and there by kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# torch's names, and that of a unit's own parameters; "_l0", "_l0_reverse", "_l1", ... follow.
KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_diag", "weight_hr")


def kinds(bias: bool, diag: bool = False, projected: bool = False) -> tuple[str, ...]:
    """The parameters of one direction of one layer, in their order.

    diag: whether the cell has parameters of a unit, such as peepholes.
    """
    there = (True, True, bias, bias, diag, projected)
    return tuple(kind for kind, has in zip(KINDS, there, strict=True) if has)


def suffix(layer: int, direction: int) -> str:
    """What follows the kind in the names of one direction of one layer."""
    return f"_l{layer}{'_reverse' if direction else ''}"


def by_layer_direction(
    parameters: Sequence[Any], layers: int, directions: int
) -> list[Sequence[Any]]:
    """Cut a call's parameters into those of each direction of each layer."""
    count = len(parameters) // (layers * directions)
    return [parameters[at : at + count] for at in range(0, len(parameters), count)]
