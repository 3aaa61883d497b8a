"""The classes of swapped modules: ours, or for subclasses of torch's a twin made at run time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from .._swaps import Twins, Unfit, calls_super, names_of_twin, subclass
from . import _cells, _layers

TWINS: dict[type, type] = {
    nn.RNN: _layers.RNN,
    nn.LSTM: _layers.LSTM,
    nn.GRU: _layers.GRU,
    nn.RNNCell: _cells.RNNCell,
    nn.LSTMCell: _cells.LSTMCell,
    nn.GRUCell: _cells.GRUCell,
}
_twins = Twins("fastrnn.torch", TWINS, lambda cls: _make_twin(cls))
ORIGINALS = _twins.originals
OURS = tuple(ORIGINALS)
base_of, to_ours, to_torchs = _twins.base_of, _twins.to_ours, _twins.to_original

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


def _make_twin(cls: type) -> type:
    base = base_of(cls)
    own = cls.__mro__[: cls.__mro__.index(base)]
    for source in own:
        reason = _what_it_would_lose(source, base)
        if reason:
            raise Unfit(f"{source.__name__} {reason}")
    namespace = names_of_twin(cls) | {"__reduce_ex__": _reduce_as_the_original}
    return subclass(cls.__name__, (cls, TWINS[base]), namespace)


def _what_it_would_lose(source: type, base: type) -> str | None:
    """What about a class above torch's would not do on the engine what it does now."""
    names = vars(source)
    if "forward" in names and not calls_super(names["forward"], "forward"):
        return "has a forward that does not call super().forward"
    if issubclass(base, nn.RNNBase):
        for name in _READ_BY_TORCH:
            if name in names:
                return f"overrides {name}, which the engine does not call"
    used = sorted(names_of_ours(base) & names.keys())
    return f"has an attribute {used[0]}, a name that fastrnn uses" if used else None


@functools.cache
def names_of_ours(base: type) -> frozenset[str]:
    """The attributes that our class for one of torch's has beside that class's."""
    added = [cls for cls in TWINS[base].__mro__ if cls not in base.__mro__]
    names = {name for cls in added for name in vars(cls) if not name.startswith("__")}
    return frozenset(names - _SHARED)


# ---- pickles and copies of twins ----------------------------------------------------------------


def _reduce_as_the_original(module: Any, protocol: Any) -> Any:
    """What the original class gives for pickles, and then the class once more."""
    original = module._replaces
    twin: Any = to_ours(original)
    reduced = super(twin, module).__reduce_ex__(protocol)
    if type(module) is not twin or not isinstance(reduced, tuple):
        return reduced
    function, arguments, *rest = reduced
    made_of = [original if value is twin else value for value in (function, *arguments)]
    return (remake, (original, *made_of), *rest)


def remake(original: type, function: Callable[..., Any], *arguments: Any) -> Any:
    """A module of the twin of a class, from what makes one of the class: named in pickles."""
    module = function(*arguments)
    object.__setattr__(module, "__class__", to_ours(original))
    return module
