"""The classes of swapped layers: ours, or for subclasses of Keras's a twin made at run time."""

from __future__ import annotations

import inspect
import types
import weakref
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.saving.object_registration import GLOBAL_CUSTOM_NAMES

from . import _layers

TWINS: dict[type, type] = {
    keras.layers.SimpleRNN: _layers.SimpleRNN,
    keras.layers.LSTM: _layers.LSTM,
    keras.layers.GRU: _layers.GRU,
    keras.layers.RNN: _layers.RNN,
}
ORIGINALS = {twin: original for original, twin in TWINS.items()}
# Twins of other people's subclasses, as long as they have instances.
_made: weakref.WeakKeyDictionary[type, weakref.ref[type]] = weakref.WeakKeyDictionary()

# The methods on the way from a call of a layer to the loop.
_METHODS = ("call", "inner_loop")


class Unfit(TypeError):
    """Why a layer cannot be swapped."""


def to_ours(cls: type) -> type:
    """The twin of a class: a subclass of it in whose order Keras's loop comes after ours."""
    if cls in TWINS:
        return TWINS[cls]
    known = _made.get(cls)
    twin = known() if known is not None else None
    if twin is None:
        twin = _make_twin(cls)
        _made[cls] = weakref.ref(twin)
    return twin


def to_kerass(cls: type) -> type:
    """The class that a layer had before."""
    if cls in ORIGINALS:
        return ORIGINALS[cls]
    if "_replaces" not in vars(cls):
        base = next(base for base in cls.__mro__ if base in ORIGINALS)
        raise Unfit(f"{cls.__name__} is a subclass of fastrnn.keras.{base.__name__}")
    original: type = cls._replaces  # type: ignore[attr-defined]
    return original


def base_of(cls: type) -> type:
    """Of Keras's classes, the one that a class is or comes from."""
    return next(base for base in TWINS if issubclass(cls, base))


def _make_twin(cls: type) -> type:
    base = base_of(cls)
    for source in cls.__mro__[: cls.__mro__.index(base)]:
        for name in _METHODS:
            if name in vars(source) and not _calls_super(vars(source)[name], name):
                raise Unfit(f"{source.__name__} has a {name} that does not call super().{name}")
    names = ("__module__", "__qualname__", "__doc__")
    namespace = {name: getattr(cls, name) for name in names} | {"_replaces": cls}
    try:
        twin = types.new_class(
            cls.__name__, (cls, TWINS[base]), exec_body=lambda made: made.update(namespace)
        )
    except Exception as error:  # of a metaclass or of __init_subclass__
        raise Unfit(f"no subclass can be made of {cls.__name__}: {error}") from error
    registered = keras.saving.get_registered_name(cls)
    if registered != cls.__name__:  # what is saved names the original
        GLOBAL_CUSTOM_NAMES[twin] = registered
    return twin


def _calls_super(function: Any, name: str) -> bool:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and any({"super", name} <= set(each.co_names) for each in _codes(code))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)
