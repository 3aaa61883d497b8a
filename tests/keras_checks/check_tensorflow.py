"""What TensorFlow alone has: graphs, XLA, and gradients that nobody may take for zero."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import fastrnn.keras
from configurations import fused
from fastrnn import functional

L = keras.layers


def pair(kind: str = "LSTM", **options: Any) -> tuple[Any, Any]:
    theirs, ours = (getattr(m, kind)(4, return_sequences=True, **options) for m in
                    (L, fastrnn.keras))  # fmt: skip
    for layer in (theirs, ours):
        layer.build((None, None, 3))
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def random(*shape: int) -> Any:
    return tf.constant(np.random.default_rng(0).standard_normal(shape).astype("float32"))


def test_a_graph_that_does_not_know_its_sizes() -> None:
    """One trace for all T and B; static shapes are as known as Keras's."""
    theirs, ours = pair("GRU", go_backwards=True)
    traced = []

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None), bool)]
    )
    def run(x: Any, mask: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = ours(x, mask=mask, training=True)
        traced.append(y.shape)
        return y, tape.gradient(y, x)

    before = fused()
    for B, T in ((2, 5), (3, 7)):
        x, mask = random(B, T, 3), random(B, T) > 0
        y, dx = run(x, mask)
        with tf.GradientTape() as tape:
            tape.watch(x)
            wanted = theirs(x, mask=mask, training=True)
        assert y.numpy() == pytest.approx(wanted.numpy(), abs=1e-5)
        assert dx.numpy() == pytest.approx(tape.gradient(wanted, x).numpy(), abs=1e-5)
    assert [shape.as_list() for shape in traced] == [[None, None, 4]]
    assert fused() == before + 1  # when it was traced


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_second_order_are_refused(training: bool, in_graph: bool) -> None:
    _, ours = pair()
    x = random(2, 5, 3)

    def run() -> Any:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = ours(x, training=training)
            dx = inner.gradient(y, x)
        return dx, outer.gradient(dx, x)

    match = r"\[keras\] gradients must be of first order"
    with pytest.raises(NotImplementedError, match=match):
        tf.function(run)() if in_graph else run()


@pytest.mark.parametrize("training", [False, True])
def test_forward_runs_once_more_where_there_is_no_tape(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []
    for name in ("infer", "forward", "backward"):
        own = getattr(functional, name)

        def run(*args: Any, own: Any = own, name: str = name, **named: Any) -> Any:
            ran.append(name)
            return own(*args, **named)

        monkeypatch.setattr(functional, name, run)
    x = random(2, 5, 3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = pair()[1](x, training=training)
    tape.gradient(y, x)
    assert ran == (["forward", "backward"] if training else ["infer", "forward", "backward"])


def test_what_xla_compiles_runs_on_keras_s_path() -> None:
    theirs, ours = pair()
    x = random(2, 5, 3)
    with pytest.warns(fastrnn.keras.FallbackWarning, match="XLA compiles this function"):
        y = tf.function(ours, jit_compile=True)(x)
    assert y.numpy() == pytest.approx(theirs(x).numpy(), abs=1e-5)


def test_models_with_our_layers_are_not_compiled_by_xla() -> None:
    model = keras.Sequential([keras.Input((None, 3)), L.LSTM(4)])
    model.compile("sgd", "mse", jit_compile=True)
    assert model.jit_compile
    fastrnn.keras.accelerate(model)
    assert not model.jit_compile
    fastrnn.keras.restore(model)
    assert model.jit_compile
    for activation, compiled in (("tanh", False), ("silu", True)):  # which is on Keras's path
        layer = fastrnn.keras.LSTM(4, activation=activation)
        model = keras.Sequential([keras.Input((None, 3)), layer])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's, that it does not compile
            model.compile("sgd", "mse", jit_compile=True)
        assert model.jit_compile == compiled


def test_errors_of_a_graph_name_the_rule() -> None:
    _, ours = pair()
    run = tf.function(
        lambda x, h: ours(x, initial_state=[h, h]),
        input_signature=[tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None))],
    )
    with pytest.raises(tf.errors.OpError, match=r"\[lstm\] .*must"):
        run(random(2, 5, 3), random(3, 4))
