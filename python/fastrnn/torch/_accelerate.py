"""Swapping torch's layers inside a model for fastrnn's, and back."""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from . import _cells, _engine, _layers

_TWINS: dict[type, type] = {
    nn.RNN: _layers.RNN,
    nn.LSTM: _layers.LSTM,
    nn.GRU: _layers.GRU,
    nn.RNNCell: _cells.RNNCell,
    nn.LSTMCell: _cells.LSTMCell,
    nn.GRUCell: _cells.GRUCell,
}
_ORIGINALS = {twin: original for original, twin in _TWINS.items()}
_OURS = tuple(_ORIGINALS)
_NAMES = {original.__name__ for original in _TWINS}

# Twins of other people's subclasses, as long as they have instances.
_made: weakref.WeakKeyDictionary[type, weakref.ref[type]] = weakref.WeakKeyDictionary()

# What torch's forward calls or reads, and the engine does not.
_READ_BY_TORCH = (
    "check_forward_args",
    "check_input",
    "check_hidden_size",
    "get_expected_hidden_size",
    "get_expected_cell_size",
    "permute_hidden",
    "_flat_weights",
    "_update_flat_weights",
    "_weights_have_changed",
)

# What a subclass may have too: the engine goes by none of these.
_SHARED = {"forward", "freeze", "unfreeze", "extra_repr", "_apply", "_load_from_state_dict"}


class Unfit(TypeError):
    """Why a module cannot be swapped."""


@dataclass
class Report:
    """What `accelerate` or `restore` did, by the modules' names; ``print(report)`` lists it.

    Attributes
    ----------
    changed : dict of str to str
        The new class of each module that was swapped.
    kept : dict of str to str
        Recurrent modules that stay as they are, and why.
    """

    changed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name or '(the model)'}: now {to}" for name, to in self.changed.items()]
        lines += [f"{name or '(the model)'}: kept, {why}" for name, why in self.kept.items()]
        return "\n".join(lines) or "no recurrent layers"


def accelerate(model: nn.Module) -> Report:
    """Let every `nn.RNN`, `nn.LSTM`, `nn.GRU` and their cells inside a model run on fastrnn.

    The modules themselves stay: only their class changes, to a subclass of the one they had. So
    parameters, hooks, names, ``isinstance`` and whatever refers to the modules (optimisers,
    checkpoints, wrappers) stay valid. Subclasses and parametrised layers are swapped too, where
    their own methods go on to work.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place; may itself be such a layer.

    Returns
    -------
    Report
        What was changed, and what was kept and why: a forward that does not come to torch's own,
        one that another library wrapped, compiled and quantised layers, a device that the engine
        has not.

    Raises
    ------
    TypeError
        `model` is not a module.
    """
    return _swap("accelerate", model, _to_ours, _why_not_ours)


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
        was wrapped after `accelerate`.

    Raises
    ------
    TypeError
        `model` is not a module.
    """
    return _swap("restore", model, _to_torchs, _why_not_torchs)


def _swap(
    op: str,
    model: nn.Module,
    to: Callable[[type], type],
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
                _turn(module, to)
                report.changed[name] = _name_of(module) + _caveat(module)
            except Unfit as error:
                reason = str(error)
        if reason is not None:
            report.kept[name] = reason
    return report


# ---- modules -------------------------------------------------------------------------------------


def _is_recurrent(module: nn.Module) -> bool:
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return True
    if isinstance(module, torch.jit.ScriptModule):
        return getattr(module, "original_name", None) in _NAMES
    cls = type(module)
    return cls.__module__.startswith("torch.ao.nn.") and cls.__name__ in _NAMES


def _why_not_ours(module: nn.Module) -> str | None:
    cls = type(module)
    if isinstance(module, _OURS):
        return f"it is {_name_of(module)} already"
    if isinstance(module, torch.jit.ScriptModule):
        return "compiled by TorchScript"
    if cls.__module__.startswith("torch.ao.nn."):
        return f"quantised, {cls.__module__}.{cls.__name__}"
    if not isinstance(module, tuple(_TWINS)):
        return f"a layer of its own, {cls.__name__}: neither RNN, LSTM, GRU nor one of their cells"
    if "forward" in vars(module):
        return f"its forward was replaced on the module {_by(module)}: accelerate before that"
    for parameter in module.parameters(recurse=False):
        if missing := _engine.missing_for(parameter.device):
            return f"its parameters are on {parameter.device}: {missing}"
    inside = {*vars(module), *module._parameters, *module._buffers, *module._modules}
    used = sorted(_names_of_ours(_base_of(cls)) & inside)
    return f"it has an attribute {used[0]}, a name that fastrnn uses" if used else None


def _why_not_torchs(module: nn.Module) -> str | None:
    if not isinstance(module, _OURS):
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
    if cls in _TWINS:
        return f"torch.nn.{cls.__name__}"
    if cls in _ORIGINALS:
        return f"fastrnn.torch.{cls.__name__}"
    for base in cls.__mro__:
        if base in _ORIGINALS:
            return f"{cls.__qualname__} on fastrnn.torch.{base.__name__}"
    return f"{cls.__qualname__} on torch.nn.{_base_of(cls).__name__}"


def _caveat(module: nn.Module) -> str:
    """What the new class does not change about a module."""
    projected = isinstance(module, _layers.LSTM) and module.proj_size
    return ", but on torch's own kernels: it has projections" if projected else ""


def _turn(module: nn.Module, to: Callable[[type], type]) -> None:
    """Give a module the class that `to` makes of its own."""
    cls = type(module)
    if _is_made_by_parametrize(module):
        # Of this one module, with the parameters as properties; what undoes the parametrisation
        # looks for them in the very class, and for the one before in its bases.
        kept = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
        new = _subclass(cls.__name__, (to(cls.__bases__[0]),), kept)
    else:
        new = to(cls)
    try:
        object.__setattr__(module, "__class__", new)  # past a __setattr__ of the module's own
    except TypeError as error:
        raise Unfit(f"its class cannot be changed: {error}") from error
    if not isinstance(module, _OURS):
        for ours in ("recompute", "_frozen"):
            vars(module).pop(ours, None)


def _is_made_by_parametrize(module: nn.Module) -> bool:
    cls = type(module)
    return (
        parametrize.is_parametrized(module)
        and len(cls.__bases__) == 1
        and cls.__name__ == f"Parametrized{cls.__bases__[0].__name__}"
    )


# ---- classes -------------------------------------------------------------------------------------


def _base_of(cls: type) -> type:
    return next(base for base in _TWINS if issubclass(cls, base))


def _to_ours(cls: type) -> type:
    """The twin of a class: a subclass of it in whose order torch's forward comes after ours."""
    if cls in _TWINS:
        return _TWINS[cls]
    known = _made.get(cls)
    twin = known() if known is not None else None
    if twin is None:
        twin = _make_twin(cls)
        _made[cls] = weakref.ref(twin)
    return twin


def _to_torchs(cls: type) -> type:
    if cls in _ORIGINALS:
        return _ORIGINALS[cls]
    if "_replaces" not in vars(cls):
        base = next(base for base in cls.__mro__ if base in _ORIGINALS)
        raise Unfit(f"{cls.__name__} is a subclass of fastrnn.torch.{base.__name__}")
    original: type = cls._replaces  # type: ignore[attr-defined]
    return original


def _make_twin(cls: type) -> type:
    base = _base_of(cls)
    own = cls.__mro__[: cls.__mro__.index(base)]
    for source in own:
        reason = _what_it_would_lose(source, base)
        if reason:
            raise Unfit(f"{source.__name__} {reason}")
    namespace = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "_replaces": cls,
        "__reduce_ex__": _reduce_as_the_original,
    }
    return _subclass(cls.__name__, (cls, _TWINS[base]), namespace)


def _subclass(name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    try:
        return types.new_class(name, bases, exec_body=lambda names: names.update(namespace))
    except Exception as error:  # of a metaclass or of __init_subclass__
        raise Unfit(f"no subclass can be made of {bases[0].__name__}: {error}") from error


def _what_it_would_lose(source: type, base: type) -> str | None:
    """What about a class above torch's would not do on the engine what it does now."""
    names = vars(source)
    if "forward" in names and not _calls_super(names["forward"]):
        return "has a forward that does not call super().forward"
    if issubclass(base, nn.RNNBase):
        for name in _READ_BY_TORCH:
            if name in names:
                return f"overrides {name}, which the engine does not call"
    used = sorted(_names_of_ours(base) & names.keys())
    return f"has an attribute {used[0]}, a name that fastrnn uses" if used else None


def _calls_super(function: Any) -> bool:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and any(
        {"super", "forward"} <= set(each.co_names) for each in _codes(code)
    )


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.cache
def _names_of_ours(base: type) -> frozenset[str]:
    """The attributes that our class for one of torch's has beside that class's."""
    added = [cls for cls in _TWINS[base].__mro__ if cls not in base.__mro__]
    names = {name for cls in added for name in vars(cls) if not name.startswith("__")}
    return frozenset(names - _SHARED)


# ---- pickles and copies of twins ----------------------------------------------------------------


def _reduce_as_the_original(module: Any, protocol: Any) -> Any:
    """What the original class gives for pickles, and then the class once more."""
    original = module._replaces
    twin: Any = _to_ours(original)
    reduced = super(twin, module).__reduce_ex__(protocol)
    if type(module) is not twin or not isinstance(reduced, tuple):
        return reduced
    function, arguments, *rest = reduced
    made_of = [original if value is twin else value for value in (function, *arguments)]
    return (remake, (original, *made_of), *rest)


def remake(original: type, function: Callable[..., Any], *arguments: Any) -> Any:
    """A module of the twin of a class, from what makes one of the class: named in pickles."""
    module = function(*arguments)
    object.__setattr__(module, "__class__", _to_ours(original))
    return module
