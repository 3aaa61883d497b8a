"""Recurrent layers in plain NumPy float64: what tests compare with and a reader learns from.

``rnn.py``, ``lstm.py`` and ``gru.py`` each hold the equations of one step and its hand-written
derivative; ``loop.py`` is the one time loop around them all, on the arrays of any library
(``namespace.py``); ``scan.py`` reads the arguments of a call and goes back; ``cell.py`` says what a
cell module provides. A new cell is one more module here, with nothing to register.

`forward` and `backward` take the arguments of their namesakes in `fastrnn.functional`.
"""

from .cell import names
from .scan import Tape, backward, forward

__all__ = ["Tape", "backward", "forward", "names"]
