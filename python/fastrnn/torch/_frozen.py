"""Weights that stay packed from call to call, and what tells whether they still are the layer's."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from . import _conditions, _engine
from ._call import Call, Inputs

_version: Any = Tensor._version.__get__  # type: ignore[attr-defined]


class Kept:
    """The key that packed weights are kept under, of the tensors that they were packed from.

    The key is the tensors themselves, where their values lie, and how often they were written.
    All are held: the id or the address of what is gone could come back as another tensor's.

    Parameters
    ----------
    tensors : tuple of Tensor
        To be packed after this, and not before: what another thread writes meanwhile must not count
        as packed.
    """

    __slots__ = ("addresses", "tensors", "values", "versions")

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self.tensors = tensors
        self.values = tuple(t.detach() for t in tensors)
        self.addresses = [v.data_ptr() for v in self.values]
        # Tensors made in inference mode have no version: what is written into them is not seen.
        self.versions = None if any(t.is_inference() for t in tensors) else _versions(tensors)

    def is_of(self, tensors: tuple[Tensor, ...]) -> bool:
        """Whether these are the tensors that were packed, with their values where they lay."""
        return (
            all(map(operator.is_, tensors, self.tensors))
            and list(map(Tensor.data_ptr, tensors)) == self.addresses
        )

    def is_current(self) -> bool:
        """Whether nothing that torch counts has been written into them since."""
        return self.versions is None or _versions(self.tensors) == self.versions


class Frozen(Kept):
    """The packed weights of a layer, with their key.

    Parameters
    ----------
    call : Call
        Of the layer; its tensors do not matter.
    parameters : tuple of Tensor
        Packed at once.

    Raises
    ------
    RuntimeError
        No engine for their device, shapes that do not belong together, or no memory.
    ValueError
        Different dtypes.
    """

    __slots__ = ("packed",)

    def __init__(self, call: Call, parameters: tuple[Tensor, ...]) -> None:
        super().__init__(parameters)
        device = parameters[0].device
        try:
            self.packed: Any = _engine.pack(call, device, self.values, forward=True, keep=True)
        except Exception as error:
            _engine.raise_as_torch(error)

    def serving(self, call: Call, inputs: Inputs) -> Frozen | None:
        """What serves a call of the layer: this, or anew where its tensors were written.

        None where the weights are to be packed for the call alone.

        Raises
        ------
        RuntimeError
            The call wants gradients of what is frozen.
        """
        if torch.compiler.is_compiling() or not self.is_of(inputs.parameters):
            return None
        if _conditions.wants_gradient(inputs):
            raise RuntimeError(
                f"[{call.cell}] a frozen layer must be called under torch.no_grad() or after "
                "unfreeze(), got tensors that require gradients"
            )
        if call.cells or not _conditions.is_direct(inputs):
            return None
        return self if self.is_current() else Frozen(call, inputs.parameters)


def _versions(tensors: tuple[Tensor, ...]) -> list[int]:
    return list(map(_version, tensors))


def freeze(call: Call, parameters: tuple[Tensor, ...]) -> Frozen:
    """The weights of a layer, packed to be kept.

    Raises
    ------
    RuntimeError
        The engine has no kernel for them as they are.
    """
    if reason := _reason_against(call, parameters):
        raise RuntimeError(
            f"[{call.cell}] a layer must have plain parameters of a dtype that the engine "
            f"computes in, and no projections on a GPU, to be frozen, got {reason}"
        )
    return Frozen(call, parameters)


def _reason_against(call: Call, parameters: tuple[Tensor, ...]) -> str:
    """Why there is nothing to pack of these parameters; empty where there is."""
    if call.projected and not _engine.projects_quickly(parameters[0].device):
        return "proj_size"
    if any(p.is_meta or p.is_neg() or type(p) not in _conditions.PLAIN for p in parameters):
        return "tensors of another kind"
    first = parameters[0]
    return "" if _engine.computes(first.dtype, first.device) else str(first.dtype)
