"""The simple recurrent network.

J. L. Elman, Finding structure in time, Cognitive Science 14 (1990), in the letters of
`torch.nn.RNN`::

    h_t = act(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)

One gate, one state h. Elman's units are sigmoids; tanh and relu are the usual ones today.
"""

import numpy as np

from .activations import Activation, Clip
from .cell import Array, Arrays, Cell, Maths


def make(functions: tuple[Activation, ...], clip: Clip) -> Cell:
    """Make the cell of an activation and of what h is clipped to."""
    (act,) = functions

    def step(m: Maths, wx: Array, rh: Array, s_prev: Arrays) -> tuple[Arrays, Arrays]:
        a = wx[:, 0] + rh[:, 0]
        raw = act.value(m, a)
        return (clip.value(m, raw),), (a, raw)

    def step_backward(saved: Arrays, s_prev: Arrays, ds: Arrays) -> tuple[Array, Array, Arrays]:
        a, raw = saved
        (dh,) = ds
        da = act.gradient(a, clip.gradient(raw, dh))[:, None]
        # h_(t-1) acts through W_hh only.
        return da, da, (np.zeros_like(dh),)

    return Cell(gates=1, states=1, step=step, step_backward=step_backward)


BASES = {"rnn": make}
