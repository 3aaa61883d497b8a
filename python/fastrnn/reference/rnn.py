"""The simple recurrent network, with three activations.

J. L. Elman, Finding structure in time, Cognitive Science 14 (1990), in the letters of
`torch.nn.RNN`::

    h_t = act(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)

One gate, one state h. Elman's units are sigmoids; tanh and relu are the usual ones today.
"""

from collections.abc import Callable

import numpy as np

from .cell import Array, Arrays, Cell, Maths


def _make(activation: str, act_backward: Callable[[Array, Array], Array]) -> Cell:
    """Make the cell of an activation h = act(a) and of its derivative, da from h and dh."""

    def step(m: Maths, wx: Array, rh: Array, s_prev: Arrays) -> tuple[Arrays, Arrays]:
        h = getattr(m, activation)(wx[:, 0] + rh[:, 0])
        return (h,), (h,)

    def step_backward(saved: Arrays, s_prev: Arrays, ds: Arrays) -> tuple[Array, Array, Arrays]:
        (h,) = saved
        (dh,) = ds
        da = act_backward(h, dh)[:, None]
        # h_(t-1) acts through W_hh only.
        return da, da, (np.zeros_like(dh),)

    return Cell(gates=1, states=1, step=step, step_backward=step_backward)


def _tanh_backward(h: Array, dh: Array) -> Array:
    return dh * (1 - h * h)


def _relu_backward(h: Array, dh: Array) -> Array:
    # 0 at the kink, as in torch. A choice, not a product: where the unit is off, nothing passes.
    return np.where(h <= 0, 0.0, dh)


def _sigmoid_backward(h: Array, dh: Array) -> Array:
    return dh * h * (1 - h)


CELLS = {
    "rnn_tanh": _make("tanh", _tanh_backward),
    "rnn_relu": _make("relu", _relu_backward),
    "rnn_sigmoid": _make("sigmoid", _sigmoid_backward),
}
