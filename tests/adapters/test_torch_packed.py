"""`fastrnn.torch` with a PackedSequence: its rows stay packed from x to dx; and packed tapes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_sequence  # noqa: E402

import fastrnn.torch  # noqa: E402
from apart import in_new_process  # noqa: E402
from fastrnn.torch import _engine, _packed  # noqa: E402
from tolerances import gradient, relative  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN"),
]

NAMES = ("RNN", "LSTM", "GRU", "LSTM proj_size=3")
LENGTHS = ([5, 3, 7, 1, 7], [4], [3, 3, 3], [9, *[1] * 6])


def layer_of(name: str, *sizes: int, library: Any = fastrnn.torch, **options: Any) -> Any:
    torch.manual_seed(0)
    kind, _, projection = name.partition(" proj_size=")
    if projection:
        options["proj_size"] = int(projection)
    return getattr(library, kind)(*sizes, dtype=torch.float64, **options)


def rows_of(lengths: Sequence[int], inputs: int) -> list[Tensor]:
    made = torch.Generator().manual_seed(1)
    return [
        torch.randn(n, inputs, dtype=torch.float64, generator=made).requires_grad_()
        for n in lengths
    ]


def state_of(layer: Any, rows: int) -> Any:
    passes = layer.num_layers * (2 if layer.bidirectional else 1)
    made = torch.Generator().manual_seed(2)
    widths = [layer.proj_size or layer.hidden_size, layer.hidden_size]
    states = [
        torch.randn(passes, rows, width, dtype=torch.float64, generator=made)
        for width in widths[: 2 if layer.mode == "LSTM" else 1]
    ]
    leaves = tuple(s.requires_grad_() for s in states)
    return leaves if len(leaves) == 2 else leaves[0]


def flat(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def loss_of(y: Tensor, state: Any) -> Tensor:
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    return (y * weights).sum() + sum((s * s).sum() for s in flat(state))


def everything(layer: Any, lengths: Sequence[int]) -> list[Tensor]:
    """Results and gradients of a step with rows in this order."""
    rows, state = rows_of(lengths, layer.input_size), state_of(layer, len(lengths))
    y, final = layer(pack_sequence(rows, enforce_sorted=False), state)
    loss_of(y.data, final).backward()
    leaves = [*rows, *flat(state), *layer.parameters()]
    return [y.data, *flat(final), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("gates", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_recurrent_masks_are_in_the_callers_order(name: str, gates: bool) -> None:
    lengths = LENGTHS[0]
    layer = layer_of(name, 6, 17, 2, bidirectional=True)
    P = layer.proj_size or 17
    per_gate = (len(layer.weight_hh_l0) // 17,) if gates else ()
    masks = torch.rand(4, *per_gate, len(lengths), P, dtype=torch.float64)
    rows = rows_of(lengths, 6)
    packed = pack_sequence(rows, enforce_sorted=False)
    found = []
    for given in (packed, torch.nn.utils.rnn.pad_sequence(rows)):
        ragged = {} if given is packed else {"lengths": torch.tensor(lengths)}
        y, final = layer(given, recurrent_masks=masks, **ragged)
        y = torch.nn.utils.rnn.pad_packed_sequence(y)[0] if given is packed else y
        gradients = torch.autograd.grad(loss_of(y, final), [*rows, *layer.parameters()])
        found.append([y, *flat(final), *gradients])
    for a, b in zip(*found, strict=True):
        assert relative(a.detach().numpy(), b.detach().numpy()) <= gradient("float64")
    with pytest.raises(RuntimeError, match=r"recurrent_masks must have 5 rows .* got \(4, 4, 17\)"):
        layer(packed, recurrent_masks=torch.rand(4, 4, 17, dtype=torch.float64))


@pytest.fixture
def _never_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError("rows were padded")

    monkeypatch.setattr(_packed, "pad", refuse)


@pytest.mark.usefixtures("_never_padded")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_numbers_are_torchs(name: str, lengths: list[int]) -> None:
    for L, D, recompute in itertools.product((1, 2), (False, True), (0, 1, 3)):
        ours = layer_of(name, 6, 17, L, bidirectional=D, recompute=recompute)
        theirs = layer_of(name, 6, 17, L, bidirectional=D, library=torch.nn)
        for a, b in zip(everything(ours, lengths), everything(theirs, lengths), strict=True):
            assert relative(a.detach().numpy(), b.detach().numpy(), 1.0) <= gradient("float64")


@pytest.mark.parametrize("name", NAMES)
def test_packed_and_padded_have_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of(name, 6, 17, 2, bidirectional=True, dropout=0.4)
    results = []
    for packs in (True, False):
        monkeypatch.setattr("fastrnn.torch._recurrent.takes_packed", lambda inputs, p=packs: p)
        layer.zero_grad()
        torch.manual_seed(3)  # of the masks
        results.append([a.clone() for a in everything(layer, [5, 3, 7, 1, 7])])
    assert all(map(torch.equal, *results))


@pytest.mark.usefixtures("_never_padded")
def test_without_gradients_frozen_and_in_place() -> None:
    layer = layer_of("GRU", 6, 17, 2)
    rows = pack_sequence([row.detach() for row in rows_of([5, 2, 6], 6)], enforce_sorted=False)
    y, hn = layer(rows)
    before = y.data.detach().clone()
    with torch.no_grad():
        layer.freeze()
        assert torch.equal(layer(rows)[0].data, before)
        layer.unfreeze()
    loss = loss_of(y.data + 0, hn)
    y.data.mul_(2)  # made once more, of the packed inputs
    loss.backward()
    written = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    y, hn = layer(rows)
    loss_of(y.data, hn).backward()
    assert all(map(torch.allclose, written, (p.grad for p in layer.parameters())))


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_of_second_order_and_forward_mode(name: str) -> None:
    layer = layer_of(name, 3, 4, 2, bidirectional=True)
    sizes = torch.tensor([3, 2, 2, 1])

    def run(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        given = {"weight_hh_l0": weight}
        y, state = torch.func.functional_call(layer, given, (PackedSequence(x, sizes),))
        return (y.data, *flat(state))

    x = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    inputs = (x, layer.weight_hh_l0)
    torch.autograd.gradcheck(run, inputs, check_batched_grad=True)
    torch.autograd.gradgradcheck(run, inputs)
    tangents = tuple(torch.randn_like(a) for a in inputs)
    with torch.autograd.forward_ad.dual_level():
        duals = map(torch.autograd.forward_ad.make_dual, inputs, tangents)
        ours = [torch.autograd.forward_ad.unpack_dual(r).tangent for r in run(*duals)]
    theirs = torch.autograd.functional.jvp(run, inputs, tangents)[1]
    assert all(map(torch.allclose, ours, theirs))


def test_transforms_and_narrow_dtypes() -> None:
    layer = layer_of("LSTM", 3, 4).float()
    sizes = torch.tensor([3, 2, 1])

    def run(x: Tensor) -> Tensor:
        return layer(PackedSequence(x, sizes))[0].data

    xs = torch.randn(2, 6, 3)
    assert torch.equal(torch.func.vmap(run)(xs), torch.stack([run(x) for x in xs]))
    assert torch.func.grad(lambda x: run(x).sum())(xs[0]).shape == (6, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y = run(xs[0])
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.float(), run(xs[0]), atol=0.02)


def test_profilers_and_modes_see_the_same_numbers() -> None:
    layer = layer_of("GRU", 3, 4)
    rows = rows_of([3, 1], 3)
    wanted = everything(layer, [3, 1])
    with torch.profiler.profile(profile_memory=True):
        layer.zero_grad()
        assert all(map(torch.equal, everything(layer, [3, 1]), wanted))
    y, _ = layer(pack_sequence(rows))
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        y.data.sum().backward()
    assert counter.get_total_flops() > 0
    with torch.utils.flop_counter.FlopCounterMode(display=False):
        assert torch.equal(layer(pack_sequence(rows))[0].data, y.data)
    with pytest.raises(NotImplementedError, match="tensors without values"):
        torch.ops.fastrnn.layer(
            torch.empty(4, 3, device="meta", dtype=torch.float64), None, None, [], [],
            [p.to("meta") for p in layer.parameters()], "gru", 1, 1, False, 0, False, None, False,
            torch.empty(3, device="meta", dtype=torch.int64),
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at it
def test_compiled_code_pads() -> None:
    layer = layer_of("LSTM", 3, 4)
    rows = [row.detach() for row in rows_of([5, 2], 3)]

    def run(*rows: Tensor) -> Tensor:
        return layer(pack_sequence(rows))[0].data

    assert torch.allclose(torch.compile(run, backend="aot_eager")(*rows), run(*rows))


def tapes_of(monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]) -> list[list[int]]:
    """Shapes of the tapes that a call makes."""
    shapes: list[Any] = []
    forward = _engine.forward

    def looked_at(*args: Any) -> Any:
        results = forward(*args)
        shapes.extend(list(a.shape) for a in results[-3:])
        return results

    monkeypatch.setattr(_engine, "forward", looked_at)
    call()
    return shapes


def test_tapes_of_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of("LSTM", 3, 4, 2)
    x = torch.randn(9, 3, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([9, 0, 2])
    eager = tapes_of(monkeypatch, lambda: layer(x, lengths=lengths)[0].sum().backward())
    assert eager == [[1, 11, 4], [1, 2, 1, 11, 4], [2, 1, 11, 4, 4]]
    # Calls of vmap are stacked, whatever their lengths; so are cells, by time.
    several = torch.tensor([[9, 0, 2], [1, 2, 3]])
    whole = [[1, 9, 3, 4], [1, 2, 1, 9, 3, 4], [2, 1, 9, 3, 4, 4]]

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        return layer(x, lengths=lengths)[0]

    batch = torch.vmap(run, (None, 0))
    assert tapes_of(monkeypatch, lambda: batch(x, several).sum().backward()) == whole * 2
    assert torch.equal(batch(x, several)[1], run(x, several[1]))
    cells = tapes_of(monkeypatch, lambda: layer(x, lengths=lengths, return_cells=True))
    assert cells == whole
    with torch.profiler.profile():
        recorded = tapes_of(monkeypatch, lambda: run(x, lengths))
    assert recorded == whole


def peak_of_a_step(T: int, B: int, I: int, H: int) -> int:
    from bench.memory import reset_peak, resident

    torch.set_num_threads(1)
    layer = fastrnn.torch.LSTM(I, H)
    sizes = torch.ones(T, dtype=torch.int64)
    sizes[:2] = B
    x = torch.randn(int(sizes.sum()), I, requires_grad=True)
    layer(torch.randn(2, 2, I))[0].sum().backward()
    start = reset_peak()
    layer(PackedSequence(x, sizes))[0].data.sum().backward()
    return resident("VmHWM") - start


@pytest.mark.parametrize(("T", "B", "I", "H"), [(600, 256, 64, 128), (1000, 2000, 16, 16)])
def test_memory_goes_with_the_rows(T: int, B: int, I: int, H: int) -> None:
    """A padded tape would take 393 and 768 MB."""
    assert in_new_process(peak_of_a_step, T, B, I, H) < 32e6
