"""Weights of other libraries: arrays in, arrays out, and no framework imported.

Each ``from_`` function takes a format's arrays of a layer and gives parameters by torch's names,
which are this library's, for `load_state_dict`; each ``to_`` function takes such parameters, those
of `state_dict` or of ``torch.nn``, and gives the format's arrays. ``docs/weights.md`` has the table
of what the formats hold and how.

Nothing is computed but one sum: where a format has one bias, it is the sum of both, made once in
their dtype, which is the sum that the cell makes, so outputs keep their bits in float32 and
float64. Coming from there the bias is ``bias_ih``, and ``bias_hh`` is -0.0, which changes nothing
that it is added to. So a round trip from a format gives the very bits; what it may leave out, an
ONNX P of zeros and one half of cuDNN's biases, comes back as nothing and as -0.0.

Every function takes arrays of any library, of floats of one dtype, and gives NumPy arrays of that
dtype in memory of their own. A `TypeError` says that an array is not of floats, a `ValueError` that
a shape is wrong or that no weights of this library compute the same function, and why.

Examples
--------
>>> layer = fastrnn.LSTM(80, 256)
>>> layer.load_state_dict(fastrnn.weights.from_keras("lstm", keras_layer.get_weights()))
>>> keras_layer.set_weights(fastrnn.weights.to_keras("lstm", layer.state_dict()))
"""

from __future__ import annotations

from ._cudnn import from_cudnn, to_cudnn
from ._haste import from_haste, to_haste
from ._keras import from_keras, to_keras
from ._onnx import from_onnx, to_onnx

__all__ = [
    "from_cudnn",
    "from_haste",
    "from_keras",
    "from_onnx",
    "to_cudnn",
    "to_haste",
    "to_keras",
    "to_onnx",
]
