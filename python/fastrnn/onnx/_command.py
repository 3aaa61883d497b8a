"""``python -m fastrnn onnx``: the recurrent nodes of a model, and their times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from . import _choice, _model
from ._load import Model, load

_HEAD = ("node", "operator", "cell", "fastrnn", "ONNX Runtime", "runs")


def describe(path: str, given: Mapping[str, Sequence[str]]) -> str:
    """The table of a model.

    Parameters
    ----------
    path : str
    given : mapping of str to sequence of str
        ``size``, ``shape`` and ``value``, each of texts ``NAME=...``.

    Raises
    ------
    ValueError, TypeError, NotImplementedError, OSError
        As `load`; also for a text that is not so, or a name that the model has not.
    """
    proto = _model.read(path)
    model = load(proto)
    inputs = _inputs(proto, model, given)
    report = model.report(inputs)
    rows = [_HEAD, *(_row(node, report) for node in model.nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shapes = ", ".join(f"{name} {a.dtype} {a.shape}" for name, a in inputs.items())
    lines = [f"opset {_model.opset(proto)}; {shapes}"]
    lines += [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    theirs = "" if report.whole is None else f", ONNX Runtime {_time(report.whole)}"
    lines.append(f"whole model: {_time(report.seconds)}{theirs}")
    return "\n".join(lines)


def _row(node: Any, report: _choice.Report) -> tuple[str, ...]:
    ours, theirs = report.times.get(node.name, (None, None))
    if node.name in report.fused:
        runs = "fused"
    elif node.reason:
        runs = f"not fused: {node.reason}"
    elif ours is None:
        runs = "not reached with these inputs"
    else:
        runs = "not fused: the cut costs more than it gains"
    cells = ", ".join(dict.fromkeys(node.cells)) or "-"
    return node.name, node.operator, cells, _time(ours), _time(theirs), runs


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:.1f} us"


def _inputs(
    proto: onnx.ModelProto, model: Model, given: Mapping[str, Sequence[str]]
) -> dict[str, np.ndarray]:
    """Inputs to time a model with: random numbers, ones where they are integers."""
    values = {v.name: v for v in proto.graph.input if v.name in model.inputs}
    sizes = {name: int(text) for name, text in _pairs("size", given, None)}
    shapes = {
        name: tuple(int(part) for part in text.split(",") if part)
        for name, text in _pairs("shape", given, values)
    }
    numbers = dict(_pairs("value", given, values))
    rng = np.random.default_rng(0)
    found = {}
    for name, value in values.items():
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = shapes.get(
            name, tuple(d.dim_value or sizes.get(d.dim_param, 1) for d in kind.shape.dim)
        )
        if name in numbers:
            found[name] = np.full(shape, float(numbers[name])).astype(dtype)
        elif dtype.kind in "iub":
            found[name] = np.ones(shape, dtype)
        else:
            found[name] = rng.standard_normal(shape).astype(dtype)
    return found


def _pairs(
    option: str, given: Mapping[str, Sequence[str]], known: Iterable[str] | None
) -> Iterable[tuple[str, str]]:
    for text in given.get(option, ()):
        name, equals, value = text.rpartition("=")
        try:
            whole = [float(part) if option == "value" else int(part) for part in value.split(",")]
        except ValueError:
            whole = []
        if not equals or not whole or not all(map(math.isfinite, whole)):
            raise ValueError(f"--{option} must be NAME and a number, as x=8, got {text!r}")
        if known is not None and name not in known:
            raise ValueError(f"--{option} must be of an input, {list(known)}, got {name!r}")
        yield name, value
