"""`fastrnn.quantize` and `fastrnn.Quantized`: layers of integers, in files and out of them."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import Quantized, _native, _schemes, functional, quantize

suffixes = pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
LAYERS: list[Callable[[], fastrnn.Recurrent]] = [
    lambda: fastrnn.LSTM(5, 7, 2, bidirectional=True, seed=1),
    lambda: fastrnn.LSTM(5, 7, batch_first=True, proj_size=3, seed=1),
    lambda: fastrnn.LSTM(5, 7, peepholes=True, activations=("sigmoid", "tanh", "relu"), seed=1),
    lambda: fastrnn.GRU(5, 7, bias=False, reverse=True, seed=1),
    lambda: fastrnn.GRU(5, 7, reset_after=False, dropout=0.5, num_layers=2, seed=1),
    lambda: fastrnn.RNN(5, 7, nonlinearity="relu", recompute=3, seed=1),
    lambda: fastrnn.Recurrent("lstm_coupled", 5, 7, seed=1),
]


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("make", LAYERS, ids=lambda make: repr(make()))
def test_what_is_kept_of_a_layer(make: Callable[[], fastrnn.Recurrent]) -> None:
    layer = make()
    small = quantize(layer)
    for name in ("cell", "input_size", "hidden_size", "num_layers", "bias", "batch_first"):
        assert getattr(small, name) == getattr(layer, name)
    for name in ("bidirectional", "reverse", "proj_size", "dtype", "device"):
        assert getattr(small, name) == getattr(layer, name)
    x = draw(6, 4, 5)
    y, _ = small(x)
    exact, _ = layer(x)
    assert y.dtype == np.float32
    assert 0 < np.abs(y - exact).max() < 0.05
    weights = functional.pack(layer.cell, small.state_dict(), backward=False, weights="int8")
    again, _ = functional.infer(
        layer.cell, x, weights, batch_first=layer.batch_first, reverse=layer.reverse
    )
    assert again.tobytes() == y.tobytes()


def test_integers_and_scales() -> None:
    layer = fastrnn.GRU(3, 2, bias=False, seed=0)
    w = np.float32(
        [[1, -0.5, 0.25], [0, 0, 0], [127, 63.5, -0.5], [1e-44, 0, 0], [-3, 2, 1], [1] * 3]
    )
    layer.load_state_dict({**layer.state_dict(), "weight_ih_l0": w})
    params = quantize(layer).parameters
    assert list(params) == ["weight_ih_l0", "weight_hh_l0", "scale_ih_l0", "scale_hh_l0"]
    integers, scales = params["weight_ih_l0"], params["scale_ih_l0"]
    assert integers.dtype == np.int8
    assert np.array_equal(scales, np.float32([1, 0, 127, 1e-44, 3, 1]) / np.float32(127))
    # 63.5 and -0.5 are in the middle, and go to the even ones.
    expected = [[127, -64, 32], [0, 0, 0], [127, 64, 0], [0, 0, 0], [-127, 85, 42], [127] * 3]
    assert np.array_equal(integers, expected)


def test_a_stream_is_the_whole_sequence() -> None:
    small = quantize(fastrnn.LSTM(9, 20, 2, seed=3))
    x = draw(12, 3, 9)
    whole, final = small(x)
    state: Any = None
    for t in range(12):
        y, state = small(x[t : t + 1], state)
        assert y[0].tobytes() == whole[t].tobytes()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(state, final, strict=True))


def test_options_of_a_call() -> None:
    small = quantize(fastrnn.GRU(4, 6, bidirectional=True, seed=3))
    x, out = draw(5, 3, 4), np.empty((5, 3, 12), np.float32)
    y, _ = small(x, lengths=[5, 2, 0], out=out)
    assert y is out
    assert not y[2:, 1].any()
    assert not y[:, 2].any()
    holds = np.zeros((5, 3), bool)
    holds[2] = True
    held, _ = small(x, holds=holds, repeat_held=True)
    assert held[2, :, :6].tobytes() == held[1, :, :6].tobytes()
    masked, _ = small(x, recurrent_masks=np.zeros((2, 3, 6), np.float32))
    assert masked.tobytes() != small(x)[0].tobytes()


@suffixes
@pytest.mark.parametrize("make", LAYERS, ids=lambda make: repr(make()))
def test_saved_and_loaded(
    tmp_path: Path, make: Callable[[], fastrnn.Recurrent], suffix: str
) -> None:
    small = quantize(make())
    path = tmp_path / f"small{suffix}"
    small.save(path)
    loaded = fastrnn.load(path)
    assert isinstance(loaded, Quantized)
    assert repr(loaded) == repr(small)
    assert loaded.state_dict().keys() == small.state_dict().keys()
    x = draw(3, 2, 5)
    assert loaded(x)[0].tobytes() == small(x)[0].tobytes()
    with pytest.raises(NotImplementedError, match=r"^\[load\] device .* 'cpu', got 'cuda'$"):
        fastrnn.load(path, device="cuda")


def test_a_file_is_a_quarter_as_long(tmp_path: Path) -> None:
    layer = fastrnn.LSTM(200, 200, seed=0)
    layer.save(tmp_path / "a.npz")
    quantize(layer).save(tmp_path / "b.npz")
    long, short = ((tmp_path / name).stat().st_size for name in ("a.npz", "b.npz"))
    assert short < 0.3 * long


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": ""}, "layer must be"),
        ({"weights": "int4"}, "weights must be one of"),
        ({"layer": "LSTM"}, "layer must be 'Quantized' of float32, got 'LSTM' of float32"),
        ({"dtype": "float64"}, "got 'Quantized' of float64"),
        ({"dropout": 0.5}, "dropout must be 0.0 for 'Quantized', got 0.5"),
        ({"hidden_size": 8}, "must be "),
    ],
)
def test_headers_that_lie(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "small.npz"
    quantize(fastrnn.LSTM(5, 7, seed=1)).save(path)
    with np.load(path) as file:
        members = dict(file)
    header = json.loads(str(members["fastrnn"])) | changes
    np.savez(path, **{**members, "fastrnn": np.array(json.dumps(header))})
    with pytest.raises(ValueError, match=message):
        fastrnn.load(path)


def test_arrays_of_a_file_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    quantize(fastrnn.LSTM(5, 7, seed=1)).save(path)
    with np.load(path) as file:
        members = dict(file)
    floats = members["weight_hh_l0"].astype(np.float32)
    for changes, message in (
        ({"weight_hh_l0": floats}, r"weight_hh_l0 must be int8 \(28, 7\), got float32"),
        ({"scale_hh_l0": -members["scale_hh_l0"]}, "scale_hh_l0 must be finite and not negative"),
    ):
        np.savez(path, **{**members, **changes})
        with pytest.raises(ValueError, match=message):
            fastrnn.load(path)


def test_copies_and_pickles() -> None:
    small = quantize(fastrnn.GRU(4, 5, seed=2))
    x = draw(3, 2, 4)
    y, _ = small(x)
    for other in (copy.copy(small), copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert other(x)[0].tobytes() == y.tobytes()
        with other.mutable() as params:
            params["weight_ih_l0"][...] = 0
        assert other(x)[0].tobytes() != y.tobytes()
        assert small(x)[0].tobytes() == y.tobytes()


@pytest.mark.parametrize("bad", [-1.0, -1e-45, np.nan, np.inf])
@pytest.mark.parametrize("name", ["scale_ih_l0", "scale_hh_l0", "scale_hr_l0"])
def test_scales_that_are_written_are_checked_before_a_call(name: str, bad: float) -> None:
    small = quantize(fastrnn.LSTM(4, 5, proj_size=3, seed=2))
    x = draw(3, 2, 4)
    y, _ = small(x)
    with small.mutable() as params:
        good = params[name][-1]
        params[name][-1] = bad
    got = {-1e-45: "-1.4013e-45"}.get(bad, f"{bad:g}")
    with pytest.raises(ValueError, match=rf"\[lstm\] {name} must be .* not negative, got {got}$"):
        small(x)
    with small.mutable() as params:
        params[name][-1] = good
    assert small(x)[0].tobytes() == y.tobytes()


def test_parameters_that_are_loaded() -> None:
    small = quantize(fastrnn.GRU(4, 5, seed=2))
    state = small.state_dict()
    made = Quantized("gru", 4, 5)
    assert not made(draw(3, 2, 4))[0].any()
    made.load_state_dict(state)
    assert made(draw(3, 2, 4))[0].tobytes() == small(draw(3, 2, 4))[0].tobytes()
    for changes, error, message in (
        (
            {"weight_ih_l0": state["weight_ih_l0"].astype(np.float32)},
            TypeError,
            "must be int8, got",
        ),
        ({"weight_ih_l0": state["weight_ih_l0"].astype(np.int16)}, TypeError, "must be int8, got"),
        ({"scale_ih_l0": np.full(15, np.nan)}, ValueError, "finite and not negative, got nan"),
        ({"scale_hh_l0": np.full(15, -1.0)}, ValueError, "finite and not negative, got -1.0"),
        ({"scale_hh_l0": np.full(15, 1e39)}, ValueError, "finite and not negative, got inf"),
        ({"scale_hh_l0": np.ones(14)}, ValueError, r"must have shape \(15,\)"),
        ({"scale_hh_l0": "many"}, TypeError, "must be floats"),
        ({"bias_ih_l0": np.zeros(15, np.int8)}, TypeError, "must be floats, got int8"),
    ):
        with pytest.raises(error, match=message):
            made.load_state_dict({**state, **changes})
    with pytest.raises(TypeError, match="parameters must be a mapping"):
        made.load_state_dict(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale_hh_l0 of shape"):
        made.load_state_dict({k: v for k, v in state.items() if k != "scale_hh_l0"})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(bad: float) -> None:
    layer = fastrnn.LSTM(4, 5, seed=0)
    with layer.mutable() as params:
        params["weight_hh_l0"][7, 2] = bad
    message = rf"^\[lstm\] weight_hh_l0 must be finite to be quantized, got {bad} in row 7$"
    with pytest.raises(ValueError, match=message):
        quantize(layer)


def test_weights_beyond_float16() -> None:
    layer = fastrnn.LSTM(4, 5, seed=0)
    with layer.mutable() as params:
        params["weight_hh_l0"][7, 2] = 1e5
    with pytest.raises(ValueError, match=r"weight_hh_l0 must be within float16, got 100000.0$"):
        quantize(layer, "float16_weights")


def test_what_cannot_be_quantized() -> None:
    layer = fastrnn.LSTM(4, 5, seed=0)
    with pytest.raises(TypeError, match=r"^\[quantize\] layer must be a fastrnn layer, got dict$"):
        quantize({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got Quantized$"):
        quantize(quantize(layer))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be of float32, got float64$"):
        quantize(fastrnn.LSTM(4, 5, dtype="float64", seed=0))
    for scheme in ("int4", 8, None, "float16"):
        with pytest.raises(ValueError, match=r"weights must be one of \('int8', .*\), got"):
            quantize(layer, scheme)  # type: ignore[arg-type]


def test_no_gradients() -> None:
    small = quantize(fastrnn.LSTM(4, 5, seed=0))
    assert not hasattr(small, "forward")
    assert not hasattr(small, "backward")
    x, params = draw(3, 2, 4), small.state_dict()
    with pytest.raises(NotImplementedError, match=r"^\[lstm\] quantized weights must be packed"):
        functional.pack("lstm", params, weights="int8")
    packed = functional.pack("lstm", params, backward=False, weights="int8")
    with pytest.raises(
        NotImplementedError, match=r"^\[lstm\] calls of quantized weights must keep"
    ):
        functional.forward("lstm", x, packed)
    assert functional.infer("lstm", x, packed)[0].tobytes() == small(x)[0].tobytes()


def test_a_scheme_is_not_guessed() -> None:
    """Scales alone do not say whether x and h are integers too."""
    params = quantize(fastrnn.LSTM(4, 5, seed=0), "int8_weights").state_dict()
    for call in (functional.pack, lambda cell, p: functional.infer(cell, draw(3, 2, 4), p)):
        with pytest.raises(ValueError, match=r"^\[lstm\] quantized weights must be packed with w"):
            call("lstm", params)  # type: ignore[operator]


def test_schemes_are_those_of_the_engine() -> None:
    for name, scheme in _schemes.SCHEMES.items():
        made = _native.engine.Weights("lstm", name, 1, 1, 2, 3, True).parameters
        assert ("scale_ih_l0" in dict(made)) == scheme.scaled
        assert quantize(fastrnn.LSTM(2, 3, seed=0), name).weights == name


def test_dtypes_of_a_call() -> None:
    small = quantize(fastrnn.LSTM(4, 5, seed=0))
    with pytest.raises(TypeError, match="x must be float32"):
        small(draw(3, 2, 4).astype(np.float64))
    params = small.state_dict()
    changed = {**params, "weight_hh_l0": draw(20, 5)}
    with pytest.raises(TypeError, match="weight_hh_l0 must be int8"):
        functional.pack("lstm", changed, backward=False, weights="int8")
    wide = params["weight_ih_l0"].astype(np.int16)
    changed = {**params, "weight_ih_l0": wide}
    with pytest.raises(TypeError, match=r"weight_ih_l0 must be int8 .*, got int16"):
        functional.pack("lstm", changed, backward=False, weights="int8")


def test_explain() -> None:
    layer = fastrnn.GRU(64, 256, seed=0)
    small = quantize(layer)
    plan, of_floats = (fastrnn.explain(each, (50, 8, 64)) for each in (small, layer))
    assert plan["weights"] == "int8"
    assert of_floats["weights"] == ""
    assert plan["packed_bytes"] < 0.35 * of_floats["packed_bytes"] / 2  # which has both kinds
    assert "backward" not in plan
    micros = [p["forward"]["model_microseconds"] for p in (plan, of_floats)]
    assert micros[0] < micros[1]


def test_repr() -> None:
    small = quantize(fastrnn.LSTM(4, 5, 2, batch_first=True, seed=0))
    assert repr(small) == "Quantized('lstm', 4, 5, num_layers=2, batch_first=True, weights='int8')"
    assert repr(eval(repr(small), {"Quantized": Quantized})) == repr(small)
