"""Reading and writing one layer's arrays by the rows of the table.

Between the two a layer is a list of directions, each with its parameters by kind, split into gates
in this library's order: ``(G, H, K)`` and ``(G, H)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _arrays, _cell_names, _dtypes
from ._conventions import CONVENTIONS, OPTIONS, RESET_AFTER, SIMPLE, Convention, Part

Directions = list[dict[str, np.ndarray]]

_AXES = "D2GHK"  # the order in which layouts meet


def row(op: str, of: str, cell: str) -> Convention:
    """The row of a format and a cell."""
    rows = CONVENTIONS[of]
    key = cell
    if isinstance(cell, str) and cell not in rows and of in OPTIONS:
        key = _key(cell)
    if not isinstance(key, str) or key not in rows:
        raise ValueError(f"[{op}] cell must be one that {of} has, {list(rows)}, got {cell!r}")
    return rows[key]


def base(cell: Any) -> str | None:
    """The base of a cell's name; None where the name has none."""
    name = _cell_names.find(cell) if isinstance(cell, str) else None
    return name.base if name else None


def _key(cell: str) -> str:
    """The name in the table of a cell with other functions, or with peepholes."""
    found = base(cell) or cell
    return SIMPLE[0] if found == "rnn" else found.removesuffix("_peephole")


def check_reset(op: str, cell: str, after: bool) -> None:
    """Refuse weights of a GRU whose reset gate stands elsewhere."""
    found = base(cell) or cell
    if RESET_AFTER.get(found, after) != after:
        own, theirs = ("before", "after") if after else ("after", "before")
        raise ValueError(
            f"[{op}] weights must be of a GRU that resets {own} the recurrent product, as "
            f"{cell!r} does, got one that resets {theirs} it: r (W h) and W (r h) are different "
            "functions of h, and no weights of one are those of the other; the other cell is "
            f"{next(name for name in RESET_AFTER if name != found)!r}"
        )


def read(op: str, convention: Convention, arrays: Mapping[str, Any]) -> Directions:
    """The directions of a layer out of a format's arrays, which are checked; None is no array."""
    given = _given(op, convention, arrays)
    sizes = _sizes(op, convention, given)
    directions: Directions = [{} for _ in range(sizes["D"])]
    order = gate_order(convention)
    for part in convention.parts:
        if part.name not in given:
            continue
        stacked = _apart(part, given[part.name], _sizes_of(part, sizes))
        for direction, of_direction in zip(directions, stacked, strict=True):
            for kind, gates in zip(part.holds, of_direction, strict=True):
                direction[kind] = gates[order]
    for direction in directions:
        if convention.projection and convention.projection.name in given:
            direction["weight_hr"] = given[convention.projection.name]
        if "bias" in direction:
            # x + -0.0 has the bits of x for every x, -0.0 too, which x + 0.0 has not.
            direction["bias_ih"] = direction.pop("bias")
            direction["bias_hh"] = np.full_like(direction["bias_ih"], -0.0)
    return directions


def write(op: str, convention: Convention, directions: Directions) -> dict[str, np.ndarray]:
    """A format's arrays of the directions of a layer, each in memory of its own."""
    own = _own_order(convention)
    order = [own.find(gate) for gate in convention.gates]  # -1: absent, the zeros at the end
    full = [_with_sum(direction) for direction in directions]
    arrays = {}
    for part in convention.parts:
        if part.needed or "bias_ih" in full[0]:
            stacked = [[_and_zeros(_of(each, kind))[order] for kind in part.holds] for each in full]
            arrays[part.name] = _together(part, np.array(stacked))
    if "weight_hr" in full[0]:
        if not convention.projection:
            raise ValueError(
                f"[{op}] params must be without a projection, which this format has not, "
                "got weight_hr"
            )
        arrays[convention.projection.name] = full[0]["weight_hr"].copy()
    return arrays


def gate_order(convention: Convention) -> list[int]:
    """The place in the format of each of this library's gates, in their order."""
    return [convention.gates.index(gate) for gate in _own_order(convention)]


def _own_order(convention: Convention) -> str:
    """This library's order of a row's gates, which is torch's."""
    own = {frozenset(each.gates): each.gates for each in CONVENTIONS["torch"].values()}
    return own[frozenset(convention.own_gates)]


def _with_sum(direction: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With ``bias``, the one sum of both biases, in their dtype, as a cell makes it."""
    if "bias_ih" not in direction:
        return direction
    with np.errstate(over="ignore", invalid="ignore"):
        return {**direction, "bias": direction["bias_ih"] + direction["bias_hh"]}


def _of(direction: dict[str, np.ndarray], kind: str) -> np.ndarray:
    """A parameter, or zeros for a bias that a format needs and the layer has not."""
    if kind in direction:
        return direction[kind]
    return np.zeros_like(direction["weight_hh"][..., 0])


def _and_zeros(gates: np.ndarray) -> np.ndarray:
    """The gates of an array, and after them one of zeros."""
    return np.concatenate([gates, np.zeros_like(gates[:1])])


# ---- axes ----------------------------------------------------------------------------------------


def _apart(part: Part, array: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """A view of an array with axes D, 2, G, H and K, the first two also where it has none."""
    letters = part.letters
    split = array.reshape([sizes[letter] for letter in letters])
    ordered = split.transpose([letters.index(a) for a in _AXES if a in letters])
    lacking = [axis for axis, letter in enumerate("D2") if letter not in letters]
    found: np.ndarray = np.expand_dims(ordered, lacking)
    return found


def _together(part: Part, stacked: np.ndarray) -> np.ndarray:
    """An array of a part's layout out of one with axes D, 2, G, H and K."""
    letters = part.letters
    sizes = dict(zip(_AXES, stacked.shape, strict=False))
    lacking = tuple(axis for axis, letter in enumerate("D2") if letter not in letters)
    ordered = [axis for axis in _AXES if axis in letters]
    own = np.squeeze(stacked, lacking).transpose([ordered.index(letter) for letter in letters])
    return np.ascontiguousarray(own).reshape(_shape(part, sizes))


def _shape(part: Part, sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(math.prod(sizes[letter] for letter in group) for group in part.groups)


# ---- checks --------------------------------------------------------------------------------------


def host_array(op: str, name: str, value: Any) -> np.ndarray:
    """A NumPy array of floats, in the machine's order of bytes."""
    try:
        array = np.asarray(_arrays.on_host(value))
    except ValueError:  # lists in lists, of different lengths
        raise TypeError(f"[{op}] {name} must be floats, got nested lists") from None
    except TypeError:  # a tensor of torch's bfloat16
        got = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"[{op}] {name} must be floats that NumPy has, got {got}") from None
    if not _dtypes.is_float(array.dtype):
        raise TypeError(f"[{op}] {name} must be floats, got {array.dtype}")
    native: np.ndarray = array if array.dtype.isnative else array.astype(array.dtype.name)
    return native


def _given(op: str, convention: Convention, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that are there, of one dtype and as many dimensions as the layout."""
    there = {name: value for name, value in arrays.items() if value is not None}
    biases = [part.name for part in convention.parts if not part.needed]
    some = any(name in there for name in biases)
    found: dict[str, np.ndarray] = {}
    for part in convention.arrays:
        if part.name not in there:
            if part.needed or (some and part.name in biases):
                raise ValueError(f"[{op}] {part.name} must be there, got none")
            continue
        array = host_array(op, part.name, there[part.name])
        first = next(iter(found.values()), array)
        if array.dtype != first.dtype:
            raise TypeError(
                f"[{op}] arrays must have one dtype, got {first.dtype} and {array.dtype}"
            )
        if array.ndim != len(part.groups):
            axes = ", ".join(part.groups)
            raise ValueError(f"[{op}] {part.name} must have shape ({axes}), got {array.shape}")
        found[part.name] = array
    return found


def _sizes(op: str, convention: Convention, given: Mapping[str, np.ndarray]) -> dict[str, int]:
    """D, G, H, I and P, by the matrices; every array must have them."""
    inputs, recurrence = convention.parts[:2]
    own = convention.projection
    # Without a projection h has a value for each unit.
    of_units = (own, "H") if own and own.name in given else (recurrence, "K")

    def axis(part: Part, letter: str) -> int:
        groups = part.groups
        return given[part.name].shape[groups.index(letter)] if letter in groups else 1

    sizes = {
        "D": axis(inputs, "D"),
        "2": 2,
        "G": len(convention.gates),
        "H": axis(*of_units),
        "I": axis(inputs, "K"),
        "P": axis(recurrence, "K"),
    }
    if sizes["D"] not in (1, 2) or 0 in sizes.values():
        raise ValueError(
            f"[{op}] sizes must be at least 1, and directions 1 or 2, got {inputs.name} of shape "
            f"{given[inputs.name].shape} and {recurrence.name} of {given[recurrence.name].shape}"
        )
    for part in convention.arrays:
        if part.name in given:
            shape, needed = given[part.name].shape, _shape(part, _sizes_of(part, sizes))
            if shape != needed:
                raise ValueError(f"[{op}] {part.name} must have shape {needed}, got {shape}")
    return sizes


def _sizes_of(part: Part, sizes: Mapping[str, int]) -> dict[str, int]:
    """With K, the columns of this matrix."""
    return {**sizes, "K": sizes["I" if part.holds == ("weight_ih",) else "P"]}
