"""Swapping torch's layers inside a model for fastrnn's, and back."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from . import _engine, _layers

_TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNN: _layers.RNN,
    nn.LSTM: _layers.LSTM,
    nn.GRU: _layers.GRU,
    nn.RNNCell: _layers.RNNCell,
    nn.LSTMCell: _layers.LSTMCell,
    nn.GRUCell: _layers.GRUCell,
}
_ORIGINALS = {twin: original for original, twin in _TWINS.items()}
_OURS = tuple(_ORIGINALS)


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

    The modules themselves stay: only their class changes. So parameters, hooks, names and whatever
    refers to them (optimisers, checkpoints, wrappers) stay valid.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place; may itself be such a layer.

    Returns
    -------
    Report
        What was changed, and what was kept and why: a subclass of torch's layers (its own methods
        would be lost), a device that the engine has not.

    Raises
    ------
    TypeError
        `model` is not a module.
    """
    report = Report()
    for name, module in _modules("accelerate", model):
        twin = _TWINS.get(type(module))
        reason = None if twin is None else _reason_to_keep(module)
        if twin is not None and reason is None:
            module.__class__ = twin
            report.changed[name] = f"fastrnn.torch.{twin.__name__}"
        elif reason is not None:
            report.kept[name] = reason
        elif isinstance(module, tuple(_TWINS)) and not isinstance(module, _OURS):
            report.kept[name] = f"a subclass of torch's, {type(module).__name__}"
    return report


def restore(model: nn.Module) -> Report:
    """Undo `accelerate`: every layer of fastrnn's inside a model becomes torch's again.

    Parameters
    ----------
    model : torch.nn.Module
        Changed in place.

    Returns
    -------
    Report
        What was changed.

    Raises
    ------
    TypeError
        `model` is not a module.
    """
    report = Report()
    for name, module in _modules("restore", model):
        original = _ORIGINALS.get(type(module))
        if original is None:
            continue
        for ours in ("recompute", "_frozen"):
            module.__dict__.pop(ours, None)
        module.__class__ = original
        report.changed[name] = f"torch.nn.{original.__name__}"
    return report


def _modules(op: str, model: nn.Module) -> list[tuple[str, nn.Module]]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"[{op}] model must be a torch.nn.Module, got {type(model).__name__}")
    return list(model.named_modules())


def _reason_to_keep(module: nn.Module) -> str | None:
    for parameter in module.parameters(recurse=False):
        if missing := _engine.missing_for(parameter.device):
            return f"its parameters are on {parameter.device}: {missing}"
    return None
