"""Swapping torch's layers inside a model for fastrnn's, and back."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrize

from .. import _dtypes, _schemes
from .._swaps import Report, Unfit, subclass
from . import _engine, _layers, _to_quantized
from ._quantized import Quantized
from ._twins import (
    ORIGINALS,
    OURS,
    TWINS,
    base_of,
    names_of_ours,
    to_ours,
    to_torchs,
)

_NAMES = {original.__name__ for original in TWINS}


def accelerate(model: nn.Module, dtype: str | None = None) -> Report:
    """Let every `nn.RNN`, `nn.LSTM`, `nn.GRU` and their cells inside a model run on fastrnn.

    The modules themselves stay: only their class changes, to a subclass of the one they had. So
    parameters, hooks, names, ``isinstance`` and whatever refers to the modules (optimisers,
    checkpoints, wrappers) stay valid. Subclasses and parametrised layers are swapped too, where
    their own methods go on to work.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place; may itself be such a layer.
    dtype : str, optional
        ``"int8"``: every `nn.RNN`, `nn.LSTM` and `nn.GRU` of float32 on the CPU, swapped before or
        not, becomes a `Quantized`, for inference alone: its parameters go, and buffers in int8 with
        the scales of their rows come in their place. Layers that `torch.ao.quantization` has
        quantized dynamically to ``torch.qint8`` keep their integers and scales, and those of
        ``torch.float16`` have these weights alone. Cells, subclasses and parametrised layers are
        kept as they are. `restore` cannot undo it. ``"int8_weights"``, ``"bfloat16_weights"`` and
        ``"float16_weights"`` likewise, for weights alone; see `fastrnn.quantize`.

    Returns
    -------
    Report
        What was changed, and what was kept and why: a forward that does not come to torch's own,
        one that another library wrapped, compiled and quantised layers, a device that the engine
        has not.

    Raises
    ------
    TypeError
        `model` is not a module; ``"bfloat16_weights"`` without ml_dtypes.
    ValueError
        Another name of a dtype.
    """
    if dtype is None:
        return _swap("accelerate", model, functools.partial(_turn, to=to_ours), _why_not_ours)
    if not isinstance(dtype, str) or dtype not in _schemes.SCHEMES:
        names = (*_schemes.SCHEMES, None)
        raise ValueError(f"[accelerate] dtype must be one of {names}, got {dtype!r}")
    _dtypes.numpy_dtype(_schemes.SCHEMES[dtype].dtype)  # is what bfloat16 needs there?
    return _swap(
        "accelerate",
        model,
        functools.partial(_to_quantized.quantize_in_place, scheme=dtype),
        functools.partial(_to_quantized.why_not, scheme=dtype),
    )


def restore(model: nn.Module) -> Report:
    """Undo `accelerate`: every layer of fastrnn's inside a model becomes torch's again.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.

    Returns
    -------
    Report
        What was changed, and what was kept and why: a subclass of fastrnn's layers, a forward that
        was wrapped after `accelerate`, quantized weights.

    Raises
    ------
    TypeError
        `model` is not a module.
    """
    return _swap("restore", model, functools.partial(_turn, to=to_torchs), _why_not_torchs)


def _swap(
    op: str,
    model: nn.Module,
    turn: Callable[[nn.Module], None],
    reason_to_keep: Callable[[nn.Module], str | None],
) -> Report:
    if not isinstance(model, nn.Module):
        raise TypeError(f"[{op}] model must be a torch.nn.Module, got {type(model).__name__}")
    report = Report()
    for name, module in list(model.named_modules()):
        if not _is_recurrent(module):
            continue
        reason = reason_to_keep(module)
        if reason is None:
            try:
                turn(module)
                report.changed[name] = _name_of(module) + _caveat(module)
            except Unfit as error:
                reason = str(error)
        if reason is not None:
            report.kept[name] = reason
    return report


# ---- modules -------------------------------------------------------------------------------------


def _is_recurrent(module: nn.Module) -> bool:
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase, Quantized)):
        return True
    if isinstance(module, torch.jit.ScriptModule):
        return getattr(module, "original_name", None) in _NAMES
    cls = type(module)
    return cls.__module__.startswith("torch.ao.nn.") and cls.__name__ in _NAMES


def _why_not_ours(module: nn.Module) -> str | None:
    cls = type(module)
    if isinstance(module, (*OURS, Quantized)):
        return f"it is {_name_of(module)} already"
    if isinstance(module, torch.jit.ScriptModule):
        return "compiled by TorchScript"
    if cls.__module__.startswith("torch.ao.nn."):
        return f"quantised, {cls.__module__}.{cls.__name__}"
    if not isinstance(module, tuple(TWINS)):
        return f"a layer of its own, {cls.__name__}: neither RNN, LSTM, GRU nor one of their cells"
    if "forward" in vars(module):
        return f"its forward was replaced on the module {_by(module)}: accelerate before that"
    for parameter in module.parameters(recurse=False):
        if missing := _engine.missing_for(parameter.device):
            return f"its parameters are on {parameter.device}: {missing}"
    inside = {*vars(module), *module._parameters, *module._buffers, *module._modules}
    used = sorted(names_of_ours(base_of(cls)) & inside)
    return f"it has an attribute {used[0]}, a name that fastrnn uses" if used else None


def _why_not_torchs(module: nn.Module) -> str | None:
    if isinstance(module, Quantized):
        return "its weights are quantized"
    if not isinstance(module, OURS):
        return "it is not fastrnn's"
    if "forward" in vars(module):
        return f"its forward was replaced on the module {_by(module)}: undo that first"
    return None


def _by(module: nn.Module) -> str:
    forward = vars(module)["forward"]
    return f"by {getattr(forward, '__qualname__', type(forward).__name__)}"


def _name_of(module: nn.Module) -> str:
    """``fastrnn.torch.LSTM``, ``torch.nn.LSTM``, or what a subclass of them is called."""
    cls = type(module)
    if issubclass(cls, Quantized):
        return f"fastrnn.torch.{cls.__name__}"
    if cls in TWINS:
        return f"torch.nn.{cls.__name__}"
    if cls in ORIGINALS:
        return f"fastrnn.torch.{cls.__name__}"
    for base in cls.__mro__:
        if base in ORIGINALS:
            return f"{cls.__qualname__} on fastrnn.torch.{base.__name__}"
    return f"{cls.__qualname__} on torch.nn.{base_of(cls).__name__}"


def _caveat(module: nn.Module) -> str:
    """What the new class does not change about a module."""
    if not isinstance(module, _layers.LSTM) or not module.proj_size:
        return ""
    if all(_engine.projects_quickly(p.device) for p in module.parameters()):
        return ""
    return ", but on torch's own kernels: it has projections"


def _turn(module: nn.Module, to: Callable[[type], type]) -> None:
    """Give a module the class that `to` makes of its own."""
    cls = type(module)
    if _is_made_by_parametrize(module):
        # Of this one module, with the parameters as properties; what undoes the parametrisation
        # looks for them in the very class, and for the one before in its bases.
        kept = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
        new = subclass(cls.__name__, (to(cls.__bases__[0]),), kept)
    else:
        new = to(cls)
    try:
        object.__setattr__(module, "__class__", new)  # past a __setattr__ of the module's own
    except TypeError as error:
        raise Unfit(f"its class cannot be changed: {error}") from error
    if not isinstance(module, OURS):
        for ours in ("recompute", "_frozen"):
            vars(module).pop(ours, None)


def _is_made_by_parametrize(module: nn.Module) -> bool:
    cls = type(module)
    return (
        parametrize.is_parametrized(module)
        and len(cls.__bases__) == 1
        and cls.__name__ == f"Parametrized{cls.__bases__[0].__name__}"
    )
