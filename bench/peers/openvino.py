"""OpenVINO: forward only, float32, from the same ONNX model as ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn._bench.cases import Case, Data
from fastrnn._bench.peers import Unsupported, Way, missing
from fastrnn._bench.peers.onnx_model import feeds, make_model, named

NOTE = "forward in float32 alone"

_threads = 1


def available() -> str | None:
    return missing("onnx", "openvino")


def version() -> str:
    import openvino

    return str(openvino.__version__).split("-")[0]


def setup(threads: int) -> None:
    global _threads
    _threads = threads


def build(case: Case, data: Data) -> dict[str, Way]:
    if case.mode == "train" or case.dtype != "float32":
        raise Unsupported(NOTE)
    ways = {"lengths": make_way(case, data, True)} if case.lengths else {}
    ways["padded" if case.lengths else "infer"] = make_way(case, data, False)
    return ways


def make_way(case: Case, data: Data, ragged: bool) -> Way:
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(
        core.read_model(make_model(case, data.params, ragged)),
        "CPU",
        {
            "INFERENCE_NUM_THREADS": _threads,
            "PERFORMANCE_HINT": "LATENCY",
            # The default may be bfloat16 where the processor has it.
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )
    given = {"x": data.x, **feeds(case, data.state)}
    if ragged:
        given["lengths"] = case.row_lengths.astype(np.int32)
    outputs = [o.any_name for o in compiled.outputs]
    finals = not case.lengths or ragged

    def request(inputs: dict[str, np.ndarray], final: dict[str, np.ndarray]) -> Any:
        made = compiled.create_infer_request()
        for name, array in inputs.items():
            made.set_tensor(name, ov.Tensor(array, shared_memory=True))
        for name, array in final.items():
            made.set_tensor(name, ov.Tensor(array, shared_memory=True))
        return made

    # Requests do not keep the arrays that they share alive: the calls do.
    held = [given]

    def arrays(value: Any) -> dict[str, np.ndarray]:
        result = named(case, {name: np.array(value.get_tensor(name).data) for name in outputs})
        return result if finals else {"y": result["y"]}

    if case.mode != "stream":
        alone = request(given, {})

        def call() -> Any:
            alone.infer()
            return alone

        call.held = held  # type: ignore[attr-defined]

        return Way(call, arrays)
    # Two requests in turn: what one writes as its states the other reads.
    states = [name[:-2] for name in outputs if name != "y"]
    there = {**given, **{name: np.zeros_like(given[name]) for name in states}}
    held.append(there)
    pair = [
        request(given, {f"{name}_n": there[name] for name in states}),
        request(there, {f"{name}_n": given[name] for name in states}),
    ]

    def step() -> Any:
        pair.reverse()
        pair[1].infer()
        return pair[1]

    step.held = held  # type: ignore[attr-defined]
    return Way(step, arrays)
