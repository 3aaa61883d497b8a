"""The commands of ``python -m fastrnn``: a module each, with `add`."""

from __future__ import annotations

from . import _bench, _check, _info, _onnx, _sample, _train

ALL = (_train, _sample, _onnx, _check, _bench, _info)
