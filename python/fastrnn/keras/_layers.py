"""The layers: Keras's own, with the recurrence of `Recurrence` in front."""

from __future__ import annotations

import keras

from ._recurrence import Recurrence

_registered = keras.saving.register_keras_serializable(package="fastrnn")


@_registered
class SimpleRNN(Recurrence, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` on fastrnn's kernels; all arguments are Keras's.

    Kernels serve the activations tanh, sigmoid, relu, softsign, softplus, elu, leaky_relu,
    hard_sigmoid and linear, dropout, recurrent dropout and any mask. `unroll` makes no difference.
    What has no kernel runs on Keras's own path, with one warning; see `fastrnn.keras.report`.
    """


@_registered
class LSTM(Recurrence, keras.layers.LSTM):
    """`keras.layers.LSTM` on fastrnn's kernels; all arguments are Keras's.

    `SimpleRNN` says what has a kernel. `use_cudnn` makes no difference where one serves.
    """


@_registered
class GRU(Recurrence, keras.layers.GRU):
    """`keras.layers.GRU` on fastrnn's kernels, with either `reset_after`; arguments are Keras's.

    `SimpleRNN` says what has a kernel. `use_cudnn` makes no difference where one serves.
    """


@_registered
class RNN(Recurrence, keras.layers.RNN):
    """`keras.layers.RNN` around a `SimpleRNNCell`, `LSTMCell` or `GRUCell`, on fastrnn's kernels.

    Other cells, subclasses of these and stacks of cells have no kernel.
    """
