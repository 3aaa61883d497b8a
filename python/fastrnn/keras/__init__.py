"""The engine under Keras 3: `SimpleRNN`, `LSTM`, `GRU` and `RNN` in place of Keras's own.

They are subclasses of the layers whose places they take: constructors, weights, configurations and
saving are Keras's own code, and only the recurrence is fastrnn's. `accelerate` swaps the layers of
a model that exists already, `restore` swaps them back. Works on Keras's backends torch, JAX,
TensorFlow and NumPy. What has no kernel runs on Keras's own path: that is warned of once for each
layer, and counted by `report`.
"""

try:
    import keras  # noqa: F401
except ImportError as error:
    raise ImportError(
        "[keras] fastrnn.keras needs Keras 3.9 or newer: pip install 'fastrnn[keras]'"
    ) from error

from .._swaps import Report
from ._accelerate import accelerate, restore
from ._counts import Calls, FallbackWarning, report
from ._layers import GRU, LSTM, RNN, SimpleRNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Calls",
    "FallbackWarning",
    "Report",
    "SimpleRNN",
    "accelerate",
    "report",
    "restore",
]
