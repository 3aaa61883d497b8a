"""Calls of the CUDA engine out of XLA: its buffers and its stream, as CuPy has them.

The engine's memory and products are those of a library of Python's (`fastrnn.cuda._driver`), so the
handler in `fastrnn._cuda` comes to `run` here, on a thread of XLA's. CuPy's work goes to XLA's
stream. Nothing is copied: arguments and results are XLA's own memory.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from .. import _dtypes
from .._engine import Call
from ..cuda import _driver, _native

# Of an argument or a result: its role, by the key of the engine's table, and its memory.
Buffer = tuple[str, int, tuple[int, ...], str]


def engine() -> Any:
    """The module with the handler for CUDA; None where this build or machine has none."""
    if _native.why_not_available():
        return None
    _native.engine.xla_set_function(run)
    return _native.engine


def run(
    cell: str,
    options: dict[str, int],
    arguments: list[Buffer],
    results: list[Buffer],
    stream: int,
) -> None:
    """Run a call, whose arrays come in the order of the engine's table of roles."""
    with on_stream(stream):
        made = [array_of(*buffer[1:]) for buffer in results]
        given: dict[str, list[Any]] = {}
        for buffer in arguments:
            given.setdefault(buffer[0], []).append(array_of(*buffer[1:]))
        weights = _driver.pack_new(
            cell, options["layers"], options["directions"], tuple(given.pop("{}")), True, True
        )
        weights.run(_call(options, given, [buffer[0] for buffer in results]), made)


def _call(options: dict[str, int], given: dict[str, list[Any]], results: list[str]) -> Call:
    tape = [given.pop(key) for key in ("tape inner", "tape states", "tape saved") if key in given]
    fields: dict[str, Any] = {}
    if "masks" in given:
        fields["masks"] = tuple(given.pop("masks"))
    for key in ("state", "dstate"):
        if key in given:
            fields[key] = _state(given.pop(key))
    for key, (array,) in given.items():
        fields[key] = array
    return Call(
        **fields,
        tape=tuple(array for (array,) in tape) or None,
        batch_first=bool(options["batch_first"]),
        reverse=bool(options["reverse"]),
        repeat_held=bool(options["repeat_held"]),
        kind=options["kind"],
        recompute=options["recompute"],
        want_dx="dx" in results,
        want_parameters="d{}" in results,
        whole_tape=True,
    )


def _state(arrays: list[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def on_stream(stream: int) -> AbstractContextManager[Any]:
    """Let CuPy's work go to a stream of XLA's."""
    import cupy

    made: AbstractContextManager[Any] = cupy.cuda.ExternalStream(stream)
    return made


def array_of(pointer: int, shape: tuple[int, ...], dtype: str) -> Any:
    """An array of CuPy's in memory of XLA's, which lives as long as the call."""
    import cupy

    kind = _dtypes.numpy_dtype(dtype)
    if not pointer:
        return cupy.empty(shape, kind)
    count = kind.itemsize
    for n in shape:
        count *= n
    device = cupy.cuda.runtime.pointerGetAttributes(pointer).device
    memory = cupy.cuda.UnownedMemory(pointer, count, None, device)
    return cupy.ndarray(shape, kind, cupy.cuda.MemoryPointer(memory, 0))
