"""The layers as nodes of ONNX, for the exporter that is made of `torch.export`.

It has translations of its own for `aten::lstm` and `aten::gru`, with the number of steps fixed, and
none for `aten::rnn_tanh`, which it unrolls. ``torch.onnx.ops``, of torch 2.8 and later, places
nodes directly; then steps and rows may vary, and lengths have a place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _parameters


class _Node(NamedTuple):
    """ONNX's name of a cell, its order of the gates, and what else it has to be told."""

    name: str
    gates: tuple[int, ...]
    attributes: dict[str, Any]


_NODES = {
    "lstm": _Node("LSTM", (0, 3, 1, 2), {}),
    "gru": _Node("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "rnn_tanh": _Node("RNN", (0,), {"activations": ["Tanh"]}),
    "rnn_relu": _Node("RNN", (0,), {"activations": ["Relu"]}),
}


def has(module: Any) -> bool:
    """Whether ONNX has a node for the module as it is: a layer, no projections, no dropout."""
    if not isinstance(module, torch.nn.RNNBase) or module.proj_size:
        return False
    if module.dropout and module.training:
        return False
    return hasattr(torch.onnx, "ops") and hasattr(torch.onnx.ops, "symbolic_multi_out")


def run(module: Any, input: Tensor, hx: Any, lengths: Tensor | None) -> tuple[Tensor, Any]:
    """Place the nodes, one for each layer; results as the layer's.

    Raises
    ------
    RuntimeError
        A shape, in torch's words.
    """
    node = _NODES[module._cell]
    x, states = _batched(module, input, hx)
    D = 2 if module.bidirectional else 1
    parameters = _parameters.by_layer_direction(module._parameters_in_order(), module.num_layers, D)
    finals = []
    for layer in range(module.num_layers):
        of_layer = slice(layer * D, (layer + 1) * D)
        initial = tuple(s[of_layer] for s in states)
        x, *last = _place(node, x, parameters[of_layer], lengths, initial)
        finals.append(last)
    state = tuple(torch.cat(each) for each in zip(*finals, strict=True))
    if module.batch_first:
        x = x.transpose(0, 1)
    if input.dim() == 2:
        x = x.squeeze(0 if module.batch_first else 1)
        state = tuple(s.squeeze(1) for s in state)
    return x, state if len(state) == 2 else state[0]


def _batched(module: Any, x: Tensor, hx: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The input as (T, B, I) and the states as (L * D, B, H), checked by torch's own rules."""
    if x.dim() == 2:
        x = x.unsqueeze(0 if module.batch_first else 1)
        if hx is not None:
            hx = hx.unsqueeze(1) if isinstance(hx, Tensor) else tuple(s.unsqueeze(1) for s in hx)
    if hx is None:
        module.check_input(x, None)
    else:
        module.check_forward_args(x, hx, None)
    states = () if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
    return x.transpose(0, 1) if module.batch_first else x, states


def _place(
    node: _Node,
    x: Tensor,
    passes: list[Sequence[Tensor]],
    lengths: Tensor | None,
    initial: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """One node: the output as (T, B, D * H), and its final states."""
    (T, B), D, H = x.shape[:2], len(passes), passes[0][1].shape[1]
    states = 2 if node.name == "LSTM" else 1
    attributes = {k: v * D if isinstance(v, list) else v for k, v in node.attributes.items()}
    direction = "bidirectional" if D == 2 else "forward"
    y, *final = torch.onnx.ops.symbolic_multi_out(
        node.name,
        (
            x,
            *_weights(node, passes),
            None if lengths is None else lengths.to(torch.int32),
            *initial,
        ),
        {"hidden_size": H, "direction": direction, **attributes},
        dtypes=[x.dtype] * (1 + states),
        shapes=[(T, D, B, H), *[(D, B, H)] * states],
    )
    return y.transpose(1, 2).reshape(T, B, D * H), *final


def _weights(node: _Node, passes: list[Sequence[Tensor]]) -> tuple[Tensor | None, ...]:
    """W, R and B of a layer: the directions above each other, the gates in ONNX's order."""
    H = passes[0][1].shape[1]

    def ordered(parameter: Tensor) -> Tensor:
        return torch.cat([parameter[k * H : (k + 1) * H] for k in node.gates])

    w_ih, w_hh, *biases = (
        torch.stack([ordered(p) for p in each]) for each in zip(*passes, strict=True)
    )
    return w_ih, w_hh, torch.cat(biases, 1) if biases else None
