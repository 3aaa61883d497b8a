"""Swapping Keras's layers inside a model for fastrnn's, and back."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras

from .._swaps import Report, Unfit
from . import _rules
from ._recurrence import Recurrence
from ._twins import ORIGINALS, TWINS, base_of, to_kerass, to_ours

# Models for which XLA was switched off, and what they had said of it.
_compiled: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def accelerate(model: keras.Layer) -> Report:
    """Let every `SimpleRNN`, `LSTM`, `GRU` and `RNN` inside a model run on fastrnn.

    The layers themselves stay: only their class changes, to a subclass of the one they had. So
    weights, names, the state of an optimiser and whatever refers to the layers stay valid, in
    models of every kind and inside wrappers. Functions that Keras has compiled for the model are
    made anew at the next call.

    Parameters
    ----------
    model : keras.Layer
        Changed in place: a model, or a layer such as an LSTM or a `Bidirectional`.

    Returns
    -------
    Report
        What was changed, and what was kept and why: an activation or a cell without a kernel, a
        subclass that does not come to Keras's own loop.

    Raises
    ------
    TypeError
        `model` is not a layer of Keras.
    """
    report = _swap("accelerate", model, to_ours, _why_not_ours)
    if isinstance(model, keras.Model) and model.compiled and not _supports_jit(model):
        _compiled[model] = model._jit_compile
        model._jit_compile = False
    return report


def restore(model: keras.Layer) -> Report:
    """Undo `accelerate`: every layer of fastrnn's inside a model becomes Keras's again.

    Also what a model that is to be saved for processes without fastrnn needs.

    Parameters
    ----------
    model : keras.Layer
        Changed in place.

    Returns
    -------
    Report
        What was changed, and what was kept and why: a subclass of fastrnn's layers.

    Raises
    ------
    TypeError
        `model` is not a layer of Keras.
    """
    report = _swap("restore", model, to_kerass, _why_not_kerass)
    if model in _compiled:
        model._jit_compile = _compiled.pop(model)
    return report


def _swap(
    op: str, model: Any, to: Callable[[type], type], reason_to_keep: Callable[[Any], str]
) -> Report:
    if not isinstance(model, keras.Layer):
        raise TypeError(f"[{op}] model must be a layer of Keras, got {type(model).__name__}")
    report = Report()
    for name, layer in list(_recurrent_layers(model)):
        reason = reason_to_keep(layer)
        if not reason:
            try:
                _turn(layer, to(type(layer)))
                report.changed[name] = _name_of(layer)
            except Unfit as error:
                reason = str(error)
        if reason:
            report.kept[name] = reason
    if report.changed:
        for function in ("train_function", "test_function", "predict_function"):
            if hasattr(model, function):
                setattr(model, function, None)
    return report


def _turn(layer: Any, cls: type) -> None:
    try:
        object.__setattr__(layer, "__class__", cls)  # past Keras's tracking of attributes
    except TypeError as error:
        raise Unfit(f"its class cannot be changed: {error}") from error


def _recurrent_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Recurrent layers and cells by their path, each once; cells inside a layer are the layer's."""
    seen: set[int] = set()
    names: set[str] = set()

    def visit(layer: Any, path: str) -> Iterator[tuple[str, Any]]:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        if isinstance(layer, (keras.layers.RNN, *_rules.BASES)):
            while path in names:  # two layers of one name
                path += "'"
            names.add(path)
            yield path, layer
            if isinstance(layer, keras.layers.RNN):
                return
        for child in layer._layers:
            yield from visit(child, f"{path}/{child.name}".lstrip("/"))

    yield from visit(model, "")


def _why_not_ours(layer: Any) -> str:
    if isinstance(layer, Recurrence):
        return f"it is {_name_of(layer)} already"
    if not isinstance(layer, keras.layers.RNN):
        return f"a {type(layer).__name__} on its own, whose steps are calls"
    return _rules.kernel_of(layer).reason


def _why_not_kerass(layer: Any) -> str:
    return "" if isinstance(layer, Recurrence) else "it is not fastrnn's"


def _name_of(layer: Any) -> str:
    """``fastrnn.keras.LSTM``, ``keras.layers.LSTM``, or what a subclass of them is called."""
    cls = type(layer)
    if cls in TWINS:
        return f"keras.layers.{cls.__name__}"
    if cls in ORIGINALS:
        return f"fastrnn.keras.{cls.__name__}"
    place = "fastrnn.keras" if isinstance(layer, Recurrence) else "keras.layers"
    return f"{cls.__qualname__} on {place}.{base_of(cls).__name__}"


def _supports_jit(model: Any) -> bool:
    return all(layer.supports_jit for layer in model._flatten_layers())
