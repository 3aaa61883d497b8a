"""fastrnn.torch with quantized weights: `accelerate(model, dtype="int8")` and the like."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import pickle
import re
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrize, prune  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence  # noqa: E402

import fastrnn  # noqa: E402
import fastrnn.torch as ft  # noqa: E402
from fastrnn import _schemes  # noqa: E402
from fastrnn.torch import rl  # noqa: E402
from fastrnn.torch._quantized import array_of  # noqa: E402

# torch's warnings of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*projections is not supported with oneDNN:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*non-zero dropout expects:UserWarning"),
]

I, H, T, B = 5, 8, 7, 3
leaves = torch.utils._pytree.tree_leaves

CASES: dict[str, Callable[[], Any]] = {
    "lstm": lambda: nn.LSTM(I, H),
    "gru": lambda: nn.GRU(I, H),
    "tanh": lambda: nn.RNN(I, H),
    "relu": lambda: nn.RNN(I, H, nonlinearity="relu"),
    "no bias": lambda: nn.LSTM(I, H, bias=False),
    "batch first": lambda: nn.GRU(I, H, batch_first=True),
    "deep": lambda: nn.LSTM(I, H, 2, bidirectional=True),
    "deep gru": lambda: nn.GRU(I, H, 3, bidirectional=True),
    "projected": lambda: nn.LSTM(I, H, 2, bidirectional=True, proj_size=3),
    "ours": lambda: ft.LSTM(I, H),
    "ours, frozen": lambda: frozen(ft.GRU(I, H)),
}


def frozen(layer: Any) -> Any:
    layer.freeze()
    return layer


def made(case: str) -> Any:
    torch.manual_seed(sorted(CASES).index(case))
    return CASES[case]()


def quantized(case: str) -> Any:
    layer = made(case)
    ft.accelerate(layer, dtype="int8")
    return layer


def in_numpy(layer: Any, parameters: Any = None) -> fastrnn.Quantized:
    """A NumPy layer of the same sizes with the same integers."""
    parameters = layer.state_dict() if parameters is None else parameters
    same = fastrnn.Quantized(
        layer.mode.lower(),
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        layer.bias,
        layer.batch_first,
        layer.bidirectional,
        proj_size=layer.proj_size,
    )
    same.load_state_dict({k: v.numpy() for k, v in parameters.items()})
    return same


def from_floats(layer: Any, weights: str = "int8") -> fastrnn.Quantized:
    """What `fastrnn.quantize` makes of the NumPy layer with the parameters of torch's."""
    sizes = (layer.input_size, layer.hidden_size, layer.num_layers)
    options = {
        "bias": layer.bias,
        "batch_first": layer.batch_first,
        "bidirectional": layer.bidirectional,
    }
    if layer.mode == "LSTM":
        floats: Any = fastrnn.LSTM(*sizes, proj_size=layer.proj_size, **options)
    elif layer.mode == "GRU":
        floats = fastrnn.GRU(*sizes, **options)
    else:
        floats = fastrnn.RNN(*sizes, nonlinearity=layer.nonlinearity, **options)
    floats.load_state_dict({k: v.numpy() for k, v in layer.state_dict().items()})
    return fastrnn.quantize(floats, weights)


def input_of(layer: Any, *, steps: int = T) -> Any:
    return torch.randn(B, steps, I) if layer.batch_first else torch.randn(steps, B, I)


def state_of(layer: Any, rows: tuple[int, ...] = (B,)) -> Any:
    passes = layer.num_layers * (2 if layer.bidirectional else 1)
    h = torch.randn(passes, *rows, layer.proj_size or H)
    return (h, torch.randn(passes, *rows, H)) if layer.mode == "LSTM" else h


def arrays(state: Any) -> Any:
    return tuple(s.numpy() for s in state) if isinstance(state, tuple) else state.numpy()


def bitwise(ours: Any, numpys: Any) -> None:
    for a, b in zip(leaves(ours), leaves(numpys), strict=True):
        assert a.dtype == torch.float32
        assert a.numpy().tobytes() == np.ascontiguousarray(b).tobytes()


def differs(a: Any, b: Any) -> bool:
    return not all(torch.equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


# ---- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", list(_schemes.SCHEMES))
@pytest.mark.parametrize("case", CASES)
def test_results_are_those_of_numpys_layer(case: str, weights: str) -> None:
    layer = made(case)
    x, expected = input_of(layer), from_floats(layer, weights)
    with torch.no_grad():
        floats = layer(x)
    kept = layer
    report = ft.accelerate(layer, dtype=weights)
    assert report.changed == {"": "fastrnn.torch.Quantized"}
    assert not report.kept
    assert layer is kept
    assert type(layer) is ft.Quantized
    assert sorted(layer.state_dict()) == sorted(expected.parameters)
    for name, value in layer.state_dict().items():
        array = array_of(value)
        assert array.tobytes() == expected.parameters[name].tobytes()
        assert array.dtype == expected.parameters[name].dtype
    bitwise(layer(x), expected(x.numpy()))
    assert differs(layer(x), floats)  # or nothing was quantized
    for ours, theirs in zip(leaves(layer(x)), leaves(floats), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.05)


@pytest.mark.parametrize("case", CASES)
def test_states_lengths_and_what_else_a_call_has(case: str) -> None:
    layer = quantized(case)
    numpys = in_numpy(layer)
    x, state = input_of(layer), state_of(layer)
    bitwise(layer(x, state), numpys(x.numpy(), arrays(state)))
    assert differs(layer(x, state), layer(x))
    at_steps = (B, T) if layer.batch_first else (T, B)
    passes = layer.num_layers * (2 if layer.bidirectional else 1)
    marks = torch.rand(at_steps) < 0.4
    for options in (
        {"lengths": torch.tensor([4, 0, 7])},
        {"resets": marks},
        {"holds": marks},
        {"holds": marks, "repeat_held": True},
        {"recurrent_masks": 2.0 * (torch.rand(passes, B, layer.proj_size or H) < 0.5)},
    ):
        given = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in options.items()}
        bitwise(layer(x, state, **options), numpys(x.numpy(), arrays(state), **given))
        assert differs(layer(x, state, **options), layer(x, state))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sort", [True, False])
def test_packed_sequences(case: str, sort: bool) -> None:
    layer = quantized(case)
    numpys = in_numpy(layer)
    x, state = input_of(layer), state_of(layer)
    lengths = torch.tensor([7, 4, 2] if sort else [4, 2, 7])
    packed = pack_padded_sequence(x, lengths, layer.batch_first, enforce_sorted=sort)
    masks = 2.0 * (torch.rand(layer.num_layers * (1 + layer.bidirectional), B, 8) < 0.5)
    masks = masks[:, :, : layer.proj_size or H].contiguous()
    for options in ({}, {"recurrent_masks": masks}):
        y, final = layer(packed, state, **options)
        given = {k: v.numpy() for k, v in options.items()}
        expected = numpys(x.numpy(), arrays(state), lengths=lengths.numpy(), **given)
        padded, _ = pad_packed_sequence(y, layer.batch_first)
        bitwise((padded, final), expected)
    with pytest.raises(ValueError, match=r"\] a PackedSequence must come without .*, got resets"):
        layer(packed, resets=torch.zeros(T, B, dtype=torch.bool))


@pytest.mark.parametrize("case", ["lstm", "batch first", "deep"])
def test_without_a_batch_and_with_none_of_steps_or_rows(case: str) -> None:
    layer = quantized(case)
    x, state = torch.randn(T, I), state_of(layer, ())
    y, final = layer(x, state)
    bitwise((y, final), in_numpy(layer)(x.numpy(), arrays(state)))
    assert y.shape == (T, H * (2 if layer.bidirectional else 1))
    for shape in ((0, B, I), (T, 0, I)):
        x = torch.zeros(shape)
        bitwise(layer(x), in_numpy(layer)(x.numpy()))


def test_inputs_of_any_strides() -> None:
    layer = quantized("lstm")
    x = torch.randn(I, B, T).permute(2, 1, 0)
    bitwise(layer(x), in_numpy(layer)(x.contiguous().numpy()))
    negative = torch.randn(T, B, I, dtype=torch.complex64).conj().imag
    assert negative.is_neg()
    bitwise(layer(negative), in_numpy(layer)(negative.resolve_neg().numpy()))


def test_a_rollout_with_starts() -> None:
    layer = quantized("lstm")
    x, state, starts = input_of(layer), state_of(layer), torch.rand(T, B) < 0.3
    bitwise(
        rl.unroll(layer, x, state, starts),
        in_numpy(layer)(x.numpy(), arrays(state), resets=starts.numpy()),
    )


# ---- the module ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_no_floats_of_the_weights_remain(case: str) -> None:
    layer = made(case)
    gone = [weakref.ref(p) for p in layer.parameters()]
    floats = sum(p.nbytes for p in layer.parameters())
    ft.accelerate(layer, dtype="int8")
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)
    assert list(layer.parameters()) == []
    for name, buffer in layer.named_buffers():
        assert buffer.dtype == (torch.int8 if name.startswith("weight") else torch.float32)
    assert sum(b.nbytes for b in layer.buffers()) < floats


def test_hooks_names_and_what_calls_the_layer_stay() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(I, H), nn.Linear(H, 2)

        def forward(self, x: Any) -> Any:
            self.rnn.flatten_parameters()
            return self.head(self.rnn(x)[0])

    net, called = Model().eval(), []
    net.rnn.register_forward_hook(lambda *_: called.append("after"))
    rnn, weight, x = net.rnn, net.head.weight, torch.randn(T, B, I)
    with torch.no_grad():
        expected = net(x)
        ft.accelerate(net, dtype="int8")
        torch.testing.assert_close(net(x), expected, rtol=0, atol=0.05)
    assert net.rnn is rnn
    assert net.head.weight is weight
    assert called == ["after", "after"]
    assert repr(net.rnn) == "Quantized(LSTM, 5, 8, weights=int8)"
    assert repr(quantized("projected")) == (
        "Quantized(LSTM, 5, 8, proj_size=3, num_layers=2, bidirectional=True, weights=int8)"
    )


def test_biases_are_copies() -> None:
    layer = nn.GRU(I, H)
    bias = layer.bias_hh_l0
    ft.accelerate(layer, dtype="int8")
    before = layer.bias_hh_l0.clone()
    with torch.no_grad():
        bias.add_(1)
    assert torch.equal(layer.bias_hh_l0, before)


@pytest.mark.parametrize("case", ["lstm", "projected", "no bias"])
def test_state_dicts_go_round(case: str) -> None:
    layer, other = quantized(case), CASES[case]()
    ft.accelerate(other, dtype="int8")
    x = input_of(layer)
    assert differs(other(x), layer(x))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert not differs(other(x), layer(x))
    layer.load_state_dict(
        {k: torch.from_numpy(v) for k, v in in_numpy(layer).state_dict().items()}, assign=True
    )
    assert not differs(other(x), layer(x))


def test_state_dicts_of_other_numbers_are_refused() -> None:
    layer, x = nn.ModuleDict({"rnn": quantized("lstm")}), torch.randn(T, B, I)
    expected = layer["rnn"](x)
    floats = {"rnn." + k: v for k, v in nn.LSTM(I, H).state_dict().items()}
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"\[lstm\] weight_ih_l0 must be of int8, got torch"):
            layer.load_state_dict(floats, strict=strict)
    wrong = layer.state_dict()
    wrong["rnn.scale_hh_l0"] = -wrong["rnn.scale_hh_l0"]
    message = r"\[lstm\] scale_hh_l0 must be finite and not negative, got -0"
    with pytest.raises(RuntimeError, match=message):
        layer.load_state_dict(wrong)
    wrong["rnn.scale_hh_l0"] = torch.ones(3)
    with pytest.raises(RuntimeError, match=r"size mismatch for rnn\.scale_hh_l0"):
        layer.load_state_dict(wrong)
    assert not differs(layer["rnn"](x), expected)


@pytest.mark.parametrize("case", ["deep", "gru"])
def test_copies_and_pickles(case: str) -> None:
    layer = quantized(case)
    x = input_of(layer)
    expected = layer(x)
    assert layer._kept is not None
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (
        copy.deepcopy(layer),
        *(pickle.loads(pickle.dumps(layer, protocol)) for protocol in range(2, 6)),
        torch.load(file, weights_only=False),
    ):
        assert type(other) is ft.Quantized
        assert other._kept is None
        assert not differs(other(x), expected)
        other.weight_ih_l0.zero_()
        assert differs(other(x), expected)
        assert not differs(layer(x), expected)


def test_what_is_written_into_a_buffer_is_seen() -> None:
    layer = quantized("lstm")
    numpys, x = in_numpy(layer), torch.randn(T, B, I)
    layer(x)
    for name in layer.state_dict():
        before, kept = layer(x), layer._kept
        assert layer._kept is kept  # packed once
        getattr(layer, name)[0] = 1
        assert differs(layer(x), before)
        assert layer._kept is not kept
    bitwise(layer(x), in_numpy(layer)(x.numpy()))
    for name, value in numpys.state_dict().items():  # other tensors in their place
        setattr(layer, name, torch.from_numpy(value))
    bitwise(layer(x), numpys(x.numpy()))
    zeros = {k: torch.zeros_like(v) for k, v in layer.state_dict().items()}
    assert not torch.func.functional_call(layer, zeros, (x,))[0].any()
    bitwise(layer(x), numpys(x.numpy()))


def test_in_inference_mode() -> None:
    layer, x = nn.LSTM(I, H), torch.randn(T, B, I)
    with torch.inference_mode():
        ft.accelerate(layer, dtype="int8")
        expected = layer(x)
    layer.weight_hh_l0.zero_()  # a tensor of inference mode could not be written here
    assert differs(layer(x), expected)


def test_conversions_leave_the_numbers_alone() -> None:
    net, x = nn.Sequential(nn.Linear(I, I), quantized("lstm")), torch.randn(T, B, I)
    expected = net[1](x)
    before = net[1].state_dict()
    for convert in (
        lambda m: m.half(),
        lambda m: m.double(),
        lambda m: m.to(torch.bfloat16),
        lambda m: m.to("cpu"),
        lambda m: m.float(),
    ):
        convert(net)
        for name, value in net[1].state_dict().items():
            assert value.dtype == before[name].dtype
        assert not differs(net[1](x), expected)
    assert net.half()[0].weight.dtype == torch.float16
    net.to("meta")
    with pytest.raises(
        RuntimeError, match=r"\[lstm\] a layer with int8 .* on the CPU, got .* on m"
    ):
        net[1](x)


# ---- what it refuses -----------------------------------------------------------------------------


def test_gradients_are_refused() -> None:
    layer, x = quantized("lstm"), torch.randn(T, B, I)
    message = r"\[lstm\] .* for inference, .* got tensors that require gradients"
    needy = torch.randn(T, B, I, requires_grad=True)
    h = torch.zeros(1, B, H)
    states = (h.clone().requires_grad_(), h), (h, h.clone().requires_grad_())
    for args in ((needy,), *((x, state) for state in states)):
        with pytest.raises(RuntimeError, match=message):
            layer(*args)
        with torch.no_grad():
            assert not layer(*args)[0].requires_grad
    packed = pack_padded_sequence(needy, torch.tensor([7, 3, 2]))
    with pytest.raises(RuntimeError, match=message):
        layer(packed)
    masks = torch.ones(1, B, H, requires_grad=True)
    with pytest.raises(NotImplementedError, match=r"\[lstm\] recurrent_masks must not require"):
        layer(x, recurrent_masks=masks)
    assert not layer(x)[0].requires_grad


def test_dropout_is_refused_in_training_mode() -> None:
    x = torch.randn(T, B, I)
    for layers in (1, 2):
        layer = nn.GRU(I, H, layers, dropout=0.5).train()
        ft.accelerate(layer, dtype="int8")
        refused = pytest.raises(
            RuntimeError, match=r"\[gru\] .* in eval mode .*, got training mode and dropout=0\.5"
        )
        with refused if layers > 1 else contextlib.nullcontext():
            layer(x)
        layer.eval()
        bitwise(layer(x), in_numpy(layer)(x.numpy()))


def test_inputs_that_do_not_fit() -> None:
    layer, x = quantized("lstm"), torch.randn(T, B, I)
    h = torch.zeros(1, B, H)
    with pytest.raises(ValueError, match=r"\[lstm\] input and states must be of float32 .*float16"):
        layer(x.half())
    with pytest.raises(ValueError, match=r"\[lstm\] input and states must be of float32 .*float64"):
        layer(x, (h, h.double()))
    with pytest.raises(TypeError, match=r"\[lstm\] input must be a tensor, got ndarray"):
        layer(x.numpy())
    with pytest.raises(TypeError, match=r"\[lstm\] hx must be a tuple of 2 tensors, got Tensor"):
        layer(x, h)
    with pytest.raises(TypeError, match=r"\[lstm\] lengths must be a tensor, got list"):
        layer(x, lengths=[7, 7, 7])
    with pytest.raises(TypeError, match=r"\[lstm\] repeat_held must be True or False"):
        layer(x, repeat_held="yes")
    with pytest.raises(RuntimeError, match=r"\[lstm\] .*, got"):
        layer(torch.randn(T, B, I + 1))
    with pytest.raises(RuntimeError, match=r"\[lstm\] .*, got"):
        layer(x, lengths=torch.tensor([T + 1, 1, 1]))
    with pytest.raises(ValueError, match=r"\[lstm\] .*, got"):
        layer(torch.randn(I))
    with pytest.raises(RuntimeError, match=r"\[lstm\] .* must be on the CPU, got .* on meta"):
        layer(x.to("meta"))
    with pytest.raises(TypeError, match=r"\[Quantized\] a layer must be made by accelerate"):
        ft.Quantized(I, H)


def test_recorders_and_transforms() -> None:
    layer, x = quantized("lstm"), torch.randn(T, B, I)
    net = nn.Sequential(layer)
    recorded = r"\[lstm\] .*, got a recorder"
    with pytest.raises(RuntimeError, match=recorded):
        torch.jit.trace(net, (x,))
    with pytest.raises(RuntimeError, match=recorded):
        torch.export.export(net, (x,), strict=False)
    with pytest.raises(RuntimeError, match=recorded):
        torch.fx.experimental.proxy_tensor.make_fx(net)(x)
    with pytest.raises(RuntimeError, match=r"\[lstm\] .*, got torch.jit.script"):
        torch.jit.script(net)
    with pytest.raises(RuntimeError, match=r"\[lstm\] .*, got a transform"):
        torch.vmap(layer)(torch.randn(2, T, B, I))
    with torch.profiler.profile():
        assert not differs(net(x), layer(x))
    assert not differs(torch.fx.symbolic_trace(net)(x), layer(x))
    with torch.no_grad():
        compiled = torch.compile(net, backend="eager")
        for _ in range(2):
            assert not differs(compiled(x), layer(x))


# ---- reports -------------------------------------------------------------------------------------


def test_names_of_dtypes() -> None:
    net = nn.Sequential(nn.LSTM(I, H))
    message = r"\[accelerate\] dtype must be one of \('int8', .*, None\), got 'int4'"
    with pytest.raises(ValueError, match=message):
        ft.accelerate(net, dtype="int4")
    with pytest.raises(TypeError, match=r"\[accelerate\] model must be a torch.nn.Module, got int"):
        ft.accelerate(3, dtype="int8")
    assert type(net[0]) is nn.LSTM


def test_a_whole_model() -> None:
    shared = nn.GRU(H, H)
    net = nn.ModuleList([nn.LSTM(I, H), nn.Linear(H, H), shared, nn.LSTMCell(H, H), shared])
    report = ft.accelerate(net, dtype="int8")
    assert report.changed == {"0": "fastrnn.torch.Quantized", "2": "fastrnn.torch.Quantized"}
    assert report.kept == {"3": "a cell, for which there are no quantized weights"}
    assert net[2] is net[4]
    assert type(net[3]) is nn.LSTMCell
    again = "it is fastrnn.torch.Quantized already"
    assert ft.accelerate(net, dtype="int8").kept == {"0": again, "2": again, **report.kept}
    floats = ft.accelerate(net)
    assert floats.kept == {"0": again, "2": again}
    assert floats.changed == {"3": "fastrnn.torch.LSTMCell"}
    restored = ft.restore(net)
    assert restored.changed == {"3": "torch.nn.LSTMCell"}
    assert restored.kept == dict.fromkeys("02", "its weights are quantized")
    assert type(net[0]) is ft.Quantized


class Named(nn.GRU):
    pass


def parametrised() -> Any:
    layer = nn.LSTM(I, H)
    parametrize.register_parametrization(layer, "weight_hh_l0", nn.Identity())
    return layer


def pruned() -> Any:
    layer = nn.LSTM(I, H)
    prune.l1_unstructured(layer, "weight_hh_l0", 0.5)
    return layer


def wrapped() -> Any:
    layer = nn.GRU(I, H)
    forward = layer.forward
    layer.forward = lambda *args: forward(*args)
    return layer


def named(name: str) -> Any:
    layer = nn.LSTM(I, H)
    setattr(layer, name, 3)
    return layer


def swapped(layer: Any) -> Any:
    ft.accelerate(layer)
    return layer


def not_finite() -> Any:
    layer = nn.LSTM(I, H)
    with torch.no_grad():
        layer.weight_hh_l0[1, 2] = float("nan")
    return layer


KEPT = {
    "subclass": (lambda: Named(I, H), "a layer of its own, Named: its code may need .* float32"),
    "twin": (lambda: swapped(Named(I, H)), "a layer of its own, Named: its code .*"),
    "parametrised": (parametrised, "its weights are made of others by a parametrisation"),
    "pruned": (pruned, "its parameters are not those of the layer alone: pruned, or normed .*"),
    "wrapped": (wrapped, "its forward was replaced on the module: accelerate before that"),
    "kept": (lambda: named("_kept"), "it has an attribute _kept, a name that fastrnn uses"),
    "scale": (lambda: named("scale_hh_l0"), "it has an attribute scale_hh_l0, a name that .*"),
    "float64": (
        lambda: nn.LSTM(I, H).double(),
        "its parameters are of torch.float64: quantized .*",
    ),
    "float16": (lambda: nn.GRU(I, H).half(), "its parameters are of torch.float16: quantized .*"),
    "meta": (
        lambda: nn.LSTM(I, H, device="meta"),
        "its parameters are on meta: quantized weights .*",
    ),
    "nan": (not_finite, r"\[lstm\] weight_hh_l0 must be finite to be quantized, got nan in row 1"),
    "cell": (lambda: ft.GRUCell(I, H), "a cell, for which there are no quantized weights"),
    "wide": (lambda: nn.RNN(70_000, 1), r"\[rnn_tanh\] .*, got 70000"),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_is_kept_is_in_the_report(case: str) -> None:
    make, reason = KEPT[case]
    layer = make()
    cls, parameters = type(layer), dict(layer.named_parameters())
    report = ft.accelerate(nn.Sequential(layer), dtype="int8")
    assert report.changed == {}
    assert list(report.kept) == ["0"]
    assert re.fullmatch(reason, report.kept["0"])
    assert type(layer) is cls
    assert all(dict(layer.named_parameters())[k] is v for k, v in parameters.items())


def test_torchscript_is_kept() -> None:
    compiled = torch.jit.trace(nn.Sequential(nn.GRU(I, H)), torch.randn(T, B, I))
    assert ft.accelerate(compiled, dtype="int8").kept == {"0": "compiled by TorchScript"}


# ---- layers that torch has quantized dynamically -------------------------------------------------


def dynamically(model: Any, per_channel: bool = False, dtype: Any = torch.qint8) -> Any:
    spec: Any = {nn.LSTM, nn.GRU}
    if per_channel:
        spec = dict.fromkeys(spec, torch.ao.quantization.per_channel_dynamic_qconfig)
    return torch.ao.quantization.quantize_dynamic(model, spec, dtype)


DYNAMIC = {
    "lstm": lambda: nn.LSTM(I, 32),
    "gru": lambda: nn.GRU(I, 32),
    "deep lstm": lambda: nn.LSTM(I, 32, 2, bidirectional=True, batch_first=True, dropout=0.5),
    "deep gru": lambda: nn.GRU(I, 32, 2, bidirectional=True),
}


@pytest.mark.parametrize("case", DYNAMIC)
@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_layers_keep_their_integers(case: str, per_channel: bool) -> None:
    torch.manual_seed(len(case))
    net = nn.Sequential(DYNAMIC[case]()).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # so that gates open and close
            parameter.mul_(2)
    net = dynamically(net, per_channel)
    layer, x = net[0], 2 * torch.randn(12, 12, I)
    weights, biases = layer.get_weight(), layer.get_bias()
    theirs = layer(x)
    packed = pack_padded_sequence(x, torch.arange(12, 0, -1), layer.batch_first)
    theirs_packed = layer(packed)
    assert ft.accelerate(net, dtype="int8").changed == {"0": "fastrnn.torch.Quantized"}
    assert net[0] is layer
    assert type(layer) is ft.Quantized
    state = layer.state_dict()
    assert len(state) == 2 * len(weights) + len(biases)
    for name, weight in weights.items():
        scales = state[name.replace("weight", "scale")]
        assert torch.equal(state[name], weight.int_repr())
        rows = weight.q_per_channel_scales() if per_channel else torch.tensor(weight.q_scale())
        assert torch.equal(scales, rows.float().expand(len(weight)))
        assert torch.equal(state[name] * scales[:, None], weight.dequantize())
    for name, bias in biases.items():
        assert torch.equal(state[name], bias)
    bitwise(layer(x), in_numpy(layer)(x.numpy()))
    for ours, others in ((layer(x), theirs), (layer(packed), theirs_packed)):
        for a, b in zip(leaves(ours), leaves(others), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0.05)
    assert leaves(theirs)[0].abs().max() > 0.3  # so that closeness says something
    assert list(layer.children()) == []
    other = copy.deepcopy(layer)
    assert not differs(other(x), layer(x))


def test_integers_of_minus_128() -> None:
    """Torch's integers per channel reach -128, which `fastrnn.quantize` never makes."""
    layer = dynamically(nn.Sequential(nn.LSTM(64, 32)), per_channel=True)[0]
    weights = layer.get_weight()
    assert min(w.int_repr().min() for w in weights.values()) == -128
    floats = nn.LSTM(64, 32)
    floats.load_state_dict({k: v.dequantize() for k, v in weights.items()} | layer.get_bias())
    x = torch.randn(T, B, 64)
    with torch.no_grad():
        expected = floats(x)
    ft.accelerate(layer, dtype="int8")
    for a, b in zip(leaves(layer(x)), leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.02)


def shifted() -> Any:
    layer = torch.ao.nn.quantized.dynamic.LSTM(I, H)
    given = layer.get_weight() | layer.get_bias()
    weight = given["weight_hh_l0"].dequantize()
    given["weight_hh_l0"] = torch.quantize_per_tensor(weight, 0.1, 3, torch.qint8)
    layer.set_weight_bias(given)
    return layer


DYNAMIC_KEPT = {
    "zero point": (shifted, "quantised, with a zero point of weight_hh_l0 that is not 0 but 3"),
    "no bias": (
        lambda: torch.ao.nn.quantized.dynamic.GRU(I, H, bias=False),
        "quantised, without the biases that torch itself needs to run it",
    ),
    "cell": (
        lambda: torch.ao.nn.quantized.dynamic.LSTMCell(I, H),
        "quantised, torch.ao.nn.quantized.dynamic.modules.rnn.LSTMCell",
    ),
    "quantizable": (
        lambda: torch.ao.nn.quantizable.LSTM(I, H),
        "quantised, torch.ao.nn.quantizable.modules.rnn.LSTM",
    ),
}


@pytest.mark.parametrize("case", DYNAMIC_KEPT)
def test_dynamic_layers_that_are_kept(case: str) -> None:
    make, reason = DYNAMIC_KEPT[case]
    net = nn.Sequential(make())
    cls = type(net[0])
    report = ft.accelerate(net, dtype="int8")
    assert report.changed == {}
    assert report.kept["0"] == reason
    assert type(net[0]) is cls


@pytest.mark.parametrize("asked", ["int8", "float16_weights"])
@pytest.mark.parametrize("case", DYNAMIC)
def test_dynamic_layers_of_float16_keep_their_weights(case: str, asked: str) -> None:
    torch.manual_seed(len(case))
    floats = nn.Sequential(DYNAMIC[case]()).eval()
    parameters = {k: v.detach().clone() for k, v in floats[0].named_parameters()}
    net = dynamically(floats, dtype=torch.float16)
    layer, x = net[0], torch.randn(12, 12, I)
    theirs = layer(x)
    assert ft.accelerate(net, dtype=asked).changed == {"0": "fastrnn.torch.Quantized"}
    assert layer.weights == "float16_weights"
    state = layer.state_dict()
    assert sorted(state) == sorted(parameters)
    for name, value in state.items():
        assert torch.equal(value, parameters[name].to(value.dtype)), name
        assert value.dtype == (torch.float16 if name.startswith("weight") else torch.float32)
    for a, b in zip(leaves(layer(x)), leaves(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
def test_dynamic_layers_do_not_become_what_they_are_not(dtype: Any) -> None:
    net = dynamically(nn.Sequential(nn.GRU(I, H)), dtype=dtype)
    report = ft.accelerate(net, dtype="bfloat16_weights")
    assert report.kept == {"0": f"quantised to {dtype}, which does not become bfloat16_weights"}
    assert not report.changed


@pytest.mark.parametrize("weights", list(_schemes.SCHEMES))
def test_every_scheme_is_a_layer_like_others(weights: str) -> None:
    layer = nn.LSTM(I, H)
    ft.accelerate(layer, dtype=weights)
    dtype = _schemes.SCHEMES[weights].dtype
    with pytest.raises(
        ValueError, match=f"float32 where weights are of {dtype}, got torch.float64"
    ):
        layer(torch.zeros(T, B, I).double())
    with pytest.raises(RuntimeError, match=f"a layer with {dtype} weights must be called for inf"):
        layer(torch.zeros(T, B, I, requires_grad=True))
    copied = pickle.loads(pickle.dumps(layer))
    assert copied.weights == weights
    assert repr(copied).endswith(f", weights={weights})")
    x = torch.randn(T, B, I)
    assert not differs(copied(x), layer(x))
    state = {k: v.double() if v.is_floating_point() else v for k, v in layer.state_dict().items()}
    copied.load_state_dict(state)
    assert not differs(copied(x), layer(x))


def test_bfloat16_weights_need_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    layer = nn.LSTM(I, H)
    with pytest.raises(TypeError, match="bfloat16 needs ml_dtypes, which is not installed"):
        ft.accelerate(layer, dtype="bfloat16_weights")
    assert type(layer) is nn.LSTM


def test_dynamic_layers_without_int8_are_kept_as_before() -> None:
    net = dynamically(nn.Sequential(nn.LSTM(I, H)))
    report = ft.accelerate(net)
    assert report.kept == {"0": "quantised, torch.ao.nn.quantized.dynamic.modules.rnn.LSTM"}
    assert not report.changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda scale: scale.int(), "must be of floats, got torch.int32"),
        (lambda scale: scale * 1j, "must be of floats, got torch.complex64"),
        (lambda scale: scale.double() + 1e300, "must be finite and not negative, got inf"),
    ],
)
def test_scales_that_are_no_scales(changed: Any, message: str) -> None:
    module = nn.GRU(3, 4)
    fastrnn.torch.accelerate(module, dtype="int8")
    state = module.state_dict()
    before = state["scale_ih_l0"].clone()
    with pytest.raises(RuntimeError, match=message):
        module.load_state_dict({**state, "scale_ih_l0": changed(state["scale_ih_l0"])})
    assert torch.equal(module.scale_ih_l0, before)
    module.load_state_dict({**state, "scale_ih_l0": state["scale_ih_l0"].bfloat16()})
    assert module.scale_ih_l0.dtype == torch.float32


def test_repeat_held_is_checked_of_packed_rows_too() -> None:
    module = nn.GRU(3, 4)
    fastrnn.torch.accelerate(module, dtype="int8")
    packed = nn.utils.rnn.pack_sequence([torch.zeros(3, 3)])
    with pytest.raises((TypeError, ValueError), match="repeat_held must be True or False"):
        module(packed, repeat_held="no")
