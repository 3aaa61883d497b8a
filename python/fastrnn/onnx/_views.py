"""Nodes that only turn arrays round, in NumPy: a session's call costs more than some of these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from ._scopes import Scope

View = Callable[..., Any]  # an array of arrays, or a list of them for nodes of several outputs
MAX_NODES = 8  # about what NumPy does in the time of an empty call of ONNX Runtime


def view(node: onnx.NodeProto, scope: Scope) -> tuple[View, tuple[str, ...]] | None:
    """A function for a node, and the names of its arguments; None where there is none.

    What says how (axes, a shape) must be constant.
    """
    make = _MAKERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if make is None or not all(node.output):
        return None
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    names = tuple(node.input)
    if node.op_type == "Concat":
        return make(attributes), names
    if node.op_type == "Split":
        attributes["outputs"] = len(node.output)
    constants = []
    for name in names[1:]:
        value = scope.constant(name) if name else None
        if name and value is None:
            return None
        constants.append(None if value is None else value.tolist())
    return make(attributes, *constants), names[:1]


def _identity(attributes: dict[str, Any]) -> View:
    return lambda a: a


def _transpose(attributes: dict[str, Any]) -> View:
    perm = attributes.get("perm")
    return lambda a: a.transpose(perm)


def _axes(attributes: dict[str, Any], axes: Any) -> tuple[int, ...] | None:
    axes = attributes.get("axes", axes)
    return None if axes is None else tuple(axes if isinstance(axes, list) else [axes])


def _squeeze(attributes: dict[str, Any], axes: Any = None) -> View:
    axis = _axes(attributes, axes)
    return lambda a: a.squeeze(axis)


def _unsqueeze(attributes: dict[str, Any], axes: Any = None) -> View:
    axis = _axes(attributes, axes) or ()
    if len(axis) == 1 and axis[0] in (0, 1):
        index = (slice(None),) * axis[0] + (None,)
        return lambda a: a[index]  # faster than expand_dims
    return lambda a: np.expand_dims(a, axis)


def _reshape(attributes: dict[str, Any], shape: Any = None) -> View:
    shape = list(attributes.get("shape", shape))
    if 0 not in shape or attributes.get("allowzero"):
        return lambda a: a.reshape(shape)
    return lambda a: a.reshape([n or a.shape[at] for at, n in enumerate(shape)])


def _slice(
    attributes: dict[str, Any],
    starts: Any = None,
    ends: Any = None,
    axes: Any = None,
    steps: Any = None,
) -> View:
    starts, ends = (list(attributes.get(n, v)) for n, v in (("starts", starts), ("ends", ends)))
    axes = attributes.get("axes", axes)
    axes = list(range(len(starts)) if axes is None else axes)
    steps = [1] * len(starts) if steps is None else list(steps)
    ranges = {
        axis: slice(start, end, step)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }

    def cut(a: np.ndarray) -> np.ndarray:
        index = [slice(None)] * a.ndim
        for axis, part in ranges.items():
            index[axis] = part
        found: np.ndarray = a[tuple(index)]
        return found

    return cut


def _around(axis: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What stands in an index before an axis, which may be counted from the end, and after it."""
    if axis >= 0:
        return (slice(None),) * axis, ()
    return (...,), (slice(None),) * (-1 - axis)


def _split(attributes: dict[str, Any], sizes: Any = None) -> View:
    axis, count = attributes.get("axis", 0), attributes["outputs"]
    sizes = attributes.get("split", sizes)
    before, after = _around(axis)

    def split(a: np.ndarray) -> Any:
        each = -(-a.shape[axis] // count)  # the last may be less
        found, at = [], 0
        for size in sizes or [each] * count:
            place = (*before, slice(at, at + size), *after)
            found.append(a[place])
            at += size
        return found if count > 1 else found[0]

    return split


def _gather(attributes: dict[str, Any], index: Any = None) -> View:
    axis = attributes.get("axis", 0)
    if isinstance(index, list):
        return lambda a: a.take(index, axis)
    before, after = _around(axis)
    place = (*before, index, *after)
    return lambda a: a[place]


def _concat(attributes: dict[str, Any]) -> View:
    axis = attributes["axis"]
    return lambda *arrays: np.concatenate(arrays, axis)


_MAKERS: dict[str, Callable[..., View]] = {
    "Concat": _concat,
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
