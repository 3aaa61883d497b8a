"""Long short-term memory whose forget gate is coupled to the input gate.

The variant CIFG of K. Greff, R. K. Srivastava, J. Koutnik, B. R. Steunebrink and J. Schmidhuber,
LSTM: a search space odyssey, IEEE Transactions on Neural Networks and Learning Systems 28 (2017),
in the letters of ``lstm.py``::

    i_t = sigmoid(W_ii x_t + b_ii + W_hi h_(t-1) + b_hi)     input gate
    g_t =    tanh(W_ig x_t + b_ig + W_hg h_(t-1) + b_hg)     cell gate
    o_t = sigmoid(W_io x_t + b_io + W_ho h_(t-1) + b_ho)     output gate
    c_t = (1 - i_t) c_(t-1) + i_t g_t
    h_t = o_t tanh(c_t)

Three gates in the order i g o, two states h and c. With peepholes p_i c_(t-1) is added in the
sigmoid of i_t and p_o c_t in that of o_t; their order is i o.
"""

from functools import partial
from typing import Any

import numpy as np

from .activations import Activation, Clip
from .cell import Array, Arrays, Cell, Maths


def make(functions: tuple[Activation, ...], clip: Clip, peepholes: bool) -> Cell:
    """Make the cell of the functions of its gates, of the cell gate and of its output, and of the
    clip of c.
    """
    gate, candidate, output = functions

    def step(
        m: Maths, wx: Array, rh: Array, s_prev: Arrays, p: Any = None
    ) -> tuple[Arrays, Arrays]:
        _, c_prev = s_prev
        a_i, a_g, a_o = (wx + rh).swapaxes(0, 1)
        if peepholes:
            a_i = a_i + p[0] * c_prev
        i, g = gate.value(m, a_i), candidate.value(m, a_g)
        raw = (1 - i) * c_prev + i * g
        c = clip.value(m, raw)
        if peepholes:
            a_o = a_o + p[1] * c
        o, out = gate.value(m, a_o), output.value(m, c)
        return (o * out, c), (a_i, a_g, a_o, i, g, o, c, out, raw)

    def step_backward(saved: Arrays, s_prev: Arrays, ds: Arrays, p: Any = None) -> tuple[Any, ...]:
        a_i, a_g, a_o, i, g, o, c, out, raw = saved
        _, c_prev = s_prev
        dh, dc = ds
        # h_t = o_t tanh(c_t); c_t also has the gradient dc from the step after.
        da_o = gate.gradient(a_o, dh * out)
        dc = dc + output.gradient(c, dh * o)
        if peepholes:
            dc = dc + p[1] * da_o
        # c_t = (1 - i_t) c_(t-1) + i_t g_t, clipped
        dc = clip.gradient(raw, dc)
        da_i, da_g = gate.gradient(a_i, dc * (g - c_prev)), candidate.gradient(a_g, dc * i)
        da = np.stack([da_i, da_g, da_o], axis=1)
        # h_(t-1) acts through the gates only.
        dh_prev, dc_prev = np.zeros_like(dh), dc * (1 - i)
        if not peepholes:
            return da, da, (dh_prev, dc_prev)
        dp = np.stack([da_i * c_prev, da_o * c], axis=1)
        return da, da, (dh_prev, dc_prev + p[0] * da_i), dp

    return Cell(3, 2, step, step_backward, unit_parameters=2 if peepholes else 0)


BASES = {
    "lstm_coupled": partial(make, peepholes=False),
    "lstm_coupled_peephole": partial(make, peepholes=True),
}
