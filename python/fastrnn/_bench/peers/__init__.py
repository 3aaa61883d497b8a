"""The peers: one module each, imported only inside that peer's own process.

A module has

``available()``
    None, or the reason why the peer cannot run here.
``version()``
    Text for the report.
``setup(threads)``
    Called once, before anything is built.
``build(case, data)``
    The ways in which the peer computes a case, by name; the worker times the fastest. Raises
    `Unsupported` for what the peer does not have.
``PROJECTS``
    True where it has LSTMs with a projection, of P values.
``NOTE``
    What it has of the modes, where it has not all of them.

`PLACES` lists the packages that such modules are in; another package adds its own.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

PLACES = [__name__]
# fastrnn, as a peer and by its times; peers whose names begin so are fastrnn under an adapter.
OURS = "fastrnn"
# fastrnn in float32, as a peer of itself in narrower types.
IN_FLOAT32 = "float32"
# What times of another build of fastrnn are called by.
AGAINST = "against"


class Unsupported(Exception):
    """The peer does not have this case; the text says why."""


@dataclass
class Way:
    """One way to compute a case.

    Parameters
    ----------
    call : callable
        What is timed; returns when the work is done. A stream's call goes on from the last one.
    arrays : callable
        What `call` returned, as arrays with the names of `cases.expected`. y is needed, for
        train every gradient too; final states may be left out.
    """

    call: Callable[[], Any]
    arrays: Callable[[Any], dict[str, np.ndarray]]


def load(name: str) -> ModuleType:
    """The peer's module, out of the first place that has it."""
    for place in PLACES:
        if importlib.util.find_spec(f"{place}.{name}"):
            return importlib.import_module(f"{place}.{name}")
    raise ModuleNotFoundError(f"no peer {name} in {', '.join(PLACES)}")


def is_ours(peer: str) -> bool:
    """Whether it is fastrnn, alone or under an adapter."""
    return peer == OURS or peer.startswith(f"{OURS}_")


def runs_engine(peer: str) -> bool:
    """Whether its process has fastrnn's engine, and not the name of the package alone."""
    return is_ours(peer) or peer == IN_FLOAT32


def missing(*modules: str) -> str | None:
    """The reason why a peer that needs these modules cannot run, if there is one."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"not installed: pip install {' '.join(absent)}" if absent else None
