"""onnx's own interface to whoever runs its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.backend.base

from . import _node
from ._load import Model, load


class Representation(onnx.backend.base.BackendRep):
    """A model that is ready to run; made by `Backend.prepare`."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def run(self, inputs: Any, **_: Any) -> tuple[np.ndarray, ...]:
        """The outputs in the model's order.

        Parameters
        ----------
        inputs : mapping of str to ndarray, sequence of ndarray, or ndarray
            By name, in the model's order, or the only one.
        """
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        if not isinstance(inputs, Mapping):
            names = self.model.inputs
            if len(inputs) != len(names):
                raise ValueError(f"[onnx] inputs must be {list(names)}, got {len(inputs)} arrays")
            inputs = dict(zip(names, inputs, strict=True))
        return tuple(self.model.run(inputs))


class Backend(onnx.backend.base.Backend):
    """fastrnn as a backend: every recurrent node on the engine, all else as `load` has it."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> Representation:
        """A model, ready to run. Errors are those of `load`."""
        cls._check_device(device)
        return Representation(load(model, measure=False))

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Mapping[str, Any] | Sequence[Any],
        device: str = "CPU",
        outputs_info: Any = None,
        **_: Any,
    ) -> tuple[np.ndarray, ...]:
        """The outputs of a recurrent node; as `fastrnn.onnx.run_node`."""
        cls._check_device(device)
        return _node.run_node(node, inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models run there: on the CPU."""
        return device.split(":")[0] == "CPU"

    @classmethod
    def _check_device(cls, device: str) -> None:
        if not cls.supports_device(device):
            raise ValueError(f"[onnx] device must be 'CPU', got {device!r}")
