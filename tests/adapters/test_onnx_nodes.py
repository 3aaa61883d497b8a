"""Single nodes of ONNX on the engine: attributes, inputs, layouts, dtypes, what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import fastrnn.onnx as fo  # noqa: E402
import onnx_text  # noqa: E402
from fuzz_onnx import GATES, INPUTS  # noqa: E402
from tolerances import assert_output  # noqa: E402

T, B, I, H = 5, 3, 4, 6
OPS = ["RNN", "GRU", "LSTM"]
DIRECTIONS = ["forward", "reverse", "bidirectional"]
LENGTHS = np.array([2, 0, 5], np.int32)


def arrays(op: str, D: int = 1, dtype: str = "float32", seed: int = 0) -> dict[str, np.ndarray]:
    """Every input by what it is, but lengths."""
    rng = np.random.default_rng(seed)
    G = GATES[op]
    shapes = {
        "X": (T, B, I),
        "W": (D, G * H, I),
        "R": (D, G * H, H),
        "B": (D, 2 * G * H),
        "initial_h": (D, B, H),
        "initial_c": (D, B, H),
        "P": (D, 3 * H),
    }
    wanted = {name: shape for name, shape in shapes.items() if name in INPUTS[op]}
    return {name: rng.uniform(-1, 1, shape).astype(dtype) for name, shape in wanted.items()}


def make_node(op: str, given: Mapping[str, Any], **attributes: Any) -> Any:
    if op == "GRU":
        attributes = {"linear_before_reset": 1, **attributes}
    names = [name if name in given else "" for name in INPUTS[op]]
    outputs = attributes.pop("outputs", ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2])
    return onnx.helper.make_node(op, names, outputs, name="n1", **attributes)


def attributes_of(node: Any) -> dict[str, Any]:
    """As `onnx_text` takes them."""
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if "direction" in found:
        found["direction"] = found["direction"].decode()
    if "activations" in found:
        found["activations"] = [name.decode() for name in found["activations"]]
    return found


def check(op: str, given: dict[str, np.ndarray], **attributes: Any) -> None:
    """A node, prepared and at once, is what the text says."""
    node = make_node(op, given, **attributes)
    wanted = onnx_text.run(op, attributes_of(node), given)
    weights = {name: given[name] for name in ("W", "R", "B", "P") if name in given}
    others = {name: a for name, a in given.items() if name not in weights}
    prepared = fo.prepare(node, weights)
    assert prepared.inputs == tuple(name for name in INPUTS[op] if name in others)
    results = [
        prepared.run(others),
        prepared.run([others[name] for name in prepared.inputs]),
        fo.run_node(node, given),
    ]
    dtype = given["X"].dtype
    for found in results:
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert a.dtype == dtype
            assert_output(a, b, dtype)


# ---- what a node may say -------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_directions_layouts_and_lengths(
    op: str, direction: str, layout: int, lengths: bool, dtype: str
) -> None:
    given = arrays(op, 2 if direction == "bidirectional" else 1, dtype)
    given.pop("P", None)
    if lengths:
        given["sequence_lens"] = LENGTHS
    if layout:
        for name in {"X", "initial_h", "initial_c"} & set(given):
            given[name] = np.ascontiguousarray(given[name].swapaxes(0, 1))
    check(op, given, direction=direction, layout=layout, hidden_size=H)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("left_out", ["B", "initial_h", "initial_c", "both"])
def test_inputs_that_are_left_out(op: str, left_out: str) -> None:
    given = arrays(op)
    for name in ("initial_h", "initial_c") if left_out == "both" else (left_out,):
        given.pop(name, None)
    given.pop("P", None)
    check(op, given)


@pytest.mark.parametrize("name", ["Relu", "sigmoid", "TANH"])
def test_functions_of_a_simple_layer(name: str) -> None:
    given = arrays("RNN")
    node = make_node("RNN", given, activations=[name])
    wanted = onnx_text.run("RNN", {"activations": [name.title()]}, given)
    assert_output(fo.run_node(node, given)[0], wanted[0], "float32")


def test_directions_with_functions_of_their_own() -> None:
    check("RNN", arrays("RNN", 2), direction="bidirectional", activations=["Tanh", "Relu"])


def test_peepholes() -> None:
    check("LSTM", arrays("LSTM", 2), direction="bidirectional")


def test_peepholes_of_zeros_are_none() -> None:
    given = arrays("LSTM")
    given["P"][:] = 0
    assert fo.prepare(make_node("LSTM", given), given | {"X": None}).cells == ("lstm",)
    check("LSTM", given)


@pytest.mark.parametrize("op", OPS)
def test_clip(op: str) -> None:
    given = arrays(op)
    given.pop("P", None)
    check(op, given, clip=0.25)


@pytest.mark.parametrize("peepholes", [False, True])
def test_coupled_gates(peepholes: bool) -> None:
    given = arrays("LSTM")
    if not peepholes:
        del given["P"]
    check("LSTM", given, input_forget=1)


def test_a_gru_that_resets_before() -> None:
    check("GRU", arrays("GRU", 2), direction="bidirectional", linear_before_reset=0)


@pytest.mark.parametrize("function", list(onnx_text.NUMBERS))
@pytest.mark.parametrize("numbers", [True, False])
def test_functions_with_numbers(function: str, numbers: bool) -> None:
    """The numbers go to the functions that take one; left out, they are those of the operators."""
    count = len(onnx_text.NUMBERS[function])
    names = ("activation_alpha", "activation_beta")[: count if numbers else 0]
    attributes = {name: [0.5, 0.25][at : at + 1] for at, name in enumerate(names)}
    given = arrays("LSTM")
    del given["P"]
    check("LSTM", given, activations=["Sigmoid", function, "Tanh"], **attributes)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("op", OPS)
def test_narrow_floats_are_computed_in_float32(op: str, dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    narrow = np.dtype(getattr(ml_dtypes, dtype, dtype))
    wide = arrays(op)
    wide.pop("P", None)
    given = {name: a.astype(narrow) for name, a in wide.items()}
    node = make_node(op, given, direction="reverse")
    found = fo.run_node(node, given)
    again = fo.run_node(node, {name: a.astype(np.float32) for name, a in given.items()})
    for a, b in zip(found, again, strict=True):
        assert a.dtype == narrow
        assert (a == b.astype(narrow)).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("steps", "rows"), [(0, B), (T, 0)])
def test_empty_inputs(direction: str, steps: int, rows: int) -> None:
    given = arrays("LSTM", 2 if direction == "bidirectional" else 1)
    del given["P"]
    given["X"] = given["X"][:steps, :rows]
    for name in ("initial_h", "initial_c"):
        given[name] = given[name][:, :rows]
    check("LSTM", given, direction=direction)


def test_outputs_are_those_with_a_name() -> None:
    given = arrays("LSTM")
    del given["P"]
    every = fo.run_node(make_node("LSTM", given), given)
    for names in (["Y"], ["", "Y_h"], ["", "", "Y_c"], ["Y", "", "Y_c"]):
        found = fo.run_node(make_node("LSTM", given, outputs=names), given)
        wanted = [a for a, name in zip(every, names, strict=False) if name]
        assert [a.tobytes() for a in found] == [a.tobytes() for a in wanted]


def test_states_that_are_the_same_in_every_call() -> None:
    given = arrays("GRU")
    node = make_node("GRU", given)
    prepared = fo.prepare(node, {name: a for name, a in given.items() if name != "X"})
    assert prepared.inputs == ("X",)
    found = prepared.run({"X": given["X"]})
    assert found[0].tobytes() == fo.run_node(node, given)[0].tobytes()


def test_tensors_as_weights_and_arrays_that_change_later() -> None:
    given = arrays("GRU")
    node = make_node("GRU", given)
    weights = {name: onnx.numpy_helper.from_array(given[name], name) for name in ("W", "R")}
    prepared = fo.prepare(node, {**weights, "B": given["B"]})
    inputs = {"X": given["X"], "initial_h": given["initial_h"]}
    before = prepared.run(inputs)[0].tobytes()
    given["B"][:] = 7
    assert prepared.run(inputs)[0].tobytes() == before


def test_onnx_s_own_cases() -> None:
    """All 18 of the operators."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = collect_testcases(None)
    cases = [c for c in every if {node.op_type for node in c.model.graph.node} <= set(OPS)]
    assert len(cases) == 18
    assert fo.Backend.supports_device("CPU")
    for case in cases:
        (node,) = case.model.graph.node
        for inputs, outputs in case.data_sets:
            found = fo.Backend.run_node(node, inputs)
            # The model's two names for them are one in its node.
            whole = fo.Backend.prepare(case.model).run(inputs)
            for a, b, c in zip(found, whole, outputs, strict=True):
                np.testing.assert_allclose(a, c, rtol=case.rtol, atol=case.atol, err_msg=case.name)
                assert a.tobytes() == b.tobytes(), "a model runs on the engine too"


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "attributes", "text"),
    [
        ("RNN", {"speed": 1}, "attribute must be one of .* got 'speed'"),
        ("GRU", {"input_forget": 1}, "attribute must be one of .* got 'input_forget'"),
        ("RNN", {"linear_before_reset": 1}, "attribute must be one of"),
        ("RNN", {"direction": "up"}, "direction must be one of .* got 'up'"),
        ("RNN", {"layout": 2}, "layout must be one of .* got 2"),
        ("LSTM", {"input_forget": 2}, "input_forget must be one of"),
        ("RNN", {"hidden_size": 7}, "hidden_size must be that of R, 6, got 7"),
        ("RNN", {"hidden_size": 0}, "hidden_size must be at least 1"),
        ("RNN", {"clip": -1.0}, "clip must be a positive number, got -1.0"),
        ("RNN", {"clip": float("nan")}, "clip must be a positive number"),
        ("RNN", {"activations": ["Tanh", "Tanh"]}, "must have 1 functions, 1 for each"),
        ("LSTM", {"activations": ["Tanh"]}, "must have 3 functions"),
        ("RNN", {"activations": ["Swish"]}, "activations must be of .* got 'Swish'"),
        ("RNN", {"activation_alpha": [1.0]}, "activation_alpha must have no more values"),
        ("RNN", {"direction": "bidirectional"}, r"input W must have shape \(2, 1 H, I\)"),
    ],
)
def test_attributes_that_are_refused(op: str, attributes: dict[str, Any], text: str) -> None:
    given = arrays(op)
    with pytest.raises(ValueError, match=rf"^\[{op} n1\] .*{text}"):
        fo.run_node(make_node(op, given, **attributes), given)


def test_attributes_of_another_type() -> None:
    given = arrays("RNN")
    for attributes in ({"clip": 1}, {"direction": 1}, {"hidden_size": 6.0}):
        name = next(iter(attributes))
        with pytest.raises(TypeError, match=rf"^\[RNN n1\] attribute {name} must be of type"):
            fo.run_node(make_node("RNN", given, **attributes), given)


@pytest.mark.parametrize(
    ("what", "change", "text"),
    [
        ("W", lambda a: a[:, :-1], "input W must have shape"),
        ("R", lambda a: a[0], "input R must have shape"),
        ("B", lambda a: a[:, :-1], "input B must have shape"),
        ("X", lambda a: a[0], "X must have rank 3"),
        ("X", lambda a: a[..., :-1], "x must have 4 features"),
        ("initial_h", lambda a: a[..., :-1], "h0 must have shape"),
        ("initial_h", lambda a: a[0], "(h0|initial states) must have shape"),
        ("sequence_lens", lambda a: a + T, "lengths must be"),
        ("sequence_lens", lambda a: a - T, "lengths must be"),
        ("sequence_lens", lambda a: a[1:], "lengths must"),
    ],
)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_shapes_that_are_refused(what: str, change: Any, text: str, direction: str) -> None:
    given = {**arrays("GRU"), "sequence_lens": LENGTHS}
    node = make_node("GRU", given, direction=direction)
    given[what] = change(given[what])
    with pytest.raises(ValueError, match=rf"^\[GRU n1\] .*({text})"):
        fo.run_node(node, given)


def test_dtypes_that_are_refused() -> None:
    given = {**arrays("GRU"), "sequence_lens": LENGTHS}
    node = make_node("GRU", given)
    for what in ("W", "B", "X", "initial_h", "sequence_lens"):
        with pytest.raises(TypeError, match=r"^\[GRU n1\] "):
            fo.run_node(node, {**given, what: given[what].astype(np.complex64)})
    with pytest.raises(TypeError, match=r"^\[GRU n1\] .*NumPy array, got list"):
        fo.run_node(node, {**given, "W": given["W"].tolist()})


def test_names_that_are_refused() -> None:
    given = arrays("GRU")
    node = make_node("GRU", given)
    with pytest.raises(ValueError, match=r"weights must be of .* got 'Q'"):
        fo.prepare(node, {"Q": given["W"]})
    with pytest.raises(TypeError, match="weights must be a mapping"):
        fo.prepare(node, [given["W"]])
    prepared = fo.prepare(node, {"W": given["W"], "R": given["R"], "B": given["B"]})
    with pytest.raises(ValueError, match=r"inputs must be of .* got 'W'"):
        prepared.run(given)
    with pytest.raises(ValueError, match="inputs must be 2"):
        prepared.run([given["X"]])
    with pytest.raises((TypeError, ValueError), match=r"^\[GRU n1\]"):
        prepared.run({"initial_h": given["initial_h"]})
    with pytest.raises(ValueError, match="input R must be there"):
        fo.run_node(node, {"X": given["X"], "W": given["W"]})
    with pytest.raises(ValueError, match="input W must be there"):
        fo.run_node(onnx.helper.make_node("GRU", ["X", "", "R"], ["Y"], name="n1"), given)
    with pytest.raises(ValueError, match="inputs must be at most 6"):
        fo.run_node(onnx.helper.make_node("GRU", list("XWRBLHC"), ["Y"], name="n1"), given)
    with pytest.raises(ValueError, match="operator must be one of"):
        fo.run_node(onnx.helper.make_node("Relu", ["X"], ["Y"]), [given["X"]])
    with pytest.raises(TypeError, match=r"node must be an onnx\.NodeProto"):
        fo.prepare("GRU", {})
    with pytest.raises(ValueError, match="device must be 'CPU'"):
        fo.Backend.run_node(node, given, device="CUDA")
