"""Who may run a call: the engine on memory, autograd, the composite, or torch's dispatcher."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _engine, _tracing
from ._call import NO_STEP_INPUTS, Call, Inputs

PLAIN = frozenset({Tensor, torch.nn.Parameter})


def is_plain(inputs: Inputs) -> bool:
    """Whether the engine may read these tensors where they lie, unseen by torch's dispatcher.

    Not so for subclasses (fake, distributed, functional tensors), for tensors that are only a
    transform of what lies in memory, or while something watches every operation.
    """
    return not _tracing.is_watched() and _has_memory(inputs)


def _has_memory(inputs: Inputs) -> bool:
    tensors = _tensors(inputs)
    return PLAIN.issuperset(map(type, tensors)) and not any(map(Tensor.is_neg, tensors))


def _tensors(inputs: Inputs) -> list[Tensor]:
    tensors = [*inputs.states, *inputs.masks, *inputs.parameters, inputs.x]
    if inputs.steps is not NO_STEP_INPUTS:
        tensors += [a for a in inputs.steps if a is not None]
    return tensors


def takes_packed(inputs: Inputs) -> bool:
    """Whether the rows of a packed x may stay packed on their way through autograd to the engine.

    On the CPU, where nothing that records operations has to see padded ones.
    """
    return not (
        _engine.name_for(inputs.x.device) != "cpu"
        or inputs.x.is_meta
        or torch.compiler.is_compiling()
        or _tracing.is_recorded()
        or not _has_memory(inputs)
    )


def needs_composite() -> bool:
    """Whether a transform is active that knows torch's operations alone.

    Forward-mode derivatives, for which there is no fused kernel, and `torch.func.functionalize`,
    which has no rule for a `Function`.
    """
    if forward_ad._current_level >= 0:
        return True
    if not torch._C._are_functorch_transforms_active():
        return False
    kinds = torch._C._functorch.TransformType
    levels = torch._C._functorch.get_interpreter_stack()
    return any(level.key() in (kinds.Jvp, kinds.Functionalize) for level in levels)


def lacks_kernel(inputs: Inputs) -> bool:
    """Whether no engine computes a call: of cells that have no inputs."""
    return inputs.parameters[0].shape[-1] == 0


def is_direct(inputs: Inputs) -> bool:
    """Whether nothing but the engine has to know of a call with these tensors."""
    return not (
        torch.compiler.is_compiling()
        or forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
        or wants_gradient(inputs)
        or inputs.x.is_meta
    ) and is_plain(inputs)


def why_not_alone(inputs: Inputs) -> str:
    """Why the engine cannot run a call that nothing else could run; empty where it can.

    Unlike `is_direct` this lets a profiler look on, which sees nothing of the call then, and takes
    tensors whose sign is still to be changed, for a copy is no operation that anyone has to see.
    """
    if wants_gradient(inputs):
        return "tensors that require gradients"
    if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return "a transform of torch.func or of forward-mode gradients"
    if _tracing.is_recorded():
        return "a recorder or a mode that watches operations"
    return "" if PLAIN.issuperset(map(type, _tensors(inputs))) else "tensors of another kind"


def refuse_mixture(call: Call, inputs: Inputs) -> None:
    """The dispatcher takes memory and none together; here that is a mistake."""
    for tensor in (*inputs.states, *inputs.parameters):
        if not tensor.is_meta:
            raise RuntimeError(
                f"[{call.cell}] tensors must be on one device, got {inputs.x.device} and "
                f"{tensor.device}"
            )


def wants_gradient(inputs: Inputs) -> bool:
    """Whether autograd records what is done with these tensors."""
    if not torch.is_grad_enabled():
        return False
    return (
        inputs.x.requires_grad
        or any(p.requires_grad for p in inputs.parameters)
        or any(s.requires_grad for s in inputs.states)
    )
