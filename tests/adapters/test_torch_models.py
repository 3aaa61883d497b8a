"""fastrnn.torch in other people's models: what a layer is taken for, compiled or not."""

from __future__ import annotations

import abc
import copy
import functools
import gc
import importlib
import io
import pickle
import re
import sys
import weakref
from typing import Any, ClassVar

import pytest

import tiers
from builds import run

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrize, prune  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence  # noqa: E402

import fastrnn.torch as ft  # noqa: E402

# torch's warnings of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning"),
]

LAYERS = ["RNN", "LSTM", "GRU"]
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]
leaves = torch.utils._pytree.tree_leaves


def same(a: Any, b: Any) -> None:
    """Numbers of torch's kernels and ours."""
    for x, y in zip(leaves(a), leaves(b), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


# ---- what a layer is -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_a_layer_is_what_it_replaces(name: str) -> None:
    cls = getattr(nn, name)
    swapped = cls(3, 4)
    ft.accelerate(swapped)
    for layer in (getattr(ft, name)(3, 4), swapped):
        assert isinstance(layer, cls)
        assert issubclass(type(layer), cls)
        others = {getattr(nn, n) for n in (*LAYERS, *CELLS)} - {cls}
        assert not isinstance(layer, tuple(others))


def test_initialisers_and_parameter_groups_by_type() -> None:
    def initialise(module: Any) -> None:
        if isinstance(module, (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell)):
            for name, parameter in module.named_parameters():
                (nn.init.zeros_ if "bias" in name else nn.init.orthogonal_)(parameter)

    models = [nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 4), nn.LSTMCell(4, 4)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    ft.accelerate(models[1])
    groups = []
    for net in models:
        torch.manual_seed(0)
        net.apply(initialise)
        recurrent = [m for m in net.modules() if isinstance(m, (nn.RNNBase, nn.RNNCellBase))]
        groups.append([p.shape for m in recurrent for p in m.parameters()])
    assert groups[0] == groups[1]
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


class Decoder(nn.Module):
    """Takes the hidden state of whatever it holds, by its type."""

    def __init__(self, rnn: Any) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Any) -> Any:
        y, state = self.rnn(x)
        hidden = state[0] if isinstance(self.rnn, nn.LSTM) else state
        scale = 2.0 if isinstance(self.rnn, (nn.GRU, nn.RNN)) else 1.0
        known = issubclass(type(self.rnn), nn.RNNBase)
        return y.sum(0) * scale + hidden[-1] if known else y


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Any:
    yield
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


@pytest.mark.parametrize("name", LAYERS)
def test_compiled_code_sees_the_same_types(name: str) -> None:
    net = Decoder(getattr(nn, name)(3, 4))
    x = torch.randn(5, 2, 3)
    expected = net(x)
    ft.accelerate(net)
    same(net(x), expected)
    frames = torch._dynamo.utils.counters["stats"]
    before = frames["unique_graphs"]
    compiled = torch.compile(net, fullgraph=True, backend="eager", dynamic=True)
    same(compiled(x), expected)
    same(compiled(torch.cat([x, x], 1))[:2], expected)
    assert frames["unique_graphs"] == before + 1


def test_torchs_own_layers_stay_refused_by_the_compiler() -> None:
    """And nobody sees the setting changed: neither the backend nor who asks for a layer of ours."""
    seen = []

    def backend(graph: Any, inputs: Any) -> Any:
        seen.append(torch._dynamo.config.allow_rnn)
        return graph.forward

    net = nn.Sequential(ft.GRU(3, 4))
    torch.compile(net, fullgraph=True, backend=backend)(torch.randn(2, 1, 3))
    assert seen == [False]
    both = nn.ModuleList([ft.LSTM(3, 3), nn.LSTM(3, 3)])

    @torch.compile(fullgraph=True, backend="eager")
    def call(x: Any) -> Any:
        return both[1](both[0](x)[0])[0]

    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"RNN, GRU, (or )?LSTM"):
        call(torch.randn(2, 1, 3))


@tiers.ci
def test_a_compiler_that_was_there_first() -> None:
    code = """
import sys, torch, torch._dynamo
from torch._dynamo.variables import builder
import fastrnn.torch as ft
layer = ft.LSTM(3, 4)
x = torch.randn(5, 2, 3)
y = torch.compile(layer, fullgraph=True, backend="eager")(x)[0]
torch.testing.assert_close(y, layer(x)[0])
"""
    run([sys.executable, "-W", "ignore", "-c", code])
    code = """
import sys, fastrnn.torch as ft
assert "torch._dynamo" not in sys.modules
finders = len(sys.meta_path)
import torch._dynamo.variables.builder as builder, inspect
assert len(sys.meta_path) == finders - 1
assert "class VariableBuilder" in inspect.getsource(builder)
assert "exec_module" not in vars(builder.__loader__)
"""
    run([sys.executable, "-W", "ignore", "-c", code])


# ---- subclasses of torch's layers ----------------------------------------------------------------


class Named(nn.LSTM):
    """As audio models have it: more methods and attributes, and torch's forward."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.scale = nn.Parameter(torch.ones(()))

    def states(self, n: int) -> Any:
        return tuple(torch.zeros(self.num_layers, n, self.hidden_size) for _ in range(2))


class Handler(abc.ABC, nn.RNNBase):
    """As forecasting models have it: a mixin that stands before torch's layer."""

    @abc.abstractmethod
    def fresh(self, n: int) -> Any: ...

    def forward(self, x: Any, hx: Any = None, lengths: Any = None) -> Any:
        if lengths is None:
            return super().forward(x, hx)
        packed = pack_padded_sequence(x, lengths, batch_first=self.batch_first)
        y, state = super().forward(packed, hx)
        return pad_packed_sequence(y, batch_first=self.batch_first)[0], state


class Forecaster(Handler, nn.GRU):
    def fresh(self, n: int) -> Any:
        return torch.zeros(self.num_layers, n, self.hidden_size)


class Clipped(nn.LSTMCell):
    def forward(self, x: Any, hx: Any = None) -> Any:
        return tuple(s.clamp(-0.1, 0.1) for s in super(Clipped, self).forward(x, hx))  # noqa: UP008


class Registry(type):
    """A metaclass that keeps a list."""

    known: ClassVar[list[str]] = []

    def __init__(cls, name: str, bases: Any, namespace: Any) -> None:
        super().__init__(name, bases, namespace)
        Registry.known.append(name)


class Strange(nn.RNN, metaclass=Registry):
    """Slots, and a __setattr__ and a __call__ that do more."""

    __slots__ = ("calls",)

    def __setattr__(self, name: str, value: Any) -> None:
        assert name != "__class__"
        super().__setattr__(name, value)

    def __call__(self, *args: Any) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        return super().__call__(*args)

    @torch.jit.export
    def width(self) -> int:
        return self.hidden_size


SUBCLASSES = [Named, Forecaster, Clipped, Strange]
BASES = {Named: "LSTM", Forecaster: "GRU", Clipped: "LSTMCell", Strange: "RNN"}


def input_of(cls: Any) -> Any:
    return torch.randn(2, 3) if issubclass(cls, nn.RNNCellBase) else torch.randn(5, 2, 3)


class _Watch(torch.overrides.TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


def on_engine(module: Any, *args: Any) -> bool:
    with torch.no_grad(), _Watch() as watch:
        module(*args)
    return "fastrnn.layer" in watch.seen


@pytest.mark.parametrize("cls", SUBCLASSES)
def test_subclasses_run_on_the_engine(cls: Any) -> None:
    layer = cls(3, 4)
    net, x = nn.Sequential(layer), input_of(cls)
    expected, before = layer(x), set(vars(layer))
    assert not on_engine(layer, x)
    report = ft.accelerate(net)
    assert report.changed == {"0": f"{cls.__name__} on fastrnn.torch.{BASES[cls]}"}
    assert not report.kept
    assert isinstance(layer, cls)
    assert isinstance(layer, getattr(ft, BASES[cls]))
    assert repr(layer).startswith(f"{cls.__name__}(3, 4")
    same(layer(x), expected)
    assert on_engine(layer, x)
    again = ft.accelerate(net)
    assert again.kept == {"0": f"it is {report.changed['0']} already"}
    layer.recompute = True
    if hasattr(layer, "freeze"):
        layer.freeze()
    assert ft.restore(net).changed == {"0": f"{cls.__name__} on torch.nn.{BASES[cls]}"}
    assert type(layer) is cls
    assert set(vars(layer)) == before
    assert not on_engine(layer, x)
    same(layer(x), expected)
    assert ft.restore(net).kept == {"0": "it is not fastrnn's"}


def test_a_subclass_with_arguments_of_its_own() -> None:
    layer = Forecaster(3, 4, batch_first=True)
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    expected = layer(x, layer.fresh(2)[:, :2], lengths=lengths)
    ft.accelerate(layer)
    same(layer(x, layer.fresh(2), lengths=lengths), expected)
    assert type(layer) is type(copy.deepcopy(layer))
    made = type(layer)(3, 4, batch_first=True)  # its constructor is the original's
    made.load_state_dict(layer.state_dict())
    same(made(x), layer(x))


@pytest.mark.parametrize("cls", SUBCLASSES)
def test_copies_and_pickles_of_twins(cls: Any) -> None:
    layer, x = cls(3, 4), input_of(cls)
    ft.accelerate(layer)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    with torch.no_grad():
        for other in (
            copy.copy(layer),
            copy.deepcopy(layer),
            *(pickle.loads(pickle.dumps(layer, protocol)) for protocol in range(6)),
            torch.load(file, weights_only=False),
        ):
            assert type(other) is type(layer)
            same(other(x), layer(x))
            assert on_engine(other, x)
            ft.restore(other)
            assert type(other) is cls


def test_twins_in_another_process(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_layers.py").write_text(
        "from torch import nn\n\n\nclass Theirs(nn.GRU):\n"
        "    def __reduce__(self):\n"
        "        return Theirs, (self.input_size, self.hidden_size), self.__getstate__()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    theirs = importlib.import_module("their_layers").Theirs
    layer, x = theirs(3, 4), torch.randn(5, 2, 3)
    ft.accelerate(layer)
    with torch.no_grad():
        (tmp_path / "saved").write_bytes(pickle.dumps((layer, x.numpy(), layer(x)[0].numpy())))
    code = """
import pickle, sys, torch
sys.path.insert(0, sys.argv[1])
with open(sys.argv[1] + "/saved", "rb") as file:
    layer, x, expected = pickle.load(file)
import their_layers, fastrnn.torch
assert isinstance(layer, (their_layers.Theirs,)) and isinstance(layer, fastrnn.torch.GRU)
torch.testing.assert_close(layer(torch.from_numpy(x))[0].detach(), torch.from_numpy(expected))
assert fastrnn.torch.restore(layer).changed and type(layer) is their_layers.Theirs
"""
    run([sys.executable, "-c", code, str(tmp_path)])


@pytest.mark.parametrize("cls", SUBCLASSES)
def test_twins_compile_and_trace(cls: Any) -> None:
    if cls is Strange:  # whose __call__ counts, which the compiler does not follow into slots
        cls = type("Counting", (nn.RNN,), {"steps": property(lambda self: self.num_layers)})
    net, x = nn.Sequential(cls(3, 4)), input_of(cls)
    expected = net(x)
    ft.accelerate(net)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    same(compiled(x), expected)
    with torch.no_grad():
        traced = torch.jit.trace(net, (input_of(cls),), check_trace=False)
        same(traced(x), expected)


def test_fx_takes_twins_with_torchs_forward_as_leaves() -> None:
    net, x = nn.Sequential(Named(3, 4)), torch.randn(5, 2, 3)
    ft.accelerate(net)
    same(torch.fx.symbolic_trace(net)(x), net(x))
    net = nn.Sequential(Clipped(3, 4))
    ft.accelerate(net)
    with pytest.raises(RuntimeError, match=r"a forward of its own: .*fastrnn.torch.restore"):
        torch.fx.symbolic_trace(net)


def test_twins_go_with_the_classes_that_made_them() -> None:
    cls = type("Passing", (nn.GRU,), {})
    layer = cls(3, 4)
    ft.accelerate(layer)
    gone = [weakref.ref(cls), weakref.ref(type(layer))]
    del cls, layer
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


# ---- what is kept, and why -----------------------------------------------------------------------


def bypassing() -> Any:
    class Bypassing(nn.LSTM):
        def forward(self, x: Any, hx: Any = None) -> Any:
            return nn.LSTM.forward(self, x, hx)

    return Bypassing(3, 4), "Bypassing has a forward that does not call super().forward"


def behind_a_mixin() -> Any:
    class Mixin:
        def forward(self, x: Any) -> Any:
            return x, None

    class Mixed(Mixin, nn.GRU):
        def forward(self, x: Any) -> Any:
            return super().forward(x)

    return Mixed(3, 4), "Mixin has a forward that does not call super().forward"


def checking() -> Any:
    class Checking(nn.LSTM):
        def check_forward_args(self, *_: Any) -> None: ...

    return Checking(3, 4), "Checking overrides check_forward_args, which the engine does not call"


def permuting() -> Any:
    class Permuting(nn.GRU):
        def permute_hidden(self, hx: Any, _: Any) -> Any:
            return hx

    return Permuting(3, 4), "Permuting overrides permute_hidden, which the engine does not call"


def weights_by_property() -> Any:
    class Doubled(nn.RNN):
        @property
        def _flat_weights(self) -> Any:
            return [2 * getattr(self, name) for name in self._flat_weights_names]

        @_flat_weights.setter
        def _flat_weights(self, _: Any) -> None: ...

    return Doubled(3, 4), "Doubled overrides _flat_weights, which the engine does not call"


def of_our_names() -> Any:
    class Masked(nn.GRU):
        def _masks(self) -> None: ...

    return Masked(3, 4), "Masked has an attribute _masks, a name that fastrnn uses"


def with_an_attribute_of_our_names() -> Any:
    layer = nn.LSTM(3, 4)
    layer.recompute = "never"
    return layer, "it has an attribute recompute, a name that fastrnn uses"


def without_subclasses() -> Any:
    class Last(nn.GRU):
        def __init_subclass__(cls) -> None:
            raise TypeError("none after this")

    return Last(3, 4), "no subclass can be made of Last: none after this"


def parametrised_without_subclasses() -> Any:
    made: list[type] = []

    class Last(nn.GRU):
        def __init_subclass__(cls) -> None:
            made.append(cls)
            if len(made) > 1:  # after that of the parametrisation
                raise TypeError("none after this")

    layer = Last(3, 4)
    parametrize.register_parametrization(layer, "weight_hh_l0", nn.Identity())
    return layer, "no subclass can be made of Last: none after this"


def of_its_own() -> Any:
    class Own(nn.RNNBase):
        def forward(self, x: Any) -> Any:
            return x, None

    reason = "a layer of its own, Own: neither RNN, LSTM, GRU nor one of their cells"
    return Own("GRU", 3, 4), reason


def wrapped() -> Any:
    layer = nn.GRU(3, 4)
    forward = layer.forward

    def hooked(*args: Any) -> Any:
        return forward(*args)

    layer.forward = hooked
    return (
        layer,
        "its forward was replaced on the module by wrapped.<locals>.hooked: .* before that",
    )


def wrapped_by_a_partial() -> Any:
    layer = nn.LSTM(3, 4)
    layer._old_forward = layer.forward
    layer.forward = functools.partial(layer._old_forward)
    return layer, "its forward was replaced on the module by partial: accelerate before that"


KEPT = [
    bypassing,
    behind_a_mixin,
    checking,
    permuting,
    weights_by_property,
    of_our_names,
    with_an_attribute_of_our_names,
    without_subclasses,
    parametrised_without_subclasses,
    of_its_own,
    wrapped,
    wrapped_by_a_partial,
]


@pytest.mark.parametrize("make", KEPT)
def test_what_is_kept_is_in_the_report(make: Any) -> None:
    layer, reason = make()
    net, x = nn.ModuleDict({"rnn": layer, "other": nn.Linear(2, 2)}), torch.randn(5, 2, 3)
    expected, cls = layer(x), type(layer)
    report = ft.accelerate(net)
    assert report.changed == {}
    assert list(report.kept) == ["rnn"]
    assert re.fullmatch(re.escape(reason).replace(r"\.\*", ".*"), report.kept["rnn"])
    assert type(layer) is cls
    same(layer(x), expected)


def test_torchscript_is_in_the_report() -> None:
    net = nn.Sequential(nn.GRU(3, 4))
    for compiled in (torch.jit.script(net), torch.jit.trace(net, torch.randn(5, 2, 3))):
        report = ft.accelerate(compiled)
        assert report.kept == {"0": "compiled by TorchScript"}
        assert not report.changed


def test_quantised_layers_are_in_the_report() -> None:
    net = nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 4))
    quantised = torch.ao.quantization.quantize_dynamic(net, {nn.LSTM}, torch.qint8)
    report = ft.accelerate(quantised)
    assert report.kept == {"0": "quantised, torch.ao.nn.quantized.dynamic.modules.rnn.LSTM"}
    assert not report.changed


def test_dynamic_quantisation_passes_over_ours() -> None:
    """torch goes by the very class: ours keeps its floats, until it is torch's again."""
    net = nn.ModuleDict({"rnn": nn.LSTM(3, 4), "head": nn.Linear(4, 2)})
    x = torch.randn(5, 2, 3)
    expected = net["rnn"](x)
    ft.accelerate(net)
    quantised = torch.ao.quantization.quantize_dynamic(net, {nn.LSTM, nn.Linear}, torch.qint8)
    assert type(quantised["rnn"]) is ft.LSTM
    same(quantised["rnn"](x), expected)
    assert type(quantised["head"]).__module__.startswith("torch.ao.nn.quantized.dynamic")
    ft.restore(net)
    quantised = torch.ao.quantization.quantize_dynamic(net, {nn.LSTM}, torch.qint8)
    assert type(quantised["rnn"]).__module__.startswith("torch.ao.nn.quantized.dynamic")


def test_a_forward_that_is_wrapped_afterwards() -> None:
    net, x = nn.Sequential(nn.LSTM(3, 4)), torch.randn(5, 2, 3)
    expected = net(x)
    ft.accelerate(net)
    forward = net[0].forward
    net[0].forward = lambda *args: forward(*args)
    report = ft.restore(net)
    assert report.changed == {}
    assert "its forward was replaced on the module by" in report.kept["0"]
    assert "undo that first" in report.kept["0"]
    same(net(x), expected)
    del net[0].forward
    assert ft.restore(net).changed == {"0": "torch.nn.LSTM"}
    same(net(x), expected)


def test_projections_on_a_gpu_are_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.LSTM(3, 4, proj_size=2))
    assert str(ft.accelerate(net)) == "0: now fastrnn.torch.LSTM"
    assert str(ft.restore(net)) == "0: now torch.nn.LSTM"
    monkeypatch.setattr(ft._engine, "projects_quickly", lambda device: False)
    text = "0: now fastrnn.torch.LSTM, but on torch's own kernels: it has projections"
    assert str(ft.accelerate(net)) == text


def test_a_subclass_of_ours_is_not_restored() -> None:
    class Mine(ft.GRU):
        pass

    net = nn.Sequential(Mine(3, 4))
    assert ft.restore(net).kept == {"0": "Mine is a subclass of fastrnn.torch.GRU"}
    assert ft.accelerate(net).kept == {
        "0": "it is Mine on fastrnn.torch.GRU already".replace("Mine", type(net[0]).__qualname__)
    }


def test_a_layer_in_two_places() -> None:
    layer = Named(3, 3)
    net, x = nn.ModuleList([layer, nn.Sequential(layer)]), torch.randn(5, 2, 3)
    expected, called = layer(x), []
    layer.register_forward_hook(lambda *_: called.append("after"))
    layer.register_forward_pre_hook(lambda *_: called.append("before"))
    assert list(ft.accelerate(net).changed) == ["0"]
    assert net[0] is net[1][0]
    same(net[1](x), expected)
    assert called == ["before", "after"]
    assert list(ft.restore(net).changed) == ["0"]
    assert type(net[1][0]) is Named


# ---- parameters that are made of others ----------------------------------------------------------


class Double(nn.Module):
    def forward(self, w: Any) -> Any:
        return 2 * w

    def right_inverse(self, w: Any) -> Any:
        return w / 2


def parametrised(layer: Any) -> None:
    parametrize.register_parametrization(layer, "weight_hh_l0", Double())
    parametrize.register_parametrization(layer, "bias_ih_l0", Double())


def weight_normed(layer: Any) -> None:
    nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")


def spectral_normed(layer: Any) -> None:
    torch.manual_seed(3)  # of its first vectors
    nn.utils.parametrizations.spectral_norm(layer, "weight_ih_l0").eval()


def weight_normed_by_hooks(layer: Any) -> None:
    nn.utils.weight_norm(layer, "weight_hh_l0")


def pruned(layer: Any) -> None:
    prune.l1_unstructured(layer, "weight_hh_l0", 0.5)


@pytest.mark.parametrize("cls", [nn.GRU, Named])
@pytest.mark.parametrize("change", [parametrised, weight_normed, spectral_normed, pruned])
@pytest.mark.parametrize("first", ["change", "accelerate"])
def test_changed_parameters(first: str, change: Any, cls: Any) -> None:
    torch.manual_seed(2)
    layer, x = cls(3, 4), torch.randn(5, 2, 3)
    net, twin = nn.Sequential(layer), copy.deepcopy(layer)
    change(twin)
    expected = twin(x)
    twin(x)[0].sum().backward()
    if first == "accelerate":
        assert ft.accelerate(net).changed
    change(layer)
    if first == "change":
        assert ft.accelerate(net).changed
    same(layer(x), expected)
    assert on_engine(layer, x)
    layer(x)[0].sum().backward()
    for name, parameter in twin.named_parameters():
        if parameter.grad is not None:
            same(dict(layer.named_parameters())[name].grad, parameter.grad)
    other = copy.deepcopy(net) if change is not pruned else net  # torch cannot copy what it prunes
    same(other(x), expected)
    report = ft.restore(net)
    assert list(report.changed) == ["0"]
    assert not report.kept
    assert not on_engine(layer, x)
    same(layer(x), expected)
    assert parametrize.type_before_parametrizations(layer) is cls
    ft.accelerate(net)
    if parametrize.is_parametrized(layer):
        for name in list(layer.parametrizations):
            parametrize.remove_parametrizations(layer, name)
        assert isinstance(layer, ft.GRU if cls is nn.GRU else ft.LSTM)
        same(layer(x), expected)
        assert on_engine(layer, x)
    ft.restore(net)
    assert type(layer) is cls


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_normed_by_hooks() -> None:
    for first in ("change", "accelerate"):
        layer, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
        twin = copy.deepcopy(layer)
        weight_normed_by_hooks(twin)
        steps = [weight_normed_by_hooks, ft.accelerate]
        for step in steps if first == "change" else reversed(steps):
            step(layer)
        with torch.no_grad():
            for each in (layer, twin):
                each.weight_hh_l0_g.mul_(2)
        same(layer(x), twin(x))
        ft.restore(layer)
        same(layer(x), twin(x))
        assert type(layer) is nn.LSTM
