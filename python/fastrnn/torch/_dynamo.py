"""Lets torch's compiler take our layers, which are subclasses of layers that it refuses.

Dynamo breaks the graph at every instance of `nn.RNN`, `nn.LSTM` and `nn.GRU`, unless
``torch._dynamo.config.allow_rnn`` is set, for the whole process. Its reason is torch's forward,
which ours is not. So the setting is on while dynamo wraps a module of ours, and at no other time:
torch's own layers stay refused, and what is compiled and what is not see the same classes.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from . import _tracing

_BUILDER = "torch._dynamo.variables.builder"


def allow(classes: tuple[type, ...]) -> None:
    """Let dynamo wrap instances of these classes, once it is there: its import takes seconds."""
    if _BUILDER in sys.modules:
        _teach(sys.modules[_BUILDER], classes)
    else:
        sys.meta_path.insert(0, _WhenImported(classes))


class _WhenImported(MetaPathFinder):
    """Finds nothing itself: has `_teach` run after the one import of the builder."""

    def __init__(self, classes: tuple[type, ...]) -> None:
        self.classes = classes

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _BUILDER or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # of this one module only, where a loader serves several
            execute(module)
            _teach(module, self.classes)

        loader.exec_module = exec_module
        return spec


def _teach(builder: Any, classes: tuple[type, ...]) -> None:
    config = builder.config
    wrap = getattr(builder.VariableBuilder, "wrap_module", None)
    if wrap is None or not hasattr(config, "allow_rnn"):  # another torch: nothing to allow
        return

    @functools.wraps(wrap)
    def wrap_module(self: Any, value: Any) -> Any:
        if not isinstance(value, classes):
            return wrap(self, value)
        if _tracing.exports_to_onnx():
            # The exporter's second attempt, after one without dynamo has failed with the reason.
            raise RuntimeError("[onnx] layers must be exported with strict=False, got strict=True")
        with config.patch(allow_rnn=True):
            return wrap(self, value)

    builder.VariableBuilder.wrap_module = wrap_module
