"""Parameters: owned, versioned, never stale when packed; copies, pickles, seeds, dropout."""

from __future__ import annotations

import copy
import io
import json
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fastrnn
from cases import flat_state
from fastrnn import _engine, _native, functional, training

f32 = np.float32
LAYERS = [fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN]
CELLS = [fastrnn.LSTMCell, fastrnn.GRUCell, fastrnn.RNNCell]
layers = pytest.mark.parametrize("make", LAYERS)
layers_and_cells = pytest.mark.parametrize("make", LAYERS + CELLS)


def x_for(module: Any, seed: int = 0) -> np.ndarray:
    shape = (2, module.input_size) if type(module) in CELLS else (3, 2, module.input_size)
    return np.random.default_rng(seed).standard_normal(shape).astype(f32)


def outcome(module: Any) -> list[bytes]:
    """All that a module computes from one fixed input, with its gradients."""
    x = x_for(module)
    if type(module) in CELLS:
        state, tape = module.forward(x)
        dx, dstate, grads = module.backward(tape, state)
        results = [*flat_state(module(x)), *flat_state(state)]
    else:
        y, state = module(x)
        y2, _, tape = module.forward(x)
        dx, dstate, grads = module.backward(tape, y2, state)
        results = [y, *flat_state(state), y2]
    return [a.tobytes() for a in (*results, dx, *flat_state(dstate), *grads.values())]


def same(a: Any, b: Any) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


def rebuilt(module: Any) -> Any:
    """A new module with the same parameters, which has never packed others."""
    if type(module) in CELLS:
        fresh = type(module)(module.input_size, module.hidden_size, seed=77)
    else:
        fresh = type(module)(
            module.input_size,
            module.hidden_size,
            module.num_layers,
            bidirectional=module.bidirectional,
            seed=77,
        )
    fresh.load_state_dict(module.state_dict())
    return fresh


# ---- parameters ----------------------------------------------------------------------------------


@layers_and_cells
def test_parameters_are_read_only(make: Any) -> None:
    module = make(4, 6)
    before = module.state_dict()
    for name, a in module.parameters.items():
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            a.flags.writeable = True
        with pytest.raises(TypeError):
            module.parameters[name] = a
    with pytest.raises(AttributeError):
        module.parameters = {}
    with pytest.raises(AttributeError):
        module.version = 9
    assert same(module.parameters, before)
    assert module.version == 0


@layers_and_cells
def test_parameters_are_views(make: Any) -> None:
    """What was handed out before a change shows it."""
    module = make(4, 6)
    held = module.parameters
    with module.mutable() as p:
        for a in p.values():
            a[...] = 3
    assert all((a == 3).all() for a in held.values())
    assert list(held) == list(module.state_dict())


def test_names_and_shapes_are_those_of_torch() -> None:
    layer = fastrnn.GRU(4, 6, 2, bidirectional=True)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    assert list(layer.parameters) == [kind + suffix for suffix in suffixes for kind in kinds]
    assert layer.parameters["weight_ih_l0"].shape == (18, 4)
    assert layer.parameters["weight_ih_l1_reverse"].shape == (18, 12)
    assert layer.parameters["weight_hh_l1"].shape == (18, 6)
    assert layer.parameters["bias_hh_l0"].shape == (18,)
    assert list(fastrnn.LSTM(4, 6, bias=False).parameters) == ["weight_ih_l0", "weight_hh_l0"]
    cell = fastrnn.LSTMCell(4, 6)
    assert {name: a.shape for name, a in cell.parameters.items()} == {
        "weight_ih": (24, 4),
        "weight_hh": (24, 6),
        "bias_ih": (24,),
        "bias_hh": (24,),
    }


# ---- mutable -------------------------------------------------------------------------------------


@layers_and_cells
def test_mutable(make: Any) -> None:
    module = make(4, 6)
    assert module.version == 0
    with module.mutable() as p:
        assert list(p) == list(module.parameters)
        for name, a in p.items():
            a[...] = len(name)
    assert module.version > 0
    assert all((a == len(name)).all() for name, a in module.state_dict().items())
    for a in p.values():
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            a.flags.writeable = True


@layers_and_cells
def test_arrays_cannot_be_replaced(make: Any) -> None:
    module = make(4, 6)
    before = module.state_dict()
    with module.mutable() as p:
        for name in list(p):
            with pytest.raises(TypeError):
                p[name] = np.zeros_like(p[name])
            with pytest.raises(TypeError):
                del p[name]
    assert same(module.parameters, before)


@layers_and_cells
def test_version_rises_when_a_block_raises(make: Any) -> None:
    module = make(4, 6)
    outcome(module)
    held: list[np.ndarray] = []

    def fail() -> None:
        with module.mutable() as p:
            held.extend(p.values())
            held[0][...] = 2
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert module.version > 0
    for a in held:
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 0
    assert outcome(module) == outcome(rebuilt(module))


@layers_and_cells
def test_version_rises_with_every_block(make: Any) -> None:
    module, seen = make(4, 6), [0]
    for _ in range(3):
        with module.mutable():
            pass
        seen.append(module.version)
    module.load_state_dict(module.state_dict())
    seen.append(module.version)
    assert seen == sorted(set(seen))


def test_nested_blocks() -> None:
    layer = fastrnn.GRU(4, 6)
    with layer.mutable() as outer:
        with layer.mutable() as inner:
            inner["bias_ih_l0"][...] = 1
        with pytest.raises(ValueError, match="read-only"):
            inner["bias_ih_l0"][...] = 0
        for value in (3, 2):  # the outer block goes on
            outer["bias_hh_l0"][...] = value
            x = x_for(layer)
            assert layer(x)[0].tobytes() == rebuilt(layer)(x)[0].tobytes()
    state = layer.state_dict()
    assert (state["bias_ih_l0"] == 1).all()
    assert (state["bias_hh_l0"] == 2).all()
    assert outcome(layer) == outcome(rebuilt(layer))


def test_blocks_in_two_threads() -> None:
    """The end of one block does not end another."""
    layer = fastrnn.GRU(4, 6)
    opened, closed = threading.Event(), threading.Event()

    def other() -> None:
        with layer.mutable():
            opened.set()
        closed.set()

    with layer.mutable() as p:
        thread = threading.Thread(target=other)
        thread.start()
        assert opened.wait(10)
        assert closed.wait(10)
        thread.join()
        p["bias_ih_l0"][...] = 5
    assert (layer.parameters["bias_ih_l0"] == 5).all()


# ---- packed weights are never stale --------------------------------------------------------------


def by_mutable(module: Any) -> None:
    with module.mutable() as p:
        for a in p.values():
            a *= -0.5


def by_one_element(module: Any) -> None:
    with module.mutable() as p:
        list(p.values())[-1].reshape(-1)[-1] += 1


def by_nested_blocks(module: Any) -> None:
    with module.mutable() as p, module.mutable() as q:
        next(iter(p.values()))[...] += 1
        list(q.values())[-1][...] -= 1


def by_loading(module: Any) -> None:
    module.load_state_dict({name: a + 1 for name, a in module.state_dict().items()})


def by_sgd(module: Any) -> None:
    training.SGD([module], lr=0.5, momentum=0.9).step([module.state_dict()])


def by_adam(module: Any) -> None:
    training.Adam([module], lr=0.5).step([module.state_dict()])


WAYS = [by_mutable, by_one_element, by_nested_blocks, by_loading, by_sgd, by_adam]


@pytest.mark.parametrize("change", WAYS, ids=lambda way: way.__name__)
@layers_and_cells
def test_every_way_of_change_is_seen(make: Any, change: Callable[[Any], None]) -> None:
    module = make(4, 6, seed=1)
    last = outcome(module)  # packs for both directions
    for _ in range(3):
        change(module)
        new = outcome(module)
        assert new != last
        assert new == outcome(rebuilt(module))
        last = new


@layers
def test_calls_inside_a_block_see_what_is_written(make: Any) -> None:
    """As a check by finite differences does: write, call, write, call."""
    layer = make(4, 6, seed=1)
    x = x_for(layer)
    layer(x)
    with layer.mutable() as p:
        for value in (0.5, 0.25):
            p["weight_hh_l0"][...] = value
            wanted = rebuilt(layer)(x)[0].tobytes()
            assert layer(x)[0].tobytes() == wanted
            assert layer.forward(x)[0].tobytes() == wanted
    assert outcome(layer) == outcome(rebuilt(layer))


@layers_and_cells
def test_backward_waits_for_the_end_of_a_block(make: Any) -> None:
    """Whether a tape is older than what is being written cannot be known."""
    module = make(4, 6, seed=1)
    x = x_for(module)
    *_, before = module.forward(x)
    dy = None if make in CELLS else before.y
    with module.mutable():
        *_, inside = module.forward(x)
        for tape in (before, inside):
            with pytest.raises(ValueError, match=r"must not be open for writing, got mutable\(\)"):
                module.backward(tape, dy)
    for tape in (before, inside):
        with pytest.raises(ValueError, match="as new as the parameters"):
            module.backward(tape, dy)


def test_backward_packs_the_weights_of_its_forward() -> None:
    """Called for the first time after a change, backward must not meet the old weights."""
    layer = fastrnn.LSTM(4, 6, seed=1)
    x = x_for(layer)
    layer(x)  # packs for forward only
    by_mutable(layer)
    assert outcome(layer) == outcome(rebuilt(layer))


def test_loads_while_others_call() -> None:
    """In the end the last parameters count, whatever was packed on the way."""
    layer = fastrnn.LSTM(24, 40, seed=1)
    x = np.ones((2, 3, 24), f32)
    states = [fastrnn.LSTM(24, 40, seed=seed).state_dict() for seed in range(5)]
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            layer(x)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for state in states * 20:
            layer.load_state_dict(state)
            fresh = fastrnn.LSTM(24, 40)
            fresh.load_state_dict(state)
            assert layer(x)[0].tobytes() == fresh(x)[0].tobytes()
    finally:
        done.set()
        for thread in threads:
            thread.join()


# ---- state_dict ----------------------------------------------------------------------------------


@layers_and_cells
def test_state_dict_is_a_copy(make: Any) -> None:
    module = make(4, 6)
    before, state = outcome(module), module.state_dict()
    for a in state.values():
        assert a.flags.writeable
        a[...] = 9
    state.clear()
    assert outcome(module) == before
    assert module.version == 0


@layers_and_cells
def test_loaded_arrays_are_copied(make: Any) -> None:
    module = make(4, 6)
    state = {name: a + 1 for name, a in module.state_dict().items()}
    module.load_state_dict(state)
    loaded = outcome(module)
    for a in state.values():
        a[...] = 9
    assert outcome(module) == loaded


@layers_and_cells
@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4", ">f8", "longdouble"])
def test_load_converts_floats(make: Any, dtype: str) -> None:
    module, other = make(4, 6, seed=1), make(4, 6, seed=2)
    state = {name: a.astype(dtype) for name, a in other.state_dict().items()}
    module.load_state_dict(state)
    assert same(module.parameters, {name: a.astype(f32) for name, a in state.items()})
    assert all(a.dtype == f32 for a in module.parameters.values())


def test_load_from_lists_strides_and_npz() -> None:
    module, other = fastrnn.LSTM(4, 6, seed=1), fastrnn.LSTM(4, 6, seed=2)
    wanted = other.state_dict()
    module.load_state_dict({name: a.tolist() for name, a in wanted.items()})
    assert same(module.parameters, wanted)
    module.load_state_dict({name: np.asfortranarray(a) for name, a in wanted.items()})
    assert same(module.parameters, wanted)
    file = io.BytesIO()
    np.savez(file, **wanted)
    file.seek(0)
    module = fastrnn.LSTM(4, 6, seed=1)
    with np.load(file) as archive:
        module.load_state_dict(archive)
    assert same(module.parameters, wanted)


def test_load_exchanges_parameters_of_the_same_layer() -> None:
    """The values come from the very arrays that are written."""
    layer = fastrnn.RNN(5, 5, seed=1)
    before, own = layer.state_dict(), layer.parameters
    layer.load_state_dict(
        {
            "weight_ih_l0": own["weight_hh_l0"],
            "weight_hh_l0": own["weight_ih_l0"].T,
            "bias_ih_l0": own["bias_ih_l0"][::-1],
            "bias_hh_l0": own["bias_ih_l0"],
        }
    )
    assert same(
        layer.parameters,
        {
            "weight_ih_l0": before["weight_hh_l0"],
            "weight_hh_l0": before["weight_ih_l0"].T,
            "bias_ih_l0": before["bias_ih_l0"][::-1],
            "bias_hh_l0": before["bias_ih_l0"],
        },
    )


@pytest.mark.parametrize("on_overflow", ["warn", "raise", "ignore"])
def test_load_of_what_float32_cannot_hold(on_overflow: Any) -> None:
    """Too large a number becomes infinity, as in torch, whatever NumPy is set to do."""
    layer = fastrnn.RNN(5, 5, seed=1)
    state = {name: a.astype(np.float64) for name, a in layer.state_dict().items()}
    state["bias_hh_l0"][2] = -1e300
    with np.errstate(all=on_overflow):
        layer.load_state_dict(state)
    assert layer.parameters["bias_hh_l0"][2] == -np.inf
    state["bias_hh_l0"][2] = -np.inf
    assert same(layer.state_dict(), {n: a.astype(f32) for n, a in state.items()})


# ---- copies and pickles --------------------------------------------------------------------------


def by_pickle(protocol: int) -> Callable[[Any], Any]:
    def way(a: Any) -> Any:
        return pickle.loads(pickle.dumps(a, protocol))

    way.__name__ = f"pickle_{protocol}"
    return way


def by_buffers(a: Any) -> Any:
    """Protocol 5 as multiprocessing tools use it: arrays arrive in memory that stays read-only."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(a, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(b.raw()) for b in buffers])


COPIES = [copy.copy, copy.deepcopy, by_pickle(2), by_pickle(4), by_pickle(5), by_buffers]
copies = pytest.mark.parametrize("duplicate", COPIES, ids=lambda way: way.__name__)


@copies
@layers_and_cells
def test_a_copy_is_independent(make: Any, duplicate: Callable[[Any], Any]) -> None:
    original = make(4, 6, seed=1)
    by_mutable(original)
    before = outcome(original)
    twin = duplicate(original)
    assert type(twin) is make
    assert repr(twin) == repr(original)
    assert twin.version == original.version
    assert outcome(twin) == before

    by_mutable(original)
    assert outcome(twin) == before, "the copy sees a change of the original"
    changed = outcome(original)
    by_mutable(twin)
    assert outcome(original) == changed, "the original sees a change of the copy"
    assert outcome(twin) == outcome(original)
    # The copy is as well guarded as the original was.
    for a in twin.parameters.values():
        with pytest.raises(ValueError, match="WRITEABLE"):
            a.flags.writeable = True
    for change in WAYS:
        change(twin)
        assert outcome(twin) == outcome(rebuilt(twin))


@copies
@layers_and_cells
def test_a_copy_refuses_tapes_of_the_original(make: Any, duplicate: Callable[[Any], Any]) -> None:
    original = make(4, 6, seed=1)
    twin = duplicate(original)
    x = x_for(original)
    for layer, other in ((original, twin), (twin, original)):
        *_, tape = layer.forward(x)
        dy = None if make in CELLS else tape.y
        layer.backward(tape, dy)
        with pytest.raises(ValueError, match=r"tape must be this layer's, got another's"):
            other.backward(tape, dy)


@copies
def test_a_copied_layer_draws_the_same_masks(duplicate: Callable[[Any], Any]) -> None:
    layer = fastrnn.GRU(4, 6, 3, dropout=0.5, seed=1)
    x = x_for(layer)
    layer.forward(x)
    twin = duplicate(layer)
    for _ in range(2):
        assert masks_of(layer.forward(x)[2]) == masks_of(twin.forward(x)[2])


@pytest.mark.parametrize("duplicate", COPIES[1:], ids=lambda way: way.__name__)
def test_a_tape_goes_with_its_layer(duplicate: Callable[[Any], Any]) -> None:
    """Copied or sent together, layer and tape still belong together; a tape is plain data."""
    layer = fastrnn.LSTM(4, 6, 2, dropout=0.5, seed=1)
    x = x_for(layer)
    y, state, tape = layer.forward(x)
    dx, _, grads = layer.backward(tape, y, state)
    twin, its_tape = duplicate((layer, tape))
    twin_dx, _, twin_grads = twin.backward(its_tape, y, state)
    assert twin_dx.tobytes() == dx.tobytes()
    assert same(twin_grads, grads)
    for a, b in ((layer, its_tape), (twin, tape)):
        with pytest.raises(ValueError, match="tape must be this layer's"):
            a.backward(b, y, state)


@copies
def test_a_copied_head(duplicate: Callable[[Any], Any]) -> None:
    head = training.LinearCrossEntropy(6, 5, seed=1)
    twin = duplicate(head)
    by_mutable(head)
    assert not same(head.parameters, twin.parameters)
    by_mutable(twin)
    assert same(head.parameters, twin.parameters)


# ---- tapes ---------------------------------------------------------------------------------------


def test_a_tape_outlives_lengths_and_resets_but_shares_x() -> None:
    layer = fastrnn.LSTM(4, 6, seed=1)
    x, lengths, resets = x_for(layer), np.array([3, 2]), np.zeros((3, 2), bool)
    resets[1, 0] = True
    y, _, tape = layer.forward(x, lengths=lengths, resets=resets)
    assert tape.x is x
    dx, _, grads = layer.backward(tape, y)
    lengths[...], resets[...] = 1, True
    dx2, _, grads2 = layer.backward(tape, y)
    assert dx.tobytes() == dx2.tobytes()
    assert same(grads, grads2)


@pytest.mark.parametrize("gates", [(), (4,)], ids=["shared", "gates"])
def test_recurrent_masks_are_the_callers(gates: tuple[int, ...]) -> None:
    """Layers pass them on, with the dropout that they draw themselves, and their tape has them."""
    layer = fastrnn.LSTM(4, 6, 2, dropout=0.5, bidirectional=True, seed=1)
    x, params = x_for(layer), layer.state_dict()
    masks = np.random.default_rng(0).integers(0, 2, (4, *gates, 2, 6)).astype(f32) * 2
    y, _ = layer(x, recurrent_masks=masks)
    wanted = functional.infer("lstm", x, params, recurrent_masks=masks)
    assert y.tobytes() == wanted[0].tobytes()
    assert y.tobytes() != layer(x)[0].tobytes()
    y, _, tape = layer.forward(x, recurrent_masks=masks)
    assert tape.recurrent_masks is masks
    wanted = functional.forward("lstm", x, params, recurrent_masks=masks, dropout_masks=tape.masks)
    assert y.tobytes() == wanted[0].tobytes()
    dx, _, grads = layer.backward(tape, y)
    wanted_dx, _, wanted_grads = functional.backward("lstm", params, wanted[2], y)
    assert dx.tobytes() == wanted_dx.tobytes()
    assert same(grads, wanted_grads)


def test_one_step_with_masks_is_not_one_without() -> None:
    """The way of single steps reads parameters as they lie, and knows no masks."""
    layer = fastrnn.GRU(4, 6, seed=1)
    x, h = x_for(layer)[:1], np.ones((1, 2, 6), f32)
    masks = np.zeros((1, 2, 6), f32)
    parameters = tuple(layer.parameters.values())
    call = _engine.Call(x, h, recurrent_masks=masks)
    y, _ = _native.engine.run_new("gru", 1, 1, parameters, call)
    assert y.tobytes() == layer(x, h, recurrent_masks=masks)[0].tobytes()
    assert y.tobytes() != layer(x, h)[0].tobytes()


def test_a_tape_outlives_the_lists_that_its_arrays_came_in() -> None:
    """A caller who keeps (h, c) in a list puts the new ones there before backward."""
    layer = fastrnn.LSTM(4, 6, 2, seed=1)
    x = x_for(layer)
    state = [np.ones((2, 2, 6), f32), np.ones((2, 2, 6), f32)]
    masks = [np.full((3, 2, 6), 2, f32)]
    params = functional.pack("lstm", layer.state_dict())
    y, final, tape = functional.forward("lstm", x, params, state, dropout_masks=masks)
    dx, _, grads = functional.backward("lstm", params, tape, y)
    state[:], masks[0] = final, masks[0] + 1
    dx2, _, grads2 = functional.backward("lstm", params, tape, y)
    assert dx.tobytes() == dx2.tobytes()
    assert same(grads, grads2)


def test_y_of_a_tape_is_read_only() -> None:
    layer = fastrnn.LSTM(4, 6)
    y, (hn, cn), tape = layer.forward(x_for(layer))
    with pytest.raises(ValueError, match="read-only"):
        y[...] = 0
    hn[...], cn[...] = 0, 0  # these are the caller's
    assert tape.y is y
    with pytest.raises(AttributeError):
        tape.y = hn


def test_tapes_are_compared_by_identity() -> None:
    """As in a list of them, or in a set."""
    layer = fastrnn.GRU(4, 6)
    tapes = [layer.forward(x_for(layer))[2] for _ in range(2)]
    assert tapes[0] != tapes[1]
    assert len(set(tapes)) == 2
    tapes.remove(tapes[1])
    assert len(tapes) == 1


# ---- seeds ---------------------------------------------------------------------------------------


@layers_and_cells
def test_seeds(make: Any) -> None:
    assert same(make(4, 6, seed=5).parameters, make(4, 6, seed=5).parameters)
    assert same(make(4, 6, seed=0).parameters, make(4, 6, seed=np.int64(0)).parameters)
    assert not same(make(4, 6, seed=5).parameters, make(4, 6, seed=6).parameters)
    assert not same(make(4, 6).parameters, make(4, 6).parameters)
    sequence = np.random.SeedSequence
    assert same(make(4, 6, seed=sequence(5)).parameters, make(4, 6, seed=5).parameters)
    # float32 is float64, rounded: a layer can be checked against its wider twin.
    wide = make(4, 6, seed=5, dtype="float64").parameters
    assert same(make(4, 6, seed=5).parameters, {n: a.astype(f32) for n, a in wide.items()})


@layers_and_cells
@pytest.mark.parametrize("H", [1, 7, 64])
def test_initial_values(make: Any, H: int) -> None:
    """Uniform within 1 / sqrt(H), biases too, and no two arrays alike."""
    module = make(64, H, seed=3)
    bound = H**-0.5
    values = np.concatenate([a.ravel() for a in module.parameters.values()]).astype(np.float64)
    assert np.abs(values).max() <= f32(bound)
    assert np.abs(values).max() > 0.9 * bound
    assert len(np.unique(values)) > 0.99 * values.size
    if values.size > 5000:
        deviation = bound / 3**0.5
        assert abs(values.mean()) < 5 * deviation / values.size**0.5
        assert abs(values.std() / deviation - 1) < 0.05


# ---- dropout -------------------------------------------------------------------------------------


def masks_of(tape: functional.Tape) -> list[bytes]:
    return [mask.tobytes() for mask in tape.masks]


@pytest.fixture(params=[False, True], ids=["time first", "batch first"])
def dropping(request: pytest.FixtureRequest) -> fastrnn.LSTM:
    return fastrnn.LSTM(
        4, 20, 3, batch_first=request.param, dropout=0.25, bidirectional=True, seed=4
    )


def test_masks_come_from_the_seed(dropping: fastrnn.LSTM) -> None:
    x = x_for(dropping)
    twin = fastrnn.LSTM(
        4, 20, 3, batch_first=dropping.batch_first, dropout=0.25, bidirectional=True, seed=4
    )
    drawn = [masks_of(dropping.forward(x)[2]) for _ in range(3)]
    twin(x)  # draws nothing
    assert [masks_of(twin.forward(x)[2]) for _ in range(3)] == drawn
    all_masks = [mask for masks in drawn for mask in masks]
    assert len(set(all_masks)) == 6, "no mask comes twice"
    other = fastrnn.LSTM(4, 20, 3, batch_first=dropping.batch_first, dropout=0.25,
                         bidirectional=True, seed=5)  # fmt: skip
    assert masks_of(other.forward(x)[2]) != drawn[0]


def test_masks_are_drawn_as_they_always_were(dropping: fastrnn.LSTM) -> None:
    """One generator for all masks of a draw: a checkpoint's `random_state` means these numbers."""
    x = x_for(dropping)
    dropping.forward(x)
    kept = dropping.random_state
    y, _, tape = dropping.forward(x)
    key = (*kept["spawn_key"], kept["draws"])
    rng = np.random.default_rng(np.random.SeedSequence(kept["entropy"], spawn_key=key))
    for mask in tape.masks:
        drawn = np.where(rng.random(y.shape, f32) < 0.75, f32(1 / 0.75), f32(0))
        assert mask.tobytes() == drawn.tobytes()


def test_no_memory_for_the_masks() -> None:
    layer = fastrnn.LSTM(4, 6, 2, dropout=0.5)
    x = np.broadcast_to(f32(0), (2**40, 1, 4))
    rule = r"^\[lstm\] memory for the dropout masks must be available, got none for shape \("
    with pytest.raises(MemoryError, match=rule):
        layer.forward(x)


def test_masks_are_scaled(dropping: fastrnn.LSTM) -> None:
    x = np.ones((30, 20, 4), f32)
    y, _, tape = dropping.forward(x)
    assert len(tape.masks) == 2
    for mask in tape.masks:
        assert mask.shape == y.shape
        assert mask.dtype == f32
        assert set(np.unique(mask)) == {f32(0), f32(1 / 0.75)}
        kept = (mask != 0).mean()
        assert abs(kept - 0.75) < 5 * (0.75 * 0.25 / mask.size) ** 0.5


def test_forward_and_backward_use_the_masks_of_the_tape(dropping: fastrnn.LSTM) -> None:
    x = x_for(dropping)
    y, state, tape = dropping.forward(x)
    dx, dstate, grads = dropping.backward(tape, y, state)
    params = dropping.state_dict()
    options: dict[str, Any] = {"batch_first": dropping.batch_first, "dropout_masks": tape.masks}
    y2, state2, tape2 = functional.forward("lstm", x, params, **options)
    dx2, dstate2, grads2 = functional.backward("lstm", params, tape2, y2, state2)
    for a, b in zip((y, *state, dx, *dstate), (y2, *state2, dx2, *dstate2), strict=True):
        assert a.tobytes() == b.tobytes()
    assert same(grads, grads2)


def test_calling_never_drops(dropping: fastrnn.LSTM) -> None:
    x = x_for(dropping)
    plain = fastrnn.LSTM(4, 20, 3, batch_first=dropping.batch_first, bidirectional=True, seed=4)
    assert same(plain.parameters, dropping.parameters), "dropout does not change the parameters"
    wanted = plain(x)[0].tobytes()
    assert dropping(x)[0].tobytes() == wanted
    assert dropping.forward(x)[0].tobytes() != wanted
    assert dropping(x)[0].tobytes() == wanted


@pytest.mark.parametrize("number", [0.5, np.float32(0.5), np.float64(0.5)], ids=repr)
def test_any_kind_of_probability(number: Any) -> None:
    layer = fastrnn.GRU(4, 6, 2, dropout=number, seed=1)
    twin = fastrnn.GRU(4, 6, 2, dropout=0.5, seed=1)
    x = x_for(layer)
    assert masks_of(layer.forward(x)[2]) == masks_of(twin.forward(x)[2])


def test_all_or_nothing() -> None:
    x = np.ones((3, 2, 4), f32)
    _, _, tape = fastrnn.GRU(4, 6, 2, dropout=1.0).forward(x)
    assert not tape.masks[0].any()
    assert not fastrnn.GRU(4, 6, 2, dropout=0.0).forward(x)[2].masks
    assert not fastrnn.GRU(4, 6, 1, dropout=0.5).forward(x)[2].masks, "none above the last layer"
    _, _, tape = fastrnn.GRU(4, 6, 2, dropout=0.5).forward(x[:, 0])
    assert tape.masks[0].shape == (3, 6)


def test_a_random_state_draws_the_same_masks_again(dropping: fastrnn.LSTM) -> None:
    x = x_for(dropping)
    dropping.forward(x)
    kept = dropping.random_state
    assert kept["draws"] == 1
    wanted = [masks_of(dropping.forward(x)[2]) for _ in range(2)]
    assert kept["draws"] == 1, "a state that was read does not change"
    assert dropping.random_state == kept | {"draws": 3}
    # As a checkpoint keeps it; on the same layer, and on one of another seed.
    for layer in (
        dropping,
        fastrnn.LSTM(4, 20, 3, dropping.bias, dropping.batch_first, 0.25, True),
    ):
        assert masks_of(layer.forward(x)[2]) not in wanted
        before = layer.state_dict()
        layer.random_state = json.loads(json.dumps(kept))
        assert [masks_of(layer.forward(x)[2]) for _ in range(2)] == wanted
        assert layer.random_state == kept | {"draws": 3}
        assert same(layer.parameters, before)


@pytest.mark.parametrize(
    "seed",
    [
        0,
        None,
        np.random.SeedSequence([5, 2**40]),
        np.random.SeedSequence(np.arange(3)),
        np.random.SeedSequence(7).spawn(2)[1],
    ],
    ids=["integer", "none", "list", "array", "spawned"],
)
def test_the_random_state_of_any_seed_is_plain(seed: Any) -> None:
    """It is plain data, also where the seed is not: JSON holds it, and the layer takes it back."""
    layer = fastrnn.GRU(4, 6, 2, dropout=0.5, seed=seed)
    x, state = x_for(layer), layer.random_state
    wanted = masks_of(layer.forward(x)[2])
    layer.random_state = json.loads(json.dumps(state))
    assert layer.random_state == state
    assert masks_of(layer.forward(x)[2]) == wanted


@pytest.mark.parametrize(
    ("change", "error", "rule"),
    [
        (7, TypeError, r"a mapping of \['entropy', 'spawn_key', 'draws'\], got int"),
        ({"draws": None, "more": 1}, ValueError, r"of \['entropy', 'spawn_key', 'draws'\], got"),
        ({"draws": -1}, ValueError, "integers of at least 0, got"),
        ({"draws": 1.0}, TypeError, "integers of at least 0, got"),
        ({"draws": True}, TypeError, "integers of at least 0, got"),
        ({"draws": "1"}, TypeError, "integers of at least 0, got"),
        ({"entropy": None}, TypeError, "integers of at least 0, got"),
        ({"entropy": -1}, ValueError, "integers of at least 0, got"),
        ({"entropy": 1.5}, TypeError, "integers of at least 0, got"),
        ({"entropy": "12"}, TypeError, "integers of at least 0, got"),
        ({"spawn_key": 1}, TypeError, "integers of at least 0, got"),
        ({"spawn_key": "12"}, TypeError, "integers of at least 0, got"),
        ({"spawn_key": [-1]}, ValueError, "integers of at least 0, got"),
    ],
)
def test_a_random_state_that_is_none(change: Any, error: type[Exception], rule: str) -> None:
    layer = fastrnn.GRU(4, 6, 2, dropout=0.5, seed=1)
    before = layer.random_state
    with pytest.raises(error, match=rf"^\[gru\] random_state must (be|hold) {rule}"):
        layer.random_state = before | change if isinstance(change, dict) else change
    missing = {name: value for name, value in before.items() if name != "draws"}
    with pytest.raises(ValueError, match=r"random_state must be of"):
        layer.random_state = missing
    assert layer.random_state == before


# ---- recompute -----------------------------------------------------------------------------------


@layers
def test_a_layer_that_recomputes_trains_alike(make: Any) -> None:
    x = np.random.default_rng(0).standard_normal((9, 2, 3)).astype(f32)
    results = []
    for recompute in (False, True, 4, np.int64(4)):
        layer = make(3, 5, 2, dropout=0.5, bidirectional=True, seed=1, recompute=recompute)
        y, state, tape = layer.forward(x)
        dx, dstate, grads = layer.backward(tape, y, state)
        arrays = (y, *flat_state(state), dx, *flat_state(dstate), *grads.values())
        results.append([a.tobytes() for a in arrays])
        assert layer.recompute == tape.recompute == int(recompute)
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(("recompute", "kept"), [(1, 9), (2, 5), (4, 3), (9, 1), (100, 1)])
def test_what_a_tape_keeps_with_recompute(recompute: int, kept: int) -> None:
    """The outputs, and of the state beside h every k-th step and the last; no gates."""
    layer = fastrnn.LSTM(3, 5, 2, bidirectional=True, seed=0)
    x = np.zeros((9, 2, 3), f32)
    inner, states, saved = layer.forward(x)[2].arrays
    assert (inner.shape, states.shape) == ((1, 9, 2, 10), (1, 2, 2, 9, 2, 5))
    assert saved.size > 0
    layer.recompute = recompute
    inner, states, saved = layer.forward(x)[2].arrays
    assert (inner.shape, states.shape) == ((1, 9, 2, 10), (1, 2, 2, kept, 2, 5))
    assert saved.size == 0


def test_explain_tells_what_recompute_saves() -> None:
    """At sizes where it matters: the tape shrinks to the outputs, backward's workspace grows."""
    layer = fastrnn.LSTM(64, 64)
    full = fastrnn.explain(layer, (20000, 8, 64))
    layer.recompute = 50
    less = fastrnn.explain(layer, (20000, 8, 64))
    assert less["tape_bytes"] < full["tape_bytes"] / 50
    assert full["backward"]["workspace_bytes"] < less["backward"]["workspace_bytes"]
    assert less["backward"]["workspace_bytes"] < full["tape_bytes"] / 10


# ---- repr ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "LSTM(3, 4)",
        "GRU(3, 4, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True)",
        "LSTM(3, 4, dtype='float64')",
        "GRU(3, 4, recompute=True)",
        "RNN(3, 4, recompute=16)",
        "RNN(3, 4)",
        "RNN(3, 4, num_layers=2, nonlinearity='relu')",
        "RNN(3, 4, nonlinearity='leaky_relu(0.1)', clip=2.0)",
        "LSTM(3, 4, activations=('hard_sigmoid(0.2, 0.5)', 'tanh', 'relu'), clip=1.5)",
        "LSTM(3, 4, peepholes=True, input_forget=True)",
        "GRU(3, 4, bidirectional=True, activations=('relu', 'tanh', 'sigmoid', 'tanh'))",
        "Recurrent('gru', 3, 4, num_layers=2)",
        "Recurrent('lstm_coupled_peephole(clip=0.5)', 3, 4)",
        "GRU(3, 4, reset_after=False)",
        "LSTM(3, 4, num_layers=2, proj_size=2)",
        "GRUCell(3, 4, reset_after=False)",
        "LSTMCell(3, 4)",
        "GRUCell(3, 4, bias=False, dtype='float64')",
        "RNNCell(3, 4, nonlinearity='sigmoid')",
    ],
)
def test_repr_makes_such_a_layer(text: str) -> None:
    made = eval(text, vars(fastrnn))
    again = eval(repr(made), vars(fastrnn))
    assert repr(again) == repr(made)
    plain = {
        name: value
        for name, value in vars(made).items()
        if isinstance(value, (int, float, str, np.dtype))
    }
    assert {name: vars(again)[name] for name in plain} == plain
    shapes = {name: (a.shape, a.dtype) for name, a in made.parameters.items()}
    assert {name: (a.shape, a.dtype) for name, a in again.parameters.items()} == shapes


# ---- a module of one's own -----------------------------------------------------------------------


def test_a_module_of_ones_own() -> None:
    """The class is the whole protocol: an optimiser trains whatever is built on it."""

    class Scale(fastrnn.Module):
        def __init__(self) -> None:
            super().__init__("scale", {"by": np.ones(3)})

    scale = Scale()
    training.SGD([scale], lr=1.0).step([{"by": np.array([1.0, 2.0, 3.0])}])
    assert scale.parameters["by"].tolist() == [0.0, -1.0, -2.0]
    assert scale.version > 0
    with pytest.raises(ValueError, match=r"\[scale\] by must have shape \(3,\), got \(4,\)"):
        scale.load_state_dict({"by": np.ones(4)})
    twin = copy.deepcopy(scale)
    twin.load_state_dict({"by": [1.0, 1.0, 1.0]})
    assert scale.parameters["by"].tolist() == [0.0, -1.0, -2.0]


def test_tapes_and_owners_survive_replace() -> None:
    """A tape is a frozen dataclass: what tools do with those works."""
    layer = fastrnn.GRU(4, 6)
    y, _, tape = layer.forward(x_for(layer))
    dx, _, _ = layer.backward(replace(tape), y)
    assert dx.shape == tape.x.shape
