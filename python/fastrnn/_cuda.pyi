"""The compiled CUDA engine. Arguments are positional in use; names are given for reading.

Arrays are of any library with DLPack or the CUDA array interface, in a GPU's memory.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypedDict

from ._engine import Call

call_fields: tuple[str, ...]
# The numbers of its kinds.
call_kinds: dict[str, int]
# What XLA calls, as `jax.ffi.register_ffi_target` takes it; it calls a function of Python's.
xla_handler: object

_Shape = tuple[int, ...]
_Array = object
_Block = tuple[_Array, int, int, int, int]

class LibraryCalls(Protocol):
    """What a call asks of the library of its arrays; see `fastrnn.cuda._driver`."""

    def empty(self, requests: Sequence[tuple[_Shape, str]]) -> list[_Array]: ...
    def moved(self, lengths: _Array) -> _Array: ...
    def copied(self, array: _Array) -> _Array: ...
    def multiply(
        self,
        products: Sequence[tuple[_Block, _Block, _Block, bool, bool, bool]],
        sums: Sequence[tuple[_Array, int, _Block, bool]],
    ) -> None: ...
    def prepare(
        self, products: Sequence[tuple[_Block, _Block, _Block, bool, bool, bool]]
    ) -> object: ...

class PlanFacts(TypedDict):
    mode: str
    blocks: int
    threads: int
    units: int
    replicas: int
    tile_rows: int
    tensor_cores: bool
    streamed: int
    shared_bytes: int
    model_microseconds: float

class DeviceFacts(TypedDict):
    name: str
    capability: tuple[int, int]
    processors: int
    shared_per_block: int
    cooperative: bool
    gigahertz: float

class Stack:
    def __init__(
        self,
        cell: str,
        dtype: str,
        layers: int,
        directions: int,
        inputs: int,
        units: int,
        bias: bool,
        projection: int = 0,
    ) -> None: ...
    @property
    def parameters(self) -> list[tuple[str, _Shape]]: ...
    def check_taken(self, parameters: tuple[_Array, ...]) -> list[bool]: ...
    def output_shape(self, x: _Array, batch_first: bool) -> _Shape: ...
    def plan(
        self, T: int, B: int, device: int, backward: bool, can_be_recorded: bool = True
    ) -> PlanFacts: ...
    def run(
        self,
        parameters: tuple[_Array, ...],
        call: Call,
        library: LibraryCalls,
        stream: int,
        can_be_recorded: bool,
    ) -> tuple[_Array, ...]: ...

class RankError(ValueError): ...

def sizes(
    cell: str, layers: int, directions: int, parameters: tuple[_Array, ...]
) -> tuple[str, int, int, bool, int]: ...
def device_count() -> int: ...
def why_none() -> str: ...
def device(index: int) -> DeviceFacts: ...
def mode() -> str: ...
def use_mode(mode: str) -> None: ...
def tf32() -> bool: ...
def use_tf32(use: bool) -> None: ...
def raise_errors(device: int, stream: int) -> None: ...
def xla_set_version(major: int, minor: int) -> None: ...
def xla_set_function(function: Callable[..., None]) -> None: ...
