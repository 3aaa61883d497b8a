"""Converters of weights against the frameworks themselves: Keras, ONNX Runtime, torch.

A framework's layer and fastrnn's, on converted weights, compute the same outputs and states.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastrnn
from cases import flat_state
from fastrnn import weights
from tolerances import assert_output

T, B, I, H = 5, 2, 3, 4
CELLS = ["rnn_tanh", "rnn_relu", "rnn_sigmoid", "lstm", "gru", "gru_reset_before"]
cells = pytest.mark.parametrize("cell", CELLS)
bidirectional = pytest.mark.parametrize("D", [1, 2])
biases = pytest.mark.parametrize("bias", [True, False])
# Of Keras itself, whose variables are arrays of NumPy 1.
old_arrays = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def layer_of(cell: str, D: int, bias: bool, seed: int = 1) -> fastrnn.Recurrent:
    return fastrnn.Recurrent(cell, I, H, bidirectional=D == 2, bias=bias, seed=seed)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32)


# ---- Keras ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Keras on torch; its file of settings stays out of the user's home."""
    pytest.importorskip("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        yield pytest.importorskip("keras")


def keras_layer(keras: ModuleType, cell: str, D: int, bias: bool, **options: Any) -> Any:
    """A layer of Keras of random weights, and biases other than its zeros."""
    if cell.startswith("rnn"):
        options["activation"] = cell.removeprefix("rnn_")
    if cell.startswith("gru"):
        options.setdefault("reset_after", cell == "gru")
    gru = keras.layers.GRU
    kinds = {"lstm": keras.layers.LSTM, "gru": gru, "gru_reset_before": gru}
    make = kinds.get(cell, keras.layers.SimpleRNN)
    layer = make(H, return_sequences=True, use_bias=bias, **options)
    made = keras.layers.Bidirectional(layer) if D == 2 else layer
    made.build((B, T, I))
    rng = np.random.default_rng(7)
    made.set_weights([rng.uniform(-1, 1, w.shape).astype(w.dtype) for w in made.get_weights()])
    return made


def keras_call(layer: Any, x: np.ndarray) -> np.ndarray:
    y: np.ndarray = layer(np.ascontiguousarray(x.swapaxes(0, 1))).detach().cpu().numpy()
    return y.swapaxes(0, 1)


@old_arrays
@cells
@bidirectional
@biases
def test_keras(keras: ModuleType, x: np.ndarray, cell: str, D: int, bias: bool) -> None:
    theirs = keras_layer(keras, cell, D, bias)
    ours = layer_of(cell, D, bias)
    given = theirs.get_weights()
    ours.load_state_dict(weights.from_keras(cell, given))
    assert_output(ours(x)[0], keras_call(theirs, x), "float32")
    back = weights.to_keras(cell, ours.state_dict())
    assert [a.tobytes() for a in back] == [a.tobytes() for a in given]
    # Another layer's weights, the other way, through two biases of their own.
    ours = layer_of(cell, D, bias, seed=2)
    theirs.set_weights(weights.to_keras(cell, ours.state_dict()))
    assert_output(ours(x)[0], keras_call(theirs, x), "float32")


# Of our gates, which one of Keras' each is.
KERAS_GATES = {"lstm": [0, 1, 2, 3], "gru": [1, 0, 2], "gru_reset_before": [1, 0, 2]}


@old_arrays
@pytest.mark.parametrize("cell", KERAS_GATES)
def test_keras_recurrent_dropout(keras: ModuleType, x: np.ndarray, cell: str) -> None:
    """With the masks of each gate that a cell of Keras has drawn."""
    theirs = keras_layer(keras, cell, 1, True, recurrent_dropout=0.5, implementation=1).cell
    ours = layer_of(cell, 1, True)
    ours.load_state_dict(weights.from_keras(cell, theirs.get_weights()))
    zeros = np.zeros((B, H), np.float32)
    drawn = theirs.get_recurrent_dropout_mask(keras.ops.convert_to_tensor(zeros))
    masks = np.stack([drawn[gate].detach().cpu().numpy() for gate in KERAS_GATES[cell]])
    assert len({mask.tobytes() for mask in masks}) > 1
    states, y = [zeros] * (2 if cell == "lstm" else 1), []
    for x_t in x:
        h, states = theirs(x_t, states, training=True)
        y.append(h.detach().cpu().numpy())
    assert_output(ours(x, recurrent_masks=masks[None])[0], np.stack(y), "float32")
    assert np.abs(ours(x)[0] - np.stack(y)).max() > 1e-3


@old_arrays
@biases
def test_keras_gru_that_resets_before(keras: ModuleType, x: np.ndarray, bias: bool) -> None:
    theirs = keras_layer(keras, "gru", 1, bias, reset_after=False)
    with pytest.raises(ValueError, match="different functions of h"):
        weights.from_keras("gru", theirs.get_weights(), reset_after=theirs.reset_after)
    if bias:  # whose shape tells
        with pytest.raises(ValueError, match="different functions of h"):
            weights.from_keras("gru", theirs.get_weights())
    else:  # and they are: what would be loaded computes something else
        ours = layer_of("gru", 1, bias)
        ours.load_state_dict(weights.from_keras("gru", theirs.get_weights()))
        assert np.abs(ours(x)[0] - keras_call(theirs, x)).max() > 1e-3


# ---- ONNX ----------------------------------------------------------------------------------------


def run_onnx(cell: str, inputs: dict[str, np.ndarray], x: np.ndarray, **attributes: Any) -> Any:
    """A model of one node in ONNX Runtime: y as fastrnn has it, hn, and an LSTM's cn."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper, D = onnx.helper, inputs["W"].shape[0]
    op = cell.partition("_")[0].upper()
    outputs = ["Y", "Y_h", "Y_c"] if op == "LSTM" else ["Y", "Y_h"]
    if D == 2:
        attributes["direction"] = "bidirectional"
    if cell.startswith("rnn_"):
        attributes["activations"] = [cell.removeprefix("rnn_").title()] * D
    names = ["X", "W", "R", "B" if "B" in inputs else "", "", "", "", "P" if "P" in inputs else ""]
    while not names[-1]:
        names.pop()
    node = helper.make_node(op, names, outputs, hidden_size=H, **attributes)
    f32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "one_node",
        [helper.make_tensor_value_info("X", f32, x.shape)],
        [helper.make_tensor_value_info(name, f32, None) for name in outputs],
        [onnx.numpy_helper.from_array(a, name) for name, a in inputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options)
    y, *state = session.run(None, {"X": x})
    return [y.transpose(0, 2, 1, 3).reshape(*y.shape[:1], y.shape[2], -1), *state]


@cells
@bidirectional
@biases
def test_onnx(x: np.ndarray, cell: str, D: int, bias: bool) -> None:
    ours = layer_of(cell, D, bias)
    inputs = weights.to_onnx(cell, ours.state_dict())
    attributes = {"linear_before_reset": 1} if cell == "gru" else {}
    y, state = ours(x)
    for a, b in zip([y, *flat_state(state)], run_onnx(cell, inputs, x, **attributes), strict=True):
        assert_output(a, b, "float32")
    found = weights.from_onnx(cell, **inputs, **attributes)
    assert {k: a.tobytes() for k, a in found.items()} == {
        k: a.tobytes() for k, a in ours.state_dict().items()
    }


def test_onnx_without_its_attribute_and_with_peepholes(x: np.ndarray) -> None:
    """What is refused computes something else, and what is left out does not."""
    gru, lstm = layer_of("gru", 1, True), layer_of("lstm", 1, True)
    inputs = weights.to_onnx("gru", gru.state_dict())
    assert np.abs(run_onnx("gru", inputs, x)[0] - gru(x)[0]).max() > 1e-3
    with pytest.raises(ValueError, match="different functions of h"):
        weights.from_onnx("gru", **inputs)

    inputs = weights.to_onnx("lstm", lstm.state_dict())
    for P, same in ((np.zeros((1, 3 * H), np.float32), True), (np.ones((1, 3 * H), "f4"), False)):
        y = run_onnx("lstm", {**inputs, "P": P}, x)[0]
        assert (np.abs(y - lstm(x)[0]).max() < 1e-5) == same
        if same:
            assert weights.from_onnx("lstm", **inputs, P=P)
        else:
            with pytest.raises(ValueError, match="peepholes"):
                weights.from_onnx("lstm", **inputs, P=P)


# ONNX's name of each function, and the numbers that it has there.
FUNCTIONS = [
    ("sigmoid", "Sigmoid"), ("tanh", "Tanh"), ("relu", "Relu"), ("softsign", "Softsign"),
    ("softplus", "Softplus"), (("affine", 0.5, 0.25), "Affine"),
    (("leaky_relu", 0.125), "LeakyRelu"), (("thresholded_relu", 0.25), "ThresholdedRelu"),
    (("scaled_tanh", 1.5, 0.5), "ScaledTanh"), (("hard_sigmoid", 0.25, 0.5), "HardSigmoid"),
    (("elu", 0.75), "Elu"),
]  # fmt: skip


@bidirectional
@pytest.mark.parametrize("clip", [None, 0.75])
@pytest.mark.parametrize(("function", "name"), FUNCTIONS)
def test_onnx_computes_the_functions_alike(
    x: np.ndarray, function: Any, name: str, clip: float | None, D: int
) -> None:
    values = [] if isinstance(function, str) else list(function[1:])
    attributes: dict[str, Any] = {"clip": clip} if clip else {}
    numbers = {"activation_alpha": values[:1], "activation_beta": values[1:]}
    bases = {"rnn": [function], "gru": [function, "tanh"], "lstm": ["sigmoid", function, "tanh"]}
    theirs = {"rnn": [name], "gru": [name, "Tanh"], "lstm": ["Sigmoid", name, "Tanh"]}
    if clip:
        del bases["lstm"]  # ONNX Runtime does not clip the argument of h, in h(C)
    for base, functions in bases.items():
        cell = fastrnn.cell_name(base, functions, clip)
        layer = layer_of(cell, D, True)
        inputs = weights.to_onnx(cell, layer.state_dict())
        own = {key: value * D for key, value in numbers.items() if value}
        found = run_onnx(base, inputs, x, activations=theirs[base] * D, **own, **attributes,
                         **({"linear_before_reset": 1} if base == "gru" else {}))  # fmt: skip
        y, state = layer(x)
        for a, b in zip([y, *flat_state(state)], found, strict=True):
            assert_output(a, b, "float32")


@bidirectional
@pytest.mark.parametrize("input_forget", [0, 1])
@pytest.mark.parametrize("peepholes", [False, True])
def test_onnx_has_peepholes_and_coupled_gates_alike(
    x: np.ndarray, peepholes: bool, input_forget: int, D: int
) -> None:
    layer = fastrnn.LSTM(I, H, bidirectional=D == 2, peepholes=peepholes,
                         input_forget=bool(input_forget), seed=1)  # fmt: skip
    inputs = weights.to_onnx(layer.cell, layer.state_dict())
    attributes = {"input_forget": input_forget}
    y, state = layer(x)
    for a, b in zip(
        [y, *flat_state(state)], run_onnx("lstm", inputs, x, **attributes), strict=True
    ):
        assert_output(a, b, "float32")


# ---- torch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_torch_through_every_format(x: np.ndarray, name: str) -> None:
    """torch's own state_dict, as tensors; a stack of two layers, in two directions."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(I, H, 2, bidirectional=True)
    cell = {"RNN": "rnn_tanh"}.get(name, name.lower())
    ours = fastrnn.Recurrent(cell, I, H, 2, bidirectional=True, seed=5)
    state = theirs.state_dict()
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(x))[0].numpy()
    found: list[dict[str, np.ndarray]] = [{}, {}]
    for k in (0, 1):
        found[0] |= weights.from_keras(cell, weights.to_keras(cell, state, k), k)
        inputs = weights.to_onnx(cell, state, k)
        found[1] |= weights.from_onnx(cell, **inputs, layer=k, linear_before_reset=1)
    found.append(weights.from_cudnn(cell, *weights.to_cudnn(cell, state), bidirectional=True))
    for params in found:
        ours.load_state_dict(params)
        assert_output(ours(x)[0], wanted, "float32")
        theirs.load_state_dict({k: torch.from_numpy(a) for k, a in params.items()})


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_torch_loads_a_saved_file(x: np.ndarray, tmp_path: Path, name: str) -> None:
    """By the names of its parameters, with the package's own function."""
    torch = pytest.importorskip("torch")
    files = pytest.importorskip("safetensors.torch")
    ours = getattr(fastrnn, name)(I, H, 2, bidirectional=True, seed=5)
    ours.save(tmp_path / "model.safetensors")
    theirs = getattr(torch.nn, name)(I, H, 2, bidirectional=True)
    theirs.load_state_dict(files.load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        assert_output(ours(x)[0], theirs(torch.from_numpy(x))[0].numpy(), "float32")


def test_parameters_that_are_trained() -> None:
    """``named_parameters``, which are part of a graph; and a dtype that NumPy lacks."""
    torch = pytest.importorskip("torch")
    layer = torch.nn.LSTM(3, 4)
    from_graph = weights.to_keras("lstm", dict(layer.named_parameters()))
    for ours, theirs in zip(from_graph, weights.to_keras("lstm", layer.state_dict()), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    with pytest.raises(TypeError, match=r"^\[to_keras\] .* floats that NumPy has, got torch.bfl"):
        weights.to_keras("lstm", layer.bfloat16().state_dict())
