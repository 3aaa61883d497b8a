"""Models of ONNX with their recurrent nodes on the engine.

`prepare` and `run_node` run a node RNN, LSTM or GRU of any version, or an LSTM of integers as ONNX
Runtime has it; `layers` gives the recurrent
nodes of any model as layers with their weights; `load` makes a whole model a callable, in which
recurrent nodes run here and all else in ONNX Runtime or, where it is not installed, in onnx's own
evaluator; `export` writes layers as a model; `Backend` is onnx's own interface to all that.

Needs onnx: ``pip install "fastrnn[onnx]"``. Nothing of a model's file is executed but its
operators. What a node computes is the text of its operator, also where ONNX Runtime departs from
it; ``docs/onnx.md`` has the list.
"""

from __future__ import annotations

from . import _library  # noqa: F401  # isort: skip  # says what is missing

from ._backend import Backend
from ._choice import Report
from ._export import export
from ._layers import layers
from ._load import Model, Node, load
from ._node import Prepared, prepare, run_node

__all__ = [
    "Backend",
    "Model",
    "Node",
    "Prepared",
    "Report",
    "export",
    "layers",
    "load",
    "prepare",
    "run_node",
]
