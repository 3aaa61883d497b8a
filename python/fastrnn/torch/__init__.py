"""The engine under PyTorch: `RNN`, `LSTM`, `GRU` and their cells in place of ``torch.nn``'s.

Same constructors, parameters, initial values, results and errors; faster on CPUs, and with
`lengths=`, `resets=`, `recompute=` and all cell states beside. `accelerate` swaps the layers of a
model that exists already, `restore` swaps them back; `accelerate(model, dtype="int8")` makes them
`Quantized`, for inference. Of all others gradients of every order and kind, ``torch.compile``,
``torch.export`` and torch's ways of scaling out work as with torch's own layers.

Calls use as many threads as ``torch.get_num_threads()`` says.
"""

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "[torch] fastrnn.torch needs PyTorch 2.4 or newer: pip install 'fastrnn[torch]'"
    ) from error

from .._swaps import Report
from . import _flops  # noqa: F401  (registers its formulas)
from ._accelerate import accelerate, restore
from ._cells import GRUCell, LSTMCell, RNNCell
from ._layers import GRU, LSTM, RNN
from ._quantized import Quantized
from ._tracing import recorded_as

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "Quantized",
    "RNNCell",
    "Report",
    "accelerate",
    "recorded_as",
    "restore",
]
