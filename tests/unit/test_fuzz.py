"""Random calls: any shape, option and memory layout gives what the reference gives, and no argument
can crash the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import fastrnn
import tiers
from cases import Case, Data, cells, flat_state, make_data
from fastrnn import _native, functional, reference
from tolerances import assert_output, gradient, relative

# A gradient of few elements can cancel to any small number; its terms are of order 1.
CANCELLED = 1e-2

# A busy machine is no defect.
SLOW = [hypothesis.HealthCheck.too_slow]

EXAMPLES = tiers.choose(dev=100, ci=2000, full=50_000)

DOCUMENTED = (ValueError, TypeError, NotImplementedError, MemoryError)

# ---- layouts: other memory, same values ----------------------------------------------------------


def contiguous(a: np.ndarray) -> np.ndarray:
    return a.copy()


def read_only(a: np.ndarray) -> np.ndarray:
    b = a.copy()
    b.flags.writeable = False
    return b


def axes_reversed(a: np.ndarray) -> np.ndarray:
    return np.asfortranarray(a)


def outer_axes_swapped(a: np.ndarray) -> np.ndarray:
    if a.ndim < 3:
        return a.copy()
    return np.ascontiguousarray(a.swapaxes(0, 1)).swapaxes(0, 1)


def negative_strides(a: np.ndarray) -> np.ndarray:
    back = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[back])[back]


def every_second(a: np.ndarray) -> np.ndarray:
    wide = np.full([2 * n for n in a.shape], 77, a.dtype)
    wide[(slice(None, None, 2),) * a.ndim] = a
    return wide[(slice(None, None, 2),) * a.ndim]


def part_of_wider_rows(a: np.ndarray) -> np.ndarray:
    wide = np.full((*a.shape[:-1], a.shape[-1] + 3), 77, a.dtype)
    wide[..., 1:-2] = a
    return wide[..., 1:-2]


def field(a: np.ndarray) -> np.ndarray:
    """A field of packed records: strides are not whole elements, most elements are misaligned."""
    records = np.zeros(a.shape, [("before", "u1"), ("value", a.dtype), ("after", "u2")])
    records["value"] = a
    return records["value"]


def field_of_aligned_records(a: np.ndarray) -> np.ndarray:
    """The first element is where it should be, the second is not."""
    records = np.zeros(a.shape, [("value", a.dtype), ("after", "u1")])
    records["value"] = a
    return records["value"]


def misaligned(a: np.ndarray) -> np.ndarray:
    memory = np.zeros(a.nbytes + 1, np.uint8)
    b = np.ndarray(a.shape, a.dtype, memory.data, offset=1)
    b[...] = a
    return b


def subclass(a: np.ndarray) -> np.ndarray:
    return a.view(Labelled)


class Labelled(np.ndarray):
    """What astropy, pandas or a user may hand over in place of a plain array."""


def repeated(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    """Broadcast along an axis: a stride of 0, and so the one layout that changes the values."""

    def layout(a: np.ndarray) -> np.ndarray:
        axis_ = axis % a.ndim
        if a.shape[axis_] == 0:
            return a.copy()
        return np.broadcast_to(np.take(a, [0], axis_), a.shape)

    layout.__name__ = f"repeated_{axis}"
    return layout


LAYOUTS = [
    contiguous,
    read_only,
    axes_reversed,
    outer_axes_swapped,
    negative_strides,
    every_second,
    part_of_wider_rows,
    field,
    field_of_aligned_records,
    misaligned,
    subclass,
    repeated(0),
    repeated(1),
    repeated(-1),
]

# What an output may look like: rows of whole elements, wherever they are.
OUTPUT_LAYOUTS = [contiguous, outer_axes_swapped, part_of_wider_rows, subclass]


def other_layouts(draw: Callable[..., Any], value: Any) -> Any:
    """Another layout for an array, or for each of a tuple or list of arrays."""
    if value is None:
        return None
    if isinstance(value, (tuple, list)):
        return type(value)(other_layouts(draw, v) for v in value)
    return draw(st.sampled_from(LAYOUTS))(value)


@st.composite
def cases(draw: Callable[..., Any]) -> Case:
    batched = draw(st.booleans()) or draw(st.booleans())
    L = draw(st.integers(1, 3))
    return Case(
        cell=draw(st.sampled_from(cells())),
        T=draw(st.integers(0, 7)),
        B=draw(st.integers(0, 7)) if batched else 1,
        I=draw(st.integers(1, 40)),
        H=draw(st.integers(1, 40)),
        dtype=draw(st.sampled_from(["float32", "float64"])),
        D=draw(st.integers(1, 2)),
        L=L,
        bias=draw(st.booleans()),
        batch_first=draw(st.booleans()),
        batched=batched,
        state=draw(st.booleans()),
        lengths=batched and draw(st.booleans()),
        resets=draw(st.booleans()),
        holds=draw(st.booleans()),
        repeat_held=draw(st.booleans()),
        dropout=L > 1 and draw(st.booleans()),
        recurrent=draw(st.sampled_from(["", "", "shared", "gates"])),
    )


@st.composite
def calls(draw: Callable[..., Any]) -> tuple[Case, Data]:
    case = draw(cases())
    data = make_data(case, draw(st.integers(0, 2**32)))
    data.params = {name: other_layouts(draw, a) for name, a in data.params.items()}
    data.x, data.dy = other_layouts(draw, data.x), other_layouts(draw, data.dy)
    data.state, data.dstate = other_layouts(draw, data.state), other_layouts(draw, data.dstate)
    if case.lengths:
        lengths = data.options["lengths"].astype(draw(st.sampled_from("bhilBHIL")))
        data.options["lengths"] = other_layouts(draw, lengths)
    for name in {"resets", "holds", "recurrent_masks"} & set(data.options):
        data.options[name] = other_layouts(draw, data.options[name])
    if case.dropout:
        data.options["dropout_masks"] = other_layouts(draw, data.options["dropout_masks"])
    return case, data


@contextmanager
def engine_at(level: str, threads: int) -> Iterator[None]:
    engine = _native.engine
    before = engine.level(), engine.get_num_threads()
    engine.use_level(level)
    engine.set_num_threads(threads)
    try:
        yield
    finally:
        engine.use_level(before[0])
        engine.set_num_threads(before[1])


def arrays_of(data: Data) -> list[np.ndarray]:
    options = data.options
    return [
        data.x,
        data.dy,
        *data.params.values(),
        *flat_state(data.state),
        *flat_state(data.dstate),
        *(
            options[name]
            for name in ("lengths", "resets", "holds", "recurrent_masks")
            if name in options
        ),
        *options.get("dropout_masks", ()),
    ]


def assert_gradient(a: np.ndarray, b: np.ndarray, dtype: str, what: str) -> None:
    error = relative(a, b, least=CANCELLED)
    assert error <= gradient(dtype), f"{what}: error {error:.2e} over {gradient(dtype):.0e}"


def frame_of(a: np.ndarray) -> np.ndarray:
    """All the memory that a view was cut from, as bytes."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a.reshape(-1).view(np.uint8)


@hypothesis.settings(max_examples=EXAMPLES, suppress_health_check=SLOW)
@hypothesis.given(
    call=calls(),
    level=st.sampled_from(_native.engine.usable_levels()),
    threads=st.integers(1, 4),
    output_layout=st.sampled_from(OUTPUT_LAYOUTS),
    recompute=st.integers(0, 5),
)
def test_any_call_gives_what_the_reference_gives(
    call: tuple[Case, Data],
    level: str,
    threads: int,
    output_layout: Callable[..., np.ndarray],
    recompute: int,
) -> None:
    case, data = call
    given = [a.tobytes() for a in arrays_of(data)]
    wanted_y, wanted_state, wanted_tape = reference.forward(
        case.cell, data.x, data.params, data.state, **data.options
    )
    wanted_dx, wanted_dstate, wanted_grads = reference.backward(
        case.cell, data.params, wanted_tape, data.dy, data.dstate
    )
    out = output_layout(np.full(wanted_y.shape, 55, case.dtype))
    with engine_at(level, threads):
        y, state, tape = functional.forward(
            case.cell, data.x, data.params, data.state, recompute=recompute, **data.options
        )
        y2, state2 = functional.infer(
            case.cell, data.x, data.params, data.state, **data.options, out=out
        )
        dx, dstate, grads = functional.backward(case.cell, data.params, tape, data.dy, data.dstate)
    assert_output(y, wanted_y, case.dtype, "y")
    assert_gradient(dx, wanted_dx, case.dtype, "dx")
    for name, a, b in zip("hc", flat_state(state), flat_state(wanted_state), strict=False):
        assert_output(a, b, case.dtype, f"{name}n")
    for name, a, b in zip("hc", flat_state(dstate), flat_state(wanted_dstate), strict=False):
        assert_gradient(a, b, case.dtype, f"d{name}0")
    assert list(grads) == list(data.params)
    for name, grad in grads.items():
        assert_gradient(grad, wanted_grads[name], case.dtype, f"d{name}")
    for a in (y, *flat_state(state), dx, *flat_state(dstate), *grads.values()):
        assert a.dtype == case.dtype
        assert type(a) is np.ndarray

    assert y2 is out
    for a, b in zip((y2, *flat_state(state2)), (y, *flat_state(state)), strict=True):
        assert a.tobytes() == b.tobytes(), "with a tape or without, the bits are the same"
    assert [a.tobytes() for a in arrays_of(data)] == given, "an input was written"
    out[...] = 55
    untouched = output_layout(np.full(wanted_y.shape, 55, case.dtype))
    assert frame_of(out).tobytes() == frame_of(untouched).tobytes(), "memory around out was written"


# ---- garbage -------------------------------------------------------------------------------------

RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)

DTYPES = [
    "float32", "float64", "float16", "longdouble", ">f4", ">f8", "complex64", "int8", "int64",
    ">i8", "uint64", "bool", "object", "S3", "U2", "M8[s]", "m8", "f4,f8", "V5",
]  # fmt: skip

# Not so large that one could be had, but for the empty ones.
HUGE = [(2**24, 2**22, 4), (2**22, 2**24), (2**45, 0, 4), (0, 2**45, 4), (1, 2**45), (2**46,)]


@st.composite
def arrays(draw: Callable[..., Any]) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    if draw(st.integers(0, 9)) == 0:
        return np.broadcast_to(np.zeros((), dtype), draw(st.sampled_from(HUGE)))
    rank = draw(st.integers(0, 4) | st.sampled_from([8, 9, 32]))
    most = 5 if rank <= 4 else 1
    shape = tuple(draw(st.lists(st.integers(0, most), min_size=rank, max_size=rank)))
    a = np.zeros(shape, dtype)
    if dtype.kind == "f":
        a[...] = draw(st.sampled_from([0.0, 1.0, -3.0, 6e4, np.nan, np.inf]))
    if dtype.kind in "iu":
        a[...] = draw(st.sampled_from([0, 1, 3, 100]))
    wrap = draw(
        st.sampled_from([contiguous, read_only, subclass, np.ma.masked_array, every_second])
    )
    return wrap(a)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 5),
    st.sampled_from([2**39, 2**40, 2**62, 2**63, 2**64, 2**70, -(2**63), -(2**70)]),
    st.floats(allow_nan=True),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.sampled_from(["lstm", "gru", "rnn_tanh", "relu", "cpu", "cuda", "float64", ">f4"]),
    st.sampled_from([np.float32(2), np.int64(2), np.bool_(True), 1j, object(), int, np, len, ...]),
    st.sampled_from([np.dtype("f4"), np.dtype("f4,f8"), {"a": 1}, [("a",)], {1, 2}, range(3)]),
)
GARBAGE = st.one_of(
    arrays(),
    SCALARS,
    st.recursive(SCALARS | arrays(), lambda inner: st.lists(inner, max_size=3), max_leaves=4),
    st.tuples(arrays(), arrays()),
    st.dictionaries(st.sampled_from(["weight_ih_l0", "weight_hh_l0", "x"]), arrays() | SCALARS),
    st.just(RECURSIVE),
)


class World:
    """Valid arguments for everything, made once; garbage takes the place of some of them."""

    def __init__(self) -> None:
        self.case = Case("lstm", 3, 2, 4, 5, L=2, lengths=True, resets=True, dropout=True)
        self.layer = fastrnn.LSTM(4, 5, 2, dropout=0.5, seed=0)
        self.gru = fastrnn.GRU(4, 5, seed=0)
        self.cell = fastrnn.LSTMCell(4, 5, seed=0)
        data = make_data(self.case)
        self.x, self.state, self.dy, self.params = data.x, data.state, data.dy, data.params
        self.options = data.options
        self.packed = functional.pack("lstm", self.params)
        _, _, self.tape = functional.forward(
            "lstm", self.x, self.params, self.state, **self.options
        )
        _, _, self.layer_tape = self.layer.forward(self.x, self.state)
        _, self.cell_tape = self.cell.forward(self.x[0])

    def calls(self) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
        """Name: (function, valid keyword arguments)."""
        run = {"cell": "lstm", "x": self.x, "params": self.params, "state": self.state}
        run |= {**self.options, "out": np.zeros((3, 2, 5), np.float32)}
        call = {"x": self.x, "state": self.state, "lengths": [3, 2], "resets": None, "holds": None}
        layer = {
            "input_size": 4, "hidden_size": 5, "num_layers": 1, "bias": True, "batch_first": False,
            "dropout": 0.0, "bidirectional": False, "dtype": "float32", "device": "cpu", "seed": 0,
            "recompute": 0,
        }  # fmt: skip
        cell = {
            name: layer[name] for name in ("input_size", "hidden_size", "bias", "dtype", "seed")
        }
        return {
            "infer": (functional.infer, run),
            "infer packed": (functional.infer, {**run, "params": self.packed}),
            "forward": (functional.forward, {**run, "recompute": 2}),
            "backward": (
                functional.backward,
                {
                    "cell": "lstm",
                    "params": self.params,
                    "tape": self.tape,
                    "dy": self.dy,
                    "dstate": self.state,
                },
            ),
            "packed rows": (
                functional.forward,
                {
                    "cell": "lstm",
                    "x": self.x[:, 0],
                    "params": self.params,
                    "state": self.state,
                    "batch_sizes": [2, 1],
                    "out": np.zeros((3, 5), np.float32),
                    "recompute": 2,
                },
            ),
            "pack": (functional.pack, {"cell": "lstm", "params": self.params}),
            "layer": (self.layer, call),
            "layer.forward": (self.layer.forward, call),
            "layer.backward": (
                self.layer.backward,
                {"tape": self.layer_tape, "dy": self.dy, "dstate": self.state},
            ),
            "gru": (self.gru, {"x": self.x, "state": None, "lengths": None, "out": None}),
            "load": (self.gru.load_state_dict, {"state": self.gru.state_dict()}),
            "cell": (self.cell, {"x": self.x[0], "state": None}),
            "cell.forward": (self.cell.forward, {"x": self.x[0], "state": None}),
            "cell.backward": (self.cell.backward, {"tape": self.cell_tape, "dstate": None}),
            "LSTM": (fastrnn.LSTM, layer),
            "RNN": (fastrnn.RNN, {**layer, "nonlinearity": "relu"}),
            "Recurrent": (fastrnn.Recurrent, {"cell": "gru", **layer}),
            "GRUCell": (fastrnn.GRUCell, cell),
            "explain": (fastrnn.explain, {"layer": self.layer, "shape": (3, 2, 4)}),
            "set_num_threads": (fastrnn.set_num_threads, {"n": 2}),
        }


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@hypothesis.settings(max_examples=EXAMPLES, suppress_health_check=SLOW)
@hypothesis.given(data=st.data())
def test_no_argument_crashes(world: World, data: st.DataObject) -> None:
    function, arguments = world.calls()[data.draw(st.sampled_from(sorted(world.calls())), "call")]
    wrong = data.draw(
        st.lists(st.sampled_from(sorted(arguments)), min_size=1, max_size=2, unique=True), "wrong"
    )
    replaced = {name: data.draw(GARBAGE, name) for name in wrong}
    threads = fastrnn.get_num_threads()
    try:
        function(**{**arguments, **replaced})
    except DOCUMENTED:
        pass  # a refusal; anything else fails the test
    finally:
        fastrnn.set_num_threads(threads)


@hypothesis.settings(max_examples=EXAMPLES // 2, suppress_health_check=SLOW)
@hypothesis.given(data=st.data())
def test_no_tape_crashes(world: World, data: st.DataObject) -> None:
    """Backward trusts no field of a tape, though only a forger would have changed one."""
    layer = data.draw(st.booleans(), "by the layer")
    fields = ["x", "state", "lengths", "resets", "masks", "batch_first", "y", "arrays", "cell",
              "recompute"]  # fmt: skip
    name = data.draw(st.sampled_from(fields), "field")
    value = data.draw(GARBAGE | st.tuples(*[arrays()] * 3), "value")
    try:
        if layer:
            world.layer.backward(replace(world.layer_tape, **{name: value}), world.dy)
        else:
            forged = replace(world.tape, **{name: value})
            functional.backward("lstm", world.params, forged, world.dy)
    except DOCUMENTED:
        pass  # a refusal; anything else fails the test
