"""Parameters by torch's names, and the arguments that the formats share."""

from __future__ import annotations

import operator
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _parameters
from . import _convert
from ._conventions import PEEPHOLES
from ._convert import Directions

Parameters = dict[str, np.ndarray]

_NAME = re.compile(r"(weight|bias)_(ih|hh)_l(0|[1-9][0-9]*)(_reverse)?")
_PEEPHOLES = re.compile(r"weight_diag_l(0|[1-9][0-9]*)(_reverse)?")
_PROJECTION = re.compile(r"weight_hr_l(0|[1-9][0-9]*)(_reverse)?")


def directions(op: str, cell: str, params: Any, layer: int) -> Directions:
    """The directions of one layer of a stack."""
    convention, number = _convert.row(op, "torch", cell), _number(op, layer)
    for name in mapping(op, "params", params):
        own = isinstance(name, str) and (
            _NAME.fullmatch(name)
            or (_convert.base(cell) in PEEPHOLES and _PEEPHOLES.fullmatch(name))
            or (convention.projection and _PROJECTION.fullmatch(name))
        )
        if not own:
            raise ValueError(
                f"[{op}] params must be named as weight_ih_l0 or bias_hh_l1_reverse, "
                f"got {reprlib.repr(name)}"
            )
    found: Directions = []
    for direction in (0, 1):
        suffix = _parameters.suffix(number, direction)
        names = {kind: kind + suffix for kind in _parameters.kinds(True, projected=True)}
        arrays = {kind: params[name] for kind, name in names.items() if name in params}
        if arrays or direction == 0:
            found += _convert.read(op, convention, arrays)
    _check_alike(op, found)
    return found


def parameters(
    op: str, cell: str, directions: Directions, layer: int, reverse: bool = False
) -> Parameters:
    """Parameters of the directions of a layer; `reverse`: of the second one alone."""
    _check_alike(op, directions)
    convention, number = _convert.row(op, "torch", cell), _number(op, layer)
    return {
        kind + _parameters.suffix(number, at): array
        for at, each in enumerate(directions, start=int(reverse))
        for kind, array in _convert.write(op, convention, [each]).items()
    }


def layers(op: str, params: Any) -> int:
    """How many layers a stack has, at least 1."""
    names, count = mapping(op, "params", params), 1
    while _parameters.kinds(bias=False)[0] + _parameters.suffix(count, 0) in names:
        count += 1
    return count


def check_stack(op: str, params: Any) -> None:
    """All layers are there, with as many directions, biases or none, one dtype, and sizes that fit.

    Raises
    ------
    ValueError, TypeError
        They are not; TypeError where dtypes differ.
    """
    names = mapping(op, "params", params)
    count = layers(op, params)
    directions = 2 if any(name.endswith("_reverse") for name in names) else 1
    kinds = _parameters.kinds(
        bias=any(name.startswith("bias") for name in names),
        projected=any(name.startswith("weight_hr") for name in names),
    )
    wanted = [
        kind + _parameters.suffix(layer, direction)
        for layer in range(count)
        for direction in range(directions)
        for kind in kinds
    ]
    different = sorted(set(wanted) ^ set(names))
    if different:
        raise ValueError(
            f"[{op}] parameters must be those of {count} layers, {directions} directions each, "
            "biases and projections of all or none, got "
            f"{reprlib.repr(different)} missing or unknown"
        )
    arrays = {name: _convert.host_array(op, name, names[name]) for name in wanted}
    dtypes = sorted({array.dtype.name for array in arrays.values()})
    if len(dtypes) > 1:
        raise TypeError(f"[{op}] parameters must have one dtype, got {dtypes}")
    outputs = arrays[kinds[1] + _parameters.suffix(0, 0)].shape[-1]
    for layer in range(1, count):
        found = arrays[kinds[0] + _parameters.suffix(layer, 0)].shape
        if found[-1] != directions * outputs:
            raise ValueError(
                f"[{op}] layer {layer} must have {directions * outputs} inputs, as the layer below "
                f"has outputs, got shape {found}"
            )


def _check_alike(op: str, directions: Directions) -> None:
    """Both directions of a layer have arrays of the same kinds, shapes and dtype."""
    first, last = (
        [(kind, array.shape, array.dtype.name) for kind, array in sorted(each.items())]
        for each in (directions[0], directions[-1])
    )
    for one, other in zip(first, last, strict=False):
        if one != other:
            raise ValueError(f"[{op}] directions must have the same arrays, got {one} and {other}")
    if len(first) != len(last):
        raise ValueError(f"[{op}] directions must have biases both or none, got one with")


def _number(op: str, layer: Any) -> int:
    try:
        if isinstance(layer, (bool, np.bool_)):
            raise TypeError
        number = operator.index(layer)
    except TypeError:
        raise TypeError(f"[{op}] layer must be an integer, got {reprlib.repr(layer)}") from None
    if number < 0:
        raise ValueError(f"[{op}] layer must not be negative, got {number}")
    return number


def several(op: str, name: str, values: Any) -> list[Any]:
    """A sequence of arrays, not an array."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise TypeError(f"[{op}] {name} must be a sequence of arrays, got {type(values).__name__}")
    return list(values)


def mapping(op: str, name: str, values: Any) -> Mapping[str, Any]:
    """Arrays by name."""
    if not isinstance(values, Mapping):
        raise TypeError(
            f"[{op}] {name} must be a mapping of names to arrays, got {type(values).__name__}"
        )
    return values
