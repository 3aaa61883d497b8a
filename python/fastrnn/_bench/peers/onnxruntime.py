"""ONNX Runtime: forward only, float32 or the LSTM in int8, called plainly or with bound memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import Case, Data
from . import Unsupported, Way, missing
from .onnx_model import feeds, make_model, named

NOTE = "forward alone, in float32; in int8 the LSTM"

_threads = 1


def available() -> str | None:
    return missing("onnx", "onnxruntime")


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def setup(threads: int) -> None:
    global _threads
    _threads = threads


def build(case: Case, data: Data) -> dict[str, Way]:
    served = case.dtype == "float32" or (case.dtype == "int8" and case.cell == "lstm")
    if case.mode == "train" or not served:
        raise Unsupported(NOTE)
    ways = {}
    for ragged in [True, False] if case.lengths else [False]:
        for bound in (False, True):
            name = ("lengths " if ragged else "padded " if case.lengths else "") + (
                "bound" if bound else "run"
            )
            ways[name] = make_way(case, data, ragged, bound)
    return ways


def make_way(case: Case, data: Data, ragged: bool, bound: bool) -> Way:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = _threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = make_model(case, data.params, ragged)
    if case.dtype == "int8":
        model = quantized(model)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = {"x": data.x, **feeds(case, data.state)}
    if ragged:
        given["lengths"] = case.row_lengths.astype(np.int32)
    outputs = [o.name for o in session.get_outputs()]
    finals = not case.lengths or ragged

    def arrays(value: Any) -> dict[str, np.ndarray]:
        if not isinstance(value, list):
            value = [v.numpy() for v in value.get_outputs()]
        result = named(case, dict(zip(outputs, value, strict=True)))
        return result if finals else {"y": result["y"]}

    make = make_bound if bound else make_run
    return Way(make(session, given, outputs, case.mode == "stream"), arrays)


def quantized(model: bytes) -> bytes:
    """The model with DynamicQuantizeLSTM in the place of LSTM, by ONNX Runtime's own tool."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        before.write_bytes(model)
        quantize_dynamic(before, after, op_types_to_quantize=["LSTM"], weight_type=QuantType.QInt8)
        return after.read_bytes()


def make_run(
    session: Any, given: dict[str, np.ndarray], outputs: list[str], stream: bool
) -> Callable[[], Any]:
    if not stream:
        return lambda: session.run(outputs, given)

    def call() -> Any:
        values = session.run(outputs, given)
        for name, value in zip(outputs[1:], values[1:], strict=True):
            given[name[:-2]] = value
        return values

    return call


def make_bound(
    session: Any, given: dict[str, np.ndarray], outputs: list[str], stream: bool
) -> Callable[[], Any]:
    import onnxruntime as ort

    def binding(inputs: dict[str, Any], final: dict[str, Any]) -> Any:
        io = session.io_binding()
        for name, value in inputs.items():
            io.bind_ortvalue_input(name, value)
        for name in outputs:
            if name in final:
                io.bind_ortvalue_output(name, final[name])
            else:
                shape = next(o.shape for o in session.get_outputs() if o.name == name)
                io.bind_ortvalue_output(
                    name, ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
                )
        return io

    # A binding does not keep the arrays that it shares alive: the calls do.
    here = {name: ort.OrtValue.ortvalue_from_numpy(a) for name, a in given.items()}
    if not stream:
        io = binding(here, {})

        def call() -> Any:
            session.run_with_iobinding(io)
            return io

        call.held = here  # type: ignore[attr-defined]
        return call
    # Two bindings in turn: what one writes as its states the other reads.
    states = [name[:-2] for name in outputs[1:]]
    there = dict(here)
    for name in states:
        there[name] = ort.OrtValue.ortvalue_from_numpy(np.zeros_like(given[name]))
    pair = [
        binding(here, {f"{name}_n": there[name] for name in states}),
        binding(there, {f"{name}_n": here[name] for name in states}),
    ]

    def step() -> Any:
        pair.reverse()
        session.run_with_iobinding(pair[1])
        return pair[1]

    step.held = here, there  # type: ignore[attr-defined]
    return step
