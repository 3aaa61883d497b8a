"""TensorFlow: Keras layers in a `tf.function`; batch first, as Keras has it; rows padded."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fastrnn._bench.cases import Case, Data, state_names
from fastrnn._bench.peers import Way, missing

# torch's gates i f g o and r z n in Keras's order i f c o and z r h.
ORDER = {"rnn_tanh": [0], "lstm": [0, 1, 2, 3], "gru": [1, 0, 2]}


def available() -> str | None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return missing("tensorflow", "keras")


def version() -> str:
    import tensorflow as tf

    return str(tf.__version__)


def setup(threads: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def to_keras(case: Case, weight: np.ndarray) -> np.ndarray:
    """(G * H, n) or (G * H,) to (n, G * H) or (G * H,) with the gates in Keras's order."""
    parts = weight.reshape(case.gates, case.H, -1)[ORDER[case.cell]]
    return np.asarray(parts.reshape(weight.shape).T)


def from_keras(case: Case, weight: np.ndarray) -> np.ndarray:
    parts = weight.T.reshape(case.gates, case.H, -1)[np.argsort(ORDER[case.cell])]
    return np.asarray(parts.reshape(weight.T.shape))


def make_layers(case: Case, params: dict[str, np.ndarray]) -> list[Any]:
    """One layer for each layer and direction."""
    import keras

    keras.backend.clear_session()
    classes = {
        "rnn_tanh": keras.layers.SimpleRNN,
        "lstm": keras.layers.LSTM,
        "gru": keras.layers.GRU,
    }
    inputs, layers = case.layer_inputs(), []
    for k, suffix in case.passes():
        options = {"reset_after": True} if case.cell == "gru" else {}
        layer = classes[case.cell](
            case.H,
            return_sequences=True,
            return_state=True,
            go_backwards=suffix.endswith("_reverse"),
            dtype=case.dtype,
            **options,
        )
        layer.build((case.B, case.T, inputs[k]))
        biases = [to_keras(case, params[f"bias_{kind}_{suffix}"]) for kind in ("ih", "hh")]
        layer.set_weights(
            [
                to_keras(case, params[f"weight_ih_{suffix}"]),
                to_keras(case, params[f"weight_hh_{suffix}"]),
                np.stack(biases) if case.cell == "gru" else biases[0] + biases[1],
            ]
        )
        layers.append(layer)
    return layers


def build(case: Case, data: Data) -> dict[str, Way]:
    import tensorflow as tf

    layers = make_layers(case, data.params)
    weights = [w for layer in layers for w in layer.trainable_weights]

    def run(x: Any, state: list[Any]) -> Any:
        finals = []
        for k in range(case.L):
            outputs = []
            for p in range(k * case.D, (k + 1) * case.D):
                y, *final = layers[p](x, initial_state=[s[p] for s in state])
                outputs.append(tf.reverse(y, [1]) if layers[p].go_backwards else y)
                finals.append(final)
            x = outputs[0] if case.D == 1 else tf.concat(outputs, axis=-1)
        return x, [tf.stack(parts) for parts in zip(*finals, strict=True)]

    forward = tf.function(run)

    @tf.function
    def train(x: Any, state: list[Any], dy: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, *state])
            y, final = run(x, state)
        return y, final, tape.gradient(y, [x, *state, *weights], output_gradients=dy)

    x = tf.constant(data.x.swapaxes(0, 1))
    dy = tf.constant(data.dy.swapaxes(0, 1))
    state = initial = [tf.constant(s) for s in data.state]

    def call_forward() -> Any:
        return forward(x, initial)

    def call_train() -> Any:
        return train(x, initial, dy)

    def call_stream() -> Any:
        nonlocal state
        y, state = forward(x, state)
        return y, state

    def arrays(value: Any) -> dict[str, np.ndarray]:
        y, final, *rest = value
        result = {"y": y.numpy().swapaxes(0, 1)}
        if not case.lengths:
            result.update(zip(state_names(case), [s.numpy() for s in final], strict=True))
        for grads in rest:
            dx, *others = [tf.convert_to_tensor(g).numpy() for g in grads]
            result["dx"] = dx.swapaxes(0, 1)
            result.update(zip(state_names(case, "d", "0"), others[: case.states], strict=True))
            result.update(named_gradients(case, others[case.states :]))
        return result

    calls = {"forward": call_forward, "train": call_train, "stream": call_stream}
    return {"layers": Way(calls[case.mode], arrays)}


def named_gradients(case: Case, grads: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Three gradients a pass, kernel, recurrent kernel, bias, by torch's names."""
    result = {}
    for p, (_, suffix) in enumerate(case.passes()):
        w_ih, w_hh, bias = grads[3 * p : 3 * p + 3]
        result[f"weight_ih_{suffix}"] = from_keras(case, w_ih)
        result[f"weight_hh_{suffix}"] = from_keras(case, w_hh)
        # One bias stands for both, but in the GRU.
        for kind, b in zip(("ih", "hh"), bias if bias.ndim == 2 else (bias, bias), strict=True):
            result[f"bias_{kind}_{suffix}"] = from_keras(case, b)
    return result
