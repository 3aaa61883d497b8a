"""The backend that Keras runs on, and the module here that serves it.

Such a module has

* ``run(call, tensors)``: y ``(B, T, H)`` and the final states, each ``(B, H)``, of a `_call.Call`
  and its `_call.Tensors`;
* ``why_not(x, recurrent_masks)``: why no kernel serves a call with these inputs, or with masks in
  the recurrence; empty where one does;
* ``computes(cell, dtype, x)``: whether a cell's kernels compute in a dtype, or in float32 in its
  place;
* ``keeps(state)``: the state where nobody writes into it while backward needs it, of a stateful
  layer, which writes its states in place;
* ``where(condition, a, b)``, which Keras's own rounds float64 in;
* ``STARTS_FROM_STATE``: whether the output of Keras's own loop, at masked steps before the first
  that runs, is the initial state of h, and not 0.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

import keras
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

_MODULES = {"torch": "_torch", "jax": "_jax", "tensorflow": "_tensorflow", "numpy": "_numpy"}


def name() -> str:
    """Of Keras's backend."""
    backend: str = keras.backend.backend()
    return backend


def is_known() -> bool:
    """Whether a module here serves the backend."""
    return name() in _MODULES


def asks_for_shapes_alone() -> bool:
    """Whether Keras runs layers to learn the shapes of results: no call that counts."""
    symbolic: bool = in_symbolic_scope()
    return symbolic


@cache
def module() -> ModuleType:
    """What serves the backend, which no process changes once Keras is imported."""
    return import_module(f".{_MODULES[name()]}", __package__)
