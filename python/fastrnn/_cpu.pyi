"""The compiled CPU engine. Arguments are positional in use; names are given for reading.

Weights from `pack_new` take and give arrays of their parameters' library, if it has DLPack's
exchange of C calls.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

__version__: str

_Shape = tuple[int, ...]
_State = Any  # an array, or a pair of arrays for a cell with two states

class Weights:
    def __init__(
        self,
        cell: str,
        dtype: str,
        layers: int,
        directions: int,
        inputs: int,
        units: int,
        bias: bool,
    ) -> None: ...
    def pack(self, parameters: tuple[np.ndarray, ...], backward: bool) -> None: ...
    def output_shape(self, x: np.ndarray, batch_first: bool) -> _Shape: ...
    def infer(
        self,
        x: np.ndarray,
        state: _State,
        lengths: np.ndarray | None,
        resets: np.ndarray | None,
        masks: Sequence[np.ndarray] | None,
        batch_first: bool,
        out: np.ndarray | None,
        threads: int = 0,
    ) -> tuple[np.ndarray, _State]: ...
    def forward(
        self,
        x: np.ndarray,
        state: _State,
        lengths: np.ndarray | None,
        resets: np.ndarray | None,
        masks: Sequence[np.ndarray] | None,
        batch_first: bool,
        recompute: int,
        out: np.ndarray | None,
        threads: int = 0,
    ) -> tuple[np.ndarray, _State, tuple[np.ndarray, ...]]: ...
    def backward(
        self,
        x: np.ndarray,
        state: _State,
        lengths: np.ndarray | None,
        resets: np.ndarray | None,
        masks: Sequence[np.ndarray] | None,
        batch_first: bool,
        y: np.ndarray,
        tape: tuple[np.ndarray, ...],
        recompute: int,
        dy: np.ndarray,
        dstate: _State,
        want_dx: bool = True,
        want_parameters: bool = True,
        threads: int = 0,
    ) -> tuple[Any, _State, Any]: ...
    def explain(self, T: int, B: int, recompute: int) -> dict[str, Any]: ...
    @property
    def parameters(self) -> list[tuple[str, _Shape]]: ...

class RankError(ValueError): ...

def pack_new(
    cell: str,
    layers: int,
    directions: int,
    parameters: tuple[Any, ...],
    forward: bool,
    backward: bool,
    threads: int = 0,
) -> Weights: ...
def infer_new(
    cell: str,
    layers: int,
    directions: int,
    parameters: tuple[Any, ...],
    x: Any,
    state: Any,
    lengths: Any,
    resets: Any,
    masks: Any,
    batch_first: bool,
    threads: int = 0,
) -> tuple[Any, Any]: ...
def step_new(
    cell: str, parameters: tuple[Any, ...], x: Any, state: Any, threads: int = 0
) -> tuple[Any, ...]: ...
def result_shapes(
    cell: str,
    layers: int,
    directions: int,
    x: tuple[Any, ...],
    units: Any,
    batch_first: bool,
    recompute: int,
) -> tuple[_Shape, _Shape, tuple[_Shape, _Shape, _Shape]]: ...
def cells() -> list[dict[str, Any]]: ...
def built_levels() -> list[str]: ...
def usable_levels() -> list[str]: ...
def level() -> str: ...
def use_level(level: str) -> None: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def team() -> str: ...
def available() -> dict[str, Any]: ...
def processors() -> dict[str, int]: ...
def quota_processors(root: str) -> int: ...
def pretend_processors(n: int) -> None: ...
def release_memory() -> int: ...
def caches() -> dict[str, int]: ...
def compiler() -> str: ...
