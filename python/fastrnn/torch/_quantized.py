"""Layers whose weights are quantized; `accelerate` makes them of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .. import _arguments, _dtypes, _parameters, _schemes
from ..functional import Packed
from ..quantized import check_scales
from . import _conditions, _engine, _packed, _tracing
from ._call import NO_STEP_INPUTS, Inputs, StepInputs, step_inputs
from ._frozen import Kept
from ._modules import check_given, not_a_tensor, states_of


class _KeptPacked(Kept):
    """Packed weights, with the key of the tensors they were packed from."""

    __slots__ = ("run",)

    def __init__(
        self, cell: str, scheme: str, names: list[str], tensors: tuple[Tensor, ...]
    ) -> None:
        super().__init__(tensors)
        arrays = {name: array_of(value) for name, value in zip(names, self.values, strict=True)}
        self.run = Packed(cell, arrays, weights=scheme).native.run


class Quantized(nn.Module):
    """An RNN, LSTM or GRU whose weights are quantized: for inference, on the CPU.

    `fastrnn.torch.accelerate(model, dtype="int8")` makes a layer of a model one; there is no
    constructor. The weights are buffers by torch's names, in int8, each with a buffer in float32
    for the scales of its rows (``scale_ih_l0`` of ``weight_ih_l0`` and so on), or in 16 bits
    without; biases are buffers in float32. There are no parameters. Products and results are those
    of `fastrnn.Quantized`, bit for bit, and state dicts have the same names.

    The weights stay packed between calls. What is written into the buffers in place, loaded, or
    put in their place, is seen at the next call, but for writes that torch does not count (through
    ``.data``, or an array that shares the memory).

    Attributes
    ----------
    weights : str
        How the weights are quantized, as `fastrnn.quantize` names it: ``"int8"`` and so on.
    mode : str
        ``"LSTM"``, ``"GRU"``, ``"RNN_TANH"`` or ``"RNN_RELU"``.
    input_size, hidden_size, num_layers, proj_size : int
        I, H, L, and P or 0.
    bias, batch_first, bidirectional : bool
    dropout : float
        Of the layer that this one was made of. In training mode calls with it are refused.

    Raises
    ------
    TypeError
        The class was called.

    Notes
    -----
    Conversions such as ``half()`` change no buffer's dtype. Inputs must be float32, also under
    autocast.
    """

    # Of the class, so that a module of torch's needs only another class to become one of ours.
    _kept: _KeptPacked | None = None
    _names: list[str]  # of the buffers, in the order of `fastrnn.Quantized`

    weights: str
    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            "[Quantized] a layer must be made by accelerate(model, dtype='int8'), "
            "got a call of its class"
        )

    @property
    def _cell(self) -> str:
        return self.mode.lower()

    @property
    def _named(self) -> str:
        """What it is, in errors."""
        return f"a layer with {_schemes.SCHEMES[self.weights].dtype} weights"

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        holds: Tensor | None = None,
        repeat_held: bool = False,
        recurrent_masks: Tensor | None = None,
    ) -> Any:
        """Run the layers; there are no gradients.

        Parameters
        ----------
        input : Tensor or PackedSequence
            float32; ``(T, B, I)``, with `batch_first` ``(B, T, I)``, or ``(T, I)``; T and B may be
            0.
        hx : Tensor or tuple of Tensor, optional
            float32; ``(L * D, B, H)``, or ``(L * D, H)``; for the LSTM a pair of them, of which h
            has `proj_size` values where that is given. Zeros without.
        lengths : Tensor, optional
            ``(B,)`` integers within 0..T; see `Recurrent.forward`, as for what follows.
        resets, holds : Tensor, optional
            bool, ``(T, B)`` as the input is laid out.
        repeat_held : bool
            Whether the output of a held step is that of the last step that ran, and not 0.
        recurrent_masks : Tensor, optional
            float32; ``(L * D, B, H)`` or ``(L * D, G, B, H)``.

        Returns
        -------
        output : Tensor or PackedSequence
            float32; as the input, with ``D * H``, or ``D * proj_size``, in the last place.
        hn : Tensor, or (hn, cn)
            The final state, in float32.

        Raises
        ------
        RuntimeError
            An input or state that requires a gradient while gradients are on; training mode of a
            layer with dropout; a shape, a length or a device that does not fit; a transform or a
            recorder that would have to look inside.
        ValueError
            A dtype, or an input that has neither two nor three dimensions.
        TypeError
            Something that is not a tensor.
        NotImplementedError
            Recurrent masks and the like that want a gradient.
        """
        steps = step_inputs(lengths, resets, holds, None, recurrent_masks)
        if _tracing.may_be_recorded():
            given = {name: value for name, value in steps._asdict().items() if value is not None}
            if repeat_held is not False:
                given["repeat_held"] = repeat_held
            node = _tracing.node_of(self, input, hx, given)
            if node is not None:
                return node
        if repeat_held is not False:
            repeat_held = _arguments.flag(self._cell, "repeat_held", repeat_held)
        if isinstance(input, PackedSequence):
            _packed.refuse_steps(self._cell, steps)
            return self._run_packed(input, hx, steps)
        if not isinstance(input, Tensor):
            raise not_a_tensor(self._cell, "input", input)
        return self._run(input, states_of(self._cell, hx), steps, repeat_held)

    def flatten_parameters(self) -> None:
        """Nothing; models call it on torch's layers before each call."""

    # ---- a call ---------------------------------------------------------------------------------

    def _run(
        self, x: Tensor, states: tuple[Tensor, ...], steps: StepInputs, repeat_held: bool = False
    ) -> tuple[Tensor, Any]:
        cell = self._cell
        if steps is not NO_STEP_INPUTS:
            check_given(cell, steps)
        self._refuse(Inputs(x, steps, states, (), ()))
        hx = tuple(map(array_of, states)) if states else None
        given = tuple(None if value is None else array_of(value) for value in steps)
        call = (
            array_of(x), hx[0] if hx and len(hx) == 1 else hx, *given, None, None,
            self.batch_first, False, repeat_held, _engine.INFER, 0, torch.get_num_threads(),
        )  # fmt: skip
        try:
            y, final = self._ready().run(call)
        except Exception as error:
            _engine.raise_as_torch(error)
        if isinstance(final, tuple):
            return torch.from_numpy(y), tuple(map(torch.from_numpy, final))
        return torch.from_numpy(y), torch.from_numpy(final)

    def _run_packed(
        self, packed: PackedSequence, hx: Any, steps: StepInputs
    ) -> tuple[PackedSequence, Any]:
        """The rows of a PackedSequence, in its order."""
        cell = self._cell
        _packed.check(cell, packed)
        check_given(cell, steps)
        states = _packed.sort_rows(cell, packed, states_of(cell, hx))
        masks = _packed.sort_masks(cell, packed, steps.recurrent_masks)
        steps = StepInputs(batch_sizes=packed.batch_sizes, recurrent_masks=masks)
        y, final = self._run(packed.data, states, steps)
        if isinstance(final, tuple):
            final = tuple(_packed.unsort_rows(packed, s, 1) for s in final)
        else:
            final = _packed.unsort_rows(packed, final, 1)
        return packed._replace(data=y), final

    def _ready(self) -> _KeptPacked:
        """The packed weights of the buffers as they are now."""
        try:
            buffers: Any = tuple(map(self._buffers.__getitem__, self._names))
        except KeyError:  # one was replaced by something else than a buffer
            buffers = tuple(getattr(self, name) for name in self._names)
        kept = self._kept
        if kept is None or not kept.is_of(buffers) or not kept.is_current():
            for name, buffer in zip(self._names, buffers, strict=True):
                if not isinstance(buffer, Tensor):
                    raise not_a_tensor(self._cell, name, buffer)
                self._check_on_cpu(buffer)
            self._kept = kept = _KeptPacked(self._cell, self.weights, self._names, buffers)
        return kept

    def _refuse(self, inputs: Inputs) -> None:
        """What the engine cannot do with these tensors, and nothing else does for it."""
        cell = self._cell
        if self.training and self.dropout and self.num_layers > 1:
            raise RuntimeError(
                f"[{cell}] {self._named} must be in eval mode where it has dropout, "
                f"got training mode and dropout={self.dropout}"
            )
        for tensor in (inputs.x, *inputs.states, *inputs.steps):
            if tensor is not None:
                self._check_on_cpu(tensor)
        if reason := _conditions.why_not_alone(inputs):
            raise RuntimeError(
                f"[{cell}] {self._named} must be called for inference, on tensors that lie in "
                f"memory, got {reason}"
            )
        for tensor in (inputs.x, *inputs.states):
            if tensor.dtype != torch.float32:
                raise ValueError(
                    f"[{cell}] input and states must be of float32 where weights are of "
                    f"{_schemes.SCHEMES[self.weights].dtype}, got {tensor.dtype}"
                )

    def _check_on_cpu(self, tensor: Tensor) -> None:
        if not tensor.is_cpu:
            raise RuntimeError(
                f"[{self._cell}] {self._named} and its inputs must be on the CPU, "
                f"got a tensor on {tensor.device}"
            )

    def __prepare_scriptable__(self) -> Any:
        raise RuntimeError(
            f"[{self._cell}] {self._named} must stay a module of Python, got torch.jit.script"
        )

    # ---- what goes with a module -----------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves go through; conversions would leave numbers that the weights are not."""

        def moved(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            return made if made.dtype == tensor.dtype else tensor.to(made.device)

        if recurse:
            for module in self.children():
                module._apply(fn)
        return super()._apply(moved, recurse=False)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        errors = self._errors_of(state_dict, prefix)
        if errors:
            error_msgs = args[4] if len(args) > 4 else kwargs["error_msgs"]
            error_msgs.extend(errors)
            return
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._kept = None

    def _errors_of(self, state: Any, prefix: str) -> list[str]:
        """Why a state dict must not be copied in: floats that would be cut to integers."""
        errors = []
        for name in self._names:
            value = state.get(prefix + name)
            if not isinstance(value, Tensor):  # torch says so
                continue
            if error := _why_not_loaded(self._cell, self.weights, name, value):
                errors.append(error)
        return errors

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_kept", None)
        return state

    def extra_repr(self) -> str:
        text = f"{self.mode}, {self.input_size}, {self.hidden_size}"
        for name, usual in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        ):
            value = getattr(self, name)
            text += "" if value == usual else f", {name}={value}"
        return f"{text}, weights={self.weights}"


def _why_not_loaded(cell: str, scheme: str, name: str, value: Tensor) -> str:
    """Why a tensor must not become a buffer; empty where it may."""
    if _schemes.dtype_of(scheme, name, "") == "int8":
        same = value.dtype == torch.int8
        return "" if same else f"[{cell}] {name} must be of int8, got {value.dtype}"
    if not value.is_floating_point():
        return f"[{cell}] {name} must be of floats, got {value.dtype}"
    if _parameters.is_scale(name) and not value.is_meta:
        try:
            check_scales(cell, name, array_of(value.float()))
        except ValueError as error:
            return str(error)
    return ""


def array_of(tensor: Tensor) -> np.ndarray:
    """A NumPy array on the memory of a tensor of the CPU.

    Quantized weights take and give arrays alone, and not what has DLPack's exchange.
    """
    if tensor.dtype == torch.bfloat16:  # which torch gives NumPy not even as ml_dtypes has it
        bits: np.ndarray = tensor.detach().view(torch.int16).numpy(force=True)
        return bits.view(_dtypes.numpy_dtype("bfloat16"))
    array: np.ndarray = tensor.numpy(force=True)
    return array


def tensor_of(array: np.ndarray) -> Tensor:
    """A tensor on the memory of an array."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
