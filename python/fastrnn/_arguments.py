"""What constructors and calls check alike, and what constructors draw."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import _arrays, _cell_names, _dtypes


def cell_name(cell: Any) -> str:
    """The canonical name of a cell; whether there is one of this name, the engine says."""
    if not isinstance(cell, str):
        raise TypeError(f"[cell] cell must be a name, got {type(cell).__name__}")
    return _cell_names.canonical(cell)


def float_dtype(op: str, dtype: Any) -> np.dtype:
    """float32 or float64."""
    return _dtype_of(op, dtype, _dtypes.WIDE)


def layer_dtype(op: str, dtype: Any, device: str) -> np.dtype:
    """A dtype that the engine for a device computes in; bfloat16 needs ml_dtypes."""
    return _dtype_of(op, dtype, _dtypes.OF_ENGINE[device])


def _dtype_of(op: str, dtype: Any, names: tuple[str, ...]) -> np.dtype:
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or dtype
    if isinstance(name, str) and name in names and name in _dtypes.NARROW:
        return _dtypes.numpy_dtype(name)
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):
        found = np.dtype(object)
    for known in map(_dtypes.numpy_dtype, _dtypes.WIDE):
        if dtype is not None and found == known:  # np.dtype(None) is float64
            return known
    *others, last = names
    raise TypeError(
        f"[{op}] dtype must be {', '.join(others)} or {last}, got {reprlib.repr(dtype)}"
    )


def rnn_cell(
    nonlinearity: _cell_names.FunctionLike,
    clip: float | None = None,
    state_range: _cell_names.RangeLike | None = None,
) -> str:
    """The name of the simple cell with this nonlinearity."""
    return _cell_names.cell_name("rnn", [nonlinearity], clip, state_range)


def gru_cell(
    reset_after: Any,
    activations: Sequence[_cell_names.FunctionLike] | None = None,
    clip: float | None = None,
    state_range: _cell_names.RangeLike | None = None,
) -> str:
    """The name of the GRU's cell whose reset gate stands after the product, or before it."""
    base = "gru" if flag("gru", "reset_after", reset_after) else "gru_reset_before"
    return _cell_names.cell_name(base, activations, clip, state_range)


def size(op: str, name: str, n: Any) -> int:
    """A size of at least 1."""
    try:
        if isinstance(n, (bool, np.bool_)):  # an option in the place of a size
            raise TypeError
        number = operator.index(n)
    except TypeError:
        raise TypeError(f"[{op}] {name} must be an integer, got {reprlib.repr(n)}") from None
    if not 1 <= number < 2**40:
        raise ValueError(f"[{op}] {name} must be at least 1 and below 2**40, got {number}")
    return number


def projection(op: str, n: Any) -> int:
    """The values of a projected h, or 0 where it is not projected."""
    none = isinstance(n, int) and not isinstance(n, bool) and n == 0
    return 0 if none else size(op, "proj_size", n)


def flag(op: str, name: str, value: Any) -> bool:
    """An option that is on or off: True or False, NumPy's too, or 1 or 0."""
    if value is True or value is False:
        return value
    try:
        number = int(value) if isinstance(value, np.bool_) else operator.index(value)
    except TypeError:
        number = -1
    if number not in (0, 1):
        raise TypeError(f"[{op}] {name} must be True or False, got {reprlib.repr(value)}")
    return number == 1


def probability(op: str, p: Any) -> float:
    """The probability of dropout, within 0..1."""
    if isinstance(p, bool) or not isinstance(p, (int, float, np.floating)):
        raise TypeError(f"[{op}] dropout must be a number, got {reprlib.repr(p)}")
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"[{op}] dropout must be within 0..1, got {p!r}")
    return float(p)


def checkpoint_steps(op: str, recompute: Any) -> int:
    """Steps from one kept state to the next; 0 where everything is kept."""
    if isinstance(recompute, (bool, np.bool_)):
        return int(recompute)
    try:
        steps = operator.index(recompute)
    except TypeError:
        raise TypeError(
            f"[{op}] recompute must be True, False or a number of steps, "
            f"got {reprlib.repr(recompute)}"
        ) from None
    if not 0 <= steps < 2**40:
        raise ValueError(f"[{op}] recompute must be within 0..2**40 steps, got {steps}")
    return steps


def lengths_array(cell: str, lengths: Any, name: str = "lengths") -> Any:
    """Lengths, or batch sizes, as an array; a list of ints is welcome."""
    if lengths is None or _arrays.is_array(lengths):
        return lengths
    try:
        array = np.array(lengths)
    except (ValueError, MemoryError):  # lists in lists, of different lengths
        raise TypeError(f"[{cell}] {name} must be integers, got nested lists") from None
    return array.astype(np.int64) if array.shape == (0,) else array


def seed_sequence(op: str, seed: Any) -> np.random.SeedSequence:
    """The sequence of a seed, an integer or none."""
    if isinstance(seed, np.random.SeedSequence):
        return seed
    if seed is not None:
        try:
            seed = operator.index(seed)
        except TypeError:
            raise TypeError(f"[{op}] seed must be an integer, got {reprlib.repr(seed)}") from None
        if seed < 0:
            raise ValueError(f"[{op}] seed must not be negative, got {seed}")
    return np.random.SeedSequence(seed)


def random_state(seed: np.random.SeedSequence, draws: int) -> dict[str, Any]:
    """The state of `Recurrent.random_state`, as plain data."""
    return {
        "entropy": _plain(seed.entropy),
        "spawn_key": _plain(seed.spawn_key),
        "draws": draws,
    }


def from_random_state(op: str, state: Any) -> tuple[np.random.SeedSequence, int]:
    """The seed and the number of draws out of what `random_state` gave."""
    names = ["entropy", "spawn_key", "draws"]
    if not isinstance(state, Mapping):
        raise TypeError(
            f"[{op}] random_state must be a mapping of {names}, got {type(state).__name__}"
        )
    if set(state) != set(names):
        raise ValueError(f"[{op}] random_state must be of {names}, got {reprlib.repr(list(state))}")
    try:
        if state["entropy"] is None or isinstance(state["draws"], (bool, np.bool_)):
            raise TypeError  # SeedSequence(None) is another seed each time
        draws = operator.index(state["draws"])
        key = [*_plain(state["spawn_key"])]
        seed = np.random.SeedSequence(_plain(state["entropy"]), spawn_key=tuple(key))
        if draws < 0:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"[{op}] random_state must hold integers of at least 0, got {reprlib.repr(dict(state))}"
        ) from None
    return seed, draws


def _plain(entropy: Any) -> Any:
    """An integer, or lists of these, out of whatever NumPy takes as entropy."""
    try:
        return operator.index(entropy)
    except TypeError:
        if isinstance(entropy, str):  # whose parts are strings again
            raise
        return [_plain(e) for e in entropy]


def uniform(
    op: str,
    shapes: Iterable[tuple[str, tuple[int, ...]]],
    hidden_size: int,
    dtype: np.dtype,
    seed: np.random.SeedSequence,
) -> dict[str, np.ndarray]:
    """Initial parameters as torch draws them: uniform within 1 / sqrt(hidden_size)."""
    rng, bound = np.random.default_rng(seed), hidden_size**-0.5
    try:
        return {name: rng.uniform(-bound, bound, shape).astype(dtype) for name, shape in shapes}
    except (MemoryError, ValueError):  # ValueError: more bytes than NumPy counts
        largest = next(iter(shapes))[1]
        raise MemoryError(
            f"[{op}] memory for the parameters must be available, got none for {largest}"
        ) from None
