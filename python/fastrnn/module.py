"""Parameters that know when they change."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np

from . import _arrays, _dtypes

__all__ = ["Module"]


class Module:
    """Named arrays, owned by this object and written only in ways that it sees.

    NumPy arrays have no version of their own, so whatever is derived from parameters (packed
    weights) could silently go stale. Here every way to write them, `mutable`, `load_state_dict` and
    the optimisers, which use `mutable`, raises `version`.

    Parameters
    ----------
    op : str
        Opens every message: ``[op] rule, got value``.
    arrays : mapping of str to array
        The parameters. The module keeps these very arrays. Those in a GPU's memory have no flag
        that makes them read-only: there it is by agreement that only `mutable` blocks write.
    """

    def __init__(self, op: str, arrays: Mapping[str, np.ndarray]) -> None:
        self._op = op
        self._keep(arrays)
        self._version = 0
        self._open = 0  # mutable() blocks under way
        self._lock = threading.Lock()

    def _keep(self, arrays: Mapping[str, Any]) -> None:
        self._arrays = dict(arrays)
        _arrays.set_writeable(self._arrays.values(), False)

    @property
    def version(self) -> int:
        """How often the parameters have been written."""
        return self._version

    @property
    def parameters(self) -> Mapping[str, np.ndarray]:
        """Read-only views of the parameters, by name."""
        return MappingProxyType({name: _arrays.read_only(a) for name, a in self._arrays.items()})

    @contextmanager
    def mutable(self) -> Iterator[Mapping[str, np.ndarray]]:
        """Writable views of the parameters, for the length of a ``with`` block.

        Write into the arrays (``p[name][...] = value``); they cannot be replaced. On leaving the
        block the views become read-only and `version` rises, also when the block raised.
        NumPy cannot call back views that were made of these (``p[name][0]``): do not write to one
        after the block, nothing would see it.
        """
        with self._lock:
            # Read-only at other times, so that no view of them can be made writable.
            _arrays.set_writeable(self._arrays.values(), True)
            views = {name: a[...] for name, a in self._arrays.items()}
            self._open += 1
        try:
            yield MappingProxyType(views)
        finally:
            with self._lock:
                self._open -= 1
                _arrays.set_writeable(views.values(), False)
                if not self._open:
                    _arrays.set_writeable(self._arrays.values(), False)
                self._version += 1

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the parameters, by name."""
        return {name: self._library(a).copy(a) for name, a in self._arrays.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy parameters in.

        Parameters
        ----------
        state : mapping of str to array
            One array of floats for each parameter and no more; converted to the module's dtype.
            Where the module's are integers, integers of their dtype.

        Raises
        ------
        ValueError
            A parameter is missing, unknown or has another shape. Nothing has been written then.
        TypeError
            A value is not an array of floats, or of those integers.
        """
        if not isinstance(state, Mapping):
            raise TypeError(
                f"[{self._op}] parameters must be a mapping of names to arrays, "
                f"got {type(state).__name__}"
            )
        loaded = {}
        for name, own in self._arrays.items():
            if name not in state:
                raise ValueError(
                    f"[{self._op}] {name} of shape {tuple(own.shape)} is needed, got none"
                )
            try:
                value = np.asarray(_arrays.on_host(state[name]))
            except ValueError:  # lists in lists, of different lengths
                raise TypeError(f"[{self._op}] {name} must be floats, got nested lists") from None
            kind = "floats" if _dtypes.is_float(own.dtype) else str(own.dtype)
            if not (_dtypes.is_float(value.dtype) if kind == "floats" else value.dtype == kind):
                raise TypeError(f"[{self._op}] {name} must be {kind}, got {value.dtype}")
            if value.shape != tuple(own.shape):
                raise ValueError(
                    f"[{self._op}] {name} must have shape {tuple(own.shape)}, got {value.shape}"
                )
            # A copy, for it may be a view of another parameter; converted here, where it may fail.
            with np.errstate(over="ignore"):
                loaded[name] = self._library(own).converted(value, own)
        unknown = [name for name in state if name not in self._arrays]
        if unknown:
            raise ValueError(
                f"[{self._op}] parameters must be of {list(self._arrays)}, got {unknown[0]!r}"
            )
        with self.mutable() as own_arrays:
            for name, value in loaded.items():
                own_arrays[name][...] = value

    def __copy__(self) -> Module:
        # Two modules with the same arrays would not see each other's changes.
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        state["_open"] = 0
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        # An array that was read-only when it was pickled may come back in memory that stays so.
        self._keep(Module.state_dict(self))

    def _library(self, array: Any) -> _arrays.Library:
        return _arrays.library_of(self._op, array)
