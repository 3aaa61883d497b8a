"""What `accelerate` and `restore` of all adapters have in common: what they say about a model, and
the classes of what is swapped.
"""

from __future__ import annotations

import inspect
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


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


class Unfit(TypeError):
    """Why something cannot be swapped."""


class Twins:
    """The classes of swapped layers: ours, or for other people's subclasses twins made at run time.

    Parameters
    ----------
    place : str
        Where ours are, for messages.
    ours : dict of type to type
        Our class for each of the library's.
    make : callable
        Makes the twin of a subclass, with the subclass as its ``_replaces``; may raise `Unfit`.
    """

    def __init__(self, place: str, ours: dict[type, type], make: Callable[[type], type]) -> None:
        self.place, self.ours, self._make = place, ours, make
        self.originals = {twin: original for original, twin in ours.items()}
        # As long as they have instances.
        self._made: weakref.WeakKeyDictionary[type, weakref.ref[type]]
        self._made = weakref.WeakKeyDictionary()

    def base_of(self, cls: type) -> type:
        """Of the library's classes, the one that a class is or comes from."""
        return next(base for base in self.ours if issubclass(cls, base))

    def to_ours(self, cls: type) -> type:
        """The twin of a class: a subclass of it in whose order the library's comes after ours."""
        if cls in self.ours:
            return self.ours[cls]
        known = self._made.get(cls)
        twin = known() if known is not None else None
        if twin is None:
            twin = self._make(cls)
            self._made[cls] = weakref.ref(twin)
        return twin

    def to_original(self, cls: type) -> type:
        """The class that something had before."""
        if cls in self.originals:
            return self.originals[cls]
        if "_replaces" not in vars(cls):
            base = next(base for base in cls.__mro__ if base in self.originals)
            raise Unfit(f"{cls.__name__} is a subclass of {self.place}.{base.__name__}")
        original: type = cls._replaces  # type: ignore[attr-defined]
        return original


def subclass(name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """A class made at run time; `Unfit` where its bases do not let it be made."""
    try:
        return types.new_class(name, bases, exec_body=lambda names: names.update(namespace))
    except Exception as error:  # of a metaclass or of __init_subclass__
        raise Unfit(f"no subclass can be made of {bases[0].__name__}: {error}") from error


def names_of_twin(cls: type) -> dict[str, Any]:
    """What a twin has from the class that it replaces, but for what it inherits."""
    names = ("__module__", "__qualname__", "__doc__")
    return {name: getattr(cls, name) for name in names} | {"_replaces": cls}


def calls_super(function: Any, name: str) -> bool:
    """Whether a method comes to that of the class above it, as far as its code tells."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and any({"super", name} <= set(each.co_names) for each in _codes(code))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)
