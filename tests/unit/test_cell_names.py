"""The names of cells: which are canonical, which are refused, and what the functions are."""

import pickle
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _cell_names, _native, reference
from fastrnn.reference import activations
from fastrnn.reference.namespace import NUMPY

# What is given, and the canonical name.
NAMES = [
    (("lstm",), "lstm"),
    (("lstm", ["sigmoid", "tanh", "tanh"]), "lstm"),
    (("lstm", ["sigmoid", "tanh", "tanh"] * 2), "lstm"),
    (("lstm", ["relu", "tanh", "tanh"] * 2), "lstm(relu, tanh, tanh)"),
    (
        ("lstm", ["sigmoid", "tanh", "tanh", "relu", "tanh", "tanh"]),
        "lstm(sigmoid, tanh, tanh, relu, tanh, tanh)",
    ),
    (("lstm", None, 3), "lstm(clip=3.0)"),
    (("lstm_peephole",), "lstm_peephole"),
    (("lstm_coupled_peephole", None, 1e-5), "lstm_coupled_peephole(clip=1e-05)"),
    (("rnn",), "rnn_tanh"),
    (("rnn", ["relu"]), "rnn_relu"),
    (("rnn_relu",), "rnn_relu"),
    (("rnn_relu", None, 2.5), "rnn(relu, clip=2.5)"),
    (("rnn", None, 2.5), "rnn(clip=2.5)"),
    (("rnn", ["tanh", "relu"]), "rnn(tanh, relu)"),
    (("rnn", [("leaky_relu", 0.1)]), "rnn(leaky_relu(0.1))"),
    (("rnn", ["leaky_relu"]), "rnn(leaky_relu(0.01))"),
    (
        ("gru", ["hard_sigmoid", ("elu", 0.5)], 3),
        "gru(hard_sigmoid(0.2, 0.5), elu(0.5), clip=3.0)",
    ),
    (
        ("gru", ("hard_sigmoid(0.1, 0.4)", ("affine", 2))),
        "gru(hard_sigmoid(0.1, 0.4), affine(2.0, 0.0))",
    ),
    (("rnn", [("scaled_tanh", np.float64(0.1), -1)]), "rnn(scaled_tanh(0.1, -1.0))"),
    (("rnn", ["thresholded_relu"]), "rnn(thresholded_relu(1.0))"),
    (("lstm", None, None, 3), "lstm(state=-3.0:3.0)"),
    (("lstm_coupled", None, None, (-3, 3)), "lstm_coupled(state=-3.0:3.0)"),
    (("rnn_relu", None, 2, (0, 1e-5)), "rnn(relu, clip=2.0, state=0.0:1e-05)"),
    (("rnn", None, None, [-np.inf, np.float32(0.5)]), "rnn(state=-inf:0.5)"),
    (("gru", ["sigmoid", "relu"], None, (-1, np.inf)), "gru(sigmoid, relu, state=-1.0:inf)"),
    (("gru_reset_before", None, None, (0.25, 0.5)), "gru_reset_before(state=0.25:0.5)"),
]


@pytest.mark.parametrize(("given", "name"), NAMES)
def test_a_cell_has_one_canonical_name(given: Any, name: str) -> None:
    assert fastrnn.cell_name(*given) == name
    assert _cell_names.canonical(name) == name
    assert _cell_names.canonical(name.replace(", ", "  ,")) == name


def test_texts_need_not_be_canonical() -> None:
    assert _cell_names.canonical("lstm(sigmoid,tanh,tanh)") == "lstm"
    assert _cell_names.canonical("rnn(relu, relu, clip=1e1)") == "rnn(relu, clip=10.0)"
    assert _cell_names.canonical("lstm(sigmoid,tanh,tanh,state=-3:3)") == "lstm(state=-3.0:3.0)"
    assert _cell_names.canonical("anything_else") == "anything_else"


@pytest.mark.parametrize("number", [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 123456789.0])
def test_numbers_are_kept_to_the_last_bit(number: float) -> None:
    name = fastrnn.cell_name("rnn", [("affine", number, -number)])
    parsed = _cell_names.find(name)
    assert parsed is not None
    assert [n.hex() for n in parsed.functions[0].numbers] == [number.hex(), (-number).hex()]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (("lsm",), ValueError, r"base must be one of rnn, lstm, .*, got 'lsm'"),
        ((3,), TypeError, "base must be a name, got int"),
        (("lstm", ["tanh"]), ValueError, "lstm must have 3 functions, or 6 for two .*, got 1"),
        (("gru", []), ValueError, "gru must have 2 functions, or 4 for two directions, got 0"),
        (("rnn", "tanh"), TypeError, "activations must be a sequence of functions, got 'tanh'"),
        (("rnn", ["Tanh"]), ValueError, "a function must be one of sigmoid, .*, got 'Tanh'"),
        (("rnn", [3]), TypeError, r"a function must be a name or a tuple .*, got 3"),
        (("rnn", [("tanh", 1.0)]), ValueError, "tanh must have 0 numbers, got 1"),
        (("rnn", [("elu", 1.0, 2.0)]), ValueError, "elu must have 1 numbers, got 2"),
        (("rnn", [("elu", "1")]), TypeError, "alpha, beta and clip must be numbers, got '1'"),
        (("rnn", [("elu", np.nan)]), ValueError, "alpha, beta and clip must be finite, got nan"),
        (("rnn", ["elu()"]), ValueError, "a number must be written as .*, got ''"),
        (("rnn", ["elu("]), ValueError, r"a function must be name or .*, got 'elu\('"),
        (("rnn", None, 0), ValueError, "clip must be above 0, got 0.0"),
        (("rnn", None, -1.0), ValueError, "clip must be above 0, got -1.0"),
        (("rnn", None, np.inf), ValueError, "alpha, beta and clip must be finite, got inf"),
        (("rnn", None, True), TypeError, "alpha, beta and clip must be numbers, got True"),
        (("rnn", None, None, 0), ValueError, "state must have low < high, .*, got -0.0 and 0.0"),
        (("rnn", None, None, -1), ValueError, "state must have low < high, .*, got 1.0 and -1.0"),
        (("gru", None, None, (2, 2)), ValueError, "state must have low < high, .* 2.0 and 2.0"),
        (("gru", None, None, np.inf), ValueError, "state must have .* finite, got -inf and inf"),
        (("gru", None, None, (0, np.nan)), ValueError, "state must have low < high, .* and nan"),
        (("gru", None, None, True), TypeError, "the bounds of a state must be numbers, got True"),
        (
            ("gru", None, None, ("0", 1)),
            TypeError,
            "the bounds of a state must be numbers, got '0'",
        ),
        (("gru", None, None, (1, 2, 3)), TypeError, "the bounds of .*, got \\(1, 2, 3\\)"),
    ],
)
def test_what_makes_no_name_is_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"^\[cell\] {message}$"):
        fastrnn.cell_name(*given)


REFUSED = [
    ("lstm()", "a function must be name or name.*, got ''"),
    ("lstm(", "cell must be a name or base"),
    ("lstm(tanh))", "a function must be name or name"),
    ("lstm (tanh)", "cell must be a name or base"),
    ("rnn_tanh(tanh)", "cell must be a name or base"),
    ("rnn(elu)", "elu must have 1 numbers, got 0"),
    ("rnn(elu(inf))", "a number must be written as .*, got 'inf'"),
    ("rnn(elu(1_0))", "a number must be written as .*, got '1_0'"),
    ("rnn(elu(1e999))", "alpha, beta and clip must be finite, got inf"),
    ("rnn(clip=1.0, tanh)", "a function must be name or name.*, got 'clip=1.0'"),
    ("rnn(tanh, clip=-1.0)", "clip must be above 0, got -1.0"),
    ("rnn(state=1.0)", "state must be low:high, got '1.0'"),
    ("rnn(state=)", "state must be low:high, got ''"),
    ("rnn(state=1.0:-1.0)", "state must have low < high"),
    ("rnn(state=-inf:inf)", "state must have low < high, one of them finite"),
    ("rnn(state=inf:1.0)", "a number must be written as .*, got 'inf'"),
    ("rnn(state=-1.0:1.0:2.0)", "a number must be written as .*, got '1.0:2.0'"),
    ("rnn(state=-1.0:1.0, clip=2.0)", "a function must be name or name.*, got 'state=-1.0:1.0'"),
    ("rnn(tanh, tanh, tanh)", "rnn must have 1 functions, or 2 for two directions, got 3"),
]
BAD = [text for text, _ in REFUSED]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_texts_that_are_no_name_are_refused_before_anything_else(text: str, message: str) -> None:
    for use in (_cell_names.canonical, reference.forward, fastrnn.Recurrent):
        with pytest.raises(ValueError, match=rf"^\[cell\] {message}"):
            use(text, None, None) if use is not _cell_names.canonical else use(text)  # type: ignore


SPELLINGS = ["lstm(sigmoid,tanh,tanh)", "rnn(relu, relu, clip=1e1)", "gru(state=-1:5e-1)"]
GOOD = [name for _, name in NAMES] + SPELLINGS


@pytest.mark.parametrize("text", GOOD)
def test_engines_read_the_same_names(text: str) -> None:
    """Parameters and results are those of the canonical name."""
    made = _native.engine.Weights(text, "float32", 1, 2, 3, 4, True)
    canonical = _cell_names.canonical(text)
    assert (
        made.parameters == _native.engine.Weights(canonical, "float32", 1, 2, 3, 4, True).parameters
    )
    kinds = {name.partition("_l")[0] for name, _ in made.parameters}
    assert ("weight_diag" in kinds) == ("peephole" in text)
    rng = np.random.default_rng(0)
    params = tuple(rng.uniform(-1, 1, shape) for _, shape in made.parameters)
    x = rng.standard_normal((3, 2, 3))
    y = _native.engine.run_new(text, 1, 2, params, (x,))[0]
    named = {name: a for (name, _), a in zip(made.parameters, params, strict=True)}
    np.testing.assert_allclose(y, reference.forward(canonical, x, named)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("text", BAD)
def test_engines_refuse_the_same_texts(text: str) -> None:
    with pytest.raises(ValueError, match=r"^\[cell\] .+, got .+"):
        _native.engine.Weights(text, "float32", 1, 1, 3, 4, True)


@pytest.mark.parametrize("name", ["chosen_lstm", "lstm_", "LSTM", ""])
def test_names_of_nothing_are_refused(name: str) -> None:
    """Those of kernels for several cells, too."""
    with pytest.raises(
        ValueError, match=r"^\[cell\] cell must be one of rnn_tanh, .*, lstm_peephole"
    ):
        fastrnn.Recurrent(name, 3, 4)


def test_functions_of_two_directions_are_for_two() -> None:
    with pytest.raises(
        ValueError, match=r"^\[rnn\(relu, tanh\)\] functions of two directions must"
    ):
        fastrnn.Recurrent("rnn(relu, tanh)", 3, 4)


def test_layers_are_made_of_any_spelling() -> None:
    layer = fastrnn.Recurrent("lstm(sigmoid,tanh , tanh)", 3, 4)
    assert layer.cell == "lstm"
    assert pickle.loads(pickle.dumps(fastrnn.LSTM(3, 4, clip=2))).cell == "lstm(clip=2.0)"
    x, params = np.zeros((2, 1, 3), np.float32), layer.state_dict()
    _, _, tape = fastrnn.functional.forward("lstm(sigmoid,tanh,tanh)", x, params)
    fastrnn.functional.backward("lstm", params, tape, np.zeros((2, 1, 4), np.float32))
    assert fastrnn.explain(fastrnn.LSTM(3, 4, peepholes=True), (5, 2, 3))["cell"] == "lstm_peephole"


X = np.array([-7.0, -1.25, -0.5, 0.0, 0.25, 1.25, 2.0, 9.0])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("tanh", np.tanh),
        ("relu", lambda x: np.maximum(x, 0)),
        ("softsign", lambda x: x / (1 + abs(x))),
        ("softplus", lambda x: np.log(1 + np.exp(x))),
        (("affine", 0.5, -2.0), lambda x: 0.5 * x - 2),
        (("leaky_relu", 0.25), lambda x: np.where(x >= 0, x, 0.25 * x)),
        (("thresholded_relu", 1.25), lambda x: np.where(x >= 1.25, x, 0)),
        (("scaled_tanh", 1.5, 0.5), lambda x: 1.5 * np.tanh(0.5 * x)),
        (("hard_sigmoid", 0.25, 0.5), lambda x: np.minimum(np.maximum(0.25 * x + 0.5, 0), 1)),
        (("elu", 0.75), lambda x: np.where(x >= 0, x, 0.75 * (np.exp(x) - 1))),
    ],
)
def test_the_functions_are_those_of_onnx(function: Any, expected: Any) -> None:
    name = _cell_names.find(fastrnn.cell_name("rnn", [function]))
    assert name is not None
    (made,) = activations.of_cell(name, 0)
    np.testing.assert_allclose(made.value(NUMPY, X), expected(X), rtol=1e-13, atol=1e-15)
    points = X + 0.01  # beside the kinks
    differences = (expected(points + 1e-6) - expected(points - 1e-6)) / 2e-6
    np.testing.assert_allclose(made.slope(points), differences, atol=1e-8)


def test_a_clip_bounds_what_enters_each_function() -> None:
    name = _cell_names.find("lstm(clip=1.0)")
    assert name is not None
    gate, candidate, output = activations.of_cell(name, 0)
    assert candidate.value(NUMPY, np.array(3.0)) == np.tanh(1.0)
    assert gate.slope(np.array(3.0)) == 0 < gate.slope(np.array(1.0))
    assert output.value(NUMPY, np.array(3.0)) == np.tanh(1.0)


def test_a_state_is_clipped_before_anything_sees_it() -> None:
    """Of an LSTM c, and h follows; its output gate's peephole sees it too."""
    one = np.ones((1, 1, 1))
    params = {"weight_ih_l0": np.full((4, 1), 9.0), "weight_hh_l0": np.zeros((4, 1))}
    y, (_, c), _ = reference.forward("lstm(state=-0.25:0.5)", one, params)
    assert c == 0.5
    np.testing.assert_allclose(y, np.tanh(0.5) / (1 + np.exp(-9.0)), rtol=1e-15)
    params["weight_diag_l0"] = np.array([0.0, 0.0, -20.0])
    y, _, _ = reference.forward("lstm_peephole(state=-0.25:0.5)", one, params)
    np.testing.assert_allclose(y, np.tanh(0.5) / (1 + np.exp(1.0)), rtol=1e-15)
    params = {"weight_ih_l0": -9 * one[0], "weight_hh_l0": 0 * one[0]}
    assert reference.forward("rnn(state=-0.25:0.5)", one, params)[0] == -0.25


def test_each_direction_has_its_functions() -> None:
    cell, rng = "rnn(relu, tanh)", np.random.default_rng(0)
    both = {
        f"{kind}_l0{suffix}": rng.standard_normal((4, n))
        for suffix in ("", "_reverse")
        for kind, n in (("weight_ih", 3), ("weight_hh", 4))
    }
    x = rng.standard_normal((5, 2, 3))
    y, _, _ = reference.forward(cell, x, both)
    forward = {name: a for name, a in both.items() if "reverse" not in name}
    backward = {name: both[name + "_reverse"] for name in forward}
    np.testing.assert_array_equal(y[..., :4], reference.forward("rnn_relu", x, forward)[0])
    reverse = reference.forward("rnn_tanh", x[::-1], backward)[0][::-1]
    np.testing.assert_array_equal(y[..., 4:], reverse)


@pytest.mark.parametrize(
    "cell", ["lstm_coupled_peephole", "lstm(softsign, elu(0.5), softplus)", "lstm(state=-0.2:0.3)"]
)
def test_torch_differentiates_the_reference_alike(cell: str) -> None:
    torch = pytest.importorskip("torch")
    from fastrnn.reference import loop
    from fastrnn.reference.cell import find
    from fastrnn.torch._composite import TORCH

    made, rng, H = find(cell), np.random.default_rng(0), 4
    shapes = {"weight_ih": (made.gates * H, 3), "weight_hh": (made.gates * H, H)}
    shapes |= {"weight_diag": (made.unit_parameters * H,)} if made.unit_parameters else {}
    params = {kind + "_l0": rng.standard_normal(shape) for kind, shape in shapes.items()}
    x, dy = rng.standard_normal((5, 2, 3)), rng.standard_normal((5, 2, H))
    _, _, tape = reference.forward(cell, x, params)
    dx, _, grads = reference.backward(cell, params, tape, dy)

    leaves = {k: torch.from_numpy(a).requires_grad_() for k, a in {"x": x, **params}.items()}
    weights = loop.Weights(
        leaves["weight_ih_l0"], leaves["weight_hh_l0"], w_diag=leaves.get("weight_diag_l0")
    )
    zeros = [torch.zeros(1, 2, H, dtype=torch.float64)] * 2
    schedule = loop.make_schedule(TORCH, 5, loop.StepInputs(), False)
    y, _, _ = loop.run_layers(TORCH, [made], [weights], [schedule], leaves["x"], zeros)
    y.backward(torch.from_numpy(dy))
    for name, expected in {"x": dx, **grads}.items():
        np.testing.assert_allclose(leaves[name].grad, expected, rtol=1e-12, atol=1e-12)
