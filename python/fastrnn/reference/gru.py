"""The gated recurrent unit, with the reset gate after the matrix product.

K. Cho et al., Learning phrase representations using RNN encoder-decoder for statistical machine
translation (arXiv:1406.1078, 2014), in the letters of `torch.nn.GRU`::

    r_t = sigmoid(W_ir x_t + b_ir + W_hr h_(t-1) + b_hr)          reset gate
    z_t = sigmoid(W_iz x_t + b_iz + W_hz h_(t-1) + b_hz)          update gate
    n_t =    tanh(W_in x_t + b_in + r_t (W_hn h_(t-1) + b_hn))    new gate
    h_t = (1 - z_t) n_t + z_t h_(t-1)

Three gates in the order r z n, one state h. The reset gate stands after the product, as in the
first version of the paper, torch and cuDNN, so that one product R h serves all three gates; in the
published version it stands before, W_hn (r_t h_(t-1)).
"""

import numpy as np

from .cell import Array, Arrays, Cell, Maths


def step(m: Maths, wx: Array, rh: Array, s_prev: Arrays) -> tuple[Arrays, Arrays]:
    """Compute h_t. See `Cell.step`."""
    (h_prev,) = s_prev
    wx_r, wx_z, wx_n = wx.swapaxes(0, 1)
    rh_r, rh_z, rh_n = rh.swapaxes(0, 1)
    r, z = m.sigmoid(wx_r + rh_r), m.sigmoid(wx_z + rh_z)
    n = m.tanh(wx_n + r * rh_n)
    h = (1 - z) * n + z * h_prev
    return (h,), (r, z, n, rh_n)


def step_backward(saved: Arrays, s_prev: Arrays, ds: Arrays) -> tuple[Array, Array, Arrays]:
    """Compute the gradients of one step. See `Cell.step_backward`."""
    r, z, n, rh_n = saved
    (h_prev,) = s_prev
    (dh,) = ds
    # h_t = (1 - z_t) n_t + z_t h_(t-1)
    dn, dz = dh * (1 - z), dh * (h_prev - n)
    # n_t = tanh(a_n), a_n = wx_n + r_t rh_n: the only gate whose wx and rh differ in gradient.
    da_n = dn * (1 - n * n)
    dr = da_n * rh_n
    da_r, da_z = dr * r * (1 - r), dz * z * (1 - z)
    dwx = np.stack([da_r, da_z, da_n], axis=1)
    drh = np.stack([da_r, da_z, da_n * r], axis=1)
    # h_(t-1) acts through the gates and directly, by z_t.
    return dwx, drh, (dh * z,)


CELLS = {"gru": Cell(gates=3, states=1, step=step, step_backward=step_backward)}
