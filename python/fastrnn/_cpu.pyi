"""The compiled CPU engine. Arguments are positional in use; names are given for reading."""

from typing import Any

import numpy as np

_Shape = tuple[int, ...]
_States = tuple[np.ndarray, ...]
_Tape = tuple[np.ndarray, ...]

class Weights:
    def __init__(
        self,
        cell: str,
        element_bytes: int,
        layers: int,
        directions: int,
        inputs: int,
        units: int,
        bias: bool,
    ) -> None: ...
    def pack(self, parameters: tuple[np.ndarray, ...], backward: bool) -> None: ...
    def shapes(
        self, x: np.ndarray, batch_first: bool
    ) -> tuple[_Shape, _Shape, tuple[_Shape, _Shape, _Shape]]: ...
    def explain(self, T: int, B: int) -> dict[str, Any]: ...
    @property
    def parameters(self) -> list[tuple[str, _Shape]]: ...
    @property
    def level(self) -> str: ...
    @property
    def states(self) -> int: ...

def forward(
    weights: Weights,
    x: np.ndarray,
    initial: _States | None,
    lengths: np.ndarray | None,
    resets: np.ndarray | None,
    masks: tuple[np.ndarray, ...],
    batch_first: bool,
    y: np.ndarray,
    final: _States,
    tape: _Tape | None,
) -> None: ...
def backward(
    weights: Weights,
    x: np.ndarray,
    initial: _States | None,
    lengths: np.ndarray | None,
    resets: np.ndarray | None,
    masks: tuple[np.ndarray, ...],
    batch_first: bool,
    y: np.ndarray,
    tape: _Tape,
    dy: np.ndarray,
    dfinal: _States | None,
    dx: np.ndarray,
    dinitial: _States,
    dparameters: tuple[np.ndarray, ...],
) -> None: ...
def cells() -> list[dict[str, Any]]: ...
def built_levels() -> list[str]: ...
def usable_levels() -> list[str]: ...
def level() -> str: ...
def use_level(level: str) -> None: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def team() -> str: ...
def caches() -> dict[str, int]: ...
def compiler() -> str: ...
