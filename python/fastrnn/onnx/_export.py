"""Layers as a model that any runtime of ONNX can run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .. import _arguments
from .._files._whole import write_whole
from .._recurrent import Recurrent
from ..quantized import Quantized
from . import _cells, _library, _quantized
from ._options import OPERATORS

OPSET = 17
_OPSETS = {"": OPSET, _library.MICROSOFT: 1}
_IR = 8  # the first with this opset
_AXES = {False: ("T", "B"), True: ("B", "T")}

Layer: TypeAlias = Recurrent | Quantized


def export(layers: Layer | Sequence[Layer], path: Any, stateful: bool = False) -> None:
    """Write layers as a model of opset 17, with a node for each layer.

    Parameters
    ----------
    layers : fastrnn.Recurrent or fastrnn.Quantized, or sequence of them
        One above the other, all `batch_first` or none, of one dtype. Dropout is no part of
        inference and left out. Of quantized layers the LSTM alone has a node, which is ONNX
        Runtime's.
    path : str or Path
        The file takes its place when it is whole.
    stateful : bool
        With initial states as inputs and final ones as outputs.

    Notes
    -----
    The input is ``x`` and the output ``y``, of the layer's shapes, for any T and B. With
    `stateful` there are ``h0`` and ``hn``, of an LSTM ``c0`` and ``cn``, ``(L * D, B, H)``; for a
    sequence the k-th layer's have ``_k`` behind them.

    Raises
    ------
    ValueError
        There are none, or they do not fit on each other; 2 GiB or more.
    NotImplementedError
        Of two directions the first is the reverse one; a projection; a quantized layer that is no
        LSTM.
    TypeError
        Not layers; `stateful` is neither True nor False.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> layer = fastrnn.GRU(80, 256, num_layers=2, seed=0)
    >>> fastrnn.onnx.export(layer, "stream.onnx", stateful=True)
    """
    alone = isinstance(layers, Layer)
    stack = [layers] if isinstance(layers, Layer) else list(layers)
    _check(stack)
    stateful = _arguments.flag("export", "stateful", stateful)
    first, last = stack[0], stack[-1]
    graph = _Graph(helper.np_dtype_to_tensor_dtype(first.dtype))
    axes = _AXES[first.batch_first]
    graph.input("x", (*axes, first.input_size))
    at = graph.turned("x") if first.batch_first else "x"
    for k, layer in enumerate(stack):
        at = _add(graph, layer, at, "" if alone else f"_{k}", stateful)
    graph.node("Transpose" if last.batch_first else "Identity", [at], ["y"], **_turn(last))
    D = 2 if last.bidirectional else 1
    graph.output("y", (*axes, D * last.hidden_size), first=True)
    model = graph.model()
    onnx.checker.check_model(model)

    def write(file: BinaryIO) -> None:
        file.write(model.SerializeToString())

    write_whole(Path(os.fspath(path)), write)


class _Graph:
    """A graph in the making, of one element type."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def node(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        name = f"{op.lower()}_{len(self.nodes)}"
        domain = _library.DOMAINS.get(op, ("",))[0]
        self.nodes.append(helper.make_node(op, inputs, outputs, name, domain=domain, **attributes))

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def input(self, name: str, shape: tuple[Any, ...]) -> None:
        self.inputs.append(helper.make_tensor_value_info(name, self.kind, shape))

    def output(self, name: str, shape: tuple[Any, ...], first: bool = False) -> None:
        value = helper.make_tensor_value_info(name, self.kind, shape)
        self.outputs.insert(0 if first else len(self.outputs), value)

    def turned(self, name: str) -> str:
        self.node("Transpose", [name], [f"{name}_turned"], perm=[1, 0, 2])
        return f"{name}_turned"

    def model(self) -> onnx.ModelProto:
        if sum(len(tensor.raw_data) for tensor in self.constants) >= 2**31 - 2**20:
            raise ValueError("[export] model must be below 2 GiB, got more")
        graph = helper.make_graph(self.nodes, "fastrnn", self.inputs, self.outputs, self.constants)
        domains = sorted({"", *(node.domain for node in self.nodes)})
        opsets = [helper.make_opsetid(domain, _OPSETS[domain]) for domain in domains]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR, producer_name="fastrnn"
        )


def _check(stack: list[Layer]) -> None:
    if not stack:
        raise ValueError("[export] layers must be at least one, got none")
    below: Layer | None = None
    for layer in stack:
        if not isinstance(layer, Layer):
            raise TypeError(f"[export] layers must be recurrent layers, got {type(layer).__name__}")
        if layer.reverse and layer.bidirectional:
            raise NotImplementedError(
                "[export] the first of two directions must read forward, as ONNX has it, "
                f"got {layer!r}"
            )
        if layer.proj_size:
            raise NotImplementedError(
                f"[export] proj_size must be 0, since ONNX has no projection, got {layer!r}"
            )
        _operator(layer)
        if below is not None:
            width = below.hidden_size * (2 if below.bidirectional else 1)
            if layer.input_size != width:
                raise ValueError(
                    f"[export] a layer must have the outputs below it as inputs, {width}, "
                    f"got {layer.input_size}"
                )
            if (layer.dtype, layer.batch_first) != (below.dtype, below.batch_first):
                raise ValueError(
                    "[export] layers must have one dtype and one batch_first, got "
                    f"{below!r} below {layer!r}"
                )
        below = layer


def _operator(layer: Layer) -> str:
    """The operator of a layer's nodes."""
    found = _cells.operator(layer.cell)
    if not isinstance(layer, Quantized):
        return found
    if found != OPERATORS[_quantized.OPERATOR].equations:
        raise NotImplementedError(
            "[export] a quantized layer must be an LSTM, of which alone ONNX Runtime has a node, "
            f"got {layer!r}"
        )
    if layer.weights != _quantized.SCHEME:
        raise NotImplementedError(
            f"[export] weights of a quantized layer must be {_quantized.SCHEME}, of which alone "
            f"ONNX Runtime has a node, got {layer!r}"
        )
    return _quantized.OPERATOR


def _turn(layer: Layer) -> dict[str, Any]:
    return {"perm": [1, 0, 2]} if layer.batch_first else {}


def _add(graph: _Graph, layer: Layer, x: str, suffix: str, stateful: bool) -> str:
    """The nodes of a stack; the name of its output ``(T, B, D * H)``."""
    D, L = 2 if layer.bidirectional else 1, layer.num_layers
    states = ("h", "c") if _cells.operator(layer.cell) == "LSTM" else ("h",)
    initial = [[f"{s}{k}{suffix}_first" for s in states] for k in range(L)]
    final = [[f"{s}{k}{suffix}_last" for s in states] for k in range(L)]
    shape = (L * D, "B", layer.hidden_size)
    for at, s in enumerate(states if stateful else ()):
        graph.input(f"{s}0{suffix}", shape)
        parts = [of_layer[at] for of_layer in initial]
        graph.node("Split" if L > 1 else "Identity", [f"{s}0{suffix}"], parts)
    for k in range(L):
        x = _add_node(graph, layer, k, [x, *(initial[k] if stateful else ())], suffix, final[k])
    for at, s in enumerate(states if stateful else ()):
        graph.output(f"{s}n{suffix}", shape)
        parts = [of_layer[at] for of_layer in final]
        op, axis = ("Concat", {"axis": 0}) if L > 1 else ("Identity", {})
        graph.node(op, parts, [f"{s}n{suffix}"], **axis)
    return x


def _add_node(
    graph: _Graph, layer: Layer, k: int, inputs: list[str], suffix: str, final: list[str]
) -> str:
    """The node of layer k: inputs are x and, where there are some, initial states."""
    D = 2 if layer.bidirectional else 1
    name = f"{k}{suffix}"
    arrays = _cells.arrays(layer.cell, layer.state_dict(), k)
    x, *initial = inputs
    names = {what: graph.constant(f"{what}{name}", array) for what, array in arrays.items()}
    names |= {"X": x, **dict(zip(("initial_h", "initial_c"), initial, strict=False))}
    op = _operator(layer)
    given = [names.get(what, "") for what in OPERATORS[op].inputs]
    while not given[-1]:
        given.pop()
    graph.node(
        op,
        given,
        [f"Y{name}", *(final if initial else ())],
        hidden_size=layer.hidden_size,
        direction="bidirectional" if D == 2 else "reverse" if layer.reverse else "forward",
        **_cells.attributes(layer.cell, D),
    )
    if D == 1:
        axis = graph.constant(f"axis{name}", np.array([1]))
        graph.node("Squeeze", [f"Y{name}", axis], [f"y{name}"])
    else:
        graph.node("Transpose", [f"Y{name}"], [f"Y{name}_turned"], perm=[0, 2, 1, 3])
        shape = graph.constant(f"shape{name}", np.array([0, 0, -1]))
        graph.node("Reshape", [f"Y{name}_turned", shape], [f"y{name}"])
    return f"y{name}"
