"""Long short-term memory.

S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9 (1997), with the
forget gate of F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, Neural Computation 12
(2000), in the letters of `torch.nn.LSTM`::

    i_t = sigmoid(W_ii x_t + b_ii + W_hi h_(t-1) + b_hi)     input gate
    f_t = sigmoid(W_if x_t + b_if + W_hf h_(t-1) + b_hf)     forget gate
    g_t =    tanh(W_ig x_t + b_ig + W_hg h_(t-1) + b_hg)     cell gate
    o_t = sigmoid(W_io x_t + b_io + W_ho h_(t-1) + b_ho)     output gate
    c_t = f_t c_(t-1) + i_t g_t
    h_t = o_t tanh(c_t)

Four gates in the order i f g o, two states h and c. Other functions may stand for the sigmoid of
the gates, for the tanh of the cell gate and for that of c.

With peepholes (F. A. Gers and J. Schmidhuber, Recurrent nets that time and count, 2000) the gates
see the cell state: p_i c_(t-1) is added in the sigmoid of i_t, p_f c_(t-1) in that of f_t and
p_o c_t in that of o_t. They are parameters of a unit, in the order i f o.
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
        a_i, a_f, a_g, a_o = (wx + rh).swapaxes(0, 1)
        if peepholes:
            a_i, a_f = a_i + p[0] * c_prev, a_f + p[1] * c_prev
        i, f, g = gate.value(m, a_i), gate.value(m, a_f), candidate.value(m, a_g)
        raw = f * c_prev + i * g
        c = clip.value(m, raw)
        if peepholes:
            a_o = a_o + p[2] * c
        o, out = gate.value(m, a_o), output.value(m, c)
        return (o * out, c), (a_i, a_f, a_g, a_o, i, f, g, o, c, out, raw)

    def step_backward(saved: Arrays, s_prev: Arrays, ds: Arrays, p: Any = None) -> tuple[Any, ...]:
        a_i, a_f, a_g, a_o, i, f, g, o, c, out, raw = saved
        _, c_prev = s_prev
        dh, dc = ds
        # h_t = o_t tanh(c_t); c_t also has the gradient dc from the step after.
        da_o = gate.gradient(a_o, dh * out)
        dc = dc + output.gradient(c, dh * o)
        if peepholes:
            dc = dc + p[2] * da_o
        # c_t = f_t c_(t-1) + i_t g_t, clipped
        dc = clip.gradient(raw, dc)
        da_i, da_f = gate.gradient(a_i, dc * g), gate.gradient(a_f, dc * c_prev)
        da_g = candidate.gradient(a_g, dc * i)
        da = np.stack([da_i, da_f, da_g, da_o], axis=1)
        # h_(t-1) acts through the gates only.
        dh_prev, dc_prev = np.zeros_like(dh), dc * f
        if not peepholes:
            return da, da, (dh_prev, dc_prev)
        dp = np.stack([da_i * c_prev, da_f * c_prev, da_o * c], axis=1)
        return da, da, (dh_prev, dc_prev + p[0] * da_i + p[1] * da_f), dp

    return Cell(4, 2, step, step_backward, unit_parameters=3 if peepholes else 0)


BASES = {
    "lstm": partial(make, peepholes=False),
    "lstm_peephole": partial(make, peepholes=True),
}
