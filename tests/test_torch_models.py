"""fastrnn.torch in other people's models: what a layer is taken for, compiled or not."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from conftest import run

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import fastrnn.torch as ft  # noqa: E402

# torch's warnings of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec"),
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
