"""Layers as models for other runtimes, and the command that shows a model's nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
import tiers
from cases import cells, flat_state
from fastrnn import __main__ as cli
from tolerances import assert_output

onnx = pytest.importorskip("onnx")

import fastrnn.onnx as fo  # noqa: E402
from fastrnn.onnx import _cells, _choice, _export  # noqa: E402

T, B, I, H = 5, 3, 4, 6
WITH_A_NODE = [cell for cell in cells() if cell.split("_")[0] in ("rnn", "lstm", "gru")]


def run(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def state_of(layer: fastrnn.Recurrent, seed: int = 1) -> tuple[np.ndarray, ...]:
    D = 2 if layer.bidirectional else 1
    rng, count = np.random.default_rng(seed), 2 if layer.cell.startswith("lstm") else 1
    shape = (layer.num_layers * D, B, layer.hidden_size)
    return tuple(rng.standard_normal(shape).astype(layer.dtype) for _ in range(count))


@pytest.mark.parametrize("cell", WITH_A_NODE)
@pytest.mark.parametrize("L", [1, 2])
@pytest.mark.parametrize("direction", ["forward", "reverse", "both"])
@pytest.mark.parametrize("batch_first", tiers.thin([False, True], dev=[True]))
@pytest.mark.parametrize("bias", tiers.thin([False, True], dev=[True]))
@pytest.mark.parametrize("stateful", [False, True])
def test_export(
    tmp_path: Path,
    cell: str,
    L: int,
    direction: str,
    batch_first: bool,
    bias: bool,
    stateful: bool,
) -> None:
    """ONNX Runtime's numbers are the layer's, and the layer comes back with its very bits."""
    layer = fastrnn.Recurrent(
        cell,
        I,
        H,
        L,
        bias=bias,
        batch_first=batch_first,
        bidirectional=direction == "both",
        reverse=direction == "reverse",
        seed=0,
    )
    path = tmp_path / "model.onnx"
    fo.export(layer, path, stateful=stateful)
    made = onnx.load(path)
    onnx.checker.check_model(made, full_check=True)
    assert [(o.domain, o.version) for o in made.opset_import] == [("", _export.OPSET)]
    x = np.random.default_rng(0).standard_normal(
        (B, T, I) if batch_first else (T, B, I), np.float32
    )
    state = state_of(layer)
    inputs = {"x": x, **(dict(zip(("h0", "c0"), state, strict=False)) if stateful else {})}
    y, final = layer(x, (state if len(state) == 2 else state[0]) if stateful else None)
    found = run(path, inputs)
    wanted = {
        "y": y,
        **(dict(zip(("hn", "cn"), flat_state(final), strict=False)) if stateful else {}),
    }
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert_output(found[name], array, "float32")
    parameters = [p for each in fo.layers(path).values() for p in each.parameters.values()]
    assert [p.tobytes() for p in parameters] == [p.tobytes() for p in layer.parameters.values()]


def test_a_stack_of_several_kinds(tmp_path: Path) -> None:
    below, above = fastrnn.GRU(I, H, bidirectional=True, seed=0), fastrnn.LSTM(2 * H, 3, seed=1)
    path = tmp_path / "model.onnx"
    fo.export([below, above], path, stateful=True)
    x = np.ones((T, B, I), np.float32)
    h, (h1, c1) = state_of(below)[0], state_of(above)
    found = run(path, {"x": x, "h0_0": h, "h0_1": h1, "c0_1": c1})
    middle, hn = below(x, h)
    y, (hn1, cn1) = above(middle, (h1, c1))
    wanted = {"y": y, "hn_0": hn, "hn_1": hn1, "cn_1": cn1}
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert_output(found[name], array, "float32")


def test_float64(tmp_path: Path) -> None:
    """ONNX Runtime has no LSTM of it; it is fastrnn that runs the model."""
    layer = fastrnn.LSTM(I, H, bidirectional=True, dtype="float64", seed=0)
    fo.export(layer, tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((T, B, I))
    found = fo.load(tmp_path / "model.onnx", measure=False)({"x": x})["y"]
    assert_output(found, layer(x)[0], "float64")


def test_what_is_not_exported(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match=r"^\[export\] layers must be at least one"):
        fo.export([], path)
    with pytest.raises(TypeError, match=r"^\[export\] layers must be recurrent layers, got int"):
        fo.export([1], path)  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"^\[export\] a layer must have the outputs below it"):
        fo.export([fastrnn.GRU(3, 4), fastrnn.GRU(3, 4)], path)
    with pytest.raises(ValueError, match=r"^\[export\] layers must have one dtype"):
        fo.export([fastrnn.GRU(3, 3), fastrnn.GRU(3, 3, dtype="float64")], path)
    with pytest.raises(NotImplementedError, match=r"^\[export\] the first of two directions"):
        fo.export(fastrnn.Recurrent("gru", 3, 4, bidirectional=True, reverse=True), path)
    with pytest.raises(NotImplementedError, match=r"^\[export\] proj_size must be 0"):
        fo.export(fastrnn.LSTM(3, 4, proj_size=2), path)
    with pytest.raises(
        NotImplementedError, match=r"^\[onnx\] cell .*, got 'gru\(state=-5.0:5.0\)'"
    ):
        fo.export(fastrnn.GRU(3, 4, state_range=5), path)
    with pytest.raises(TypeError, match=r"^\[export\] stateful must be True or False"):
        fo.export(fastrnn.GRU(3, 4), path, stateful="no")  # type: ignore[arg-type]
    assert not path.exists()


@pytest.mark.parametrize(
    ("cell", "operator", "attributes"),
    [
        ("rnn_relu", "RNN", {"activations": ["Relu"] * 2}),
        ("lstm", "LSTM", {}),
        ("lstm_coupled_peephole(clip=3.0)", "LSTM", {"clip": 3.0, "input_forget": 1}),
        ("gru", "GRU", {"linear_before_reset": 1}),
        (
            "gru_reset_before(hard_sigmoid(0.2, 0.5), elu(1e-05))",
            "GRU",
            {
                "activations": ["HardSigmoid", "Elu"] * 2,
                "activation_alpha": [0.2, 1e-05] * 2,
                "activation_beta": [0.5] * 2,
            },
        ),
        (
            "rnn(affine(-1.0, 2.0), tanh)",
            "RNN",
            {
                "activations": ["Affine", "Tanh"],
                "activation_alpha": [-1.0],
                "activation_beta": [2.0],
            },
        ),
    ],
)
def test_cells_as_nodes_and_back(cell: str, operator: str, attributes: dict[str, Any]) -> None:
    """By names alone: whether the engine has such a cell is another matter."""
    from fastrnn.onnx import _options

    assert _cells.operator(cell) == operator
    assert _cells.attributes(cell, 2) == attributes
    inputs = ["x", "W", "R", "", "", "", "", "P"] if "peephole" in cell else ["x", "W", "R"]
    node = onnx.helper.make_node(operator, inputs, ["y"], direction="bidirectional", **attributes)
    assert _cells.of_directions(_options.read(node), "peephole" in cell) == cell


@pytest.mark.parametrize("cell", ["lstm", "lstm_peephole", "lstm_coupled", "lstm_coupled_peephole"])
@pytest.mark.parametrize("D", [1, 2])
def test_parameters_as_arrays_and_back(cell: str, D: int) -> None:
    from fastrnn.onnx import _options

    G, rng = 3 if "coupled" in cell else 4, np.random.default_rng(0)
    shapes = {
        "weight_ih": (G * H, I),
        "weight_hh": (G * H, H),
        "bias_ih": (G * H,),
        "bias_hh": (G * H,),
    }
    if "peephole" in cell:
        shapes["weight_diag"] = ((G - 1) * H,)
    params = {
        f"{kind}_l0{suffix}": rng.standard_normal(shape)
        for suffix in ("", "_reverse")[:D]
        for kind, shape in shapes.items()
    }
    arrays = _cells.arrays(cell, params, 0)
    assert arrays["W"].shape == (D, 4 * H, I)
    attributes = {"direction": "bidirectional"} if D == 2 else {}
    names = ["X", "W", "R", "B", "", "", "", "P" if "P" in arrays else ""]
    node = onnx.helper.make_node("LSTM", names, ["y"], **attributes, **_cells.attributes(cell, D))
    for d, suffix in enumerate(("", "_reverse")[:D]):
        found = _cells.parameters(_options.read(node), arrays, d)
        wanted = {k.removesuffix(suffix): a for k, a in params.items() if k.endswith(f"l0{suffix}")}
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            assert found[name].tobytes() == array.tobytes(), name


# ---- the command ---------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    fo.export(fastrnn.LSTM(I, H, 2, seed=0), path, stateful=True)
    assert cli.main(["onnx", str(path), "--size", "T=7", "--size", "B=3", "--threads", "1"]) == 0
    first, head, *rows, last = capsys.readouterr().out.splitlines()
    assert first == "opset 17; x float32 (7, 3, 4), h0 float32 (2, 3, 6), c0 float32 (2, 3, 6)"
    assert head.split() == ["node", "operator", "cell", "fastrnn", "ONNX", "Runtime", "runs"]
    assert len(rows) == 2
    assert all(row.split()[1:3] == ["LSTM", "lstm"] for row in rows)
    assert all("fused" in row for row in rows)
    assert last.startswith("whole model: ")
    arguments = ["--shape", "x=2,5,4", "--shape", "h0=2,5,6", "--shape", "c0=2,5,6"]
    assert cli.main(["onnx", str(path), *arguments, "--value", "x=0.5"]) == 0
    assert "x float32 (2, 5, 4)" in capsys.readouterr().out


def test_the_command_says_why_nodes_are_not_fused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By times that are given: the whole model is the faster one."""
    pytest.importorskip("onnxruntime")
    times = lambda calls, *_: np.array([[1e-6] + [2e-6] * (len(calls) - 1)] * 2)  # noqa: E731
    monkeypatch.setattr(_choice, "rounds", times)
    fo.export(fastrnn.GRU(I, H, seed=0), tmp_path / "model.onnx")
    assert cli.main(["onnx", str(tmp_path / "model.onnx")]) == 0
    _, _, row, last = capsys.readouterr().out.splitlines()
    assert row.endswith("1.0 us   2.0 us        not fused: the cut costs more than it gains")
    assert last == "whole model: 1.0 us, ONNX Runtime 1.0 us"


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    fo.export(fastrnn.GRU(I, H, seed=0), path)
    for arguments, text in (
        ([str(tmp_path / "none")], "cannot read"),
        ([__file__], "[onnx] model must be one of ONNX"),
        ([str(path), "--size", "T"], "--size must be NAME and a number"),
        ([str(path), "--size", "T=x"], "--size must be NAME and a number"),
        ([str(path), "--shape", "z=1"], "--shape must be of an input, ['x'], got 'z'"),
        ([str(path), "--value", "z=1"], "--value must be of an input"),
        ([str(path), "--value", "x=nan"], "--value must be NAME and a number"),
        ([str(path), "--threads", "0"], "--threads must be"),
    ):
        assert cli.main(["onnx", *arguments]) == 2, arguments
        assert text in capsys.readouterr().err
