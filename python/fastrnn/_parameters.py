"""How parameters lie one after the other: by layer, in it by direction, and there by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# torch's names, and that of a unit's own parameters; "_l0", "_l0_reverse", "_l1", ... follow.
KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_diag", "weight_hr")
# Of those of torch the matrices, which may be quantized: then the rows of each have scales.
MATRICES = {"weight_ih": "scale_ih", "weight_hh": "scale_hh", "weight_hr": "scale_hr"}


def kind_of(name: str) -> str:
    """The kind of a parameter, without what its name says of layer and direction."""
    return name.partition("_l")[0] if "_l" in name else name


def is_scale(name: str) -> bool:
    """Whether a parameter is the scales of a quantized weight's rows."""
    return kind_of(name) in MATRICES.values()


def scale_name(name: str) -> str:
    """Of the scales of a weight's rows."""
    kind = kind_of(name)
    return name.replace(kind, MATRICES[kind])


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


def layers_directions(params: Mapping[str, Any]) -> tuple[int, int]:
    """L and D, by the names of a call's parameters."""
    layers = 1
    while f"weight_ih_l{layers}" in params:
        layers += 1
    return layers, 2 if "weight_ih_l0_reverse" in params else 1


def in_order(cell: str, names: Sequence[str], params: Mapping[str, Any]) -> tuple[Any, ...]:
    """The parameters with these names, which must be all that there are."""
    missing = [name for name in names if name not in params]
    if missing:
        raise ValueError(f"[{cell}] {missing[0]} is needed, got none")
    if len(params) != len(names):
        unknown = next(name for name in params if name not in names)
        raise ValueError(f"[{cell}] parameters must be of {list(names)}, got {unknown!r}")
    return tuple(params[name] for name in names)
