"""fastrnn.torch against torch.nn: numbers, options, modules, errors."""

from __future__ import annotations

import copy
import gc
import io
import itertools
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastrnn
import tiers
from builds import run
from cases import flat_state
from fastrnn import _native
from tolerances import FLOAT64, SECOND_ORDER, assert_gradient, assert_output

torch = pytest.importorskip("torch")

import fastrnn.torch as ft  # noqa: E402
from fastrnn.torch import _autograd, _engine  # noqa: E402

# torch's warnings of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN"),
]

LAYERS = ["RNN", "LSTM", "GRU"]
CELLS = ["RNNCell", "LSTMCell", "GRUCell"]
leaves = torch.utils._pytree.tree_leaves


def array(tensor: Any) -> np.ndarray:
    return tensor.detach().double().numpy()


def tensors(results: Any) -> list[Any]:
    """All tensors of a result, the data of packed ones."""
    flat = [results] if isinstance(results, torch.Tensor) else []
    if isinstance(results, torch.nn.utils.rnn.PackedSequence):
        return [results.data]
    if isinstance(results, (tuple, list)):
        for r in results:
            flat += tensors(r)
    return flat


def twins(name: str, *args: Any, dtype: Any = torch.float64, **options: Any) -> tuple[Any, Any]:
    """torch's module in float64 and ours in `dtype`, of the same seed."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args, dtype=torch.float64, **options)
    ours = getattr(ft, name)(*args, dtype=dtype, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def compare(theirs: Any, ours: Any, inputs: list[Any], call: Any, dtype: Any) -> None:
    """Outputs and every gradient of call(module, *inputs), theirs in float64."""
    results, grads = [], []
    for module, kind in ((theirs, torch.float64), (ours, dtype)):
        given = [x.to(kind).clone().requires_grad_(True) for x in inputs]
        torch.manual_seed(7)
        found = tensors(call(module, *given))
        torch.manual_seed(8)
        weights = [torch.randn(r.shape, dtype=torch.float64).to(kind) for r in found]
        loss = sum((r * w).sum() for r, w in zip(found, weights, strict=True))
        results.append(found)
        grads.append(torch.autograd.grad(loss, [*given, *module.parameters()]))
    dtype = str(dtype).removeprefix("torch.")
    for a, b in zip(*results, strict=True):
        assert_output(array(b), array(a), dtype, "result")
    for a, b in zip(*grads, strict=True):
        assert_gradient(array(b), array(a), dtype, "gradient")


@pytest.mark.parametrize("name", LAYERS)
def test_lengths_are_packed_sequences(name: str) -> None:
    """`lengths=` in any order gives what a PackedSequence gives, padded."""
    theirs, ours = twins(name, 5, 8, num_layers=2, bidirectional=True)
    lengths = torch.tensor([2, 7, 1, 4])

    def call(module: Any, x: Any) -> Any:
        if module is ours:
            return module(x, lengths=lengths)
        rows = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        y, state = module(rows)
        return torch.nn.utils.rnn.pad_packed_sequence(y, total_length=7)[0], state

    compare(theirs, ours, [torch.randn(7, 4, 5, dtype=torch.float64)], call, torch.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_resets_lengths_and_zero_lengths_against_the_reference(name: str) -> None:
    layer = getattr(ft, name)(4, 6, 2, bidirectional=True, dtype=torch.float64, batch_first=True)
    rng = np.random.default_rng(3)
    x, lengths = rng.standard_normal((5, 9, 4)), np.array([9, 0, 3, 7, 1])
    resets = rng.random((5, 9)) < 0.3
    cell = layer._cell
    params = {k: array(v) for k, v in layer.state_dict().items()}
    options = {"batch_first": True, "lengths": lengths, "resets": resets}
    y, state, tape = fastrnn.reference.forward(cell, x, params, **options)
    dx, _, grads = fastrnn.reference.backward(cell, params, tape, np.ones_like(y))
    given = torch.tensor(x, requires_grad=True)
    results = layer(given, lengths=torch.tensor(lengths), resets=torch.tensor(resets))
    assert_output(array(results[0]), y, "float64")
    for a, b in zip(tensors(results[1]), flat_state(state), strict=True):
        assert_output(array(a), b, "float64")
    results[0].sum().backward()
    assert_gradient(array(given.grad), dx, "float64")
    for key, parameter in layer.named_parameters():
        assert_gradient(array(parameter.grad), grads[key], "float64", key)


@pytest.mark.parametrize("gates", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_masks_against_the_reference(name: str, gates: bool) -> None:
    layer = getattr(ft, name)(4, 6, 2, bidirectional=True, dtype=torch.float64, batch_first=True)
    rng = np.random.default_rng(3)
    x, lengths = rng.standard_normal((5, 9, 4)), np.array([9, 0, 3, 7, 1])
    per_gate = (len(layer.weight_hh_l0) // 6,) if gates else ()
    masks = (rng.random((4, *per_gate, 5, 6)) < 0.7) / 0.7
    params = {k: array(v) for k, v in layer.state_dict().items()}
    options = {"batch_first": True, "lengths": lengths, "recurrent_masks": masks}
    y, _, tape = fastrnn.reference.forward(layer._cell, x, params, **options)
    dx, _, grads = fastrnn.reference.backward(layer._cell, params, tape, np.ones_like(y))
    given = torch.tensor(x, requires_grad=True)
    options = {"lengths": torch.tensor(lengths), "recurrent_masks": torch.tensor(masks)}
    results = layer(given, **options)
    assert_output(array(results[0]), y, "float64")
    results[0].sum().backward()
    assert_gradient(array(given.grad), dx, "float64")
    for key, parameter in layer.named_parameters():
        assert_gradient(array(parameter.grad), grads[key], "float64", key)
    with torch.no_grad():
        assert torch.equal(layer(given, **options)[0], results[0])


def test_recurrent_masks_of_bfloat16() -> None:
    layer = ft.LSTM(4, 6).bfloat16()
    x, masks = torch.randn(5, 3, 4).bfloat16(), torch.rand(1, 4, 3, 6).bfloat16()
    y = layer(x, recurrent_masks=masks)[0]
    wide = copy.deepcopy(layer).float()(x.float(), recurrent_masks=masks.float())[0]
    assert y.dtype == torch.bfloat16
    assert_output(array(y.float()), array(wide), "bfloat16")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_all_cell_states(batch_first: bool, ragged: bool) -> None:
    """Against single steps of torch's cell, in both directions, with their gradients."""
    layer = ft.LSTM(3, 5, bidirectional=True, batch_first=batch_first, dtype=torch.float64)
    T, lengths = 6, torch.tensor([6, 2, 4])
    x = torch.randn(T, 3, 3, dtype=torch.float64, requires_grad=True)
    given = x.transpose(0, 1) if batch_first else x
    y, (_, cn), cells = layer(given, lengths=lengths if ragged else None, return_cells=True)
    plain, _ = layer(given, lengths=lengths if ragged else None)
    assert_output(array(y), array(plain), "float64")
    if batch_first:
        cells = cells.transpose(1, 2)
    expected = torch.zeros(2, T, 3, 5, dtype=torch.float64)
    for d, suffix in enumerate(("", "_reverse")):
        cell = torch.nn.LSTMCell(3, 5, dtype=torch.float64)
        cell.load_state_dict(
            {k: getattr(layer, f"{k}_l0{suffix}") for k in dict(cell.named_parameters())}
        )
        for b in range(3):
            n = int(lengths[b]) if ragged else T
            state = (torch.zeros(1, 5, dtype=torch.float64),) * 2
            for t in reversed(range(n)) if d else range(n):
                state = cell(x[t, b : b + 1], state)
                expected[d, t, b] = state[1][0]
            assert_output(array(cn[d, b]), array(state[1][0]), "float64")
    assert_output(array(cells), array(expected), "float64")
    weights = torch.randn_like(expected)
    got = torch.autograd.grad((cells * weights).sum() + y.sum(), x)[0]

    def composite(x: Any) -> Any:
        y, _, cells = layer(
            x.transpose(0, 1) if batch_first else x,
            lengths=lengths if ragged else None,
            return_cells=True,
        )
        return (cells.transpose(1, 2) if batch_first else cells), y

    _, tangent = torch.func.jvp(composite, (x.detach(),), (torch.ones_like(x),))
    assert_gradient(
        array(got.sum()), array((tangent[0] * weights).sum() + tangent[1].sum()), "float64"
    )


def test_all_cell_states_of_packed_rows() -> None:
    layer = ft.LSTM(3, 4, 2)
    x, lengths = torch.randn(5, 3, 3), torch.tensor([2, 5, 1])
    rows = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    _, _, cells = layer(rows, return_cells=True)
    _, _, expected = layer(x, lengths=lengths, return_cells=True)
    torch.testing.assert_close(cells, expected, rtol=0, atol=0)
    _, (_, cn), cells = layer(x[:, 0], return_cells=True)
    assert cells.shape == (2, 5, 4)
    torch.testing.assert_close(cells[:, -1], cn, rtol=0, atol=0)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_cells(name: str, bias: bool) -> None:
    theirs, ours = twins(name, 6, 9, bias=bias)
    states = [torch.randn(4, 9, dtype=torch.float64) for _ in range(1 + (name == "LSTMCell"))]

    def call(module: Any, x: Any, *states: Any) -> Any:
        return module(x, (states if len(states) == 2 else states[0]) if states else None)

    x = torch.randn(4, 6, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        compare(theirs, ours.to(dtype), [x, *states], call, dtype)
        compare(theirs, ours, [x], call, dtype)
        compare(theirs, ours, [x[0], *(s[0] for s in states)], call, dtype)
    ours.double()
    with torch.no_grad():
        for a, b in zip(tensors(theirs(x)), tensors(ours(x)), strict=True):
            torch.testing.assert_close(a, b)


@pytest.fixture
def module_db(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What torch's suite runs. Its import would forbid this process to set torch's flags."""
    pytest.importorskip("expecttest")
    monkeypatch.setattr(torch.backends, "disable_global_flags", lambda: None)
    from torch.testing._internal.common_modules import module_db

    return module_db


@tiers.ci
def test_torchs_own_inputs(module_db: Any) -> None:
    """What torch's suite runs through its layers, gradients, gradgrad and strides included."""
    ran = 0
    for info in module_db:
        name = info.module_cls.__name__
        if name not in (*LAYERS, *CELLS) or info.module_cls is not getattr(torch.nn, name):
            continue
        for training in (True, False):
            for case in info.module_inputs_func(
                info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
            ):
                made, given = case.constructor_input, case.forward_input
                theirs, ours = twins(name, *made.args, **made.kwargs)
                assert repr(theirs) == repr(ours)
                theirs.train(training), ours.train(training)
                # Every second element of a wider tensor: nothing is contiguous.
                spread = torch.utils._pytree.tree_map_only(
                    torch.Tensor,
                    lambda t: t.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_(True),
                    (given.args, given.kwargs),
                )
                for args, kwargs in ((given.args, given.kwargs), spread):
                    with torch.backends.mkldnn.flags(enabled=False):
                        yt = [y for y in tensors(theirs(*args, **kwargs)) if y.requires_grad]
                    yo = [y for y in tensors(ours(*args, **kwargs)) if y.requires_grad]
                    wanted = [t for t in leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
                    wanted = [t for t in wanted if t.requires_grad and t.is_leaf]
                    for a, b in zip(yt, yo, strict=True):
                        torch.testing.assert_close(b, a, rtol=FLOAT64, atol=FLOAT64)
                    for own, results in ((theirs, yt), (ours, yo)):
                        sources = [*wanted, *own.parameters()]
                        loss = sum(y.square().sum() for y in results)
                        first = torch.autograd.grad(loss, sources, create_graph=True)
                        second = torch.autograd.grad(sum(g.square().sum() for g in first), sources)
                        if own is theirs:
                            expected = (*first, *second)
                        else:
                            torch.testing.assert_close(
                                (*first, *second), expected, rtol=SECOND_ORDER, atol=SECOND_ORDER
                            )
                ran += 1
    assert ran == 174


def test_torchs_own_bad_inputs(module_db: Any) -> None:
    """The same classes of error."""
    ran = 0
    for info in module_db:
        name = info.module_cls.__name__
        if name not in (*LAYERS, *CELLS) or info.module_error_inputs_func is None:
            continue
        for case in info.module_error_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=False, training=False
        ):
            made = case.module_error_input.constructor_input
            given = case.module_error_input.forward_input

            def attempt(made: Any = made, given: Any = given, name: str = name) -> None:
                getattr(ft, name)(*made.args, **made.kwargs)(*given.args, **given.kwargs)

            with pytest.raises(case.error_type) as raised:
                attempt()
            assert type(raised.value) is case.error_type
            ran += 1
    assert ran > 40


# ---- the module ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_same_initial_values_and_names(name: str) -> None:
    torch.manual_seed(5)
    theirs = getattr(torch.nn, name)(7, 9)
    after = torch.rand(3)
    torch.manual_seed(5)
    ours = getattr(ft, name)(7, 9)
    assert torch.equal(torch.rand(3), after)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)
    theirs.load_state_dict(ours.state_dict())
    assert repr(theirs) == repr(ours)


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_copies_and_pickles(name: str) -> None:
    layer = getattr(ft, name)(3, 4)
    x = torch.randn(2, 3)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (
        copy.deepcopy(layer),
        copy.copy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False),
    ):
        assert type(other) is type(layer)
        for a, b in zip(tensors(layer(x)), tensors(other(x)), strict=True):
            assert torch.equal(a, b)


def test_frozen_layers_keep_their_weights() -> None:
    layer = ft.GRU(3, 4)
    assert not layer.is_frozen
    x = torch.randn(5, 2, 3)
    before = layer(x)[0].detach()
    layer.freeze()
    assert layer.is_frozen
    with pytest.raises(RuntimeError, match=r"\[gru\] a frozen layer must be called under"):
        layer(x)
    with torch.no_grad():
        layer.weight_hh_l0.data.zero_()  # the one kind of write that nothing tells of
        assert torch.equal(layer(x)[0], before)
        assert not torch.equal(copy.deepcopy(layer)(x)[0], before)
        layer.freeze()
        now = layer(x)[0]
        assert not torch.equal(now, before)
        layer.load_state_dict({k: v * 0 for k, v in layer.state_dict().items()})
        assert torch.equal(layer(x)[0], torch.zeros_like(now))
        layer.double()
        assert layer(x.double())[0].dtype == torch.float64
        with pytest.raises(ValueError, match="x must be float64"):
            layer(x)
        xs = torch.stack([x, x]).double()
        several = torch.vmap(lambda x: layer(x)[0])(xs)
        assert torch.equal(several[1], layer(xs[1])[0])
    layer.unfreeze()
    assert not layer.is_frozen
    layer(x.double())
    with torch.device("meta"):
        nowhere = ft.RNN(3, 4)
    with pytest.raises(RuntimeError, match="to be frozen, got tensors of another kind"):
        nowhere.freeze()
    assert not nowhere.is_frozen


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # for which torch has no kernel
@pytest.mark.parametrize("compiled", [False, True])
def test_projections_run_on_the_engine(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as torch's own, and not step by step."""
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 2}
    theirs, ours = twins("LSTM", 3, 4, **options)
    torch._dynamo.reset()
    run_ours = torch.compile(ours, fullgraph=True, backend="aot_eager") if compiled else ours
    monkeypatch.setattr(_autograd._composite, "run", None)
    results = []
    for layer, call in ((theirs, theirs), (ours, run_ours)):
        x = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(5, 2, 3).requires_grad_()
        monkeypatch.setattr(torch._VF, "lstm", torch._VF.lstm if layer is theirs else None)
        y, (h, c) = call(x)
        (y.sin().sum() + c.sum()).backward()  # none of h
        results.append([y, h, c, x.grad, *(p.grad for p in layer.parameters())])
    for ours_, theirs_ in zip(*results[::-1], strict=True):
        assert_gradient(array(ours_), array(theirs_), "float64")


def test_projections_cannot_be_of_other_cells() -> None:
    with pytest.raises(NotImplementedError, match=r"\[gru\] proj_size must be 0"):
        fastrnn.Recurrent("gru", 3, 4, proj_size=2)
    with pytest.raises(ValueError, match=r"\[lstm\] proj_size must be at least 1"):
        fastrnn.LSTM(3, 4, proj_size=-1)
    with pytest.raises(TypeError, match=r"\[lstm\] proj_size must be an integer, got True"):
        fastrnn.LSTM(3, 4, proj_size=True)


def other_values(layer: Any) -> dict[str, Any]:
    return {k: torch.randn_like(v) for k, v in layer.named_parameters()}


def call_with_others(layer: Any, x: Any) -> Any:
    return torch.func.functional_call(layer, other_values(layer), (x,))


def new_parameter(layer: Any, x: Any) -> Any:
    layer.weight_hh_l0 = torch.nn.Parameter(torch.randn_like(layer.weight_hh_l0))
    return layer(x)


def new_data(layer: Any, x: Any) -> Any:
    """Twice, so that the memory of the first values could come back with the second ones."""
    for _ in range(2):
        layer.weight_hh_l0.data = torch.randn_like(layer.weight_hh_l0)
    return layer(x)


def in_place(layer: Any, x: Any) -> Any:
    layer.bias_ih_l0[2:5] += 1
    return layer(x)


def in_place_in_inference_mode(layer: Any, x: Any) -> Any:
    with torch.inference_mode():
        layer.weight_ih_l0.mul_(0.5)
        return layer(x)


def optimiser_step(layer: Any, x: Any) -> Any:
    for p in layer.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    return layer(x)


def pruned(layer: Any, x: Any) -> Any:
    from torch.nn.utils import prune

    prune.l1_unstructured(layer, "weight_hh_l0", 0.5)
    return layer(x)


def parametrised(layer: Any, x: Any) -> Any:
    class Double(torch.nn.Module):
        def forward(self, w: Any) -> Any:
            return 2 * w

    torch.nn.utils.parametrize.register_parametrization(layer, "weight_hh_l0", Double())
    return layer(x)


def loaded_by_assignment(layer: Any, x: Any) -> Any:
    layer.load_state_dict(other_values(layer), assign=True)
    return layer(x)


GIVEN = [
    call_with_others,
    new_parameter,
    new_data,
    in_place,
    in_place_in_inference_mode,
    optimiser_step,
    pruned,
    parametrised,
    loaded_by_assignment,
]


@pytest.mark.parametrize("change", GIVEN, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", LAYERS)
def test_frozen_layers_compute_with_what_they_are_given(name: str, change: Any) -> None:
    torch.manual_seed(2)
    frozen = getattr(ft, name)(3, 4, bidirectional=True)
    plain = copy.deepcopy(frozen)
    frozen.freeze()
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        before = frozen(x)[0]
        assert torch.equal(before, plain(x)[0])
        found = []
        for layer in (frozen, plain):
            torch.manual_seed(4)
            found.append(change(layer, x)[0])
        assert torch.equal(*found)
        assert not torch.equal(found[0], before)
        assert torch.equal(frozen(x)[0], plain(x)[0])


def test_frozen_layers_pack_what_was_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = ft.LSTM(3, 4), torch.randn(2, 3)
    packed = []
    pack = _engine.pack
    monkeypatch.setattr(_engine, "pack", lambda *a, **k: packed.append(1) or pack(*a, **k))
    with torch.no_grad():
        layer.freeze()
        layer(x), layer(x)
        assert len(packed) == 1
        layer.weight_ih_l0 += 1
        layer(x), layer(x)
        assert len(packed) == 2


def test_frozen_layers_give_gradients_of_other_parameters() -> None:
    layer, x = ft.GRU(3, 4), torch.randn(5, 2, 3)
    others = {k: v.requires_grad_() for k, v in other_values(layer).items()}
    wanted = torch.func.functional_call(layer, others, (x,))[0].sum()
    expected = torch.autograd.grad(wanted, list(others.values()))
    layer.freeze()
    loss = torch.func.functional_call(layer, others, (x,))[0].sum()
    for a, b in zip(torch.autograd.grad(loss, list(others.values())), expected, strict=True):
        assert torch.equal(a, b)


def test_frozen_tensors_of_inference_mode() -> None:
    with torch.inference_mode():
        layer, x = ft.RNN(3, 4), torch.randn(2, 3)
        expected = layer(x)[0]
        layer.freeze()
        assert torch.equal(layer(x)[0], expected)
        layer.weight_hh_l0 = torch.nn.Parameter(torch.zeros(4, 4))
        assert torch.equal(layer(x)[0], copy.deepcopy(layer)(x)[0])


@pytest.mark.parametrize("other", ["bfloat16", "meta", "float64", "half_loaded"])
def test_converting_a_frozen_model_is_all_or_nothing(other: str) -> None:
    model = torch.nn.ModuleList([ft.GRU(3, 4), ft.LSTM(3, 4), torch.nn.Linear(2, 2)])
    for layer in model[:2]:
        layer.freeze()
    if other == "half_loaded":  # one parameter of another dtype
        values = {k: v.double() for k, v in model.state_dict().items() if "weight_hh" in k}
        model.load_state_dict(values, strict=False, assign=True)
        assert not any(layer.is_frozen for layer in model[:2])
        return
    model.to(other if other == "meta" else getattr(torch, other))
    assert len({(p.dtype, p.device) for p in model.parameters()}) == 1
    assert all(layer.is_frozen == (other != "meta") for layer in model[:2])
    if other == "bfloat16":
        x = torch.randn(5, 2, 3).bfloat16()
        with torch.no_grad():
            assert torch.equal(model[0](x)[0], copy.deepcopy(model[0])(x)[0])


def test_frozen_layers_under_autocast() -> None:
    layer = ft.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = layer(x)[0]
        layer.freeze()
        assert torch.equal(layer(x)[0], expected)


def test_parameters_are_read_at_each_call() -> None:
    """No write goes unseen, through whatever door."""
    layer = ft.LSTM(3, 4)
    x = torch.randn(5, 2, 3)
    seen = []
    with torch.no_grad():
        for change in (
            lambda: None,
            lambda: layer.weight_ih_l0.data.add_(1),
            lambda: layer.weight_hh_l0.detach().numpy().__iadd__(1),
            lambda: setattr(layer, "bias_ih_l0", torch.nn.Parameter(torch.ones(16))),
        ):
            change()
            seen.append(layer(x)[0].clone())
    for a, b in itertools.pairwise(seen):
        assert not torch.equal(a, b)
    other = {k: torch.zeros_like(v) for k, v in layer.named_parameters()}
    y, _ = torch.func.functional_call(layer, other, (x,))
    assert torch.equal(y, torch.zeros_like(y))
    torch.nn.utils.parametrize.register_parametrization(layer, "weight_hh_l0", torch.nn.Identity())
    torch.testing.assert_close(layer(x)[0], seen[-1])


@pytest.mark.parametrize("name", LAYERS)
def test_meta_and_deferred_initialisation(name: str) -> None:
    with torch.device("meta"):
        layer = getattr(ft, name)(3, 4, bidirectional=True)
        y, state = layer(torch.empty(5, 2, 3))
    assert y.shape == (5, 2, 8)
    assert all(s.is_meta and s.shape == (2, 2, 4) for s in leaves(state))
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(torch.randn(5, 2, 3))[0].shape == (5, 2, 8)


@pytest.mark.parametrize("name", LAYERS)
def test_empty_sequences_and_batches(name: str) -> None:
    layer = getattr(ft, name)(3, 4, 2, bidirectional=True)
    for T, B in ((0, 2), (4, 0), (0, 0)):
        x = torch.randn(T, B, 3, requires_grad=True)
        y, state = layer(x)
        assert y.shape == (T, B, 8)
        (y.sum() + sum(s.sum() for s in leaves(state))).backward()
        assert x.grad.shape == x.shape
        assert all(torch.count_nonzero(p.grad) == 0 for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_narrow_floats(name: str, dtype: Any) -> None:
    """Sums, cell states and gradients of parameters are float32 inside."""
    layer = getattr(ft, name)(5, 8, dtype=dtype)
    wide = copy.deepcopy(layer).float()
    x, kind = torch.randn(3, 5, dtype=dtype), str(dtype).rpartition(".")[2]
    for a, b in zip(tensors(layer(x)), tensors(wide(x.float())), strict=True):
        assert a.dtype == dtype
        assert_output(array(a.float()), array(b), kind)
    tensors(layer(x))[0].sum().backward()
    tensors(wide(x.float()))[0].sum().backward()
    for p, q in zip(layer.parameters(), wide.parameters(), strict=True):
        assert p.grad.dtype == dtype
        assert_gradient(array(p.grad.float()), array(q.grad), kind)
    with pytest.raises((ValueError, RuntimeError), match="must be of one dtype"):
        layer(
            x, tuple(torch.zeros(1, 8) for _ in range(2)) if "LSTM" in name else torch.zeros(1, 8)
        )


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_autocast_gives_torchs_dtypes(name: str) -> None:
    theirs, ours = getattr(torch.nn, name)(5, 8), getattr(ft, name)(5, 8)
    x = torch.randn(3, 5) if "Cell" in name else torch.randn(4, 3, 5)
    given = x
    if name == "LSTM" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        # Torch's call fails: its oneDNN has that LSTM for processors with AVX-512 alone.
        theirs, given = theirs.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        a, b = tensors(theirs(given)), tensors(ours(x))
        assert [t.dtype for t in a] == [t.dtype for t in b]
        assert [t.dtype for t in tensors(ours(x.bfloat16()))] == [torch.bfloat16] * len(b)
    scaler = torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    scaler.scale(b[0].float().sum()).backward()
    before = [p.detach().clone() for p in ours.parameters()]
    scaler.step(optimizer)
    assert any(not torch.equal(p, q) for p, q in zip(before, ours.parameters(), strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        double = copy.deepcopy(ours).double()
        assert tensors(double(x.double()))[0].dtype == torch.float64


def test_threads_follow_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = fastrnn.get_num_threads()
    used = []
    native = _native.engine.pack_new
    monkeypatch.setattr(_native.engine, "pack_new", lambda *a: used.append(a[-1]) or native(*a))
    before = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            ft.GRU(3, 4)(torch.randn(2, 1, 3))
    finally:
        torch.set_num_threads(before)
    assert used == [1, 2]
    assert fastrnn.get_num_threads() == engines


def test_memory_goes_back() -> None:
    """Results over the engine's memory live as long as torch holds them, and no longer."""
    layer = ft.LSTM(64, 64)
    x = torch.randn(500, 8, 64)
    fastrnn.release_memory()
    y, _ = layer(x)
    kept = y[::100].clone()
    view = y[::100]
    del y
    gc.collect()
    assert torch.equal(view, kept)
    del view
    gc.collect()
    assert fastrnn.release_memory() > 0


def test_numpy_stands_in_for_the_exchange() -> None:
    """torch before 2.10 has no exchange by C calls: the same results through NumPy arrays."""
    code = """
import torch, fastrnn.torch as ft
from fastrnn.torch import _engine
torch.manual_seed(0)
layer = ft.LSTM(5, 6, 2, bidirectional=True)
x = torch.randn(7, 3, 5, requires_grad=True)
def results():
    y, (hn, cn) = layer(x, lengths=torch.tensor([7, 0, 4]))
    grads = torch.autograd.grad(y.sum() + cn.sum(), [x, *layer.parameters()])
    return [y, hn, cn, *grads]
first = results()
assert _engine.EXCHANGE == hasattr(torch.Tensor, "__dlpack_c_exchange_api__")
_engine.EXCHANGE = False
for a, b in zip(first, results(), strict=True):
    assert torch.equal(a, b)
"""
    run([sys.executable, "-c", code])


def test_tensors_of_the_host_need_no_cuda_engine() -> None:
    code = """
import sys, torch, fastrnn.torch as ft
layer = ft.LSTM(3, 4)
y, _ = layer(torch.randn(5, 2, 3))
y.sum().backward()
layer.freeze()
with torch.no_grad():
    layer(torch.randn(5, 2, 3))
assert not [name for name in sys.modules if name.startswith("fastrnn.cuda")]
"""
    run([sys.executable, "-c", code])


def test_torch_is_not_imported_with_fastrnn() -> None:
    run([sys.executable, "-c", "import sys, fastrnn; assert 'torch' not in sys.modules"])
    code = "import sys; sys.modules['torch'] = None; import fastrnn.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'fastrnn[torch]'" in done.stderr


# ---- accelerate ----------------------------------------------------------------------------------


class Own(torch.nn.LSTM):
    """A layer with a mind of its own."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        return torch.nn.LSTM.forward(self, -input, hx)


def model() -> Any:
    torch.manual_seed(3)
    return torch.nn.ModuleDict(
        {
            "embed": torch.nn.Embedding(10, 6),
            "lstm": torch.nn.LSTM(6, 8, 2, batch_first=True, dropout=0.2),
            "inner": torch.nn.Sequential(torch.nn.GRU(8, 5), torch.nn.Identity()),
            "cell": torch.nn.LSTMCell(4, 4),
            "own": Own(3, 3),
        }
    )


def test_accelerate_and_restore() -> None:
    net = model()
    parameters = dict(net.named_parameters())
    hooks = []
    net["lstm"].register_forward_hook(lambda *_: hooks.append(1))
    report = ft.accelerate(net)
    assert report.changed == {
        "lstm": "fastrnn.torch.LSTM",
        "inner.0": "fastrnn.torch.GRU",
        "cell": "fastrnn.torch.LSTMCell",
    }
    assert list(report.kept) == ["own"]
    assert "lstm: now fastrnn.torch.LSTM" in str(report)
    assert "own: kept, Own has a forward that does not call super().forward" in str(report)
    assert all(p is parameters[name] for name, p in net.named_parameters())
    x = torch.randn(2, 7, 6)
    torch.manual_seed(1)
    ours = net["lstm"](x)
    assert hooks == [1]
    net["lstm"].recompute = 3
    net["cell"].train()
    report = ft.restore(net)
    assert report.changed["lstm"] == "torch.nn.LSTM"
    assert repr(net) == repr(model())
    assert vars(net["lstm"]).keys() == vars(model()["lstm"]).keys()
    torch.manual_seed(1)
    for a, b in zip(tensors(ours), tensors(net["lstm"](x)), strict=True):
        torch.testing.assert_close(a, b)
    root = torch.nn.GRU(3, 4)
    assert ft.accelerate(root).changed == {"": "fastrnn.torch.GRU"}
    assert str(ft.accelerate(torch.nn.Linear(2, 2))) == "no recurrent layers"
    with pytest.raises(TypeError, match=r"\[accelerate\] model must be a torch.nn.Module"):
        ft.accelerate([root])


def test_accelerate_keeps_what_has_no_engine() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        net = torch.nn.GRUCell(3, 4)
        net.weight_ih = torch.nn.Parameter(torch.empty(12, 3, device="xpu"))
        report = ft.accelerate(net)
    assert report.changed == {}
    assert report.kept[""] == "its parameters are on xpu:0: no engine for this device"
    assert type(net) is torch.nn.GRUCell


def test_optimizers_go_on_over_accelerate() -> None:
    """Made before the swap, with their own state: the same training as without it."""

    def train(swap: bool) -> list[Any]:
        torch.manual_seed(0)
        layer = torch.nn.GRU(4, 6, dtype=torch.float64)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
        x = torch.randn(5, 3, 4, dtype=torch.float64)
        for step in range(8):
            if swap and step == 3:
                ft.accelerate(layer)
            if swap and step == 6:
                ft.restore(layer)
            optimizer.zero_grad()
            (layer(x)[0] - 1).square().mean().backward()
            optimizer.step()
        return list(layer.parameters())

    for a, b in zip(train(True), train(False), strict=True):
        torch.testing.assert_close(a, b, rtol=FLOAT64, atol=FLOAT64)


# ---- bad input -----------------------------------------------------------------------------------

X = torch.randn(5, 2, 3)


@pytest.mark.parametrize(
    ("given", "options", "error", "text"),
    [
        (X.double(), {}, ValueError, "x must be float32"),
        (X.int(), {}, ValueError, "x must be float32.*int32"),
        (X.to(torch.complex64), {}, ValueError, "x must be float32.*complex64"),
        (X[None], {}, ValueError, "x must have shape"),
        (X[0, 0], {}, ValueError, "x must have shape"),
        (X[..., :2], {}, RuntimeError, "x must have 3 features"),
        (X.numpy(), {}, TypeError, "input must be a tensor, got ndarray"),
        (None, {}, TypeError, "input must be a tensor, got NoneType"),
        (X, {"lengths": [1, 2]}, TypeError, "lengths must be a tensor, got list"),
        (X, {"lengths": torch.tensor([1, 6])}, RuntimeError, r"lengths must be within 0\.\.5"),
        (X, {"lengths": torch.tensor([1.0, 2.0])}, ValueError, "lengths must be integers"),
        (X, {"lengths": torch.tensor([1])}, RuntimeError, r"lengths must have shape \(2,\)"),
        (X, {"resets": torch.zeros(5, 2)}, ValueError, "resets must be bool"),
        (X, {"resets": torch.zeros(2, 5).bool()}, RuntimeError, "resets must have shape"),
        (X, {"recurrent_masks": [1.0]}, TypeError, "recurrent_masks must be a tensor, got list"),
        (X, {"recurrent_masks": torch.ones(1, 2, 4).double()}, ValueError, "masks must be float32"),
        (
            X,
            {"recurrent_masks": torch.ones(2, 4)},
            RuntimeError,
            r"masks must have shape \(1, 2, 4",
        ),
        (X, {"recurrent_masks": torch.ones(1, 3, 2, 4)}, RuntimeError, r"shape \(1, 4, 2, 4\)"),
        (X, {"hx": torch.zeros(1, 2, 4)}, TypeError, "hx must be a tuple of 2 tensors"),
        (X, {"hx": (torch.zeros(1, 2, 4),)}, TypeError, "hx must be a tuple of 2 .* got 1 values"),
        (X, {"hx": (torch.zeros(1, 2, 4), 0)}, TypeError, "hx must be a tensor, got int"),
        (X, {"hx": (torch.zeros(1, 2, 4), torch.zeros(1, 2, 5))}, RuntimeError, "c0 must have"),
        (X, {"hx": (torch.zeros(2, 4), torch.zeros(2, 4))}, RuntimeError, "h0 must have shape"),
        (
            X,
            {"hx": (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4).double())},
            ValueError,
            "c0 must be float32",
        ),
        (X.to_sparse(), {}, (RuntimeError, ValueError), "x|[Ss]parse"),
        (X.to("meta"), {}, RuntimeError, "meta"),
    ],
)
def test_bad_calls(given: Any, options: Any, error: Any, text: str) -> None:
    layer = ft.LSTM(3, 4)
    for context in (torch.no_grad(), torch.enable_grad()):
        with context, pytest.raises(error, match=text):
            layer(given, **options)


def test_recurrent_masks_have_no_gradient() -> None:
    """One that is wanted is refused, rather than left out."""
    layer, masks = ft.LSTM(3, 4), torch.ones(1, 2, 4, requires_grad=True)
    with pytest.raises(NotImplementedError, match=r"^\[lstm\] recurrent_masks must not require"):
        layer(X, recurrent_masks=masks)
    with torch.no_grad():
        assert torch.equal(layer(X, recurrent_masks=masks)[0], layer(X)[0])


@pytest.mark.parametrize("batch_first", [False, True])
def test_bad_ranks_with_dropout(batch_first: bool) -> None:
    layer = ft.LSTM(3, 4, 2, dropout=0.5, batch_first=batch_first)
    for x in (torch.tensor(1.0), torch.randn(3), torch.randn(2, 2, 2, 3)):
        with pytest.raises(ValueError, match="x must have shape"):
            layer(x)


def test_bad_arguments_of_constructors() -> None:
    for make in (
        lambda: ft.GRU(3, 4, proj_size=2),
        lambda: ft.RNN(3, 4, nonlinearity="sine"),
        lambda: ft.LSTM(3, 4, dropout=2.0),
        lambda: ft.LSTM(3, 4, proj_size=4),
        lambda: ft.LSTM(3, 4, recompute=-1),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            make()
    with pytest.warns(UserWarning, match="dropout option adds dropout"):
        ft.LSTM(3, 4, dropout=0.5)


def test_foreign_parameters() -> None:
    x = torch.randn(5, 2, 3)
    layer = ft.LSTM(3, 4)
    layer.weight_hh_l0 = torch.nn.Parameter(torch.zeros(16, 5))
    with pytest.raises(RuntimeError, match=r"weight_(hh|ih)_l0"):
        layer(x)
    layer = ft.LSTM(3, 4)
    layer.weight_ih_l0.data = torch.zeros(16, 7)
    with pytest.raises(RuntimeError, match="x must have 7 features"):
        layer(x)
    layer = ft.LSTM(3, 4)
    layer.bias_ih_l0.data = torch.zeros(16, dtype=torch.float64)
    with pytest.raises(ValueError, match="bias_ih_l0 must be float32"):
        layer(x)


def test_negated_views_are_not_read_as_they_lie() -> None:
    z = torch.randn(5, 2, 3, dtype=torch.complex64)
    negated = z.conj().imag
    assert negated.is_neg()
    layer = ft.GRU(3, 4)
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            torch.testing.assert_close(layer(negated)[0], layer(negated.resolve_neg())[0])


def test_tensors_without_memory() -> None:
    """Zeros that torch does not store, as its forward mode makes them."""
    zeros = torch._efficientzerotensor((5, 2, 3))
    with torch.no_grad(), pytest.raises(ValueError, match="x must be a dense tensor"):
        ft.GRU(3, 4)(zeros)


def test_tensors_changed_between_forward_and_backward() -> None:
    for change in ("x", "y", "weight"):
        layer = ft.LSTM(3, 4)
        x = torch.randn(5, 2, 3, requires_grad=True)
        given = x * 1
        y, _ = layer(given)
        with torch.no_grad():
            {"x": given, "y": y, "weight": layer.weight_hh_l0}[change].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_packed_sequences_of_the_wrong_kind() -> None:
    Packed = torch.nn.utils.rnn.PackedSequence
    layer = ft.LSTM(3, 4)
    data = torch.randn(5, 3)
    for packed, text in (
        (Packed(data, torch.tensor([2, 2])), "add up to its 5 rows"),
        (Packed(data, torch.tensor([2, 3])), "must fall"),
        (Packed(data, torch.tensor([5, 0])), "at least 1"),
        (Packed(data[:, :2], torch.tensor([3, 2])), "x must have 3 features"),
        (Packed(data[0], torch.tensor([3])), "must have 2 dimensions"),
        (Packed(data, torch.tensor([3, 2]), torch.tensor([0, 1])), r"must have shape \(3,\)"),
    ):
        with pytest.raises(RuntimeError, match=text):
            layer(packed)
    rows = torch.nn.utils.rnn.pack_sequence([data, data[:2]], enforce_sorted=False)
    for shape in ((1, 3, 4), (1, 4)):
        with pytest.raises(RuntimeError, match="hx must have 2 rows"):
            layer(rows, (torch.zeros(shape), torch.zeros(shape)))
    good = Packed(data, torch.tensor([3, 2]))
    with pytest.raises(ValueError, match="without lengths, resets and holds"):
        layer(good, lengths=torch.tensor([2, 2, 1]))
    assert layer(good)[0].batch_sizes is good.batch_sizes


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("option", ["bias", "batch_first", "bidirectional"])
def test_options_that_are_neither_true_nor_false(name: str, option: str) -> None:
    make = getattr(ft, name)
    for value in (np.array([1.0, 1.0]), "yes", 2.0, None):
        with pytest.raises(TypeError, match=rf"\[{name.lower()}\] {option} must be True or False"):
            make(3, 4, **{option: value})
    assert getattr(make(3, 4, **{option: True}), option)


def test_other_devices_name_the_missing_engine() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    call = ft.GRU(3, 4)._call()
    for device in ("mps:0", "cuda:1") if not fastrnn.cuda.is_available() else ("mps:0",):
        with pytest.raises(RuntimeError, match=rf"\[gru\] tensors must be on .*, got {device}"):
            _engine.for_device(call, torch.device(device))
    with FakeTensorMode():
        y, _ = ft.GRU(3, 4)(torch.empty(5, 2, 3))
        assert y.shape == (5, 2, 4)


def test_results_do_not_share_memory() -> None:
    layer = ft.GRU(3, 4)
    y, hn = layer(torch.randn(1, 2, 3))
    assert y.untyped_storage().data_ptr() != hn.untyped_storage().data_ptr()


def test_profiler_sees_the_operators() -> None:
    layer = ft.GRU(3, 4)
    with torch.profiler.profile() as profile:
        layer(torch.randn(5, 2, 3))[0].sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {"fastrnn::forward", "fastrnn::backward"} <= names
    assert _autograd.needs_composite() is False
