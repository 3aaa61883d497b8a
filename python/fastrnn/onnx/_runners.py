"""Whole models and pieces of them, run by ONNX Runtime or onnx's own evaluator."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from .. import _native
from . import _library
from ._node import run_node

# The values of the outputs, in their order, of the inputs by name.
Runner = Callable[[Mapping[str, Any]], Any]


class Running(NamedTuple):
    """A model that can be called, and the element types of its outputs where they are known."""

    call: Runner
    types: Mapping[str, int]


def session(model: onnx.ModelProto, piece: bool) -> Any:
    """A session of ONNX Runtime on the CPU, with as many threads as this library's calls.

    The threads of a piece stop with its call, since what follows on the processors is another's.
    """
    runtime = _library.runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = _native.engine.get_num_threads()
    if piece:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    return runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def runner(model: onnx.ModelProto, piece: bool = True) -> Running:
    """Whatever can run a model: ONNX Runtime if it is there and has its operators.

    Raises
    ------
    NotImplementedError
        Nobody has an operator of it; the message has the words of who was asked.
    """
    by_runtime = runtime(model, piece)
    if isinstance(by_runtime, Running):
        return by_runtime
    outputs = [value.name for value in model.graph.output]
    try:
        evaluator = ReferenceEvaluator(model, new_ops=[LSTM, GRU, RNN, DynamicQuantizeLSTM])
    except Exception as error:
        raise NotImplementedError(
            "[onnx] operators must be of ONNX Runtime's or of onnx's evaluator, got "
            f"ONNX Runtime: {by_runtime}; onnx: {_line(error)}"
        ) from None

    def call(values: Mapping[str, Any]) -> Any:
        try:
            return evaluator.run(outputs, dict(values))
        except (MemoryError, NotImplementedError):
            raise
        except Exception as error:  # NumPy's, of what the model makes of its inputs
            raise _refusal(error) from None

    return Running(call, {})


def runtime(model: onnx.ModelProto, piece: bool) -> Running | str:
    """A model in ONNX Runtime, or why it is not there."""
    if not _library.runtime():
        return "not installed"
    try:
        made = session(model, piece)
    except Exception as error:  # its errors have no class in common
        return _line(error)
    types = {output.name: _element(output.type) for output in made.get_outputs()}
    return Running(partial(made.run, list(types)), types)


def refused(error: Exception) -> Exception:
    """What a call raises where a model has raised this: ONNX Runtime's errors are of any class.

    (Its calls are not wrapped, since for a small model that is a part of the time.)
    """
    ours = isinstance(error, ValueError | TypeError | MemoryError | NotImplementedError)
    return error if ours else _refusal(error)


def _refusal(error: Exception) -> ValueError:
    return ValueError(f"[onnx] inputs must fit the model, got: {_line(error)}")


def _element(text: str) -> int:
    """An element type, of what ONNX Runtime calls it; 0 of what is no tensor."""
    match = re.fullmatch(r"tensor\((\w+)\)", text)
    names = onnx.TensorProto.DataType
    return names.Value(match[1].upper()) if match and match[1].upper() in set(names.keys()) else 0


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


class _OnEngine(OpRun):
    """A recurrent node inside of what onnx's evaluator runs, whose own knows few attributes."""

    op_domain = ""

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[np.ndarray, ...]:
        names = [name for name in self.onnx_node.input if name]
        given = [value for value in inputs if value is not None]
        return run_node(self.onnx_node, dict(zip(names, given, strict=True)))


class LSTM(_OnEngine):
    pass


class GRU(_OnEngine):
    pass


class RNN(_OnEngine):
    pass


class DynamicQuantizeLSTM(_OnEngine):
    op_domain = _library.MICROSOFT
