"""The layers against Keras's own, on the backend of this process: `test_keras.py` starts it."""

from __future__ import annotations

import os
import warnings
from typing import Any

import keras
import numpy as np
import pytest

import configurations
import fastrnn
import fastrnn.keras
import fastrnn.weights
from configurations import BACKEND, fallbacks, fused
from tolerances import FLOAT32_GRADIENT, FLOAT32_OUTPUT, relative

# Both sides are of order 1, or are compared with the largest of them. Keras's products of float64
# are products of float32 on most backends, so the tolerances are those of float32; `test_float64`
# compares with others.


def assert_alike(
    ours: list[np.ndarray], theirs: list[np.ndarray], tolerance: float = FLOAT32_OUTPUT
) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert relative(a, b, least=1.0) <= tolerance


@pytest.fixture
def c(seed: int) -> configurations.Configuration:
    return configurations.draw(seed)


seeds = pytest.mark.parametrize("seed", range(int(os.environ.get("FASTRNN_SEEDS", "60"))))


@seeds
def test_outputs_states_and_draws(c: configurations.Configuration) -> None:
    """Also what a second call of a stateful layer goes on from, and the state of the generator."""
    theirs, ours = c.layers()
    before = fused(), fallbacks()
    found = [configurations.outputs(layer, c, calls=2) for layer in (ours, theirs)]
    assert_alike(*found)
    assert (fused(), fallbacks()) == (before[0] + 2, before[1])
    drawn = [np.array(layer.cell.seed_generator.state.numpy()) for layer in (ours, theirs)]
    assert drawn[0].tolist() == drawn[1].tolist()


if BACKEND != "numpy":  # which has no gradients

    @seeds
    def test_gradients(c: configurations.Configuration) -> None:
        theirs, ours = c.layers()
        before = fused(), fallbacks()
        found = [configurations.gradients(layer, c) for layer in (ours, theirs)]
        assert_alike(*found, tolerance=FLOAT32_GRADIENT)
        assert fused() > before[0]
        assert fallbacks() == before[1]


@pytest.mark.parametrize("kind", configurations.KINDS)
def test_what_random_configurations_cover(kind: str) -> None:
    """A draw of this many has masked steps before the first that runs, given states, and so on."""
    drawn = [configurations.draw(seed) for seed in range(60)]
    own = [c for c in drawn if c.kind == kind]
    for option in ("stateful", "go_backwards", "dropout", "recurrent_dropout"):
        assert any(c.options[option] and c.training for c in own)
    late = [c for c in own if c.mask is not None and not c.mask[:, 0].all()]
    assert any(c.states is not None and not c.options["zero_output_for_mask"] for c in late)
    assert any(not c.options["return_sequences"] for c in late)


NORMAL = "glorot_normal"  # Keras's usual one factorises a matrix, for which half has no kernel


# ---- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize("kind", configurations.KINDS)
def test_float64(kind: str, reset_after: bool) -> None:
    """Nothing on the way rounds: against a functional call with converted weights."""
    rng = np.random.default_rng(4)
    options = {"reset_after": reset_after} if kind == "GRU" else {}
    layer = getattr(fastrnn.keras, kind)(5, dtype="float64", return_sequences=True, **options)
    x, h = rng.standard_normal((3, 6, 4)), rng.standard_normal((3, 5))
    mask = rng.random((3, 6)) < 0.5
    layer.build(x.shape)
    states = [h, rng.standard_normal((3, 5))][: len(layer.get_initial_state(1))]
    y = layer(x, mask=keras.ops.convert_to_tensor(mask), initial_state=states)
    cell = {"SimpleRNN": "rnn_tanh", "LSTM": "lstm", "GRU": "gru"}[kind]
    if not options.get("reset_after", True):
        cell = "gru_reset_before"
    weights = [w.astype(x.dtype) for w in layer.get_weights()]
    wanted, _ = fastrnn.functional.infer(
        cell, x, fastrnn.weights.from_keras(cell, weights),
        tuple(s[None] for s in states) if kind == "LSTM" else h[None],
        batch_first=True, holds=~mask, repeat_held=True,
    )  # fmt: skip
    if BACKEND in ("numpy", "jax"):  # whose own loops repeat the initial state
        wanted[np.cumsum(mask, axis=1) == 0] = h[np.nonzero(np.cumsum(mask, axis=1) == 0)[0]]
    y = keras.ops.convert_to_numpy(y)
    assert y.dtype == wanted.dtype
    assert relative(y, wanted) < 1e-14


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", configurations.KINDS)
def test_half_precision(kind: str, policy: str) -> None:
    """Closer to float32 than Keras's own, or as close, and of the same dtype."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 12, 4)).astype("float32")
    exact = getattr(keras.layers, kind)(5, return_sequences=True, recurrent_initializer=NORMAL)
    wanted = keras.ops.convert_to_numpy(exact(x))
    found = []
    for module in (keras.layers, fastrnn.keras):
        options = {"return_sequences": True, "recurrent_initializer": NORMAL, "dtype": policy}
        layer = getattr(module, kind)(5, **options)
        layer.build(x.shape)
        layer.set_weights(exact.get_weights())
        before = fused()
        y = layer(x)
        assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
        assert fused() - before == (module is fastrnn.keras)
        y = keras.ops.convert_to_numpy(keras.ops.cast(y, "float32"))
        found.append(float(np.abs(y - wanted).max()))
    rounding = 2.0 ** (-8 if "bfloat16" in policy else -11)
    assert found[1] <= max(found[0], rounding) * 1.5
    assert 0 < found[1] <= 8 * rounding


# ---- what has no kernel --------------------------------------------------------------------------


class OwnCell(keras.layers.LSTMCell):
    """A subclass, which may compute anything."""


def swish(x: Any) -> Any:
    return x * keras.ops.sigmoid(x)


WITHOUT_KERNEL = {
    "the activation silu has no kernel": lambda m: m.LSTM(4, activation="silu"),
    "the activation swish has no kernel": lambda m: m.GRU(4, recurrent_activation=swish),
    "the activation hard_tanh has no kernel": lambda m: m.SimpleRNN(4, activation="hard_tanh"),
    "its cell is check_layers.OwnCell, which has no kernel": lambda m: m.RNN(OwnCell(4)),
    "dropout must be below 1 for a kernel, got 1.0": lambda m: m.SimpleRNN(4, dropout=1.0),
    "the layer computes in float32, its cell in float64": lambda m: m.RNN(
        keras.layers.GRUCell(4, dtype="float64")
    ),
}


@pytest.mark.parametrize("reason", WITHOUT_KERNEL)
def test_what_has_no_kernel_runs_as_keras_does(reason: str) -> None:
    x = np.random.default_rng(1).standard_normal((2, 5, 3)).astype("float32")
    theirs, ours = (WITHOUT_KERNEL[reason](m) for m in (keras.layers, fastrnn.keras))
    for layer in (theirs, ours):
        layer.build(x.shape)
    ours.set_weights(theirs.get_weights())
    before = fastrnn.keras.report()
    with pytest.warns(fastrnn.keras.FallbackWarning) as warned:
        first = ours(x)
    assert [str(w.message) for w in warned if w.category is fastrnn.keras.FallbackWarning] == [
        f"[keras] layer {ours.name!r} runs on Keras's own path: {reason}"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", fastrnn.keras.FallbackWarning)
        ours(x)
    after = fastrnn.keras.report()
    assert after.fused == before.fused
    assert after.fallbacks[reason] == before.fallbacks.get(reason, 0) + 2
    assert reason in str(after)
    wanted = keras.ops.convert_to_numpy(theirs(x))
    assert np.array_equal(keras.ops.convert_to_numpy(first), wanted)


def test_a_backend_without_an_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = fastrnn.keras.GRU(4)
    monkeypatch.setattr(fastrnn.keras._backends, "name", lambda: "openvino")
    match = "the backend openvino has no adapter"
    with pytest.warns(fastrnn.keras.FallbackWarning, match=match):
        assert layer(np.ones((2, 3, 4), "float32")).shape == (2, 4)
    assert fastrnn.keras.accelerate(keras.layers.GRU(4)).kept == {"": match}


def test_masks_of_a_cell_that_was_changed() -> None:
    """Keras draws masks as the cell was made, and multiplies as it is now."""
    x = np.ones((2, 3, 4), "float32")
    layers = keras.layers.LSTM(4), fastrnn.keras.LSTM(4)
    for layer in layers:
        layer.build(x.shape)
        layer.cell.recurrent_dropout = 0.5
    layers[1].set_weights(layers[0].get_weights())
    before = fused()
    layers[1](x)  # without masks it has a kernel
    assert fused() == before + 1
    match = "implementation or recurrent_dropout of its cell was set"
    with pytest.warns(fastrnn.keras.FallbackWarning, match=match):
        y = layers[1](x, training=True)
    wanted = layers[0](x, training=True)
    assert np.array_equal(*map(keras.ops.convert_to_numpy, (y, wanted)))


def test_unroll_makes_no_difference() -> None:
    x = np.random.default_rng(1).standard_normal((2, 5, 3)).astype("float32")
    layers = [fastrnn.keras.LSTM(4, unroll=unroll) for unroll in (False, True)]
    for layer in layers:
        layer.build(x.shape)
    layers[1].set_weights(layers[0].get_weights())
    before = fused()
    first, second = (keras.ops.convert_to_numpy(layer(x)) for layer in layers)
    assert np.array_equal(first, second)
    assert fused() == before + 2


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 4), (3, 5), (2, 5, 3), (10,), (2, 1)])
def test_a_mask_of_another_shape(shape: tuple[int, ...]) -> None:
    layer = fastrnn.keras.GRU(4)
    match = rf"^\[keras\] mask must have shape \(B, T\) = \(2, 5\), got \({shape[0]},"
    with pytest.raises(ValueError, match=match):
        layer.inner_loop(*_call(layer), keras.ops.ones(shape, "bool"))


@pytest.mark.parametrize("shape", [(2, 5, 1), (1, 5)])
def test_masks_of_shapes_that_keras_takes(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal((2, 5, 3)).astype("float32")
    theirs, ours = keras.layers.LSTM(4), fastrnn.keras.LSTM(4)
    mask = np.random.default_rng(1).random(shape) < 0.5
    for layer in (theirs, ours):
        layer.build(x.shape)
    ours.set_weights(theirs.get_weights())
    found = [
        layer.inner_loop(*_call(layer, x), keras.ops.convert_to_tensor(mask))[0]
        for layer in (ours, theirs)
    ]
    assert_alike(*([keras.ops.convert_to_numpy(y)] for y in found))


def _call(layer: Any, x: np.ndarray | None = None) -> tuple[Any, Any]:
    x = np.ones((2, 5, 3), "float32") if x is None else x
    if not layer.built:
        layer.build(x.shape)
    return keras.ops.convert_to_tensor(x), layer.get_initial_state(2)


@pytest.mark.parametrize(
    ("kind", "shapes", "match"),
    [
        ("LSTM", [(3, 4), (2, 4)], r"be of shape \(B, H\) = \(2, 4\), got \(3, 4\)"),
        ("LSTM", [(2, 4), (2, 5)], r"be of shape \(B, H\) = \(2, 4\), got \(2, 5\)"),
        ("GRU", [(1, 4)], r"be of shape \(B, H\) = \(2, 4\), got \(1, 4\)"),
        ("GRU", [(1, 2, 4)], r"be of shape \(B, H\) = \(2, 4\), got \(1, 2, 4\)"),
        ("LSTM", [(2, 4)], r"be 2 tensors, got 1"),
        ("SimpleRNN", [(2, 4), (2, 4)], r"be 1 tensors, got 2"),
    ],
)
def test_states_that_do_not_fit(kind: str, shapes: list[Any], match: str) -> None:
    layer = getattr(fastrnn.keras, kind)(4)
    states = [keras.ops.ones(shape) for shape in shapes]
    with pytest.raises(ValueError, match=r"^\[keras\] initial_state must " + match):
        layer.inner_loop(_call(layer)[0], states, None)


def test_inputs_of_another_rank() -> None:
    layer = fastrnn.keras.RNN(keras.layers.LSTMCell(4))
    layer.build((2, 5, 3))
    with pytest.raises(ValueError, match=r"\[keras\] inputs must have shape \(B, T, I\), got \(2"):
        layer(np.ones((2, 5, 3, 1), "float32"))
