"""Files of models, what is in files beside them, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tolerances import assert_output

onnx = pytest.importorskip("onnx")

import fastrnn.onnx as fo  # noqa: E402
from onnx_models import (  # noqa: E402
    B,
    H,
    X,
    gru,
    layer,
    model_of,
    stored,
)

helper = onnx.helper


# ---- files ---------------------------------------------------------------------------------------


def with_external_data(folder: Path, location: str = "weights.bin", **entries: str) -> Path:
    made = model_of(gru("x", "y"), stored(layer()), {"x": "TBH"}, ["y"])
    path = folder / "model.onnx"
    onnx.save(made, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    stub = onnx.load(path, load_external_data=False)
    for each in stub.graph.initializer:
        for entry in each.external_data:
            if entry.key == "location":
                entry.value = location
            entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(stub.SerializeToString())
    return path


def test_external_data(others: str, tmp_path: Path) -> None:
    path = with_external_data(tmp_path)
    assert_output(fo.load(path, measure=False)({"x": X})["y"], layer()(X)[0], "float32")
    assert_output(fo.load(str(path))({"x": X})["y"], layer()(X)[0], "float32")
    with pytest.raises(ValueError, match="must be given by its path"):
        fo.layers(path.read_bytes())


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "", "a/../../weights.bin"])
def test_external_data_outside_the_folder(tmp_path: Path, location: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = with_external_data(inside, location)
    (tmp_path / "weights.bin").write_bytes((inside / "weights.bin").read_bytes())
    with pytest.raises(ValueError, match="must be inside the model's folder"):
        fo.layers(path)


def test_external_data_by_a_link_to_the_outside(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = with_external_data(inside)
    os.rename(inside / "weights.bin", tmp_path / "weights.bin")
    (inside / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="must be inside the model's folder"):
        fo.load(path)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"location": "none.bin"}, "must be there, got no file 'none.bin'"),
        ({"location": "."}, "must be in a regular file"),
        ({"offset": "-4"}, "at no negative place"),
        ({"offset": "four"}, "offset and length as numbers"),
        ({"length": "100000"}, "must end within the file"),
    ],
)
def test_external_data_that_are_wrong(tmp_path: Path, entries: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=rf"^\[onnx\] external data of tensor .* {text}"):
        fo.layers(with_external_data(tmp_path, **entries))


def test_files_that_are_no_models(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for data in (b"", b"\x08\x07", b"\xff" * 100, os.urandom(1000)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"^\[onnx\] model must"):
            fo.load(path)
    with pytest.raises(OSError, match="No such file"):
        fo.load(tmp_path / "none.onnx")
    with pytest.raises(OSError, match="not a regular file"):
        fo.load(tmp_path)
    with pytest.raises(TypeError, match=r"model must be a path, bytes or .* got int"):
        fo.load(7)


# ---- what else is refused ------------------------------------------------------------------------


def test_malformed_nodes_are_named() -> None:
    for change, text in (
        ({"activations": ["Tanh", "Swish"]}, r"^\[GRU gru\] attribute activations"),
        ({"clip": -1.0}, r"^\[GRU gru\] attribute clip must be"),
        ({"hidden_size": 7}, r"^\[GRU gru\] attribute hidden_size must be that of R"),
    ):
        made = model_of(gru("x", "y"), stored(layer()), {"x": "TBH"}, ["y"])
        (node, _) = made.graph.node
        for name, value in change.items():
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute(name, value)])
        for function in (fo.load, fo.layers):
            with pytest.raises(ValueError, match=text):
                function(made)


def test_models_that_are_not_valid() -> None:
    made = model_of(gru("nowhere", "y"), stored(layer()), {"x": "TBH"}, ["y"])
    with pytest.raises(ValueError, match=r"^\[GRU gru\] inputs must be made before, got 'nowhere'"):
        fo.load(made)
    made = model_of([helper.make_node("Unheard", ["x"], ["y"], name="n")], [], {"x": [1]}, ["y"])
    with pytest.raises(NotImplementedError, match=r"^\[onnx\] operators must be .*Unheard"):
        fo.load(made)
    made = model_of(gru("x", "y"), stored(layer()), {"x": "TBH"}, ["y", "z"])
    with pytest.raises(ValueError, match=r"^\[onnx\] outputs of 'model' must be made, got 'z'"):
        fo.load(made)


def test_inputs_that_are_refused(others: str) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), *gru("a", "y", initial=["h"])]
    inputs = {"x": "TBH", "h": (1, "B", H)}
    loaded = fo.load(model_of(nodes, stored(layer()), inputs, ["y"]))
    h = np.zeros((1, B, H), np.float32)
    loaded({"x": X, "h": h})
    for given in ({"x": X}, {"x": X, "h": h, "z": h}, {"x": X, "z": h}, {}):
        with pytest.raises(ValueError, match=r"^\[onnx\] inputs must be \['x', 'h'\]"):
            loaded(given)
    with pytest.raises(TypeError, match=r"^\[onnx\] input h must be an array of float32, got f"):
        loaded({"x": X, "h": h.astype(np.float64)})
    with pytest.raises(TypeError, match=r"^\[onnx\] input x must be an array of float32, got list"):
        loaded({"x": X.tolist(), "h": h})


def test_representations_by_order_and_alone() -> None:
    prepared = fo.Backend.prepare(model_of(gru("x", "y"), stored(layer()), {"x": "TBH"}, ["y"]))
    wanted = layer()(X)[0]
    for given in (X, [X], {"x": X}):
        assert_output(prepared.run(given)[0], wanted, "float32")
    with pytest.raises(ValueError, match=r"inputs must be \['x'\], got 2 arrays"):
        prepared.run([X, X])
    assert not fo.Backend.supports_device("CUDA:0")


def test_without_onnx() -> None:
    code = "import sys; sys.modules['onnx'] = None; import fastrnn, fastrnn.onnx"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    wanted = 'ImportError: fastrnn.onnx needs onnx, which is not installed: pip install "fastrnn['
    assert done.stderr.splitlines()[-1].startswith(wanted)


def test_a_cell_that_the_engine_has_not(others: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime has it; onnx's evaluator knows too little of it to be asked."""
    made = model_of(gru("x", "y"), stored(layer()), {"x": "TBH"}, ["y"])
    made.graph.node[0].attribute.append(helper.make_attribute("clip", 0.5))

    def refuse(options: Any, cells: tuple[str, ...]) -> None:
        raise NotImplementedError(f"{options.label} no kernel has a clip, got {cells}")

    monkeypatch.setattr("fastrnn.onnx._node.check_cells", refuse)
    if others == "onnx":
        with pytest.raises(NotImplementedError, match="clip"):
            fo.load(made)
        return
    loaded = fo.load(made)
    assert "clip" in loaded.nodes[0].reason
    assert np.isfinite(loaded({"x": X})["y"]).all()
