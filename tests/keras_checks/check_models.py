"""Whole models: training, saving, `accelerate` and `restore`, on the backend of this process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import fastrnn.keras
from configurations import BACKEND, fallbacks, fused

L = keras.layers
B, T, I = 6, 7, 3


@pytest.fixture(autouse=True)
def _no_layer_is_slow() -> Iterator[None]:
    before = fallbacks()
    with warnings.catch_warnings():
        warnings.simplefilter("error", fastrnn.keras.FallbackWarning)
        yield
    assert fallbacks() == before


@pytest.fixture
def x() -> np.ndarray:
    """Rows of zeros at their ends are masked."""
    x = np.random.default_rng(0).standard_normal((B, T, I)).astype("float32")
    for row, length in enumerate((7, 4, 0, 6, 1, 2)):
        x[row, length:] = 0
    x[1, 1] = 0
    return x


def y() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, B)


class Subclassed(keras.Model):
    """Layers as attributes, in a list, and one that is called twice."""

    def __init__(self, m: Any) -> None:
        super().__init__()
        self.first = m.GRU(5, return_sequences=True)
        self.others = [m.LSTM(5, return_sequences=True), m.SimpleRNN(5, return_sequences=True)]
        self.head = L.Dense(4, activation="softmax")

    def call(self, inputs: Any) -> Any:
        h = self.first(inputs)
        for layer in self.others:
            h = layer(h) + layer(h * 0.5)
        return self.head(h[:, -1])


def sequential(m: Any) -> Any:
    return keras.Sequential(
        [
            keras.Input((None, I)),
            L.Masking(),
            m.LSTM(5, return_sequences=True, recurrent_dropout=0.3, dropout=0.3, seed=3),
            L.Bidirectional(m.GRU(4, return_sequences=True)),
            m.SimpleRNN(5),
            L.Dense(4, activation="softmax"),
        ]
    )


def functional(m: Any) -> Any:
    """With states of one layer for another, regularisers, and a wrapper around a cell."""
    inputs = keras.Input((None, I))
    mask = L.Masking()(inputs)
    seen, h, c = m.LSTM(5, return_sequences=True, return_state=True)(
        mask, mask=keras.ops.any(keras.ops.not_equal(inputs, 0), axis=-1)
    )
    regularized = m.LSTM(5, kernel_regularizer="l2", activity_regularizer="l1")
    rnn = m.RNN(L.GRUCell(4), go_backwards=True)
    found = L.Concatenate()([regularized(seen, initial_state=[h, c]), rnn(seen)])
    return keras.Model(inputs, L.Dense(4, activation="softmax")(found))


MODELS: dict[str, Callable[[Any], Any]] = {
    "sequential": sequential,
    "functional": functional,
    "subclassed": Subclassed,
}
models = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def made(make: Callable[[Any], Any], m: Any, like: Any = None) -> Any:
    """A compiled model that has been called once, with the weights of another."""
    keras.utils.set_random_seed(1)
    model = make(m)
    model(np.zeros((B, T, I), "float32"))
    if like is not None:
        model.set_weights(like.get_weights())
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    return model


def predicted(model: Any, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x))


@models
def test_predictions(make: Callable[[Any], Any], x: np.ndarray) -> None:
    theirs = made(make, L)
    ours = made(make, fastrnn.keras, theirs)
    before = fused()
    for found in (predicted(ours, x), ours.predict(x, verbose=0)):
        assert found == pytest.approx(predicted(theirs, x), abs=1e-5)
    assert fused() >= before + 6


def fit(model: Any, x: np.ndarray, epochs: int = 3) -> list[float]:
    history = model.fit(x, y(), epochs=epochs, batch_size=3, shuffle=False, verbose=0).history
    losses: list[float] = history["loss"]
    return losses


if BACKEND != "numpy":  # which trains nothing

    @models
    def test_training_goes_the_same_way(make: Callable[[Any], Any], x: np.ndarray) -> None:
        """With the draws of dropout, and whatever the backend compiles."""
        theirs = made(make, L)
        ours = made(make, fastrnn.keras, theirs)
        before = fused()
        losses = fit(ours, x)
        assert fused() > before
        wanted = fit(theirs, x)
        assert losses == pytest.approx(wanted, rel=1e-5)
        assert wanted[-1] < wanted[0] - 0.01
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            assert a == pytest.approx(b, abs=1e-4)

    @models
    def test_accelerate_in_the_middle_of_a_training(
        make: Callable[[Any], Any], x: np.ndarray
    ) -> None:
        """The optimiser goes on, and what was compiled is made anew."""
        whole, model = made(make, L), made(make, L)
        wanted = fit(whole, x, 6)
        losses = fit(model, x, 2)
        before = fused()
        fastrnn.keras.accelerate(model)
        losses += fit(model, x, 2)
        assert fused() > before
        fastrnn.keras.restore(model)
        before = fused()
        losses += fit(model, x, 2)
        assert fused() == before
        assert losses == pytest.approx(wanted, rel=1e-5)

    def test_evaluate_and_predict_after_accelerate(x: np.ndarray) -> None:
        model = made(sequential, L)
        wanted = model.evaluate(x, y(), verbose=0), model.predict(x, verbose=0)
        fastrnn.keras.accelerate(model)
        before = fused()
        assert model.evaluate(x, y(), verbose=0) == pytest.approx(wanted[0], rel=1e-5)
        assert model.predict(x, verbose=0) == pytest.approx(wanted[1], abs=1e-5)
        assert fused() >= before + 8


# ---- saving --------------------------------------------------------------------------------------


@models
def test_weights_load_both_ways(make: Callable[[Any], Any], x: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    pair = made(make, L), made(make, fastrnn.keras)
    for source, target in (pair, pair[::-1]):
        for weight in source.weights:
            if weight.trainable:
                weight.assign(weight * 1.5 + 0.01)
        source.save_weights(path)
        assert np.abs(predicted(target, x) - predicted(source, x)).max() > 1e-3
        target.load_weights(path)
        assert predicted(target, x) == pytest.approx(predicted(source, x), abs=1e-5)


@pytest.mark.parametrize("make", [sequential, functional])
def test_files(make: Callable[[Any], Any], x: np.ndarray, tmp_path: Path) -> None:
    """Ours load as ours; Keras's become ours by `accelerate`, and ours Keras's by `restore`."""
    path = tmp_path / "model.keras"
    ours = made(make, fastrnn.keras)
    wanted = predicted(ours, x)
    ours.save(path)
    loaded = keras.saving.load_model(path)
    before = fused()
    assert predicted(loaded, x) == pytest.approx(wanted, abs=1e-6)
    assert fused() > before
    fastrnn.keras.restore(loaded)
    loaded.save(path)
    loaded = keras.saving.load_model(path)
    before = fused()
    assert predicted(loaded, x) == pytest.approx(wanted, abs=1e-5)
    assert fused() == before
    fastrnn.keras.accelerate(loaded)
    assert predicted(loaded, x) == pytest.approx(wanted, abs=1e-6)
    assert fused() > before


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_configurations_are_keras_s(kind: str) -> None:
    options = {"units": 4, "dropout": 0.25, "go_backwards": True, "name": "own",
               "kernel_constraint": "max_norm", "bias_initializer": "ones"}  # fmt: skip
    theirs, ours = (getattr(m, kind)(**options) for m in (L, fastrnn.keras))
    assert ours.get_config() == theirs.get_config()
    assert keras.saving.get_registered_name(type(ours)) == f"fastrnn>{kind}"  # in files
    again = type(ours).from_config(theirs.get_config())
    assert type(again) is getattr(fastrnn.keras, kind)
    for layer in (theirs, ours):
        layer.build((2, 5, 3))
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]


# ---- accelerate ----------------------------------------------------------------------------------


def test_what_accelerate_and_restore_report() -> None:
    cells = [L.LSTMCell(3), L.LSTMCell(3)]
    model = keras.Sequential(
        [
            keras.Input((T, 2, I)),
            L.TimeDistributed(L.LSTM(4, name="inner")),
            L.Bidirectional(L.GRU(4, return_sequences=True, name="both")),
            L.LSTM(4, activation="gelu", return_sequences=True, name="gelu"),
            L.RNN(L.SimpleRNNCell(4), return_sequences=True, name="around"),
            L.RNN(cells, return_sequences=True, name="stack"),
            fastrnn.keras.LSTM(4, name="ours"),
        ]
    )
    x = np.random.default_rng(0).standard_normal((B, T, 2, I)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = predicted(model, x)
    time_distributed, bidirectional = model.layers[:2]
    inside = bidirectional.name
    before = {weight.path: weight for weight in model.weights}
    report = fastrnn.keras.accelerate(model)
    changed = {
        f"{time_distributed.name}/inner": "LSTM",
        f"{inside}/forward_both": "GRU",
        f"{inside}/backward_both": "GRU",
        "around": "RNN",
    }
    assert report.changed == {name: f"fastrnn.keras.{cls}" for name, cls in changed.items()}
    assert report.kept == {
        "gelu": "the activation gelu has no kernel",
        "stack": "its cell is keras.src.layers.rnn.stacked_rnn_cells.StackedRNNCells, "
        "which has no kernel",
        "ours": "it is fastrnn.keras.LSTM already",
    }
    assert f"{inside}/forward_both: now fastrnn.keras.GRU" in str(report)
    assert {weight.path: weight for weight in model.weights} == before
    count = fused()
    assert predicted(model, x) == pytest.approx(wanted, abs=1e-5)
    assert fused() == count + T + 4

    report = fastrnn.keras.restore(model)
    changed["ours"] = "LSTM"
    assert report.changed == {name: f"keras.layers.{cls}" for name, cls in changed.items()}
    assert {type(layer) for layer in model._flatten_layers() if isinstance(layer, L.RNN)} == {
        L.LSTM, L.GRU, L.RNN
    }  # fmt: skip
    count = fused()
    assert predicted(model, x) == pytest.approx(wanted, abs=1e-6)
    assert fused() == count


def test_accelerate_takes_a_layer_alone_and_nothing_else() -> None:
    layer = L.LSTM(4)
    assert fastrnn.keras.accelerate(layer).changed == {"": "fastrnn.keras.LSTM"}
    assert type(layer) is fastrnn.keras.LSTM
    assert str(fastrnn.keras.accelerate(L.Dense(3))) == "no recurrent layers"
    kept = fastrnn.keras.accelerate(L.LSTMCell(3)).kept
    assert kept == {"": "a LSTMCell on its own, whose steps are calls"}
    for function in (fastrnn.keras.accelerate, fastrnn.keras.restore):
        with pytest.raises(TypeError, match="must be a layer of Keras, got int"):
            function(3)


@keras.saving.register_keras_serializable("own")
class Halved(L.LSTM):
    """A subclass that does something before Keras's own call."""

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False
    ) -> Any:
        return super().call(sequences * 0.5, initial_state, mask, training)


class Own(L.GRU):
    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: Any) -> Any:
        return sequences[:, -1], sequences, initial_state


class Twice(keras.Model):
    """A model that has one layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = L.LSTM(3, name="one")
        self.inner = keras.Sequential([self.first])


class OnOurs(fastrnn.keras.LSTM):
    """A subclass of a layer that is ours already."""


def copy(layer: Any) -> Any:
    return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))


def test_subclasses(x: np.ndarray) -> None:
    model = keras.Sequential([Halved(4, return_sequences=True, name="a"), Own(4, name="b")])
    wanted = predicted(model, x)
    report = fastrnn.keras.accelerate(model)
    assert report.changed == {"a": "Halved on fastrnn.keras.LSTM"}
    assert report.kept == {"b": "Own has a inner_loop that does not call super().inner_loop"}
    twin = type(model.layers[0])
    assert twin is not Halved
    assert issubclass(twin, Halved)
    before = fused()
    assert predicted(model, x) == pytest.approx(wanted, abs=1e-6)
    assert fused() == before + 1
    assert type(copy(model.layers[0])) is Halved  # as a process without fastrnn has it
    assert fastrnn.keras.restore(model).changed == {"a": "Halved on keras.layers.LSTM"}
    assert type(model.layers[0]) is Halved
    assert fastrnn.keras.accelerate(Twice()).changed == {"one": "fastrnn.keras.LSTM"}
    assert not fastrnn.keras.accelerate(Twice()).kept
    report = fastrnn.keras.restore(OnOurs(3))
    assert report.kept == {"": "OnOurs is a subclass of fastrnn.keras.LSTM"}


def test_building_a_model_calls_nothing() -> None:
    before = fused()
    inputs = keras.Input((None, I))
    outputs = fastrnn.keras.LSTM(4, return_sequences=True, return_state=True)(inputs)
    assert [tuple(each.shape) for each in outputs] == [(None, None, 4), (None, 4), (None, 4)]
    keras.Model(inputs, fastrnn.keras.GRU(4)(outputs[0]))
    assert fused() == before


def test_a_subclassed_model_is_built_by_its_shapes() -> None:
    """Where Keras runs the layers on tensors without values."""
    before = fused()
    model = Subclassed(fastrnn.keras)
    assert tuple(model(keras.Input((T, I))).shape) == (None, 4)
    assert fused() == before


def test_states_go_on_and_are_reset(x: np.ndarray) -> None:
    pair = [
        keras.Sequential([keras.Input(batch_shape=(B, T, I)), m.LSTM(4, stateful=True)])
        for m in (L, fastrnn.keras)
    ]
    pair[1].set_weights(pair[0].get_weights())
    found = []
    for model in pair:
        calls = [predicted(model, x) for _ in range(2)]
        model.layers[0].reset_state()
        found.append([*calls, predicted(model, x)])
    for a, b in zip(*found, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    assert np.array_equal(found[1][0], found[1][2])
    assert np.abs(found[1][0] - found[1][1]).max() > 1e-3
