"""The compiled CPU engine. Arguments are positional in use; names are given for reading.

Arrays are NumPy's, or of a library that has DLPack's exchange of C calls: a call with weights takes
and gives arrays of the library that their parameters came from.
"""

from collections.abc import Sequence
from typing import TypedDict

from typing_extensions import NotRequired

__version__: str
# The fields of `Call`, in order.
call_fields: tuple[str, ...]
# The numbers of its kinds.
call_kinds: dict[str, int]

# The numbers that a call through XLA brings, in order; the bits of its option "given", by Python's
# field or else the engine's name of a role; the handler, as `jax.ffi.register_ffi_target` takes it.
xla_options: tuple[str, ...]
xla_roles: dict[str, int]
xla_handler: object

_Shape = tuple[int, ...]
_Array = object
_State = object  # an array, or a pair of arrays for a cell with two states

class CellFacts(TypedDict):
    name: str
    gates: int
    states: int
    saved: int
    phases: int
    projection: bool

class ThreadFacts(TypedDict):
    threads: int
    why: str

class ProcessorFacts(TypedDict):
    affinity: int
    quota: int
    usable: int

class CacheFacts(TypedDict):
    l1d: int
    l2: int
    l3: int

# Of the pairs, the first is of one core and the second of all threads.
class LimitFacts(TypedDict):
    fma_gflops: list[float]
    bfloat16_gflops: list[float]
    int8_gops: list[float]
    bandwidth: dict[str, list[float]]
    step_ns: dict[str, float]
    exchange_ns: float

class PlanFacts(TypedDict):
    regime: str
    threads: int
    row_groups: int
    unit_members: int
    recurrence_threads: int
    chunk_steps: int
    workspace_bytes: int
    model_microseconds: float

class TileFacts(TypedDict):
    lanes: int
    rows: int
    panel_units: int

class Explanation(TypedDict):
    cell: str
    dtype: str
    level: str
    weights: str
    tile: TileFacts
    forward: PlanFacts
    forward_with_tape: NotRequired[PlanFacts]
    backward: NotRequired[PlanFacts]
    available: ThreadFacts
    tape_bytes: NotRequired[int]
    packed_bytes: int

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
        projection: int = 0,
    ) -> None: ...
    def pack(self, parameters: tuple[_Array, ...], backward: bool) -> None: ...
    def copy_parameters(self) -> None: ...
    def output_shape(self, x: _Array, batch_first: bool) -> _Shape: ...
    def run(self, call: tuple[object, ...]) -> tuple[_Array, ...]: ...
    def step(self, x: _Array, state: _State, threads: int = 0) -> tuple[_Array, ...]: ...
    def explain(self, T: int, B: int, recompute: int) -> Explanation: ...
    @property
    def parameters(self) -> list[tuple[str, _Shape]]: ...

class RankError(ValueError): ...

def pack_new(
    cell: str,
    layers: int,
    directions: int,
    parameters: tuple[_Array, ...],
    forward: bool,
    backward: bool,
    threads: int = 0,
) -> Weights: ...
def run_new(
    cell: str,
    layers: int,
    directions: int,
    parameters: tuple[_Array, ...],
    call: tuple[object, ...],
) -> tuple[_Array, ...]: ...
def step_new(
    cell: str, parameters: tuple[_Array, ...], x: _Array, state: _State, threads: int = 0
) -> tuple[_Array, ...]: ...
def result_shapes(
    cell: str,
    layers: int,
    directions: int,
    x: Sequence[int],
    units: int,
    outputs: int,
    batch_first: bool,
    recompute: int,
) -> tuple[_Shape, tuple[_Shape, ...], tuple[_Shape, _Shape, _Shape]]: ...
def xla_set_version(major: int, minor: int) -> None: ...
def xla_check(
    cell: str, options: Sequence[int], inputs: Sequence[tuple[Sequence[int], str, int]]
) -> None: ...
def cells() -> list[CellFacts]: ...
def built_levels() -> list[str]: ...
def usable_levels() -> list[str]: ...
def level() -> str: ...
def use_level(level: str) -> None: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def team() -> str: ...
def available() -> ThreadFacts: ...
def processors() -> ProcessorFacts: ...
def quota_processors(root: str) -> int: ...
def pretend_processors(n: int) -> None: ...
def release_memory() -> int: ...
def caches() -> CacheFacts: ...
def compiler() -> str: ...
def limits(threads: int, l1: int, l2: int, l3: int) -> LimitFacts: ...
