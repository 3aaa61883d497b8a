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

Four gates in the order i f g o, two states h and c.
"""

import numpy as np

from .cell import Array, Arrays, Cell, Maths


def step(m: Maths, wx: Array, rh: Array, s_prev: Arrays) -> tuple[Arrays, Arrays]:
    """Compute h_t, c_t. See `Cell.step`."""
    _, c_prev = s_prev
    a_i, a_f, a_g, a_o = (wx + rh).swapaxes(0, 1)
    i, f, g, o = m.sigmoid(a_i), m.sigmoid(a_f), m.tanh(a_g), m.sigmoid(a_o)
    c = f * c_prev + i * g
    tanh_c = m.tanh(c)
    h = o * tanh_c
    return (h, c), (i, f, g, o, tanh_c)


def step_backward(saved: Arrays, s_prev: Arrays, ds: Arrays) -> tuple[Array, Array, Arrays]:
    """Compute the gradients of one step. See `Cell.step_backward`."""
    i, f, g, o, tanh_c = saved
    _, c_prev = s_prev
    dh, dc = ds
    # h_t = o_t tanh(c_t); c_t also has the gradient dc from the step after.
    do = dh * tanh_c
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    # c_t = f_t c_(t-1) + i_t g_t
    df, di, dg = dc * c_prev, dc * g, dc * i
    # Through the activations, each derivative written by its value.
    da_i, da_f, da_o = di * i * (1 - i), df * f * (1 - f), do * o * (1 - o)
    da_g = dg * (1 - g * g)
    da = np.stack([da_i, da_f, da_g, da_o], axis=1)
    # h_(t-1) acts through the gates only.
    return da, da, (np.zeros_like(dh), dc * f)


CELLS = {"lstm": Cell(gates=4, states=2, step=step, step_backward=step_backward)}
