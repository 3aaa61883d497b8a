"""fastrnn.torch under autograd of every kind, torch.func, torch.compile, torch.export, opcheck."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest

import tiers
from builds import ROOT
from tolerances import FLOAT32_GRADIENT, FLOAT32_OUTPUT, FLOAT64, SECOND_ORDER

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import fastrnn.torch as ft  # noqa: E402
from fastrnn.torch import _autograd, _call, _composite, _engine, _ops  # noqa: E402

# torch's warnings of itself: jit in its own decompositions, gradcheck of gradgradcheck.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Backwards compatibility"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec"),
]

LAYERS = ["RNN", "LSTM", "GRU"]
leaves = torch.utils._pytree.tree_leaves
f64 = torch.float64


def close(a: Any, b: Any, tolerance: float = FLOAT64) -> None:
    for x, y in zip(leaves(a), leaves(b), strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


def functional(module: Any, **options: Any) -> tuple[Any, tuple[Any, ...]]:
    """The module as a function of its input, states and parameters, and the parameters."""
    names = list(dict(module.named_parameters()))

    def call(x: Any, *rest: Any) -> tuple[Any, ...]:
        states, parameters = rest[: -len(names)], rest[-len(names) :]
        hx = (states if len(states) == 2 else states[0]) if states else None
        given = dict(zip(names, parameters, strict=True))
        return tuple(leaves(torch.func.functional_call(module, given, (x, hx), options)))

    return call, tuple(module.parameters())


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layers": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "nobias": {"bias": False},
    "recompute": {"recompute": 2},
    "lengths": {"bidirectional": True},
    "resets": {"bidirectional": True},
    "masks": {"bidirectional": True},
    "gate masks": {"bidirectional": True},
    "cells": {"bidirectional": True},
    "projected": {"proj_size": 1},
    "unbatched": {},
}


def example(name: str, option: str) -> tuple[Any, list[Any], dict[str, Any]]:
    """A small module, its input and states, the options of its call."""
    torch.manual_seed(1)
    module = getattr(ft, name)(2, 2, dtype=f64, **OPTIONS[option])
    x = torch.randn(
        *((3,) if option == "unbatched" else (2, 3) if option == "layers" else (3, 2)), 2
    )
    passes = module.num_layers * (2 if module.bidirectional else 1)
    rows = () if option == "unbatched" else (2,)
    widths = [module.proj_size or 2, 2][: 2 if name == "LSTM" else 1]
    states = [torch.randn(passes, *rows, n) for n in widths]
    call: dict[str, Any] = {}
    if option in ("lengths", "cells"):
        call["lengths"] = torch.tensor([3, 1])
    if option == "resets":
        call["resets"] = torch.tensor([[True, False], [False, True], [False, False]])
    if "masks" in option:
        per_gate = (len(module.weight_hh_l0) // 2,) if option == "gate masks" else ()
        call["recurrent_masks"] = torch.rand(passes, *per_gate, *rows, widths[0], dtype=f64)
    if option == "cells":
        call["return_cells"] = True
    return module, [t.to(f64).requires_grad_(True) for t in (x, *states)], call


CASES = [
    (name, option)
    for name in LAYERS
    for option in OPTIONS
    if name == "LSTM" or option not in ("cells", "projected")
]


@pytest.mark.parametrize(("name", "option"), CASES)
def test_first_order(name: str, option: str) -> None:
    module, inputs, options = example(name, option)
    call, parameters = functional(module, **options)
    assert torch.autograd.gradcheck(call, (*inputs, *parameters), check_forward_ad=True)


@pytest.mark.parametrize(
    ("name", "option"), tiers.thin(CASES, [case for case in CASES if case[0] == "LSTM"])
)
def test_second_order(name: str, option: str) -> None:
    module, inputs, options = example(name, option)
    call, parameters = functional(module, **options)
    assert torch.autograd.gradgradcheck(
        call, (*inputs, *parameters), check_fwd_over_rev=True, fast_mode=True
    )


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells(name: str) -> None:
    module = getattr(ft, name)(2, 3, dtype=f64)
    states = [torch.randn(2, 3, dtype=f64, requires_grad=True) for _ in range(1 + ("LSTM" in name))]
    x = torch.randn(2, 2, dtype=f64, requires_grad=True)
    call, parameters = functional(module)
    assert torch.autograd.gradcheck(call, (x, *states, *parameters), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, (x, *states, *parameters), fast_mode=True)


@pytest.mark.parametrize("name", LAYERS)
def test_third_order(name: str) -> None:
    theirs, ours = pair(name)
    x = torch.randn(3, 2, 3, dtype=f64, requires_grad=True)

    def third(module: Any) -> Any:
        value = module(x)[0].pow(3).sum()
        for _ in range(3):
            (gradient,) = torch.autograd.grad(value, x, create_graph=True)
            value = gradient.pow(2).sum()
        return gradient

    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        close(third(ours), third(theirs), SECOND_ORDER)


def pair(name: str, **options: Any) -> tuple[Any, Any]:
    theirs = getattr(torch.nn, name)(3, 4, dtype=f64, **options)
    ours = getattr(ft, name)(3, 4, dtype=f64, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def loss_of(module: Any) -> Any:
    return lambda params, x: torch.func.functional_call(module, params, (x,))[0].square().sum()


@pytest.mark.parametrize("name", LAYERS)
def test_torch_func(name: str) -> None:
    """grad, vmap, gradients of each sample, of an ensemble, and Jacobians both ways."""
    theirs, ours = pair(name)
    params = {k: v.detach() for k, v in ours.named_parameters()}
    xs = torch.randn(3, 5, 2, 3, dtype=f64)
    expected = [torch.func.grad(loss_of(theirs))(params, x) for x in xs]
    close(torch.func.grad(loss_of(ours))(params, xs[0]), expected[0])
    values = torch.vmap(loss_of(ours), (None, 0))(params, xs)
    close(values, torch.stack([loss_of(theirs)(params, x) for x in xs]))
    samples = torch.vmap(torch.func.grad(loss_of(ours)), (None, 0))(params, xs)
    close(samples, {k: torch.stack([e[k] for e in expected]) for k in params})
    ensemble = {k: torch.stack([v, v]) for k, v in params.items()}
    both = torch.vmap(torch.func.grad(loss_of(ours)), (0, None))(ensemble, xs[0])
    close({k: v[1] for k, v in both.items()}, expected[0])
    jacobian = torch.autograd.functional.jacobian(lambda x: theirs(x)[0], xs[0])
    close(torch.func.jacrev(lambda x: ours(x)[0])(xs[0]), jacobian)
    close(torch.func.jacfwd(lambda x: ours(x)[0])(xs[0]), jacobian)
    with torch.no_grad():
        close(torch.vmap(lambda x: ours(x)[0])(xs), torch.stack([theirs(x)[0] for x in xs]))


@pytest.mark.parametrize("name", LAYERS)
def test_hessians(name: str) -> None:
    theirs, ours = pair(name)
    x = torch.randn(2, 1, 3, dtype=f64)
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        expected = torch.autograd.functional.hessian(lambda x: theirs(x)[0].pow(2).sum(), x)
    close(torch.func.hessian(lambda x: ours(x)[0].pow(2).sum())(x), expected)
    reverse = torch.func.jacrev(torch.func.jacrev(lambda x: ours(x)[0].pow(2).sum()))
    close(reverse(x), expected)


@pytest.mark.parametrize("name", [*LAYERS, "RNNCell", "LSTMCell", "GRUCell"])
def test_batched_gradients(name: str) -> None:
    """By torch's older vmap: the Jacobian, the Hessian, and gradients of some results alone."""
    theirs, ours = pair(name)
    x = torch.randn(2, 3, dtype=f64) if "Cell" in name else torch.randn(2, 1, 3, dtype=f64)
    functional = torch.autograd.functional
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):
        for vectorize in (False, True):

            def results(module: Any, x: Any) -> Any:
                return tuple(leaves(module(x)))

            options: Any = {"vectorize": vectorize}
            found = functional.jacobian(lambda x: results(ours, x), x, **options)
            close(found, functional.jacobian(lambda x: results(theirs, x), x))
            found = functional.hessian(lambda x: results(ours, x)[-1].pow(2).sum(), x, **options)
            close(found, functional.hessian(lambda x: results(theirs, x)[-1].pow(2).sum(), x))
    batches = []
    for module in (theirs, ours):
        first = leaves(module(x))[0]
        weights = torch.arange(3.0 * first.numel(), dtype=f64).sin().view(3, *first.shape)
        batches.append(
            torch.autograd.grad(
                first, list(module.parameters()), weights, is_grads_batched=True, allow_unused=True
            )
        )
    close(batches[1], batches[0])


def test_gradients_that_nobody_wants_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ft.GRU(3, 4)
    wanted = []
    engine = _engine.backward
    monkeypatch.setattr(
        _engine, "backward", lambda *a, **k: wanted.append(tuple(k.values())) or engine(*a, **k)
    )
    x = torch.randn(5, 2, 3)
    layer(x)[0].sum().backward()
    full = [p.grad.clone() for p in layer.parameters()]
    y = layer(x.requires_grad_())[0].sum()
    (dx,) = torch.autograd.grad(y, x)
    layer.requires_grad_(False)
    (alone,) = torch.autograd.grad(layer(x)[0].sum(), x)
    # torch asks for what could be wanted: it does not tell that grad() left the parameters out.
    assert wanted == [(False, True), (True, True), (True, False)]
    assert torch.equal(alone, dx)
    layer.requires_grad_(True).zero_grad()
    layer(x)[0].sum().backward()
    for a, p in zip(full, layer.parameters(), strict=True):
        assert torch.equal(a, p.grad)


@pytest.mark.parametrize("gates", [False, True])
@pytest.mark.parametrize("repeat_held", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_composite_is_the_engine(name: str, repeat_held: bool, gates: bool) -> None:
    """The two forms of every layer give the same numbers, with all that says of steps included."""
    layer = getattr(ft, name)(3, 4, 2, bidirectional=True, dtype=f64, batch_first=True)
    per_gate = (len(layer.weight_hh_l0) // 4,) if gates else ()
    steps = _call.StepInputs(
        torch.tensor([5, 0, 3]),
        torch.rand(3, 5) < 0.3,
        torch.rand(3, 5) < 0.4,
        recurrent_masks=torch.rand(4, *per_gate, 3, 4, dtype=f64),
    )
    x, parameters = torch.randn(3, 5, 3, dtype=f64), tuple(layer.parameters())
    inputs = _call.Inputs(x, steps, (), (), parameters)
    call = layer._call(repeat_held=repeat_held)
    close(_composite.run(call, inputs), _engine.infer(call, inputs))


@pytest.mark.parametrize("gates", [False, True])
def test_recurrent_masks_under_vmap(gates: bool) -> None:
    """Each element of the batch has its own; so have per-sample gradients."""
    layer = ft.GRU(3, 4, bidirectional=True, dtype=f64)
    x, masks = torch.randn(5, 6, 2, 3, dtype=f64), torch.rand(5, 2, 3, 2, 4, dtype=f64)
    masks = masks if gates else masks[:, :, 0]
    parameters = dict(layer.named_parameters())

    def loss(parameters: Any, x: Any, masks: Any) -> Any:
        options = {"recurrent_masks": masks}
        return torch.func.functional_call(layer, parameters, (x,), options)[0].square().sum()

    def gradients(x: Any, masks: Any) -> Any:
        return torch.func.grad(loss)(parameters, x, masks)

    together = torch.vmap(gradients)(x, masks)
    for n in range(5):
        alone = torch.autograd.grad(loss(parameters, x[n], masks[n]), list(parameters.values()))
        close([g[n] for g in together.values()], list(alone))


# ---- compiled ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("name", LAYERS)
def test_compile_once_for_all_shapes(name: str, backend: str) -> None:
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    layer = getattr(ft, name)(5, 7, num_layers=2, bidirectional=True)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=backend)
    for T, B in ((6, 4), (9, 3), (12, 8)):
        x = torch.randn(T, B, 5, requires_grad=True)
        found = []
        for module in (layer, compiled):
            results = module(x)
            loss = sum(r.square().sum() for r in leaves(results))
            found.append((results, torch.autograd.grad(loss, [x, *layer.parameters()])))
        close(found[1], found[0], FLOAT32_GRADIENT)
    assert graphs["unique_graphs"] == before + 1
    with torch.no_grad():
        close(compiled(x), layer(x), FLOAT32_OUTPUT)


def test_compile_with_everything() -> None:
    layer = ft.LSTM(3, 4, 2, batch_first=True, recompute=2)

    def call(x: Any, h: Any, c: Any, lengths: Any, resets: Any, masks: Any) -> Any:
        return layer(x, (h, c), lengths=lengths, resets=resets, recurrent_masks=masks)

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    for T, B in ((5, 3), (7, 2)):
        args = [torch.randn(B, T, 3), torch.randn(2, B, 4), torch.randn(2, B, 4)]
        args += [torch.randint(0, T + 1, (B,)), torch.rand(B, T) < 0.3, torch.rand(2, 4, B, 4)]
        args[0].requires_grad_()
        found = []
        for function in (call, compiled):
            y, (hn, cn) = function(*args)
            grads = torch.autograd.grad(y.sum() + cn.sum(), [args[0], *layer.parameters()])
            found.append((y, hn, cn, grads))
        close(found[1], found[0], FLOAT32_GRADIENT)
    cells = torch.compile(lambda x: layer(x, return_cells=True), fullgraph=True, backend="eager")
    close(cells(args[0]), layer(args[0], return_cells=True), FLOAT32_OUTPUT)


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_compile_cells(name: str) -> None:
    cell = getattr(ft, name)(3, 4)
    compiled = torch.compile(cell, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3)
    close(compiled(x), cell(x), FLOAT32_OUTPUT)


def test_compile_a_training_model_with_dropout_and_autocast() -> None:
    layer = ft.GRU(3, 4, 3, dropout=0.5)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(x: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)[0].float().sum()

    step(torch.randn(5, 2, 3)).backward()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_export(name: str, strict: bool) -> None:
    layer = getattr(ft, name)(5, 7, bidirectional=True)
    auto = torch.export.Dim.AUTO
    program = torch.export.export(
        layer,
        (torch.randn(6, 4, 5),),
        dynamic_shapes={"input": {0: auto, 1: auto}},
        strict=strict,
    )
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "fastrnn.layer.default" in targets
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    x = torch.randn(9, 2, 5)
    close(loaded(x), layer(x), FLOAT32_OUTPUT)


@pytest.mark.parametrize("batch_first", tiers.thin([False, True], [True]))
@pytest.mark.parametrize("recompute", tiers.thin([0, 2], [2]))
@pytest.mark.parametrize("name", LAYERS)
def test_opcheck(name: str, recompute: int, batch_first: bool) -> None:
    layer = getattr(ft, name)(3, 4, 2, batch_first=batch_first)
    layer.recompute = recompute
    x = torch.randn(5, 2, 3, requires_grad=True)
    lengths = torch.tensor([2] * 5 if batch_first else [5, 3])
    resets, holds = torch.rand(5, 2) < 0.3, torch.rand(5, 2) < 0.3
    call = layer._call(repeat_held=batch_first)
    masks = torch.rand(2, 5 if batch_first else 2, 4)
    steps = _call.StepInputs(lengths, resets, holds, recurrent_masks=masks)
    inputs = _call.Inputs(x, steps, (), (), tuple(layer.parameters()))
    torch.library.opcheck(torch.ops.fastrnn.layer.default, _ops.arguments(call, inputs))
    # The tape is not written where rows do not run: with full lengths all of it is.
    plain = inputs._replace(
        x=x.detach(),
        steps=_call.StepInputs(None, resets, recurrent_masks=masks),
        parameters=tuple(p.detach() for p in layer.parameters()),
    )
    args = _ops.arguments(call, plain)
    torch.library.opcheck(torch.ops.fastrnn.forward.default, args)
    y, *_, inner, states, saved = torch.ops.fastrnn.forward(*args)
    rest = (y, [inner, states, saved], torch.randn_like(y), [])
    for wants in ((True, True), (False, True), (True, False)):
        args = _ops.arguments(call, plain, *rest, *wants)
        torch.library.opcheck(torch.ops.fastrnn.backward.default, args)


def test_shapes_are_the_engines() -> None:
    """`Results`, which fake tensors go by, against what the engine makes."""
    for name in LAYERS:
        for recompute in (0, 1, 3):
            for shape in ((7, 2, 3), (7, 3)):
                layer = getattr(ft, name)(3, 4, 2, bidirectional=True, recompute=recompute)
                inputs = _call.Inputs(
                    torch.randn(shape), _call.NO_STEP_INPUTS, (), (), tuple(layer.parameters())
                )
                wanted = _call.Results(layer._call(), inputs)
                results = _engine.forward(layer._call(), inputs)
                assert [r.shape for r in results] == [
                    r.shape for r in (wanted.y, *wanted.finals, *wanted.tape)
                ]


def test_forward_mode_is_noticed() -> None:
    assert not _autograd.needs_composite()
    with torch.autograd.forward_ad.dual_level():
        assert _autograd.needs_composite()


def test_a_stored_program_still_loads() -> None:
    """Arguments of the operators are only ever added, at the end and with defaults."""
    with open(ROOT / "tests" / "data" / "lstm.pt2", "rb") as file:
        program = torch.export.load(file)
    layer = ft.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    layer.load_state_dict(program.state_dict)
    x = torch.randn(3, 9, 3)
    close(program.module()(x), layer(x), FLOAT32_OUTPUT)


def test_schemas_of_the_operators() -> None:
    """What stored programs call: a change may add to this at its end, with defaults."""
    inputs = (
        "(Tensor x, Tensor? lengths, Tensor? resets, Tensor[] states, Tensor[] masks, "
        "Tensor[] parameters, str cell, int layers, int directions, bool batch_first, "
        "int recompute, bool cells"
    )
    rest = ", Tensor y, Tensor[] tape, Tensor dy, Tensor[] dfinals, bool want_dx, bool "
    for name, begins in (
        ("layer", inputs),
        ("forward", inputs),
        ("backward", inputs + rest + "want_parameters"),
    ):
        schema = str(getattr(torch.ops.fastrnn, name).default._schema)
        assert schema.startswith(f"fastrnn::{name}{begins}")
        added = schema.removeprefix(f"fastrnn::{name}{begins}").removesuffix(") -> Tensor[]")
        assert added == (
            ", Tensor? holds=None, bool repeat_held=False, Tensor? batch_sizes=None, "
            "Tensor? recurrent_masks=None"
        )


# ---- what watches operations ---------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_functionalize(name: str) -> None:
    layer = getattr(ft, name)(3, 4, 2, bidirectional=True, dtype=f64)
    cell = getattr(ft, f"{name}Cell")(3, 4, dtype=f64)
    x = torch.randn(5, 2, 3, dtype=f64)
    for call in (lambda x: leaves(layer(x)), lambda x: leaves(cell(x[0]))):
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                close(torch.func.functionalize(call)(x), call(x))

        def loss(x: Any, call: Any = call) -> Any:
            return call(x)[0].square().sum()

        close(torch.func.grad(torch.func.functionalize(loss))(x), torch.func.grad(loss)(x))


def flops(module: Any, inputs: tuple[Any, ...]) -> tuple[int, int]:
    """Of the forward call, and of backward."""
    with FlopCounterMode(display=False) as counter:
        results = leaves(module(*inputs))
        forward = counter.get_total_flops()
        if results[0].requires_grad:
            results[0].sum().backward()
    return forward, counter.get_total_flops() - forward


@pytest.mark.parametrize("wants", ["all", "parameters", "inputs", "state", "nothing"])
@pytest.mark.parametrize("name", [*LAYERS, "RNNCell", "LSTMCell", "GRUCell"])
def test_flops_are_torchs(name: str, wants: str) -> None:
    is_cell = "Cell" in name
    for options in ({},) if is_cell else ({}, {"num_layers": 2, "bidirectional": True}):
        theirs, ours = pair(name, **options)
        theirs.requires_grad_(wants in ("all", "parameters", "state"))
        ours.requires_grad_(wants in ("all", "parameters", "state"))
        shape = (2, 3) if is_cell else (5, 2, 3)
        x = torch.randn(shape, dtype=f64, requires_grad=wants in ("all", "inputs", "state"))
        passes = 4 if options else 1
        given = (x,)
        if wants == "state":
            width = (2, 4) if is_cell else (passes, 2, 4)
            states = tuple(torch.randn(width, dtype=f64, requires_grad=True) for _ in range(2))
            given = (x, states if "LSTM" in name else states[0])
        assert flops(ours, given) == flops(theirs, given)
        assert flops(ours, given)[0] > 0


def test_flops_of_what_is_made_anew() -> None:
    x = torch.randn(5, 2, 3)
    layer = ft.GRU(3, 4)
    forward, backward = flops(layer, (x,))
    layer.recompute = True
    assert flops(layer, (x,)) == (forward, backward + forward)
    rnn = ft.RNN(3, 4)
    plain = flops(rnn, (x,))
    rnn.recompute = True  # whose output is all that backward needs
    assert flops(rnn, (x,)) == plain


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_without_inputs(name: str) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        theirs, ours = (getattr(module, name)(0, 4, dtype=f64) for module in (torch.nn, ft))
    ours.load_state_dict(theirs.state_dict())
    for shape in ((2, 0), (0,)):
        x = torch.randn(shape, dtype=f64, requires_grad=True)
        found = []
        for cell in (theirs, ours):
            with torch.no_grad():
                plain = leaves(cell(x))
            results = leaves(cell(x))
            grads = torch.autograd.grad(results[0].sin().sum(), [x, *cell.parameters()])
            found.append((plain, results, grads))
        close(found[1], found[0])
    with pytest.raises(RuntimeError):
        ours(torch.randn(2, 3, dtype=f64))
    with pytest.raises(RuntimeError, match="must have 3 features"):
        getattr(ft, name)(3, 4)(torch.randn(2, 0))
