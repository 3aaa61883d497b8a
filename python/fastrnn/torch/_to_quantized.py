"""What makes a module of torch's, or one of ours, a `Quantized`: the same object, other weights."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .. import _native, _parameters, _schemes
from .._swaps import Unfit
from ..quantized import quantized_parameters
from ._conditions import PLAIN
from ._quantized import Quantized, array_of, tensor_of
from ._twins import ORIGINALS, TWINS

# Of torch's dynamic quantization; named, because its import takes long where nobody uses it.
_DYNAMIC = "torch.ao.nn.quantized.dynamic.modules.rnn"
_FLOATS = tuple(cls for cls in (*TWINS, *ORIGINALS) if issubclass(cls, nn.RNNBase))
_PER_TENSOR = (torch.per_tensor_affine, torch.per_tensor_symmetric)

# What torch's modules and ours have of their floats, or say of them.
_DROPPED = (
    "_flat_weights_names",
    "_flat_weights",
    "_flat_weight_refs",
    "_all_weights",
    "_frozen",
    "recompute",
    "dtype",
    "version",
)


# What a layer of torch's dynamic quantization becomes, by its dtype, and what it must be asked for.
_OF_DYNAMIC = {torch.qint8: "int8", torch.float16: "float16_weights"}


def why_not(module: nn.Module, scheme: str) -> str | None:
    """Why a module is to be kept; None where `quantize_in_place` may try."""
    cls = type(module)
    if isinstance(module, Quantized):
        return "it is fastrnn.torch.Quantized already"
    if isinstance(module, torch.jit.ScriptModule):
        return "compiled by TorchScript"
    if isinstance(module, nn.RNNCellBase):
        return "a cell, for which there are no quantized weights"
    if parametrize.is_parametrized(module):
        return "its weights are made of others by a parametrisation"
    if _is_dynamic(cls):
        return _why_not_dynamic(module, scheme)
    if cls.__module__.startswith("torch.ao.nn."):
        return f"quantised, {cls.__module__}.{cls.__name__}"
    if cls not in _FLOATS:
        return f"a layer of its own, {cls.__name__}: its code may need weights in float32"
    return _why_not_floats(module)


def quantize_in_place(module: nn.Module, scheme: str) -> None:
    """Give a module for which `why_not` has no reason such weights and the class `Quantized`.

    Raises
    ------
    Unfit
        A weight that is not finite, a zero point, a size that has no kernel. The module is as it
        was.
    """
    dynamic = _is_dynamic(type(module))
    gone: Any = vars(module)
    scheme = _OF_DYNAMIC[gone["dtype"]] if dynamic else scheme
    made = _of_dynamic(module, scheme) if dynamic else _of_floats(module, scheme)
    names = _names_in_order(module, scheme, made)
    for name in _DROPPED:
        gone.pop(name, None)
    module._parameters.clear()
    if dynamic:
        del module._modules["_all_weight_values"]
    object.__setattr__(module, "__class__", Quantized)
    gone["_names"], gone["weights"] = names, scheme
    gone.setdefault("proj_size", 0)
    for name in names:
        module.register_buffer(name, made[name])


def _names_in_order(module: Any, scheme: str, made: dict[str, Tensor]) -> list[str]:
    """The engine's order of the parameters, which have passed its checks of sizes."""
    try:
        native = _native.engine.Weights(
            _cell(module),
            scheme,
            module.num_layers,
            2 if module.bidirectional else 1,
            module.input_size,
            module.hidden_size,
            bool(module.bias),
            getattr(module, "proj_size", 0),
        )
    except (ValueError, NotImplementedError) as error:
        raise Unfit(str(error)) from error
    for name, shape in native.parameters:
        if name not in made or tuple(made[name].shape) != tuple(shape):
            raise Unfit(f"its {name} is not of shape {tuple(shape)}")
    return [name for name, _ in native.parameters]


# ---- layers of floats ----------------------------------------------------------------------------


def _why_not_floats(module: Any) -> str | None:
    names = module._flat_weights_names
    if sorted(module._parameters) != sorted(names):
        return "its parameters are not those of the layer alone: pruned, or normed by hooks"
    parameters = list(module._parameters.values())
    for parameter in parameters:
        if type(parameter) not in PLAIN:
            return f"its parameters are of {type(parameter).__name__}"
        if parameter.device.type != "cpu":
            return f"its parameters are on {parameter.device}: quantized weights are of the CPU"
        if parameter.dtype != torch.float32:
            return f"its parameters are of {parameter.dtype}: quantized weights are made of float32"
    return _why_not_named(module, names)


def _why_not_named(module: nn.Module, names: Any) -> str | None:
    """What stands on the module itself in the way of the new class."""
    inside = {*vars(module), *module._buffers, *module._modules}
    if "forward" in inside:
        return "its forward was replaced on the module: accelerate before that"
    matrices = [name for name in names if _parameters.kind_of(name) in _parameters.MATRICES]
    ours = _names_of_quantized() | set(map(_parameters.scale_name, matrices))
    used = sorted(ours & inside)
    return f"it has an attribute {used[0]}, a name that fastrnn uses" if used else None


@functools.cache
def _names_of_quantized() -> frozenset[str]:
    return frozenset(name for name in vars(Quantized) if not name.startswith("__"))


def _of_floats(module: nn.Module, scheme: str) -> dict[str, Tensor]:
    floats = {name: array_of(value) for name, value in module.named_parameters(recurse=False)}
    try:
        made = quantized_parameters(_cell(module), floats, scheme)
    except ValueError as error:
        raise Unfit(str(error)) from error
    with torch.inference_mode(False):  # else what is written into them would not be counted
        # Biases are copied, that nobody's optimiser goes on to write into them.
        return {k: tensor_of(v).clone() for k, v in made.items()}


# ---- layers of torch's dynamic quantization ------------------------------------------------------


def _is_dynamic(cls: type) -> bool:
    return cls.__module__ == _DYNAMIC and cls.__name__ in ("LSTM", "GRU")


def _why_not_dynamic(module: Any, scheme: str) -> str | None:
    own = _OF_DYNAMIC.get(module.dtype)
    if own is None or scheme not in ("int8", own):
        return f"quantised to {module.dtype}, which does not become {scheme}"
    if not module.bias:
        return "quantised, without the biases that torch itself needs to run it"
    return _why_not_named(module, module.get_weight())


def _of_dynamic(module: Any, scheme: str) -> dict[str, Tensor]:
    """Its weights and scales, as they are: gates lie in the order of torch's float layers."""
    made = {}
    with torch.inference_mode(False):
        for name, weight in module.get_weight().items():
            if _schemes.SCHEMES[scheme].scaled:
                made[name] = weight.int_repr()
                made[_parameters.scale_name(name)] = _scales(name, weight)
            else:  # unpacked as float32, where nothing is rounded any more
                made[name] = weight.detach().to(torch.float16)
        for name, bias in module.get_bias().items():
            made[name] = bias.detach().clone()
    return made


def _scales(name: str, weight: Tensor) -> Tensor:
    """One for each row, in float32."""
    if weight.qscheme() in _PER_TENSOR:
        scales = torch.full(weight.shape[:1], weight.q_scale(), dtype=torch.float32)
        zero_points = torch.tensor([weight.q_zero_point()])
    else:
        scales = weight.q_per_channel_scales().to(torch.float32)
        zero_points = weight.q_per_channel_zero_points()
    if zero_points.any():
        found = zero_points[zero_points != 0][0].item()
        raise Unfit(f"quantised, with a zero point of {name} that is not 0 but {found:g}")
    return scales


def _cell(module: Any) -> str:
    mode: str = module.mode
    return mode.lower()
