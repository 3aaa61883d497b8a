"""The classes of swapped layers: ours, or for subclasses of Keras's a twin made at run time."""

from __future__ import annotations

import keras
from keras.src.saving.object_registration import GLOBAL_CUSTOM_NAMES

from .._swaps import Twins, Unfit, calls_super, names_of_twin, subclass
from . import _layers

TWINS: dict[type, type] = {
    keras.layers.SimpleRNN: _layers.SimpleRNN,
    keras.layers.LSTM: _layers.LSTM,
    keras.layers.GRU: _layers.GRU,
    keras.layers.RNN: _layers.RNN,
}
_twins = Twins("fastrnn.keras", TWINS, lambda cls: _make_twin(cls))
ORIGINALS = _twins.originals
base_of, to_ours, to_kerass = _twins.base_of, _twins.to_ours, _twins.to_original

# The methods on the way from a call of a layer to the loop.
_METHODS = ("call", "inner_loop")


def _make_twin(cls: type) -> type:
    base = base_of(cls)
    for source in cls.__mro__[: cls.__mro__.index(base)]:
        for name in _METHODS:
            if name in vars(source) and not calls_super(vars(source)[name], name):
                raise Unfit(f"{source.__name__} has a {name} that does not call super().{name}")
    twin = subclass(cls.__name__, (cls, TWINS[base]), names_of_twin(cls))
    registered = keras.saving.get_registered_name(cls)
    if registered != cls.__name__:  # what is saved names the original
        GLOBAL_CUSTOM_NAMES[twin] = registered
    return twin
