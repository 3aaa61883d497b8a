"""Bad input: the class of the error, `[op] rule, got value`, and nothing written before it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fastrnn
from cases import Case, Data, flat_state, make_data
from fastrnn import _engine, _native, functional

SENTINEL = 7.5
f32 = np.float32

# One case for all tables: T=5, B=3, I=4, H=6; two layers, two directions.
CASE = Case("lstm", 5, 3, 4, 6, D=2, L=2, lengths=True, resets=True, holds=True, dropout=True)


def refused(error: type[Exception], rule: str, call: Callable[[], Any], op: str = "lstm") -> None:
    """The call raises this error, whose message has the form that all have."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert re.fullmatch(rf"\[{op}\] .+, got .+", message, re.DOTALL), message
    assert rule in message, message


def misaligned(a: np.ndarray) -> np.ndarray:
    b = np.ndarray(a.shape, a.dtype, np.zeros(a.nbytes + 1, np.uint8).data, offset=1)
    b[...] = a
    return b


class Duck:
    """Not an array, though it has the attributes of one."""

    def __init__(self, a: np.ndarray) -> None:
        self.shape, self.dtype, self.ndim, self.strides = a.shape, a.dtype, a.ndim, a.strides


# What is wrong with an array of floats: name, error, a part of the rule, how to spoil a right one.
Spoil = Callable[[np.ndarray], Any]
SPOILED: list[tuple[str, type[Exception], str, Spoil]] = [
    ("list", TypeError, "must be a NumPy array", lambda a: a.tolist()),
    ("scalar", TypeError, "must be a NumPy array", lambda a: f32(1)),
    ("text", TypeError, "must be a NumPy array", lambda a: "x"),
    ("duck", TypeError, "must be a NumPy array", Duck),
    ("memoryview", TypeError, "must be a NumPy array", lambda a: a.data),
    ("float16", TypeError, "must be float32", lambda a: a.astype("f2")),
    ("float64", TypeError, "must be float32", lambda a: a.astype("f8")),
    ("longdouble", TypeError, "must be float32", lambda a: a.astype("longdouble")),
    ("byte order", TypeError, "native byte order", lambda a: a.astype(a.dtype.newbyteorder())),
    ("complex", TypeError, "must be float32", lambda a: a.astype("c8")),
    ("int32", TypeError, "must be float32", lambda a: a.astype("i4")),
    ("uint8", TypeError, "must be float32", lambda a: a.astype("u1")),
    ("bool", TypeError, "must be float32", lambda a: a.astype("?")),
    ("object", TypeError, "must be float32", lambda a: a.astype(object)),
    ("strings", TypeError, "must be float32", lambda a: np.full(a.shape, "1.0")),
    ("times", TypeError, "must be float32", lambda a: np.zeros(a.shape, "m8[s]")),
    ("records", TypeError, "must be float32", lambda a: np.zeros(a.shape, "f4,f4")),
    ("bytes of a float", TypeError, "must be float32", lambda a: np.zeros(a.shape, "V4")),
    ("masked float64", TypeError, "must be float32", lambda a: np.ma.masked_array(a, dtype="f8")),
    ("rank 0", ValueError, "must have", lambda a: np.zeros((), f32)),
    ("rank 1", ValueError, "must have", lambda a: np.zeros(4, f32)),
    ("rank 4", ValueError, "must have", lambda a: a[None]),
    ("rank 9", ValueError, "must have", lambda a: a.reshape((1,) * 6 + a.shape)),
    ("rank 32", ValueError, "must have", lambda a: np.zeros((1,) * 32, f32)),
    ("wider", ValueError, "must have", lambda a: np.zeros((*a.shape[:-1], a.shape[-1] + 1), f32)),
    ("narrower", ValueError, "must have", lambda a: a[..., 1:]),
    ("no columns", ValueError, "must have", lambda a: a[..., :0]),
    ("turned", ValueError, "must have", lambda a: np.ascontiguousarray(a.T)),
]
spoiled = pytest.mark.parametrize(
    ("error", "rule", "spoil"), [row[1:] for row in SPOILED], ids=[row[0] for row in SPOILED]
)
# Sizes that x may have, but nothing that belongs to it.
OTHER_SIZES: list[tuple[str, type[Exception], str, Spoil]] = [
    ("one more", ValueError, "must have", lambda a: np.concatenate([a, a[:1]])),
    ("one less", ValueError, "must have", lambda a: a[1:]),
    ("empty", ValueError, "must have", lambda a: a[:0]),
    ("one row", ValueError, "must have", lambda a: a[:, :1]),
    ("no batch", ValueError, "must have", lambda a: a[:, 0]),
    ("broadcastable", ValueError, "must have", lambda a: a[:1, :1]),
]
spoiled_or_resized = pytest.mark.parametrize(
    ("error", "rule", "spoil"),
    [row[1:] for row in SPOILED + OTHER_SIZES],
    ids=[row[0] for row in SPOILED + OTHER_SIZES],
)


@pytest.fixture
def data() -> Data:
    return make_data(CASE)


@pytest.fixture
def out() -> np.ndarray:
    return np.full((5, 3, 12), SENTINEL, f32)


@pytest.fixture
def layer() -> fastrnn.LSTM:
    return fastrnn.LSTM(4, 6, 2, bidirectional=True, dropout=0.5, seed=0)


@pytest.fixture
def tape(data: Data) -> functional.Tape:
    return functional.forward("lstm", data.x, data.params, data.state, **data.options)[2]


def runs_refused(
    data: Data, sentinels: np.ndarray, error: type[Exception], rule: str, **wrong: Any
) -> None:
    """Neither infer nor forward takes it, whether packed or not; `out` stays as it was."""
    given = {"x": data.x, "state": data.state, "out": sentinels, **data.options, **wrong}
    packed = functional.pack("lstm", data.params)
    for run in (functional.infer, functional.forward):
        for params in (data.params, packed):
            refused(error, rule, lambda run=run, p=params: run("lstm", params=p, **given))
    assert (sentinels == SENTINEL).all(), "written before the refusal"


# ---- x, states, masks ----------------------------------------------------------------------------


@spoiled
def test_x(data: Data, out: np.ndarray, error: type[Exception], rule: str, spoil: Spoil) -> None:
    runs_refused(data, out, error, rule, x=spoil(data.x))


@spoiled
def test_x_of_a_layer(
    layer: fastrnn.LSTM, data: Data, error: type[Exception], rule: str, spoil: Spoil
) -> None:
    refused(error, rule, lambda: layer(spoil(data.x)))
    refused(error, rule, lambda: layer.forward(spoil(data.x)))


def test_no_x(layer: fastrnn.LSTM) -> None:
    refused(TypeError, "x must be", lambda: layer(None))
    refused(TypeError, "x must be", lambda: layer.forward(None))


@pytest.mark.parametrize("k", [0, 1], ids=["h0", "c0"])
@spoiled_or_resized
def test_state(
    data: Data, out: np.ndarray, k: int, error: type[Exception], rule: str, spoil: Spoil
) -> None:
    state = list(data.state)
    state[k] = spoil(state[k])
    runs_refused(data, out, error, rule, state=tuple(state))


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (TypeError, np.zeros((2, 4, 3, 6), f32)),
        (TypeError, "hc"),
        (TypeError, 5),
        (TypeError, {"h": 0}),
        (ValueError, ()),
        (ValueError, (np.zeros((4, 3, 6), f32),)),
        (ValueError, (np.zeros((4, 3, 6), f32),) * 3),
    ],
    ids=["array", "text", "number", "dict", "none", "one", "three"],
)
def test_not_a_pair(data: Data, out: np.ndarray, error: type[Exception], state: Any) -> None:
    runs_refused(data, out, error, "", state=state)


def test_a_pair_for_one_state(data: Data) -> None:
    x, h = data.x, np.zeros((1, 3, 6), f32)
    for layer in (fastrnn.GRU(4, 6), fastrnn.RNN(4, 6)):
        for state in ((h, h), (h,), [h]):
            call = partial(layer, x, state)
            refused(TypeError, "must be a NumPy array", call, layer.cell)


def test_a_list_has_all_of_its_arrays(data: Data, out: np.ndarray) -> None:
    """Nothing may be left out of masks or of the parameters of a step."""
    runs_refused(data, out, ValueError, "dropout mask 0 of shape", dropout_masks=[None])
    weights, x = (np.zeros((24, 4), f32), np.zeros((24, 6), f32)), np.zeros((1, 4), f32)
    step = partial(_native.engine.step_new, "lstm", (*weights, None, None), x, None)
    refused(ValueError, "bias_ih_l0 of shape", step, "lstm")


def test_a_call_with_parameters_keeps_no_tape(data: Data) -> None:
    parameters = tuple(data.params.values())
    call = _engine.Call(data.x, kind=_engine.FORWARD)
    run = partial(_native.engine.run_new, "lstm", 2, 2, parameters, call)
    refused(ValueError, "must keep no tape", run, "lstm")


@pytest.mark.parametrize("k", [0, 1])
@spoiled_or_resized
def test_dropout_masks(
    out: np.ndarray, k: int, error: type[Exception], rule: str, spoil: Spoil
) -> None:
    data = make_data(replace(CASE, L=3))
    masks = list(data.options["dropout_masks"])
    masks[k] = spoil(masks[k])
    runs_refused(data, out, error, rule, dropout_masks=masks)


@pytest.mark.parametrize("masks", [[], [np.ones((5, 3, 12), f32)] * 2], ids=["none", "two"])
def test_number_of_dropout_masks(data: Data, out: np.ndarray, masks: Any) -> None:
    runs_refused(data, out, ValueError, "masks must be one for each", dropout_masks=masks)


@pytest.mark.parametrize(
    ("error", "rule", "masks"),
    [
        (ValueError, "shape (4, 3, 6), got (3, 6)", np.ones((3, 6), f32)),
        (ValueError, "shape (4, 3, 6), got (4, 3, 1)", np.ones((4, 3, 1), f32)),
        (ValueError, "shape (4, 3, 6), got (4, 6, 3)", np.ones((4, 6, 3), f32)),
        (ValueError, "shape (4, 3, 6), got (1, 3, 6)", np.ones((1, 3, 6), f32)),
        (ValueError, "shape (4, 4, 3, 6), got (4, 1, 3, 6)", np.ones((4, 1, 3, 6), f32)),
        (ValueError, "shape (4, 4, 3, 6), got (4, 3, 3, 6)", np.ones((4, 3, 3, 6), f32)),
        (ValueError, "shape (4, 4, 3, 6)", np.ones((1,) * 9, f32)),
        (ValueError, "shape (4, 3, 6), got ()", np.ones((), f32)),
        (TypeError, "must be float32 in native byte order", np.ones((4, 3, 6))),
        (TypeError, "must be float32 in native byte order", np.ones((4, 3, 6), ">f4")),
        (TypeError, "must be float32 in native byte order", np.ones((4, 3, 6), bool)),
        (TypeError, "must be a NumPy array", [np.ones((3, 6), f32)] * 4),
        (TypeError, "must be a NumPy array", 0.5),
    ],
    ids=["rank", "columns", "turned", "passes", "one gate", "three gates", "rank 9", "rank 0",
         "float64", "byte order", "bool", "list", "number"],
)  # fmt: skip
def test_recurrent_masks(
    data: Data, out: np.ndarray, error: type[Exception], rule: str, masks: Any
) -> None:
    runs_refused(data, out, error, rule, recurrent_masks=masks)


def test_recurrent_masks_without_a_batch(layer: fastrnn.LSTM) -> None:
    x = np.zeros((5, 4), f32)
    masks = np.ones((4, 1, 6), f32)
    refused(ValueError, "shape (4, 4, 6), got (4, 1, 6)", lambda: layer(x, recurrent_masks=masks))


@pytest.mark.parametrize(
    "masks",
    [5, "ab", {1: 2}, np.broadcast_to(f32(1), (2**40, 5, 3, 12)), iter([])],
    ids=["number", "text", "dict", "endless array", "iterator"],
)
def test_not_a_list_of_masks(data: Data, out: np.ndarray, masks: Any) -> None:
    runs_refused(data, out, TypeError, "dropout_masks must be", dropout_masks=masks)


class Failing(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        raise KeyError("mine")


def test_a_list_that_cannot_be_read(data: Data) -> None:
    """An error of the caller's own code arrives as it is."""
    for wrong in ({"state": Failing(data.state)}, {"dropout_masks": Failing([data.x])}):
        with pytest.raises(KeyError, match="mine"):
            functional.infer("lstm", data.x, data.params, **wrong)
        with pytest.raises(KeyError, match="mine"):
            functional.forward("lstm", data.x, data.params, **wrong)


# ---- lengths and resets --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "rule", "lengths"),
    [
        (ValueError, "within 0..5", [5, -1, 2]),
        (ValueError, "within 0..5, got 6", [6, 5, 5]),
        (ValueError, "within 0..5", np.array([5, 2**63 - 1, 1])),
        (ValueError, "within 0..5", np.array([5, -(2**63), 1])),
        (ValueError, "got 18446744073709551615", np.array([2**64 - 1, 1, 1], np.uint64)),
        (ValueError, "got 9223372036854775808", np.array([2**63, 1, 1], np.uint64)),
        (ValueError, "within 0..5", np.array([-128, 1, 1], np.int8)),
        (ValueError, "within 0..5", np.array([255, 1, 1], np.uint8)),
        (ValueError, "shape (3,)", [5, 5]),
        (ValueError, "shape (3,)", [5, 5, 5, 5]),
        (ValueError, "shape (3,)", [[5, 5, 5]]),
        (ValueError, "shape (3,)", 5),
        (ValueError, "shape (3,)", []),
        (ValueError, "shape (3,)", np.zeros((1,) * 9, int)),
        (ValueError, "shape (3,)", np.broadcast_to(1, 2**50)),
        (TypeError, "must be integers", [5.0, 5.0, 5.0]),
        (TypeError, "must be integers", [5, np.nan, 5]),
        (TypeError, "must be integers", np.array([np.inf, 1, 1])),
        (TypeError, "must be integers", [True, False, True]),
        (TypeError, "must be integers", [5, None, 5]),
        (TypeError, "must be integers", [5, 2**64, 5]),
        (TypeError, "must be integers", ["5", "5", "5"]),
        (TypeError, "must be integers", "555"),
        (TypeError, "must be integers", {5, 4, 3}),
        (TypeError, "must be integers", [[5], [5, 5], []]),
        (TypeError, "must be integers", np.array([5, 5, 5], "m8[s]")),
        (TypeError, "must be integers", np.zeros(3, "i4,i4")),
        (TypeError, "must be integers in native byte order", np.array([5, 5, 5], ">i8")),
        (TypeError, "must be integers in native byte order", np.array([5, 5, 5], ">u2")),
    ],
    ids=repr,
)
def test_lengths(
    data: Data, out: np.ndarray, error: type[Exception], rule: str, lengths: Any
) -> None:
    runs_refused(data, out, error, rule, lengths=lengths)


def test_float_lengths_of_an_empty_batch() -> None:
    layer, x = fastrnn.LSTM(4, 6), np.zeros((5, 0, 4), f32)
    assert layer(x, lengths=[])[0].shape == (5, 0, 6)
    refused(TypeError, "must be integers", lambda: layer(x, lengths=np.zeros(0)))


def test_lengths_without_a_batch(layer: fastrnn.LSTM) -> None:
    x = np.zeros((5, 4), f32)
    refused(ValueError, "lengths need a batch", lambda: layer(x, lengths=[5]))


@pytest.mark.parametrize("name", ["resets", "holds"])
@pytest.mark.parametrize(
    ("error", "rule", "flags"),
    [
        (TypeError, "must be a NumPy array", [[True] * 3] * 5),
        (TypeError, "must be a NumPy array", [[True], [False] * 2]),
        (TypeError, "must be a NumPy array", True),
        (TypeError, "must be bool", np.zeros((5, 3), np.uint8)),
        (TypeError, "must be bool", np.zeros((5, 3), f32)),
        (TypeError, "must be bool", np.zeros((5, 3), object)),
        (ValueError, "shape (5, 3)", np.zeros((3, 5), bool)),
        (ValueError, "shape (5, 3)", np.zeros((5,), bool)),
        (ValueError, "shape (5, 3)", np.zeros((5, 1), bool)),
        (ValueError, "shape (5, 3)", np.zeros((5, 3, 1), bool)),
        (ValueError, "shape (5, 3)", np.zeros((), bool)),
        (ValueError, "shape (5, 3)", np.zeros((1,) * 9, bool)),
        (ValueError, "shape (5, 3)", np.broadcast_to(False, (2**40, 2**20))),
    ],
    ids=["list", "ragged", "True", "uint8", "float", "object", "turned", "rank 1", "one row",
         "rank 3", "rank 0", "rank 9", "huge"],
)  # fmt: skip
def test_flags_of_steps(
    data: Data, out: np.ndarray, error: type[Exception], rule: str, flags: Any, name: str
) -> None:
    runs_refused(data, out, error, rule, **{name: flags})


@pytest.mark.parametrize("name", ["resets", "holds"])
def test_flags_of_steps_without_a_batch(layer: fastrnn.LSTM, name: str) -> None:
    x = np.zeros((5, 4), f32)
    refused(ValueError, "shape (5,)", lambda: layer(x, **{name: np.zeros((5, 1), bool)}))


@pytest.mark.parametrize("value", [None, 2, "yes", 0.0, np.zeros(2, bool)])
def test_repeat_held(data: Data, out: np.ndarray, layer: fastrnn.LSTM, value: Any) -> None:
    runs_refused(data, out, TypeError, "repeat_held must be True or False", repeat_held=value)
    x = np.zeros((5, 4), f32)
    for call in (layer, layer.forward):
        refused(
            TypeError, "repeat_held must be True or False", lambda c=call: c(x, repeat_held=value)
        )


# ---- out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "rule", "spoil"),
    [row[1:] for row in SPOILED + OTHER_SIZES if row[0] != "scalar"],
    ids=[row[0] for row in SPOILED + OTHER_SIZES if row[0] != "scalar"],
)
def test_out(data: Data, out: np.ndarray, error: type[Exception], rule: str, spoil: Spoil) -> None:
    wrong = spoil(out)
    before = wrong.tobytes() if isinstance(wrong, np.ndarray) else None
    runs_refused(data, out, error, rule, out=wrong)
    assert before is None or wrong.tobytes() == before


def _read_only(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        ("must be writeable", _read_only),
        ("must be writeable", lambda a: np.broadcast_to(a[:1], a.shape)),
        ("must not overlap itself", lambda a: as_strided(a, strides=(0, 48, 4))),
        ("must not overlap itself", lambda a: as_strided(a, strides=(40, 48, 4))),
        ("must not overlap itself", lambda a: as_strided(a, strides=(4, 4, 4))),
        ("must be aligned", misaligned),
        ("contiguous in its last dimension", np.asfortranarray),
        ("contiguous in its last dimension", lambda a: np.repeat(a, 2, axis=2)[..., ::2]),
        ("contiguous in its last dimension", lambda a: a[..., ::-1]),
        ("must be aligned", lambda a: np.full(a.shape, SENTINEL, "f4,u1")["f0"]),
    ],
    ids=["read-only", "broadcast", "one step for all", "rows overlap", "all overlap", "misaligned",
         "columns first", "every second", "backwards", "field"],
)  # fmt: skip
def test_out_that_cannot_be_written(
    data: Data, out: np.ndarray, rule: str, make: Callable[[np.ndarray], np.ndarray]
) -> None:
    # Where `make` gives a view, it is of the sentinels.
    wrong = make(out)
    before = wrong.tobytes()
    runs_refused(data, out, ValueError, rule, out=wrong)
    assert wrong.tobytes() == before


@pytest.mark.parametrize(
    ("name", "size"),
    [("x", 60), ("h0", 72), ("c0", 72), ("mask", 180)],
    ids=["x", "h0", "c0", "mask"],
)
@pytest.mark.parametrize(
    "place", ["same start", "one on", "ends in it", "begins in it", "last byte"]
)
def test_out_over_an_input(name: str, size: int, place: str) -> None:
    """`out` shares an element with an input; directly before or after it, it may be."""
    memory = np.full(4000, SENTINEL, f32)
    data = make_data(replace(CASE, lengths=False, resets=False))
    begin = 4 * 1000
    shape = {"x": (5, 3, 4), "h0": (4, 3, 6), "c0": (4, 3, 6), "mask": (5, 3, 12)}[name]
    taken = np.ndarray(shape, f32, memory.data, offset=begin)
    given: dict[str, Any] = {"x": data.x, "state": data.state, **data.options}
    if name == "x":
        given["x"] = taken
    elif name == "mask":
        given["dropout_masks"] = [taken]
    else:
        given["state"] = (taken, data.state[1]) if name == "h0" else (data.state[0], taken)
    offset = {
        "same start": begin,
        "one on": begin + 4,
        "ends in it": begin - 4 * 179,
        "begins in it": begin + 4 * (size - 1),
        "last byte": begin + 4 * size - 1,
    }[place]
    out = np.ndarray((5, 3, 12), f32, memory.data, offset=offset)
    rule = "must not overlap" if place != "last byte" else "must be aligned"
    for run in (functional.infer, functional.forward):
        refused(ValueError, rule, partial(run, "lstm", params=data.params, **given, out=out))
    assert (memory == SENTINEL).all()

    for offset in (begin - 4 * 180, begin + 4 * size):
        beside = np.ndarray((5, 3, 12), f32, memory.data, offset=offset)
        y, _ = functional.infer("lstm", params=data.params, **given, out=beside)
        assert y is beside
        assert (taken == SENTINEL).all()
        assert not (beside == SENTINEL).any()


def test_out_over_resets(data: Data) -> None:
    memory = np.zeros(720, np.uint8)
    resets = memory[:15].view(bool).reshape(5, 3)
    out = memory.view(f32).reshape(5, 3, 12)
    refused(
        ValueError,
        "y must not overlap resets",
        lambda: functional.infer("lstm", data.x, data.params, resets=resets, out=out),
    )
    assert not memory.any()


def test_out_beside_an_input_is_taken() -> None:
    """Two parts of one buffer do not overlap, however their extents interleave."""
    buffer = np.zeros((7, 3, 20), f32)
    layer = fastrnn.GRU(4, 6, seed=0)
    x = buffer[..., 2:6]
    x[...] = np.random.default_rng(0).standard_normal(x.shape)
    wanted, _ = layer(x.copy())
    y, _ = layer(x, out=buffer[..., 6:12])
    assert (y == wanted).all()
    assert not buffer[..., 12:].any()


# ---- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1_reverse"])
@spoiled
def test_parameters(data: Data, name: str, error: type[Exception], rule: str, spoil: Spoil) -> None:
    wrong = spoil(data.params[name])
    if isinstance(wrong, np.ndarray) and wrong.dtype == "f8" and name == "weight_ih_l0":
        rule = ""  # the first one says what dtype the others must have
    if isinstance(wrong, np.ndarray) and wrong.ndim == 2 and error is ValueError:
        rule = ""  # a matrix of another shape makes another layer, which others then do not fit
    if isinstance(wrong, np.ndarray) and error is TypeError:
        rule = rule.replace("must be float32", "float32").replace("native byte order", "float32")
    params = {**data.params, name: wrong}
    x = data.x
    refused(error, rule, lambda: functional.infer("lstm", x, params))
    refused(error, rule, lambda: functional.pack("lstm", params))


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("weight_ih_l0 is needed", lambda p: p.pop("weight_ih_l0")),
        ("weight_hh_l0 is needed", lambda p: p.pop("weight_hh_l0")),
        ("bias_ih_l1_reverse is needed", lambda p: p.pop("bias_ih_l1_reverse")),
        ("weight_ih_l1_reverse is needed", lambda p: p.pop("weight_ih_l1_reverse")),
        ("is needed", lambda p: p.clear()),
        ("got 'weight'", lambda p: p.update(weight=p["weight_ih_l0"])),
        ("got 'weight_ih_l3'", lambda p: p.update(weight_ih_l3=p["weight_ih_l1"])),
        ("got 'bias_hh_l0'", lambda p: [p.pop(n) for n in list(p) if n.startswith("bias_ih")]),
        ("got 5", lambda p: p.update({5: p["weight_ih_l0"]})),
    ],
    ids=["w_ih", "w_hh", "bias", "direction", "all", "unknown", "far layer", "half", "number"],
)
def test_parameter_names(data: Data, rule: str, change: Callable[[dict[str, Any]], Any]) -> None:
    change(data.params)
    refused(ValueError, rule, lambda: functional.infer("lstm", data.x, data.params))


@pytest.mark.parametrize(
    "name", ["weight_hh_l0", "bias_ih_l0", "weight_ih_l1", "bias_hh_l1_reverse"]
)
def test_mixed_dtypes(data: Data, name: str) -> None:
    data.params[name] = data.params[name].astype(np.float64)
    refused(TypeError, name, lambda: functional.infer("lstm", data.x, data.params))


@pytest.mark.parametrize("size", ["I", "H", "both"])
def test_parameters_of_size_0(size: str) -> None:
    I, H = (0 if size in ("I", "both") else 4), (0 if size in ("H", "both") else 6)
    params = {"weight_ih_l0": np.zeros((H, I), f32), "weight_hh_l0": np.zeros((H, H), f32)}
    refused(
        ValueError,
        "size must be at least 1, got 0",
        lambda: functional.infer("rnn_tanh", np.zeros((5, 3, I), f32), params),
        "rnn_tanh",
    )


@pytest.mark.parametrize("params", [None, 5, "weight_ih_l0", [], np.zeros(3, f32)], ids=repr)
def test_not_a_mapping(data: Data, params: Any) -> None:
    refused(TypeError, "params must be", lambda: functional.infer("lstm", data.x, params))
    refused(TypeError, "params must be", lambda: functional.pack("lstm", params))


def test_packed_for_another_use(data: Data) -> None:
    x = data.x
    gru = make_data(replace(CASE, cell="gru")).params
    packed = functional.pack("gru", gru)
    refused(ValueError, "packed for this cell", lambda: functional.infer("lstm", x, packed))
    only_back = functional.pack("lstm", data.params, forward=False)
    refused(ValueError, "packed for forward", lambda: functional.infer("lstm", x, only_back))
    tape = functional.forward("lstm", x, data.params)[2]
    only_forward = functional.pack("lstm", data.params, backward=False)
    refused(
        ValueError,
        "packed for backward",
        lambda: functional.backward("lstm", only_forward, tape, data.dy),
    )


@pytest.mark.parametrize("cell", [None, 5, b"lstm", ["lstm"], np.zeros(3)], ids=repr)
def test_not_a_cell(data: Data, tape: functional.Tape, cell: Any) -> None:
    rule = "cell must be a name"
    refused(TypeError, rule, lambda: functional.infer(cell, data.x, data.params), "cell")
    refused(TypeError, rule, lambda: functional.forward(cell, data.x, data.params), "cell")
    refused(TypeError, rule, lambda: functional.backward(cell, data.params, tape, data.dy), "cell")
    refused(TypeError, rule, lambda: functional.pack(cell, data.params), "cell")
    refused(TypeError, rule, lambda: fastrnn.Recurrent(cell, 4, 6), "cell")


def test_unknown_cell(data: Data) -> None:
    rule = "cell must be one of"
    refused(ValueError, rule, lambda: functional.infer("lstn", data.x, data.params), "cell")
    refused(ValueError, rule, lambda: fastrnn.Recurrent("LSTM", 4, 6), "cell")
    refused(
        ValueError,
        "a function must be one of",
        lambda: functional.rnn(data.x, data.params, nonlinearity="softmax"),
        "cell",
    )


# ---- load_state_dict -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["weight_ih_l0", "bias_hh_l1_reverse"])
@pytest.mark.parametrize(
    ("error", "value"),
    [
        (ValueError, np.zeros((24, 5))),
        (ValueError, np.zeros(())),
        (ValueError, np.zeros((1, 1), f32)),
        (ValueError, np.zeros((1,) * 12)),
        (TypeError, np.zeros((24, 4), int)),
        (TypeError, np.zeros((24, 4), "c16")),
        (TypeError, np.zeros((24, 4), object)),
        (TypeError, np.zeros((24, 4), "f4,f4")),
        (TypeError, "x"),
        (TypeError, None),
        (TypeError, [[1.0], [1.0, 2.0]]),
    ],
    ids=["wide", "rank 0", "broadcastable", "rank 12", "int", "complex", "object", "records",
         "text", "None", "ragged"],
)  # fmt: skip
def test_load(layer: fastrnn.LSTM, name: str, error: type[Exception], value: Any) -> None:
    before, version = layer.state_dict(), layer.version
    # The others are right, and different: none may arrive.
    state = {n: a + 1 for n, a in before.items()}
    refused(error, name, lambda: layer.load_state_dict({**state, name: value}))
    assert all((a == before[n]).all() for n, a in layer.state_dict().items())
    assert layer.version == version


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        (
            "weight_hh_l1_reverse of shape (24, 6) is needed",
            lambda s: s.pop("weight_hh_l1_reverse"),
        ),
        ("got 'extra'", lambda s: s.update(extra=np.zeros(3))),
        ("got 3", lambda s: s.update({3: np.zeros(3)})),
    ],
    ids=["missing", "unknown", "number"],
)
def test_load_names(
    layer: fastrnn.LSTM, rule: str, change: Callable[[dict[str, Any]], Any]
) -> None:
    before, version = layer.state_dict(), layer.version
    state = {n: a + 1 for n, a in before.items()}
    change(state)
    refused(ValueError, rule, lambda: layer.load_state_dict(state))
    assert all((a == before[n]).all() for n, a in layer.state_dict().items())
    assert layer.version == version


@pytest.mark.parametrize("state", [None, 5, "bias_ih_l0", [1, 2], np.zeros(3)], ids=repr)
def test_load_what_is_no_mapping(layer: fastrnn.LSTM, state: Any) -> None:
    refused(TypeError, "must be a mapping", lambda: layer.load_state_dict(state))


# ---- backward ------------------------------------------------------------------------------------


@spoiled_or_resized
def test_dy(
    data: Data, tape: functional.Tape, error: type[Exception], rule: str, spoil: Spoil
) -> None:
    dy = spoil(data.dy)
    refused(error, rule, lambda: functional.backward("lstm", data.params, tape, dy))


def test_no_dy(data: Data, tape: functional.Tape) -> None:
    refused(ValueError, "dy", lambda: functional.backward("lstm", data.params, tape, None))


@pytest.mark.parametrize("k", [0, 1], ids=["dhn", "dcn"])
@spoiled_or_resized
def test_dstate(
    data: Data, tape: functional.Tape, k: int, error: type[Exception], rule: str, spoil: Spoil
) -> None:
    dstate = list(data.dstate)
    dstate[k] = spoil(dstate[k])
    call = partial(functional.backward, "lstm", data.params, tape, data.dy, tuple(dstate))
    refused(error, rule, call)


@pytest.mark.parametrize("dstate", [np.zeros((2, 4, 3, 6), f32), 5, "hc"], ids=["array", "5", "hc"])
def test_dstate_is_no_pair(data: Data, tape: functional.Tape, dstate: Any) -> None:
    refused(
        TypeError,
        "dstate must be a tuple of 2 arrays",
        lambda: functional.backward("lstm", data.params, tape, data.dy, dstate),
    )


def test_tape_of_another_layer(layer: fastrnn.LSTM, data: Data, tape: functional.Tape) -> None:
    twin = fastrnn.LSTM(4, 6, 2, bidirectional=True, dropout=0.5, seed=0)
    _, _, of_twin = twin.forward(data.x)
    refused(ValueError, "tape must be this layer's", lambda: layer.backward(of_twin, data.dy))
    refused(ValueError, "tape must be this layer's", lambda: layer.backward(tape, data.dy))
    cell, other = fastrnn.LSTMCell(4, 6), fastrnn.LSTMCell(4, 6)
    _, of_other = other.forward(data.x[0])
    refused(ValueError, "tape must be this layer's", lambda: cell.backward(of_other, None))


def test_tape_of_another_cell_or_size(data: Data, tape: functional.Tape) -> None:
    gru = make_data(replace(CASE, cell="gru")).params
    call = partial(functional.backward, "gru", gru, tape, data.dy)
    refused(ValueError, "tape must be of this cell", call, "gru")
    for other in (replace(CASE, H=7), replace(CASE, I=5), replace(CASE, L=1), replace(CASE, D=1)):
        params = make_data(replace(other, dropout=False)).params
        refused(ValueError, "", lambda p=params: functional.backward("lstm", p, tape, data.dy))
    params = make_data(replace(CASE, dtype="float64")).params
    refused(TypeError, "float64", lambda: functional.backward("lstm", params, tape, data.dy))


def test_tape_older_than_the_parameters(data: Data) -> None:
    layer = fastrnn.LSTM(4, 6, 2, bidirectional=True, seed=0)
    rule = "tape must be as new as the parameters"
    _, _, tape = layer.forward(data.x)
    layer.backward(tape, data.dy)
    with layer.mutable():
        pass
    refused(ValueError, rule, lambda: layer.backward(tape, data.dy))
    _, _, tape = layer.forward(data.x)
    layer.load_state_dict(layer.state_dict())
    refused(ValueError, rule, lambda: layer.backward(tape, data.dy))


@pytest.mark.parametrize("wrong", [None, 5, "tape", (), np.zeros((5, 3, 12), f32)], ids=repr)
def test_not_a_tape(layer: fastrnn.LSTM, data: Data, wrong: Any) -> None:
    rule = "tape must be a fastrnn tape"
    refused(TypeError, rule, lambda: layer.backward(wrong, data.dy))
    refused(TypeError, rule, lambda: functional.backward("lstm", data.params, wrong, data.dy))
    refused(TypeError, rule, lambda: fastrnn.LSTMCell(4, 6).backward(wrong, None))


@pytest.mark.parametrize(
    "forged",
    [
        {"x": None},
        {"x": np.zeros((5, 2, 4), f32)},
        {"x": np.zeros((6, 3, 4), f32)},
        {"y": np.zeros((5, 3, 11), f32)},
        {"state": np.zeros((2, 4, 3, 6), f32)},
        {"state": 5},
        {"state": ()},
        {"lengths": np.array([5, 6, 5])},
        {"lengths": np.array([5, 5])},
        {"resets": np.zeros((3, 5), bool)},
        {"holds": np.zeros((3, 5), bool)},
        {"repeat_held": 2},
        {"masks": 5},
        {"masks": (np.ones((5, 3, 11), f32),)},
        {"masks": (None,)},
        {"arrays": None},
        {"arrays": ()},
        {"arrays": (None, None, None)},
        {"arrays": (np.zeros((1, 5, 3, 12), f32),) * 3},
        {"cell": "gru"},
        {"cell": 5},
    ],
    ids=lambda forged: f"{next(iter(forged))} {np.shape(next(iter(forged.values())))}",
)
def test_forged_tape(data: Data, tape: functional.Tape, forged: dict[str, Any]) -> None:
    """A tape whose parts do not belong together is refused like any other argument."""
    wrong = replace(tape, **forged)
    refused(
        (ValueError, TypeError),  # type: ignore[arg-type]
        "",
        lambda: functional.backward("lstm", data.params, wrong, data.dy),
    )


@pytest.mark.parametrize("k", [0, 1, 2], ids=["inner", "states", "saved"])
def test_strided_arrays_of_a_tape(data: Data, tape: functional.Tape, k: int) -> None:
    """The tape is walked as blocks: another layout of the same values is refused, not misread."""
    right = tape.arrays[k]
    turned = np.ascontiguousarray(right.swapaxes(-3, -2)).swapaxes(-3, -2)
    repeated = np.broadcast_to(right[..., :1, :], right.shape)
    layouts = [a for a in (turned, repeated, misaligned(right)) if not a.flags.carray]
    assert layouts
    for wrong in layouts:
        arrays = tuple(wrong if i == k else a for i, a in enumerate(tape.arrays))
        forged = replace(tape, arrays=arrays)
        refused(
            ValueError,
            "must be aligned and contiguous",
            lambda forged=forged: functional.backward("lstm", data.params, forged, data.dy),
        )


@pytest.mark.parametrize("k", [0, 1, 2], ids=["inner", "states", "saved"])
def test_forged_arrays_of_a_tape(data: Data, tape: functional.Tape, k: int) -> None:
    """Every axis and the dtype of each of them is looked at."""
    right = tape.arrays[k]
    wrong: list[tuple[type[Exception], Any]] = [
        (TypeError, np.zeros(right.shape)),
        (TypeError, [1.0]),
        (ValueError, None),
        (ValueError, right[None]),
        (ValueError, right[0]),
    ]
    for axis in range(right.ndim):
        for n in (right.shape[axis] + 1, 0):
            shape = (*right.shape[:axis], n, *right.shape[axis + 1 :])
            wrong.append((ValueError, np.zeros(shape, f32)))
    for error, value in wrong:
        arrays = (*tape.arrays[:k], value, *tape.arrays[k + 1 :])
        forged = replace(tape, arrays=arrays)
        call = partial(functional.backward, "lstm", data.params, forged, data.dy)
        refused(error, "tape", call)


# ---- sizes and options of a layer ----------------------------------------------------------------

LAYERS = [fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN]
CELLS = [fastrnn.LSTMCell, fastrnn.GRUCell, fastrnn.RNNCell]
layers = pytest.mark.parametrize("make", LAYERS)
layers_and_cells = pytest.mark.parametrize("make", LAYERS + CELLS)


def op_of(make: Any) -> str:
    return {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}[make.__name__.removesuffix("Cell")]


@layers_and_cells
@pytest.mark.parametrize("name", ["input_size", "hidden_size"])
@pytest.mark.parametrize(
    ("error", "size"),
    [
        (ValueError, 0),
        (ValueError, -1),
        (ValueError, -(2**70)),
        (ValueError, 2**40),
        (ValueError, 2**63),
        (ValueError, 2**70),
        (TypeError, 4.0),
        (TypeError, np.nan),
        (TypeError, "4"),
        (TypeError, None),
        (TypeError, (4,)),
        (TypeError, np.array([4])),
        (TypeError, np.float32(4)),
        (TypeError, True),
        (MemoryError, 2**39),
    ],
    ids=repr,
)
def test_sizes(make: Any, name: str, error: type[Exception], size: Any) -> None:
    sizes = {"input_size": 4, "hidden_size": 6, name: size}
    rule = "memory" if error is MemoryError and name == "input_size" else name
    refused(error, rule, lambda: make(**sizes), op_of(make))


@layers
@pytest.mark.parametrize(
    ("error", "size"),
    [(ValueError, 0), (ValueError, -1), (TypeError, 1.0), (TypeError, True), (MemoryError, 2**39)],
    ids=repr,
)
def test_number_of_layers(make: Any, error: type[Exception], size: Any) -> None:
    refused(error, "num_layers", lambda: make(4, 6, size), op_of(make))


@layers_and_cells
def test_no_memory_for_the_parameters(make: Any) -> None:
    """Sizes that the engine could address and that no machine has."""
    refused(MemoryError, "memory for the parameters", lambda: make(4, 2**22), op_of(make))


@layers
@pytest.mark.parametrize("dropout", [-0.1, 1.5, np.nan, np.inf, 2], ids=repr)
def test_dropout_is_a_probability(make: Any, dropout: Any) -> None:
    refused(ValueError, "dropout must be", lambda: make(4, 6, 2, dropout=dropout), op_of(make))


@layers
@pytest.mark.parametrize("dropout", ["0.5", None, [0.5], np.array([0.5, 0.5]), True], ids=repr)
def test_dropout_is_a_number(make: Any, dropout: Any) -> None:
    refused(TypeError, "dropout must be", lambda: make(4, 6, 2, dropout=dropout), op_of(make))


RECOMPUTE = [
    (TypeError, "must be True, False or a number of steps", "yes"),
    (TypeError, "must be True, False or a number of steps", 2.0),
    (TypeError, "must be True, False or a number of steps", None),
    (TypeError, "must be True, False or a number of steps", np.array([2])),
    (ValueError, "must be within 0..2**40 steps", -1),
    (ValueError, "must be within 0..2**40 steps", 2**70),
]
recomputes = pytest.mark.parametrize(
    ("error", "rule", "recompute"), RECOMPUTE, ids=[repr(row[2]) for row in RECOMPUTE]
)


@layers
@recomputes
def test_recompute(make: Any, error: type[Exception], rule: str, recompute: Any) -> None:
    refused(error, f"recompute {rule}", lambda: make(4, 6, recompute=recompute), op_of(make))


NO_FLAGS = [
    np.array([1.0, 1.0]),
    np.array([True]),
    np.array([]),
    "yes",
    None,
    1.0,
    2,
    -1,
    [True],
    {},
]
no_flags = pytest.mark.parametrize("value", NO_FLAGS, ids=repr)


@no_flags
@pytest.mark.parametrize("name", ["bias", "batch_first", "bidirectional"])
@layers
def test_what_is_neither_true_nor_false(make: Any, name: str, value: Any) -> None:
    rule = f"{name} must be True or False"
    refused(TypeError, rule, lambda: make(4, 6, **{name: value}), op_of(make))


@no_flags
def test_bias_of_a_cell_that_is_neither_true_nor_false(value: Any) -> None:
    call = partial(fastrnn.GRUCell, 4, 6, bias=value)
    refused(TypeError, "bias must be True or False", call, "gru")


@no_flags
def test_options_of_a_call_that_are_neither_true_nor_false(
    data: Data, tape: functional.Tape, out: np.ndarray, value: Any
) -> None:
    rule = "batch_first must be True or False"
    runs_refused(data, out, TypeError, rule, batch_first=value)
    forged = replace(tape, batch_first=value)
    call = partial(functional.backward, "lstm", data.params, forged, data.dy)
    refused(TypeError, "batch_first of the tape must be True or False", call)
    for name in ("forward", "backward"):
        pack = partial(functional.pack, "lstm", data.params, **{name: value})
        refused(TypeError, f"{name} must be True or False", pack)


def test_other_ways_to_say_true() -> None:
    for value in (True, 1, np.True_, np.int64(1), np.array(1)):
        assert fastrnn.LSTM(4, 6, batch_first=value).batch_first is True
    assert fastrnn.LSTM(4, 6, bias=np.False_).bias is False


@pytest.mark.parametrize("n", [True, np.True_, 2.0, "2", None, np.array([2.0, 2.0])], ids=repr)
def test_number_of_threads_that_is_no_integer(n: Any) -> None:
    call = partial(fastrnn.set_num_threads, n)
    refused(TypeError, "n must be an integer", call, "set_num_threads")


@recomputes
def test_recompute_of_a_call(
    data: Data, out: np.ndarray, error: type[Exception], rule: str, recompute: Any
) -> None:
    call = partial(functional.forward, "lstm", data.x, data.params, recompute=recompute, out=out)
    refused(error, f"recompute {rule}", call)
    assert (out == SENTINEL).all()


@pytest.mark.parametrize(("error", "steps"), [(ValueError, 1), (ValueError, -1), (TypeError, "1")])
def test_forged_recompute_of_a_tape(
    data: Data, tape: functional.Tape, error: type[Exception], steps: Any
) -> None:
    """A tape that keeps everything is not one that keeps checkpoints."""
    forged = replace(tape, recompute=steps)
    call = partial(functional.backward, "lstm", data.params, forged, data.dy)
    refused(error, "", call)


@layers_and_cells
@pytest.mark.parametrize(
    "dtype",
    ["int16", "int32", "complex64", ">f4", ">f2", "longdouble", "object", "nonsense", None, 5,
     {"a": 1}, [("a",)], "f4,f4", np.zeros(3)],
    ids=repr,
)  # fmt: skip
def test_dtype(make: Any, dtype: Any) -> None:
    refused(TypeError, "dtype must be", lambda: make(4, 6, dtype=dtype), op_of(make))


@layers_and_cells
@pytest.mark.parametrize("device", ["cuda:0", "CPU", None, 0], ids=repr)
def test_device(make: Any, device: Any) -> None:
    refused(ValueError, "device must be", lambda: make(4, 6, device=device), op_of(make))


@layers_and_cells
@pytest.mark.parametrize(
    ("error", "seed"), [(ValueError, -1), (TypeError, 1.5), (TypeError, "a"), (TypeError, [1])]
)
def test_seed(make: Any, error: type[Exception], seed: Any) -> None:
    refused(error, "seed must", lambda: make(4, 6, seed=seed), op_of(make))


@pytest.mark.parametrize("make", [fastrnn.RNN, fastrnn.RNNCell])
@pytest.mark.parametrize("name", ["softmax", "Tanh", "", None, 3, np.zeros(2)], ids=repr)
def test_nonlinearity(make: Any, name: Any) -> None:
    error = ValueError if isinstance(name, str) else TypeError
    refused(error, "a function must be", lambda: make(4, 6, nonlinearity=name), "cell")


# ---- cells ---------------------------------------------------------------------------------------


@spoiled
def test_x_of_a_cell(data: Data, error: type[Exception], rule: str, spoil: Spoil) -> None:
    if spoil(np.zeros((3, 4), f32)) is None:
        return
    cell, x = fastrnn.LSTMCell(4, 6, seed=0), np.ones((3, 4), f32)
    wrong = spoil(x)
    if isinstance(wrong, np.ndarray) and wrong.shape == (4,) and wrong.dtype == f32:
        assert cell(wrong)[0].shape == (6,)  # rank 1 is a cell's x without a batch
        return
    refused(error, rule, lambda: cell(wrong))
    refused(error, rule, lambda: cell.forward(wrong))


@pytest.mark.parametrize("k", [0, 1], ids=["h", "c"])
@spoiled_or_resized
def test_state_of_a_cell(k: int, error: type[Exception], rule: str, spoil: Spoil) -> None:
    cell, x = fastrnn.LSTMCell(4, 6, seed=0), np.ones((3, 4), f32)
    state = [np.zeros((3, 6), f32), np.zeros((3, 6), f32)]
    _, tape = cell.forward(x)
    state[k] = spoil(state[k])
    refused(error, rule, lambda: cell(x, tuple(state)))
    refused(error, rule, lambda: cell.forward(x, tuple(state)))
    refused(error, rule, lambda: cell.backward(tape, tuple(state)))


def test_state_of_a_cell_is_no_list_of_lists() -> None:
    cell, x = fastrnn.GRUCell(4, 6), np.ones((3, 4), f32)
    endless: list[Any] = []
    endless.append(endless)
    for state in (endless, [[1.0]], (), "h", 5):
        refused(TypeError, "must be a NumPy array", lambda s=state: cell(x, s), "gru")
    lstm = fastrnn.LSTMCell(4, 6)
    refused(ValueError, "must hold 2", lambda: lstm(x, endless))
    refused(TypeError, "must be a NumPy array", lambda: lstm(x, [endless, endless]))


# ---- the engine's own settings -------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, -1, 4097, 2**31, 2**63, -(2**63), 2**70], ids=repr)
def test_set_num_threads_range(n: int) -> None:
    before = fastrnn.get_num_threads()
    refused(ValueError, "n must be within 1..4096", lambda: fastrnn.set_num_threads(n),
            "set_num_threads")  # fmt: skip
    assert fastrnn.get_num_threads() == before


@pytest.mark.parametrize("n", [1.5, "2", None, [2], np.float64(2), np.zeros(2)], ids=repr)
def test_set_num_threads_type(n: Any) -> None:
    before = fastrnn.get_num_threads()
    refused(TypeError, "n must be an integer", lambda: fastrnn.set_num_threads(n),
            "set_num_threads")  # fmt: skip
    assert fastrnn.get_num_threads() == before


def test_set_num_threads_takes_any_integer() -> None:
    fastrnn.set_num_threads(np.int8(3))  # type: ignore[arg-type]
    assert fastrnn.get_num_threads() == 3


@pytest.mark.parametrize(
    ("error", "shape"),
    [
        (ValueError, ()),
        (ValueError, (4,)),
        (ValueError, (5, 3, 2, 4)),
        (ValueError, (5, 3, 5)),
        (ValueError, (-1, 3, 4)),
        (ValueError, (5, -3, 4)),
        (ValueError, (2**70, 3, 4)),
        (MemoryError, (2**40, 2**40, 4)),
        (MemoryError, (2**62, 1, 4)),
        (MemoryError, (2**63 - 1, 2**63 - 1, 4)),
        (TypeError, (5.0, 3, 4)),
        (TypeError, (5, None, 4)),
        (TypeError, ("5", 3, 4)),
        (TypeError, 5),
        (TypeError, None),
        (TypeError, "TBI"),
        (TypeError, np.zeros((5, 3, 4))),
    ],
    ids=lambda value: repr(value).replace("\n", "") if not isinstance(value, type) else None,
)
def test_explain_shape(layer: fastrnn.LSTM, error: type[Exception], shape: Any) -> None:
    refused(error, "", lambda: fastrnn.explain(layer, shape))


@pytest.mark.parametrize("wrong", [None, 5, "lstm", np.zeros(3)], ids=repr)
def test_explain_what(wrong: Any) -> None:
    refused(TypeError, "layer must be", lambda: fastrnn.explain(wrong, (5, 3, 4)), "explain")


def child(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = [str(Path(fastrnn.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("level", ["sse9", "avx2,avx512", "a vx2"])
def test_unknown_level_in_the_environment(level: str) -> None:
    done = child("import fastrnn; fastrnn.LSTM(4, 6)", FASTRNN_ISA=level)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(r"ValueError: \[isa\] FASTRNN_ISA must be one of .+, got .+", last), last
    assert last.endswith(level)


def test_level_in_the_environment_is_a_cap() -> None:
    for level in _native.engine.usable_levels():
        done = child("import fastrnn; print(fastrnn.build_info()['level'])", FASTRNN_ISA=level)
        assert (done.returncode, done.stdout.strip()) == (0, level), done.stderr


@pytest.mark.parametrize("text", ["SCALAR", " Scalar\t", "\n", ""])
def test_level_in_the_environment_in_any_letters(text: str) -> None:
    done = child("import fastrnn; print(fastrnn.build_info()['level'])", FASTRNN_ISA=text)
    wanted = text.strip().lower() or _native.engine.usable_levels()[-1]
    assert (done.returncode, done.stdout.strip()) == (0, wanted), done.stderr


def test_unknown_level() -> None:
    engine = _native.engine
    before = engine.level()
    refused(ValueError, "level must be one", lambda: engine.use_level("sse9"), "isa")
    assert engine.level() == before


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [(2**24, 2**22, 4), (1, 2**45, 4), (0, 2**45, 4), (2**29, 2**29, 4)],
    ids=repr,
)
def test_results_that_no_memory_holds(shape: tuple[int, ...]) -> None:
    layer = fastrnn.LSTM(4, 6, 2, dropout=0.5)
    x = np.broadcast_to(f32(0), shape)
    refused(MemoryError, "", lambda: layer(x))
    refused(MemoryError, "", lambda: layer.forward(x))


def test_more_steps_than_can_be_counted() -> None:
    """Even without rows: offsets of this size would not be numbers any more."""
    layer = fastrnn.GRU(4, 6)
    x = np.empty((2**58, 0, 4), f32)
    refused(MemoryError, "must be addressable", lambda: layer(x), "gru")
    refused(MemoryError, "must be addressable", lambda: layer.forward(x), "gru")


def test_endless_time_without_rows() -> None:
    """Nothing to compute, and nothing to hold."""
    layer = fastrnn.GRU(4, 6)
    y, _, tape = layer.forward(np.empty((2**45, 0, 4), f32))
    assert y.shape == (2**45, 0, 6)
    dx, dh, grads = layer.backward(tape, y)
    assert dx.shape == (2**45, 0, 4)
    assert dh.shape == (1, 0, 6)
    assert not any(g.any() for g in grads.values())


CALL_WITH_LITTLE_MEMORY = """
import resource, sys
import numpy as np
import fastrnn

threads, megabytes, T, B, n = map(int, sys.argv[1:])
fastrnn.set_num_threads(threads)
layer = fastrnn.LSTM(n, n, seed=0)
x, out = np.zeros((T, B, n), np.float32), np.full((T, B, n), 7.5, np.float32)
fastrnn.explain(layer, x.shape)  # packs the weights
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20,) * 2)
try:
    layer(x, out=out)
except MemoryError as error:
    assert str(error).startswith("[lstm] ") and ", got " in str(error), error
    assert out.min() == out.max() == 7.5
    print("MemoryError")
else:
    print("done")
"""


@pytest.mark.parametrize(
    ("threads", "megabytes", "sizes"),
    [
        # The states, the workspace (5 MB) and the stacks of threads (8 MB each).
        (2, (0, 1, 3, 5, 8, 12, 64), (20, 1024, 64)),
        (64, (8, 64, 400), (20, 1024, 64)),
        # The engine's lists of rows (24 MB), before its workspace.
        (1, (10, 20, 30, 40, 1000), (1, 2**20, 1)),
    ],
    ids=["two threads", "many threads", "many rows"],
)
def test_call_with_little_memory(
    threads: int, megabytes: tuple[int, ...], sizes: tuple[int, int, int]
) -> None:
    """Whatever cannot be had, the process lives on."""
    outcomes = set()
    for some in megabytes:
        arguments = list(map(str, (threads, some, *sizes)))
        done = child(f"import sys; sys.argv[1:] = {arguments}\n" + CALL_WITH_LITTLE_MEMORY)
        assert done.returncode == 0, f"{some} MB: {done.stderr[-500:]}"
        outcomes.add(done.stdout.strip())
    assert "done" in outcomes
    if threads <= 2:
        assert "MemoryError" in outcomes


# ---- what is not bad -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "<i4", "="])
def test_lengths_of_any_integers(dtype: str) -> None:
    """Also those whose top bit would be a sign in another type, and at any address."""
    dtype = {"=": "intp"}.get(dtype, dtype)
    T = 127 if dtype == "i1" else 255
    layer, x = fastrnn.RNN(4, 6, seed=0), np.ones((T, 3, 4), f32)
    y, hn = layer(x, lengths=[T, 0, T - 1])
    for lengths in (np.array([T, 0, T - 1], dtype), misaligned(np.array([T, 0, T - 1], dtype))):
        y2, hn2 = layer(x, lengths=lengths)
        assert y.tobytes() == y2.tobytes()
        assert hn.tobytes() == hn2.tobytes()
    y2, hn2 = layer(x, lengths=np.array([T - 1, 0, T], dtype)[::-1])
    assert y.tobytes() == y2.tobytes()


def test_subclasses_are_arrays(data: Data) -> None:
    """Taken as the numbers they hold; a mask of NumPy's is not lengths."""
    plain = functional.infer("lstm", data.x, data.params, data.state)
    masked = np.ma.masked_array(data.x, mask=data.x > 0)
    y, state = functional.infer("lstm", masked, data.params, data.state)
    for a, b in zip((y, *flat_state(state)), (plain[0], *flat_state(plain[1])), strict=True):
        assert type(a) is np.ndarray
        assert a.tobytes() == b.tobytes()


def test_a_refusal_leaves_no_trace(layer: fastrnn.LSTM, data: Data) -> None:
    """After every kind of refusal the layer computes what it did before, masks included."""
    twin = fastrnn.LSTM(4, 6, 2, bidirectional=True, dropout=0.5, seed=0)
    for call in (
        lambda: layer(data.x[..., 1:]),
        lambda: layer.forward(data.x[..., 1:]),
        lambda: layer.forward(data.x.astype(int)),
        lambda: layer(data.x, lengths=[9, 9, 9]),
        lambda: layer.load_state_dict({}),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
    assert layer(data.x)[0].tobytes() == twin(data.x)[0].tobytes()
    assert layer.forward(data.x)[0].tobytes() == twin.forward(data.x)[0].tobytes()


def test_half_a_state() -> None:
    """None stands for a whole state, never for one of two arrays."""
    layer = fastrnn.LSTM(4, 6)
    x = np.ones((5, 3, 4), f32)
    h = np.ones((1, 3, 6), f32)
    refused(TypeError, "state must hold arrays", lambda: layer(x, (h, None)))
    y, _, tape = layer.forward(x)
    refused(TypeError, "dstate must hold arrays", lambda: layer.backward(tape, y, (None, h)))
