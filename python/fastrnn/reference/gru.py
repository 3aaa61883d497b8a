"""The gated recurrent unit, with the reset gate after the matrix product, and before it.

K. Cho et al., Learning phrase representations using RNN encoder-decoder for statistical machine
translation (arXiv:1406.1078, 2014), in the letters of `torch.nn.GRU`::

    r_t = sigmoid(W_ir x_t + b_ir + W_hr h_(t-1) + b_hr)          reset gate
    z_t = sigmoid(W_iz x_t + b_iz + W_hz h_(t-1) + b_hz)          update gate
    n_t =    tanh(W_in x_t + b_in + r_t (W_hn h_(t-1) + b_hn))    new gate
    h_t = (1 - z_t) n_t + z_t h_(t-1)

Three gates in the order r z n, one state h. The reset gate stands after the product, as in the
first version of the paper, torch and cuDNN, so that one product R h serves all three gates. In the
published version (EMNLP 2014) it stands before, which is ``gru_reset_before``; a step then has a
second product, which waits for the first::

    v_t = r_t h_(t-1)
    n_t = tanh(W_in x_t + b_in + W_hn v_t + b_hn)

Other functions may stand for the sigmoid of the gates and for the tanh of the new gate.
"""

import numpy as np

from .activations import Activation, Clip
from .cell import Array, Arrays, Cell, Inner, Maths


def make(functions: tuple[Activation, ...], clip: Clip) -> Cell:
    """Make the cell of the functions of its gates and of the new gate, and of the clip of h."""
    gate, new = functions

    def step(m: Maths, wx: Array, rh: Array, s_prev: Arrays) -> tuple[Arrays, Arrays]:
        (h_prev,) = s_prev
        wx_r, wx_z, wx_n = wx.swapaxes(0, 1)
        rh_r, rh_z, rh_n = rh.swapaxes(0, 1)
        a_r, a_z = wx_r + rh_r, wx_z + rh_z
        r, z = gate.value(m, a_r), gate.value(m, a_z)
        a_n = wx_n + r * rh_n
        n = new.value(m, a_n)
        raw = (1 - z) * n + z * h_prev
        return (clip.value(m, raw),), (a_r, a_z, a_n, rh_n, r, z, n, raw)

    def step_backward(saved: Arrays, s_prev: Arrays, ds: Arrays) -> tuple[Array, Array, Arrays]:
        a_r, a_z, a_n, rh_n, r, z, n, raw = saved
        (h_prev,) = s_prev
        dh = clip.gradient(raw, ds[0])
        # h_t = (1 - z_t) n_t + z_t h_(t-1)
        dn, dz = dh * (1 - z), dh * (h_prev - n)
        # n_t = tanh(a_n), a_n = wx_n + r_t rh_n: the only gate whose wx and rh differ in gradient.
        da_n = new.gradient(a_n, dn)
        da_r, da_z = gate.gradient(a_r, da_n * rh_n), gate.gradient(a_z, dz)
        dwx = np.stack([da_r, da_z, da_n], axis=1)
        drh = np.stack([da_r, da_z, da_n * r], axis=1)
        # h_(t-1) acts through the gates and directly, by z_t.
        return dwx, drh, (dh * z,)

    return Cell(gates=3, states=1, step=step, step_backward=step_backward)


def make_reset_before(functions: tuple[Activation, ...], clip: Clip) -> Cell:
    """Make the cell whose reset gate stands before the product."""
    gate, new = functions

    def reset(m: Maths, wx: Array, rh: Array, s_prev: Arrays) -> Array:
        (h_prev,) = s_prev
        v: Array = gate.value(m, wx[:, 0] + rh[:, 0]) * h_prev
        return v

    def reset_backward(saved: Arrays, s_prev: Arrays, dv: Array) -> tuple[Array, Arrays]:
        a_r, _, _, r, *_ = saved
        (h_prev,) = s_prev
        da_r = gate.gradient(a_r, dv * h_prev)
        return np.stack([da_r, np.zeros_like(da_r)], axis=1), (dv * r,)

    def step(m: Maths, wx: Array, rh: Array, s_prev: Arrays) -> tuple[Arrays, Arrays]:
        (h_prev,) = s_prev
        a_r, a_z, a_n = (wx + rh).swapaxes(0, 1)  # rh_n is W_hn v_t + b_hn
        r, z, n = gate.value(m, a_r), gate.value(m, a_z), new.value(m, a_n)
        raw = (1 - z) * n + z * h_prev
        return (clip.value(m, raw),), (a_r, a_z, a_n, r, z, n, raw)

    def step_backward(saved: Arrays, s_prev: Arrays, ds: Arrays) -> tuple[Array, Array, Arrays]:
        _, a_z, a_n, _, z, n, raw = saved
        (h_prev,) = s_prev
        dh = clip.gradient(raw, ds[0])
        da_n = new.gradient(a_n, dh * (1 - z))
        da_z = gate.gradient(a_z, dh * (h_prev - n))
        da = np.stack([np.zeros_like(da_n), da_z, da_n], axis=1)
        return da, da, (dh * z,)

    inner = Inner(gates=1, step=reset, step_backward=reset_backward)
    return Cell(gates=3, states=1, step=step, step_backward=step_backward, inner=inner)


BASES = {"gru": make, "gru_reset_before": make_reset_before}
