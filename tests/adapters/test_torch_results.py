"""What is done to results in place: where torch's own layer allows it, so does ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch as ft  # noqa: E402
from fastrnn.torch import _engine  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN"),
]

MODULES: list[tuple[str, dict[str, Any], int]] = [
    ("RNN", {}, 2),
    ("RNN", {"num_layers": 2, "nonlinearity": "relu"}, 2),
    ("GRU", {}, 2),
    ("GRU", {"num_layers": 2, "bidirectional": True, "dropout": 0.3}, 2),
    ("LSTM", {}, 3),
    ("LSTM", {"num_layers": 2, "bidirectional": True}, 3),
    ("RNNCell", {}, 1),
    ("GRUCell", {}, 1),
    ("LSTMCell", {}, 2),
]
# module, options, which of its results
RESULTS = [(name, options, k) for name, options, count in MODULES for k in range(count)]


def index(t: Any) -> None:
    t[:1] = 0.5


def mask(t: Any) -> None:
    t[torch.arange(t.numel()).view(t.shape) % 3 == 0] = 0.0


def through_a_view(t: Any) -> None:
    t.flatten()[1:3].mul_(3.0)


CHANGES: list[Callable[[Any], Any]] = [
    lambda t: t.mul_(2.0),
    lambda t: t.relu_(),
    lambda t: torch.nn.functional.dropout(t, 0.5, True, True),
    index,
    mask,
    through_a_view,
    lambda t: t.zero_(),
    lambda t: t.detach_(),
    lambda t: t.requires_grad_(False),
    lambda t: t.resize_(2),
]
NAMES = [
    "mul_",
    "relu_",
    "dropout_",
    "index",
    "mask",
    "view",
    "zero_",
    "detach_",
    "leaf",
    "resize_",
]


def flat(results: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(results)


def made(module: Any, dtype: Any, name: str, options: Any, k: int, change: Any) -> Any:
    """The gradients after a change of result k, or the class of the error and where it came."""
    torch.manual_seed(0)
    layer = getattr(module, name)(3, 4, **options).to(dtype)
    x = torch.randn(2, 3) if "Cell" in name else torch.randn(5, 2, 3)
    x = x.to(dtype).requires_grad_()
    torch.manual_seed(1)
    results = flat(layer(x))
    torch.manual_seed(2)
    try:
        change(results[k])
    except RuntimeError:
        return "refused"
    loss = sum((r * (i + 1)).sin().sum() for i, r in enumerate(results) if r.requires_grad)
    if not isinstance(loss, torch.Tensor):
        return "no gradient"
    try:
        grads = torch.autograd.grad(loss, [x, *layer.parameters()], allow_unused=True)
    except RuntimeError:
        return "refused in backward"
    return [torch.zeros(()) if g is None else g for g in grads]


@pytest.mark.parametrize("change", CHANGES, ids=NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(
    ("name", "options", "k"), RESULTS, ids=[f"{n}{len(o)}-{k}" for n, o, k in RESULTS]
)
def test_changes_in_place_are_torchs(
    name: str, options: Any, k: int, dtype: Any, change: Any
) -> None:
    theirs = made(torch.nn, dtype, name, options, k, change)
    ours = made(ft, dtype, name, options, k, change)
    if theirs == "refused in backward" and name == "RNNCell":
        # torch's simple cell keeps its result for backward; ours may do more, rightly.
        theirs = made(Copied, dtype, name, options, k, change)
    if isinstance(theirs, str):
        assert ours == theirs
    else:
        torch.testing.assert_close(ours, theirs)


class Copied:
    """torch's modules with results that nothing else reads."""

    class RNNCell(torch.nn.RNNCell):
        def forward(self, *args: Any) -> Any:
            return super().forward(*args).clone()


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_a_result_that_was_written_is_made_again_to_the_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that was not is not: the normal case pays nothing."""
    calls = []
    forward = _engine.forward
    monkeypatch.setattr(_engine, "forward", lambda *a: calls.append(1) or forward(*a))
    layer = getattr(ft, name)(3, 4, 2, bidirectional=True, recompute=2)
    x, lengths = torch.randn(7, 3, 3, requires_grad=True), torch.tensor([7, 0, 4])
    grads = []
    for written in (False, True):
        y, _ = layer(x, lengths=lengths)
        loss = y.clone().sin().sum()
        if written:
            y.detach().zero_()
        calls.clear()
        grads.append(torch.autograd.grad(loss, [x, *layer.parameters()]))
        assert len(calls) == written
    for a, b in zip(*grads, strict=True):
        assert torch.equal(a, b)


def test_results_written_under_hooks_transforms_and_second_order() -> None:
    layer, x = ft.GRU(3, 4, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)

    def loss(x: Any) -> Any:
        y, _ = layer(x)
        return y.mul_(2.0).sin().sum()

    def same(x: Any) -> Any:
        return (layer(x)[0] * 2.0).sin().sum()

    expected = torch.func.grad(same)(x)
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    given = x.clone().requires_grad_()
    with torch.autograd.graph.save_on_cpu():
        found = loss(given)
    torch.testing.assert_close(torch.autograd.grad(found, given)[0], expected)
    from torch.utils.checkpoint import checkpoint

    checkpointed = checkpoint(loss, given, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(checkpointed, given)[0], expected)
    assert torch.autograd.gradgradcheck(loss, given)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(torch.autograd.grad(compiled(given), given)[0], expected)
