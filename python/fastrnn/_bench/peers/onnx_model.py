"""A case as an ONNX model, for the peers that read one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Case

# torch's gates i f g o and r z n in ONNX's order.
ORDER = {"rnn_tanh": [0], "lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}
OPERATOR = {"rnn_tanh": "RNN", "lstm": "LSTM", "gru": "GRU"}


def state_inputs(case: Case) -> list[list[str]]:
    """Names of the inputs of each layer's states, (D, B, H) each; the outputs end in `_n`."""
    return [[f"{s}{k}" for s in ("h", "c")[: case.states]] for k in range(case.L)]


def gates(case: Case, array: np.ndarray) -> np.ndarray:
    parts = array.reshape(case.gates, case.H, -1)[ORDER[case.cell]]
    return np.ascontiguousarray(parts.reshape(array.shape))


def make_model(case: Case, params: dict[str, np.ndarray], lengths: bool) -> bytes:
    """Inputs x, the states, lengths if asked for; outputs y and the final states."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    constants = (
        {"direction_axis": np.array([1])}
        if case.D == 1
        else {"joined": np.array([case.T, case.B, case.D * case.H])}
    )
    inputs, outputs, nodes, below = [value("x", case.T, case.B, case.I)], [], [], "x"
    for k, names in enumerate(state_inputs(case)):
        suffixes = [f"l{k}{s}" for s in ("", "_reverse")[: case.D]]
        for kind in ("ih", "hh"):
            constants[f"w_{kind}{k}"] = np.stack(
                [gates(case, params[f"weight_{kind}_{s}"]) for s in suffixes]
            )
        constants[f"b{k}"] = np.stack(
            [
                np.concatenate([gates(case, params[f"bias_{kind}_{s}"]) for kind in ("ih", "hh")])
                for s in suffixes
            ]
        )
        options: dict[str, Any] = {"linear_before_reset": 1} if case.cell == "gru" else {}
        nodes.append(
            helper.make_node(
                OPERATOR[case.cell],
                [below, f"w_ih{k}", f"w_hh{k}", f"b{k}", "lengths" if lengths else "", *names],
                [f"raw{k}", *(f"{name}_n" for name in names)],
                hidden_size=case.H,
                direction="bidirectional" if case.D == 2 else "forward",
                **options,
            )
        )
        # (T, D, B, H) -> (T, B, D * H)
        above = "y" if k == case.L - 1 else f"y{k}"
        if case.D == 1:
            nodes.append(helper.make_node("Squeeze", [f"raw{k}", "direction_axis"], [above]))
        else:
            nodes.append(
                helper.make_node("Transpose", [f"raw{k}"], [f"turned{k}"], perm=[0, 2, 1, 3])
            )
            nodes.append(helper.make_node("Reshape", [f"turned{k}", "joined"], [above]))
        inputs += [value(name, case.D, case.B, case.H) for name in names]
        outputs += [value(f"{name}_n", case.D, case.B, case.H) for name in names]
        below = above
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [case.B]))
    graph = helper.make_graph(
        nodes,
        "case",
        inputs,
        [value("y", case.T, case.B, case.D * case.H), *outputs],
        [numpy_helper.from_array(a, name) for name, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def feeds(case: Case, state: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """The initial states by input name."""
    return {
        name: np.ascontiguousarray(s[k * case.D : (k + 1) * case.D])
        for k, names in enumerate(state_inputs(case))
        for name, s in zip(names, state, strict=True)
    }


def named(case: Case, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by ONNX name to arrays by the suite's names."""
    result = {"y": values["y"]}
    for s in ("h", "c")[: case.states]:
        result[f"{s}n"] = np.concatenate([values[f"{s}{k}_n"] for k in range(case.L)])
    return result
