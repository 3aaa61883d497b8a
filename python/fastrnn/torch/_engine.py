"""The engine's calls on tensors: by pointer, without a link to libtorch.

Tensors go in, and results come out, through DLPack's exchange of C calls, which torch has since
2.10; with older versions as NumPy arrays on the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from .. import _dtypes, _engine
from ._call import Call, Inputs

INFER = _engine.INFER
EXCHANGE = hasattr(Tensor, "__dlpack_c_exchange_api__")

# The classes of torch.nn for those of the engines.
ERRORS: tuple[tuple[type[Exception], type[Exception]], ...] = (
    (ValueError, RuntimeError),
    (TypeError, ValueError),
    (MemoryError, RuntimeError),
)


def raise_as_torch(error: Exception) -> NoReturn:
    """Raise an error of the engine with the class that torch has for it."""
    if isinstance(error, _engine.rank_errors()):
        raise ValueError(str(error)) from None
    for engines, torchs in ERRORS:
        if isinstance(error, engines):
            raise torchs(str(error)) from None
    raise error


_DTYPES = {
    engine: frozenset(getattr(torch, name) for name in names)
    for engine, names in _dtypes.OF_ENGINE.items()
}


def name_for(device: torch.device) -> str:
    """What the engines call a device; tensors without memory are served as those of the CPU."""
    return "cpu" if device.type == "meta" else device.type


def missing_for(device: torch.device) -> str:
    """Why there is no engine for tensors of a device; empty where there is one."""
    return _engine.why_not_available(name_for(device))


def for_device(call: Call, device: torch.device) -> _engine.Engine:
    """The engine for tensors of a device.

    Raises
    ------
    RuntimeError
        There is none for this device.
    """
    engine = _engine.usable(name_for(device))
    if engine is None:
        raise RuntimeError(
            f"[{call.cell}] tensors must be on a device that has an engine, "
            f"got {device}: {missing_for(device)}"
        )
    return engine


def computes(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the engine for a device has kernels for a dtype."""
    return dtype in _DTYPES.get(name_for(device), _DTYPES["cpu"])


def projects_quickly(device: torch.device) -> bool:
    """Whether the engine for a device is quicker than torch for LSTMs whose h is a projection.

    On a GPU each of their steps is two products of the library and two launches.
    """
    return name_for(device) != "cuda"


def _to_arrays(values: Any) -> Any:
    if EXCHANGE:
        return values
    if isinstance(values, Tensor):
        return values.detach() if values.is_cuda else values.detach().numpy()
    return tuple(map(_to_arrays, values)) if isinstance(values, tuple) else values


def _to_tensors(values: Any) -> Any:
    if EXCHANGE:
        return values
    if isinstance(values, tuple):
        return tuple(map(_to_tensors, values))
    return values if values is None or isinstance(values, Tensor) else torch.from_numpy(values)


def _state(states: Sequence[Tensor]) -> Any:
    return None if not states else states[0] if len(states) == 1 else tuple(states)


def _states(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def pack(
    call: Call,
    device: torch.device,
    parameters: tuple[Tensor, ...],
    *,
    forward: bool = False,
    backward: bool = False,
    keep: bool = False,
) -> Any:
    """Packed weights, for calls with tensors on a device; with `keep` for more than this call."""
    packed = for_device(call, device).pack_new(
        call.cell,
        call.layers,
        call.directions,
        _to_arrays(parameters),
        forward,
        backward,
        torch.get_num_threads(),
    )
    if keep:
        packed.copy_parameters()
    return packed


def _call(
    kind: int,
    call: Call,
    inputs: Inputs,
    want: tuple[bool, bool] = (False, False),
    tape: tuple[Any, ...] = (None, None, None, None),
) -> tuple[Any, ...]:
    """The fields of an engine's call; `want`: dx, parameters' gradients; `tape`: y to dstate."""
    x, steps, states, masks, _ = inputs
    given = _to_arrays((x, _state(states), *steps, masks or None))
    recompute = 0 if kind == _engine.INFER else call.recompute
    # No layer of torch's reads in reverse alone.
    flags = (call.batch_first, False, call.repeat_held)
    options = (*flags, kind, recompute, torch.get_num_threads(), *want)
    whole = call.whole_tape or call.cells
    y, *rest = _to_arrays(tape)
    return (*given, y, *options, whole, *rest)


def infer(call: Call, inputs: Inputs, packed: Any = None) -> tuple[Tensor, ...]:
    """y and the final states; with `call.cells` also the cell states of every step."""
    if call.cells:
        *results, _, cells, _ = forward(call, inputs)
        return (*results, cells)
    try:
        engine = for_device(call, inputs.x.device)
        arguments = _call(_engine.INFER, call, inputs)
        if packed is not None:
            y, final = packed.run(arguments)
        else:
            parameters = _to_arrays(inputs.parameters)
            y, final = engine.run_new(
                call.cell, call.layers, call.directions, parameters, arguments
            )
    except Exception as error:
        raise_as_torch(error)
    return (_to_tensors(y), *_states(_to_tensors(final)))


def step(
    call: Call, x: Tensor, states: tuple[Tensor, ...], parameters: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The states after one step of one layer: x ``(B, I)`` or ``(I,)``, states ``(B, H)``."""
    try:
        engine = for_device(call, x.device)
        given, x, state = _to_arrays((parameters, x, _state(states)))
        after = engine.step_new(call.cell, given, x, state, torch.get_num_threads())
    except Exception as error:
        raise_as_torch(error)
    return _to_tensors(after)  # type: ignore[no-any-return]


def forward(call: Call, inputs: Inputs) -> tuple[Tensor, ...]:
    """y, the final states, and the three arrays of the tape."""
    try:
        packed = pack(call, inputs.x.device, inputs.parameters, forward=True)
        y, final, tape = packed.run(_call(_engine.FORWARD, call, inputs))
    except Exception as error:
        raise_as_torch(error)
    return (_to_tensors(y), *_states(_to_tensors(final)), *_to_tensors(tape))


def backward(
    call: Call,
    inputs: Inputs,
    y: Tensor,
    tape: tuple[Tensor, ...],
    dy: Tensor,
    dfinals: tuple[Tensor, ...],
    want_dx: bool,
    want_parameters: bool,
) -> tuple[Tensor | None, tuple[Tensor, ...], tuple[Tensor, ...] | None]:
    """dx, the gradients of the initial states, and those of the parameters."""
    try:
        recomputes = call.recompute > 0
        packed = pack(call, inputs.x.device, inputs.parameters, forward=recomputes, backward=True)
        given = (y, tape, dy, _state(dfinals))
        arguments = _call(_engine.BACKWARD, call, inputs, (want_dx, want_parameters), given)
        dx, dinitial, dparameters = packed.run(arguments)
    except Exception as error:
        raise_as_torch(error)
    return _to_tensors(dx), _states(_to_tensors(dinitial)), _to_tensors(dparameters)
