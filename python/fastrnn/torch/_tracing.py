"""Who records a call, and what they record: torch's operators, fastrnn's, or a leaf of a graph.

What runs without torch's dispatcher is not in the record: its result would be taken for a constant.
Nothing but the recorder's own state tells of it. The record of `torch.jit.trace` and of an export
to ONNX is to serve anywhere, so there the layer runs torch's own operator. `torch.fx` calls with
proxies in the place of tensors, and gets a node that calls the layer when the graph is run.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn
from torch.fx import Proxy, _symbolic_trace
from torch.utils._device import DeviceContext

from . import _onnx

Operators = Literal["torch", "fastrnn"]

# Every call asks these, and a cell's step takes microseconds.
_is_tracing = torch._C._is_tracing
_is_profiling = torch._C._autograd._profiler_enabled
_dispatch_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._len_torch_function_stack
_is_included = torch._C._dispatch_tls_is_dispatch_key_included
_BEFORE_DISPATCH = torch._C.DispatchKey.PreDispatch
_is_in_dynamo = torch.compiler.is_dynamo_compiling

# Of the process, as the exporters' own flags are. The compiler guards on it.
_asked: Operators | None = None


@contextlib.contextmanager
def recorded_as(operators: Operators) -> Iterator[None]:
    """Choose which operators traces, exports and compiled graphs hold for the layers.

    Without it `torch.jit.trace` and `torch.onnx.export` record torch's, which run without fastrnn;
    `torch.compile`, `torch.export` and `make_fx` record fastrnn's. Holds for the whole process.

    Parameters
    ----------
    operators : {"torch", "fastrnn"}
        ``"torch"``: every call runs torch's operators, recorded or not. ``"fastrnn"``: every
        record holds fastrnn's; a process that loads it imports `fastrnn.torch` first.

    Raises
    ------
    ValueError
        Another name.
    """
    global _asked
    if operators not in ("torch", "fastrnn"):
        raise ValueError(f"[recorded_as] operators must be 'torch' or 'fastrnn', got {operators!r}")
    before, _asked = _asked, operators
    try:
        yield
    finally:
        _asked = before


def is_watched() -> bool:
    """Whether something looks on at every operation and has to see the layer's too."""
    return _is_profiling() or is_recorded()


def is_recorded() -> bool:
    """Whether something may record the operations, or put others in their places."""
    return (
        _dispatch_modes() > 0
        or _is_included(_BEFORE_DISPATCH)
        or _is_tracing()
        or (_function_modes() > 0 and not _only_places_tensors())
    )


def _only_places_tensors() -> bool:
    """Whether the one mode is that of ``with torch.device(...)``, which looks at factories."""
    mode = torch.overrides._get_current_function_mode()
    return _function_modes() == 1 and type(mode) is DeviceContext


def may_be_recorded() -> bool:
    """Whether `elsewhere` has to be asked; quick, for every call does."""
    if _asked is not None:
        return True
    if _is_in_dynamo():
        return False
    return _is_tracing() or _symbolic_trace._is_fx_tracing_flag


def holds_torchs() -> bool:
    """Whether a call, and what is recorded of it, is to hold torch's operators."""
    if _asked is not None:
        return _asked == "torch"
    return not _is_in_dynamo() and (_is_tracing() or exports_to_onnx())


def elsewhere(module: Any, input: Any, hx: Any, options: dict[str, Any]) -> Any:
    """The results of a call that is not the engine's to run; None where it is.

    Parameters
    ----------
    module : nn.Module
        The layer or cell.
    input, hx
        Its arguments as torch has them.
    options : dict
        Those that only fastrnn has, None for what was not given.
    """
    given = {name: value for name, value in options.items() if value is not None}
    node = node_of(module, input, hx, given)
    if node is not None:
        return node
    onnx = exports_to_onnx()
    if not holds_torchs():
        return None
    if onnx and _asked is None and isinstance(input, torch.Tensor) and _onnx.has(module):
        lengths = given.pop("lengths", None)
        if not given:
            return _onnx.run(module, input, hx, lengths)
    if given:
        raise RuntimeError(
            f"[{module._cell}] a call that runs torch's operators, as traces and ONNX files hold "
            f"them, must do with torch's arguments, got {', '.join(given)}: give a PackedSequence "
            "in the place of lengths, or record it within fastrnn.torch.recorded_as('fastrnn')"
        )
    return module._torchs.forward(module, input, hx)


def node_of(module: Any, input: Any, hx: Any, given: dict[str, Any]) -> Any:
    """What FX is given for a call with its proxies: a node; None where none of them is there."""
    if _is_in_dynamo():
        return None
    proxy = _proxy_among((input, hx, *given.values()))
    return None if proxy is None else _leaf(module, proxy, (input, hx), given)


def exports_to_onnx() -> bool:
    """Whether the exporter that is made of `torch.export` runs; torch.onnx is imported late."""
    # To dynamo the answer is a constant False, and `_dynamo` keeps it out of such an export.
    if _is_in_dynamo() or _is_tracing():
        return False
    onnx = sys.modules.get("torch.onnx")
    return onnx is not None and onnx.is_in_onnx_export()


def _proxy_among(values: Any) -> Proxy | None:
    for value in values:
        if isinstance(value, Proxy):
            return value
        if isinstance(value, (tuple, list)):
            found = _proxy_among(value)
            if found is not None:
                return found
    return None


def _leaf(module: nn.Module, proxy: Proxy, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A node that calls the module: what FX makes by itself of the modules of torch.nn alone."""
    tracer: Any = proxy.tracer
    cell = module._cell
    try:
        path = tracer.path_of_module(module)
    except (AttributeError, NameError):
        path = ""
    # The node runs hooks and a forward of its own: those that ran now would run twice.
    alone = not (
        module._forward_hooks
        or module._forward_pre_hooks
        or "forward" in vars(module)
        or not type(module).forward.__module__.startswith("fastrnn.torch.")
    )
    if not path or not alone:
        got = "one that it changes by hooks or a forward of its own" if path else "another"
        raise RuntimeError(
            f"[{cell}] a layer that torch.fx traces must be a submodule of the traced model, "
            f"called as it is, got {got}: trace after fastrnn.torch.restore(model)"
        )
    while args and args[-1] is None:
        args = args[:-1]
    return tracer.create_proxy("call_module", path, args, options)


def not_scriptable(module: Any) -> RuntimeError:
    """For `torch.jit.script`, which puts what a module gives it into the very model it is given."""
    return RuntimeError(
        f"[{module._cell}] a layer that TorchScript compiles must be torch's own, got "
        f"{type(module).__name__}: call fastrnn.torch.restore(model) before torch.jit.script, or "
        "use torch.jit.trace"
    )
