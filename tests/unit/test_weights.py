"""Converters of weights, without a framework: orders, bits, equations, refusals, the document.

The frameworks themselves are asked in tests/adapters/test_weights_frameworks.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
import tiers
from builds import ROOT
from cases import flat_state
from fastrnn import reference, weights
from fastrnn.reference.cell import find
from fastrnn.weights._conventions import CONVENTIONS, PEEPHOLES, RESET_AFTER

I, H = 3, 4
SIMPLE = ["rnn_tanh", "rnn_relu", "rnn_sigmoid"]
CELLS = [*SIMPLE, "lstm", "gru", "gru_reset_before"]
GATES = {**dict.fromkeys(SIMPLE, 1), "lstm": 4, "gru": 3, "gru_reset_before": 3}
FORMATS = ["keras", "onnx", "cudnn", "haste"]
PAIRS = [(name, cell) for name in FORMATS for cell in CELLS if cell in CONVENTIONS[name]]
pairs = pytest.mark.parametrize(("name", "cell"), PAIRS, ids=str)

Params = dict[str, np.ndarray]


def to_format(name: str, cell: str, params: Params) -> Any:
    """One layer, `l0`, in a format, by its own function."""
    if name == "haste":
        directions = 2 if "weight_ih_l0_reverse" in params else 1
        return [weights.to_haste(cell, params, 0, reverse) for reverse in range(directions)]
    return getattr(weights, f"to_{name}")(cell, params)


def from_format(name: str, cell: str, arrays: Any) -> Params:
    if name == "onnx":
        return weights.from_onnx(cell, **arrays, linear_before_reset=int(cell == "gru"))
    if name == "cudnn":
        return weights.from_cudnn(cell, *arrays, bidirectional=len(arrays[0]) == 2)
    if name == "haste":
        found: Params = {}
        for reverse, each in enumerate(arrays):
            found |= weights.from_haste(cell, each, reverse=bool(reverse))
        return found
    return weights.from_keras(cell, arrays)


def flat(arrays: Any) -> Iterator[np.ndarray]:
    """All arrays of a format, in its order."""
    if isinstance(arrays, np.ndarray):
        yield arrays
    elif arrays is not None:
        for each in arrays.values() if isinstance(arrays, dict) else arrays:
            yield from flat(each)


def filled(arrays: Any, fill: Callable[[tuple[int, ...]], np.ndarray]) -> Any:
    """The same structure, with arrays of other values."""
    if isinstance(arrays, dict):
        return {name: filled(each, fill) for name, each in arrays.items()}
    if isinstance(arrays, (list, tuple)):
        return type(arrays)(filled(each, fill) for each in arrays)
    return None if arrays is None else fill(arrays.shape)


def same_bits(a: Any, b: Any) -> None:
    one, two = list(flat(a)), list(flat(b))
    assert len(one) == len(two) > 0
    for x, y in zip(one, two, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert x.tobytes() == y.tobytes()


def layer_of(cell: str, **options: Any) -> fastrnn.Recurrent:
    return fastrnn.Recurrent(cell, I, H, seed=1, **options)


# ---- the table -----------------------------------------------------------------------------------

# From the formats' own documentation, written down a second time: each with its own letters.
ORDERS = {
    ("keras", "lstm"): "ifco",
    ("keras", "gru"): "zrh",
    ("keras", "gru_reset_before"): "zrh",
    ("onnx", "gru_reset_before"): "zrh",
    ("onnx", "lstm"): "iofc",
    ("onnx", "gru"): "zrh",
    ("cudnn", "lstm"): "ifco",
    ("cudnn", "gru"): "rzh",
    ("haste", "lstm"): "icfo",
    ("haste", "gru"): "zrh",
}


@pytest.mark.parametrize(("name", "cell"), ORDERS, ids=str)
def test_orders_of_gates(name: str, cell: str) -> None:
    """Every array of a layer whose gates are numbers has them where its format has that gate."""
    own = {"lstm": "ifco", "gru": "rzh"}[cell.removesuffix("_reset_before")]
    params = {
        k: np.broadcast_to(np.repeat(np.arange(len(own)), H), a.shape[::-1]).T.astype(np.float32)
        for k, a in layer_of(cell).state_dict().items()
    }
    params["bias_hh_l0"] = np.zeros_like(params["bias_hh_l0"]) - 0.0
    gates = [own.index(letter) for letter in ORDERS[name, cell]]
    arrays = to_format(name, cell, params)
    if name == "cudnn":
        for of_layer in (arrays[0][0], arrays[1][0][: len(own)]):
            assert [float(a.mean()) for a in of_layer] == (2 * gates)[: len(of_layer)]
        return
    both = np.repeat(gates, H)
    kernel, recurrent = list(flat(arrays))[:2]
    rows = (kernel[0], recurrent[0]) if name == "onnx" else (kernel.T, recurrent.T)
    for matrix in rows:
        assert (matrix == both[:, None]).all()
    biases = [bias for bias in list(flat(arrays))[2:] if bias.any()]
    assert len(biases) == 1
    assert (biases[0].ravel()[: len(both)] == both).all()


def test_the_table_has_the_cells_of_the_engine() -> None:
    gates = {cell: find(cell).gates for cell in reference.names()}
    for name, rows in CONVENTIONS.items():
        for cell, row in rows.items():
            assert len(set(row.own_gates)) == len(row.own_gates) == gates[cell], (name, cell)
            assert set(row.own_gates) == set(CONVENTIONS["torch"][cell].gates)
    assert set(CONVENTIONS["torch"]) == {*CELLS, "lstm_coupled"} <= set(gates)
    assert set(PEEPHOLES) <= set(gates)
    assert set(RESET_AFTER) <= set(gates)


def document_rows() -> list[str]:
    """The table of docs/weights.md as the table of the code has it."""
    lines = ["| format | cell | gates | arrays |", "| - | - | - | - |"]
    for name, rows in CONVENTIONS.items():
        shown: dict[Any, list[str]] = {}
        for cell, row in rows.items():
            shown.setdefault(row, []).append(cell)
        for row, cells in shown.items():
            arrays = ", ".join(
                f"`{part.name}` ({', '.join(part.groups)}{',' * (len(part.groups) == 1)})"
                f"{' = b_ih + b_hh' * (part.holds == ('bias',))}"
                for part in row.arrays
            )
            names = " ".join(f"`{cell}`" for cell in cells)
            lines.append(f"| {name} | {names} | {' '.join(row.gates)} | {arrays} |")
    return lines


def test_the_document_has_the_table() -> None:
    text = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    found = [line for line in text.splitlines() if line.startswith("|")]
    assert found == document_rows(), "\n".join(document_rows())


# ---- bits ----------------------------------------------------------------------------------------

DTYPES = [np.dtype(t) for t in ("float32", "float64", "float16", ml_dtypes.bfloat16)]


def any_bits(rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Floats of any bits, but for signalling NaNs, which no addition keeps; many special ones."""
    bits = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype)[..., 0]
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0], dtype)
    picked = rng.choice(special, shape)
    with np.errstate(invalid="ignore"):
        nan = np.isnan(bits)
    return np.where(rng.integers(0, 2, shape, bool) | nan, picked, bits)


@pairs
@settings(max_examples=tiers.choose(dev=10, ci=40, full=400))
@given(data=st.data())
def test_round_trips_from_a_format_keep_every_bit(
    name: str, cell: str, data: st.DataObject
) -> None:
    """To this library and back, through every array that the format has."""
    dtype = data.draw(st.sampled_from(DTYPES))
    I, H, D = (data.draw(st.integers(1, n)) for n in (5, 6, 2))
    bias = data.draw(st.booleans()) or name == "haste"
    layer = fastrnn.Recurrent(cell, I, H, bias=bias, bidirectional=D == 2)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    arrays = filled(
        to_format(name, cell, layer.state_dict()), lambda shape: any_bits(rng, dtype, shape)
    )
    before = [a.tobytes() for a in flat(arrays)]
    params = from_format(name, cell, arrays)
    assert {n: a.shape for n, a in params.items()} == {
        n: a.shape for n, a in layer.state_dict().items()
    }
    assert all(a.flags.c_contiguous and a.flags.writeable for a in params.values())
    same_bits(to_format(name, cell, params), arrays)
    for a in params.values():  # in memory of their own
        a[...] = 0
    assert [a.tobytes() for a in flat(arrays)] == before


@pairs
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_keep_their_bits(name: str, cell: str, dtype: str, bias: bool) -> None:
    """Through a format and back, also where two biases became one; weights are untouched."""
    options: dict[str, Any] = {"bidirectional": True, "dtype": dtype, "bias": bias}
    layer = layer_of(cell, **options)
    params = from_format(name, cell, to_format(name, cell, layer.state_dict()))
    other = fastrnn.Recurrent(cell, I, H, seed=2, **{**options, "bias": "bias_ih_l0" in params})
    other.load_state_dict(params)
    one_bias = CONVENTIONS[name][cell].parts[-1].holds == ("bias",)
    for key, value in layer.state_dict().items():
        if key.startswith("weight") or not one_bias:
            assert params[key].tobytes() == value.tobytes()
    x = np.random.default_rng(0).standard_normal((7, 5, I)).astype(dtype)
    lengths = [7, 3, 0, 1, 5]
    for a, b in zip(
        flat([layer(x)[0], *flat_state(layer(x, lengths=lengths)[1])]),
        flat([other(x)[0], *flat_state(other(x, lengths=lengths)[1])]),
        strict=True,
    ):
        assert a.tobytes() == b.tobytes()


def test_one_bias_is_the_sum_in_its_dtype() -> None:
    params = layer_of("lstm").state_dict()
    params["bias_ih_l0"][:] = np.float32(1)
    params["bias_hh_l0"][:] = np.float32(2**-24)  # half a rounding: lost in float32
    assert (weights.to_keras("lstm", params)[2] == np.float32(1)).all()
    params["bias_ih_l0"][:] = params["bias_hh_l0"][:] = -0.0
    assert np.signbit(weights.to_keras("lstm", params)[2]).all()
    params["bias_ih_l0"][:] = params["bias_hh_l0"][:] = np.finfo(np.float32).max
    assert np.isinf(weights.to_keras("lstm", params)[2]).all()  # and no warning


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_relu"])
def test_single_biases_of_cudnn(cell: str, half: int) -> None:
    matrices, biases = weights.to_cudnn(cell, layer_of(cell).state_dict())
    G, own = GATES[cell], biases[0]
    single = [None if (at >= G) != bool(half) else own[at] for at in range(2 * G)]
    params = weights.from_cudnn(cell, matrices, [single])
    kept, none = ("bias_hh_l0", "bias_ih_l0") if half else ("bias_ih_l0", "bias_hh_l0")
    assert params[kept].tobytes() == layer_of(cell).state_dict()[kept].tobytes()
    assert not params[none].any()
    assert np.signbit(params[none]).all()
    without = weights.from_cudnn(cell, matrices, [[None] * 2 * G])
    assert sorted(without) == ["weight_hh_l0", "weight_ih_l0"]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_projections_of_cudnn(bidirectional: bool, bias: bool) -> None:
    """One matrix more, (P, H), after those of the gates; all else has P where it had H columns."""
    layer = fastrnn.LSTM(
        I, H, num_layers=2, proj_size=2, bidirectional=bidirectional, bias=bias, seed=3
    )
    params = layer.state_dict()
    matrices, biases = weights.to_cudnn("lstm", params)
    assert [m.shape for m in matrices[0]] == [(H, I)] * 4 + [(H, 2)] * 4 + [(2, H)]
    assert matrices[-1][8].tobytes() == params[list(params)[-1]].tobytes()
    back = weights.from_cudnn("lstm", matrices, biases, bidirectional=bidirectional)
    assert set(back) == set(params)
    same_bits({name: back[name] for name in params}, params)
    matrices[0][8][:] = 0
    assert params["weight_hr_l0"].any(), "arrays have memory of their own"


# ---- stacks --------------------------------------------------------------------------------------


def test_a_stack_layer_by_layer() -> None:
    layer = layer_of("gru", num_layers=3, bidirectional=True)
    params = layer.state_dict()
    matrices, biases = weights.to_cudnn("gru", params)
    assert len(matrices) == len(biases) == 6
    assert [m.shape for m in matrices[2]] == [(H, 2 * H)] * 3 + [(H, H)] * 3
    # Pseudo-layer 3 is the second layer's second direction; 4 the matrix of h with r.
    assert matrices[3][3].tobytes() == params["weight_hh_l1_reverse"][:H].tobytes()
    assert biases[3][5].tobytes() == params["bias_hh_l1_reverse"][2 * H :].tobytes()
    same_bits(weights.from_cudnn("gru", matrices, biases, bidirectional=True), params)
    found: Params = {}
    for k in range(3):
        keras = weights.to_keras("gru", params, k)
        through = weights.to_onnx("gru", weights.from_keras("gru", keras))
        found |= weights.from_onnx("gru", **through, layer=k, linear_before_reset=1)
    same_bits(found, params)
    other = layer_of("gru", num_layers=3, bidirectional=True)
    other.load_state_dict(found)


def test_arrays_of_other_byte_orders_and_layouts() -> None:
    arrays = weights.to_keras("lstm", layer_of("lstm").state_dict())
    strange = [np.asfortranarray(a).astype(">f4") for a in arrays]
    same_bits(weights.from_keras("lstm", strange), weights.from_keras("lstm", arrays))


# ---- equations -----------------------------------------------------------------------------------


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def haste_lstm(x: np.ndarray, w: Params) -> np.ndarray:
    """The equations of haste's documentation, gates i g f o."""
    h = c = np.zeros((x.shape[1], H))
    ys = []
    for xt in x:
        i, g, f, o = np.split(xt @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        ys.append(h)
    return np.stack(ys)


def haste_gru(x: np.ndarray, w: Params) -> np.ndarray:
    """The equations of haste's documentation, gates z r h."""
    h = np.zeros((x.shape[1], H))
    ys = []
    for xt in x:
        of_x = np.split(xt @ w["kernel"] + w["bias"], 3, axis=1)
        of_h = np.split(h @ w["recurrent_kernel"] + w["recurrent_bias"], 3, axis=1)
        z, r = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
        h = z * h + (1 - z) * np.tanh(of_x[2] + r * of_h[2])
        ys.append(h)
    return np.stack(ys)


def cudnn_gru(x: np.ndarray, W: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """The equations of cudnnRNNMode_t: r' is matrix 0 and 3, i' 1 and 4, h' 2 and 5."""
    h = np.zeros((x.shape[1], H))
    ys = []
    for xt in x:
        r = sigmoid(xt @ W[0].T + h @ W[3].T + b[0] + b[3])
        i = sigmoid(xt @ W[1].T + h @ W[4].T + b[1] + b[4])
        new = np.tanh(xt @ W[2].T + r * (h @ W[5].T + b[5]) + b[2])
        h = (1 - i) * new + i * h
        ys.append(h)
    return np.stack(ys)


def cudnn_lstm(x: np.ndarray, W: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """The equations of cudnnRNNMode_t: i, f, c' and o are matrices 0 to 3, 4 to 7; 8 projects."""
    h, c = np.zeros((x.shape[1], W[4].shape[1])), np.zeros((x.shape[1], H))
    ys = []
    for xt in x:
        i, f, new, o = (xt @ W[k].T + h @ W[k + 4].T + b[k] + b[k + 4] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
        h = sigmoid(o) * np.tanh(c)
        h = h @ W[8].T if len(W) > 8 else h
        ys.append(h)
    return np.stack(ys)


def test_a_projected_layer_computes_what_cudnn_computes() -> None:
    layer = fastrnn.LSTM(I, H, proj_size=2, dtype="float64", seed=1)
    x = np.random.default_rng(0).standard_normal((6, 2, I))
    matrices, biases = weights.to_cudnn("lstm", layer.state_dict())
    assert np.allclose(cudnn_lstm(x, matrices[0], biases[0]), layer(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_layers_compute_what_the_formats_compute(cell: str) -> None:
    layer = layer_of(cell, dtype="float64")
    params = layer.state_dict()
    x = np.random.default_rng(0).standard_normal((6, 2, I))
    y = layer(x)[0]
    haste = {"lstm": haste_lstm, "gru": haste_gru}[cell]
    assert np.allclose(haste(x, weights.to_haste(cell, params)), y, rtol=0, atol=1e-12)
    matrices, biases = weights.to_cudnn(cell, params)
    cudnn = {"lstm": cudnn_lstm, "gru": cudnn_gru}[cell]
    assert np.allclose(cudnn(x, matrices[0], biases[0]), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("input_forget", [False, True])
def test_peepholes_and_coupled_gates_of_onnx(input_forget: bool, bidirectional: bool) -> None:
    """P has the order i o f, and a coupled LSTM has rows of f, which are 0."""
    options = {"peepholes": True, "input_forget": input_forget, "bidirectional": bidirectional}
    layer = fastrnn.LSTM(I, H, **options, seed=0)  # type: ignore[arg-type]
    params = layer.state_dict()
    arrays = weights.to_onnx(layer.cell, params)
    i, o, f = arrays["P"][0].reshape(3, H)
    own = params["weight_diag_l0"].reshape(-1, H)
    assert (i == own[0]).all()
    assert (o == own[-1]).all()
    assert (f == (0 if input_forget else own[1])).all()
    rows_of_f = arrays["W"][0].reshape(4, H, I)[2]
    assert (rows_of_f == 0).all() == input_forget
    back = weights.from_onnx(layer.cell, **arrays, input_forget=int(input_forget))
    assert list(back) == list(params)
    assert {k: a.tobytes() for k, a in back.items()} == {k: a.tobytes() for k, a in params.items()}
    without = weights.from_onnx(layer.cell, **{**arrays, "P": None}, input_forget=int(input_forget))
    assert not without["weight_diag_l0"].any()


def test_cells_with_functions_have_the_weights_of_their_bases() -> None:
    for chosen, base in (
        ("lstm(clip=3.0)", "lstm"),
        ("lstm(state=-3.0:3.0)", "lstm"),
        ("gru(relu, tanh)", "gru"),
        ("rnn(elu(0.5))", "rnn_tanh"),
    ):
        params = layer_of(base).state_dict()
        for make, back in (
            (weights.to_keras, weights.from_keras),
            (weights.to_onnx, None),
        ):
            wanted, found = make(base, params), make(chosen, params)
            assert [a.tobytes() for a in flat(found)] == [a.tobytes() for a in flat(wanted)]
            if back:
                assert list(back(chosen, found)) == list(back(base, wanted))
        with pytest.raises(ValueError, match="cell must be one that haste has"):
            weights.to_haste(chosen, params)


# ---- refusals ------------------------------------------------------------------------------------


def z(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


KERAS_GRU = [z(I, 3 * H), z(H, 3 * H), z(2, 3 * H)]
KERAS = [z(I, 4 * H), z(H, 4 * H), z(4 * H)]
ONNX = {"W": z(1, 4 * H, I), "R": z(1, 4 * H, H), "B": z(1, 8 * H)}
ONNX_GRU = {"W": z(1, 3 * H, I), "R": z(1, 3 * H, H)}
OURS = {"weight_ih_l0": z(4 * H, I), "weight_hh_l0": z(4 * H, H)}
PROJECTED = {"weight_ih_l0": z(4 * H, I), "weight_hh_l0": z(4 * H, 2), "weight_hr_l0": z(2, H)}
HASTE = dict(zip(("kernel", "recurrent_kernel", "bias"), KERAS, strict=True))
DIFFERENT = "different functions of h"

REFUSALS: list[tuple[str, type[Exception], str, Callable[[], Any]]] = [
    ("from_keras", ValueError, DIFFERENT,
     lambda: weights.from_keras("gru", KERAS_GRU, reset_after=False)),
    ("from_keras", ValueError, "that resets after the recurrent product, as 'gru' does, got one "
     "that resets before it",
     lambda: weights.from_keras("gru", [*KERAS_GRU[:2], z(3 * H)])),
    ("from_onnx", ValueError, DIFFERENT, lambda: weights.from_onnx("gru", **ONNX_GRU)),
    ("from_keras", ValueError, "that resets before the recurrent product, as 'gru_reset_before' "
     "does, got one that resets after it",
     lambda: weights.from_keras("gru_reset_before", KERAS_GRU[:2], reset_after=True)),
    ("from_keras", ValueError, "bias must have shape (GH)",
     lambda: weights.from_keras("gru_reset_before", KERAS_GRU)),
    ("from_onnx", ValueError, "the other cell is 'gru'",
     lambda: weights.from_onnx("gru_reset_before", **ONNX_GRU, linear_before_reset=1)),
    ("from_onnx", ValueError, "input_forget must be 0",
     lambda: weights.from_onnx("lstm", **ONNX, input_forget=1)),
    ("from_onnx", ValueError, "input_forget must be 1",
     lambda: weights.from_onnx("lstm_coupled", **ONNX)),
    ("from_onnx", TypeError, "arrays must have one dtype",
     lambda: weights.from_onnx("lstm_peephole", **ONNX, P=z(1, 3 * H, dtype=np.float64))),
    ("to_onnx", ValueError, "weight_diag_l0 must be there",
     lambda: weights.to_onnx("lstm_peephole", OURS)),
    ("to_keras", ValueError, "cell must be one that keras has",
     lambda: weights.to_keras("lstm_coupled", OURS)),
    ("from_onnx", ValueError, "P must be 0",
     lambda: weights.from_onnx("lstm", **ONNX, P=z(1, 3 * H) + 1)),
    ("from_onnx", ValueError, "P must be 0",
     lambda: weights.from_onnx("lstm", **ONNX, P=z(1, 3 * H) * np.nan)),
    ("from_onnx", ValueError, "P must have shape (1, 12)",
     lambda: weights.from_onnx("lstm", **ONNX, P=z(3 * H))),
    ("from_onnx", ValueError, "W must have shape (D, GH, K)",
     lambda: weights.from_onnx("lstm", **{**ONNX, "W": z(4 * H, I)})),
    ("from_onnx", ValueError, "directions 1 or 2",
     lambda: weights.from_onnx("lstm", z(3, 4 * H, I), z(3, 4 * H, H))),
    ("from_onnx", ValueError, "R must have shape (2, 16, 4)",
     lambda: weights.from_onnx("lstm", z(2, 4 * H, I), z(1, 4 * H, H))),
    ("from_onnx", TypeError, "linear_before_reset must be True or False",
     lambda: weights.from_onnx("gru", **ONNX_GRU, linear_before_reset=2)),
    ("from_onnx", TypeError, "arrays must have one dtype",
     lambda: weights.from_onnx("lstm", **{**ONNX, "B": z(1, 8 * H, dtype=np.float64)})),
    ("from_keras", TypeError, "kernel must be floats",
     lambda: weights.from_keras("lstm", [z(I, 4 * H, dtype=np.int32), *KERAS[1:]])),
    ("from_keras", TypeError, "bias must be floats",
     lambda: weights.from_keras("lstm", [*KERAS[:2], [[1.0], [2.0, 3.0]]])),
    ("from_keras", TypeError, "weights must be a sequence",
     lambda: weights.from_keras("lstm", HASTE)),
    ("from_keras", ValueError, "2 or 3 arrays", lambda: weights.from_keras("lstm", KERAS[:1])),
    ("from_keras", ValueError, "kernel must have shape (3, 16), got (3, 15)",
     lambda: weights.from_keras("lstm", [z(I, 15), *KERAS[1:]])),
    ("from_keras", ValueError, "bias must have shape (16,), got (15,)",
     lambda: weights.from_keras("lstm", [*KERAS[:2], z(15)])),
    ("from_keras", ValueError, "sizes must be at least 1",
     lambda: weights.from_keras("lstm", [z(0, 16), z(4, 16)])),
    ("from_keras", ValueError, "directions must have the same arrays",
     lambda: weights.from_keras("lstm", [*KERAS[:2], z(5, 16), z(4, 16)])),
    ("from_keras", ValueError, "cell must be one that keras has",
     lambda: weights.from_keras("gru_before", KERAS)),
    ("from_keras", ValueError, "cell must be", lambda: weights.from_keras(None, KERAS)),
    ("from_keras", TypeError, "layer must be", lambda: weights.from_keras("lstm", KERAS, True)),
    ("from_keras", ValueError, "layer must not", lambda: weights.from_keras("lstm", KERAS, -1)),
    ("from_cudnn", ValueError, "cell must be one that cudnn has",
     lambda: weights.from_cudnn("rnn_sigmoid", [])),
    ("from_cudnn", ValueError, "pseudo-layers, 2 for each",
     lambda: weights.from_cudnn("lstm", [[]], bidirectional=True)),
    ("from_cudnn", ValueError, "must be 8 for each pseudo-layer, or one more for a projection, got",
     lambda: weights.from_cudnn("lstm", [[z(H, I)] * 4 + [z(H, H)] * 4 + [z(2, H)] * 2])),
    ("from_cudnn", ValueError, "must be 6 for each pseudo-layer, got 7",
     lambda: weights.from_cudnn("gru", [[z(H, I)] * 3 + [z(H, H)] * 3 + [z(2, H)]])),
    ("from_cudnn", ValueError, "matrices[2G] must have shape (4, 4), got (2, 4)",
     lambda: weights.from_cudnn("lstm", [[z(H, I)] * 4 + [z(H, H)] * 4 + [z(2, H)]])),
    ("from_cudnn", ValueError, "matrices[2G] must have shape (P, H), got (4,)",
     lambda: weights.from_cudnn("lstm", [[z(H, I)] * 4 + [z(H, 2)] * 4 + [z(H)]])),
    ("from_cudnn", TypeError, "arrays must have one dtype",
     lambda: weights.from_cudnn(
         "lstm", [[z(H, I)] * 4 + [z(H, 2)] * 4 + [z(2, H, dtype=np.float64)]])),
    ("from_cudnn", ValueError, "matrices must have one shape",
     lambda: weights.from_cudnn("lstm", [[z(H, I)] * 3 + [z(H, 2)] + [z(H, H)] * 4])),
    ("from_cudnn", ValueError, "matrices[:G] must have shape (1, 5, 4), got (1, 4, 4)",
     lambda: weights.from_cudnn("rnn_tanh", [[z(H, I), z(H, H)], [z(H, H), z(H, 5)]])),
    ("from_cudnn", TypeError, "biases must be floats",
     lambda: weights.from_cudnn("lstm", [[z(H, I)] * 4 + [z(H, H)] * 4], [[None] + [z(H)] * 7])),
    ("from_cudnn", ValueError, "biases must be 2",
     lambda: weights.from_cudnn("rnn_tanh", [[z(H, I), z(H, H)]], [[z(H)]])),
    ("from_haste", ValueError, "got 'zoneout'",
     lambda: weights.from_haste("lstm", {**HASTE, "zoneout": z(1)})),
    ("from_haste", ValueError, "recurrent_bias must be there",
     lambda: weights.from_haste("gru", {**HASTE})),
    ("from_haste", TypeError, "weights must be a mapping",
     lambda: weights.from_haste("lstm", KERAS)),
    ("to_haste", ValueError, "cell must be one that haste has",
     lambda: weights.to_haste("rnn_tanh", OURS)),
    ("to_haste", ValueError, "reverse must be False",
     lambda: weights.to_haste("lstm", OURS, reverse=True)),
    ("to_keras", ValueError, "without a projection, which this format has not",
     lambda: weights.to_keras("lstm", PROJECTED)),
    ("to_onnx", ValueError, "without a projection", lambda: weights.to_onnx("lstm", PROJECTED)),
    ("to_haste", ValueError, "without a projection", lambda: weights.to_haste("lstm", PROJECTED)),
    ("to_cudnn", ValueError, "got 'weight_hr_l0'",
     lambda: weights.to_cudnn("gru", {"weight_hr_l0": z(2, H)})),
    ("to_cudnn", ValueError, "weight_hr must have shape (4, 4), got (2, 4)",
     lambda: weights.to_cudnn("lstm", {**OURS, "weight_hr_l0": z(2, H)})),
    ("to_keras", ValueError, "weight_ih must be there", lambda: weights.to_keras("lstm", OURS, 1)),
    ("to_keras", ValueError, "bias_hh must be there",
     lambda: weights.to_keras("lstm", {**OURS, "bias_ih_l0": z(4 * H)})),
    ("to_keras", ValueError, "weight_ih must have shape (12, 3), got (16, 3)",
     lambda: weights.to_keras("gru", OURS)),
    ("to_keras", TypeError, "params must be a mapping", lambda: weights.to_keras("lstm", KERAS)),
    ("to_cudnn", TypeError, "params must be a mapping", lambda: weights.to_cudnn("lstm", KERAS)),
    ("to_cudnn", ValueError, "biases and projections of all or none",
     lambda: weights.to_cudnn("lstm", {
         "weight_ih_l0": z(16, 3), "weight_hh_l0": z(16, 4),
         "weight_ih_l1": z(16, 4), "weight_hh_l1": z(16, 4),
         "bias_ih_l1": z(16), "bias_hh_l1": z(16)})),
]  # fmt: skip


@pytest.mark.parametrize(("op", "error", "rule", "call"), REFUSALS)
def test_refusals(op: str, error: type[Exception], rule: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert re.fullmatch(rf"\[{op}\] .+, got .+", message, re.DOTALL), message
    assert rule in message


def test_what_is_accepted_beside() -> None:
    zeros = weights.from_onnx("lstm", **ONNX, P=-z(1, 3 * H))
    assert sorted(zeros) == ["bias_hh_l0", "bias_ih_l0", "weight_hh_l0", "weight_ih_l0"]
    assert weights.from_onnx("gru", **ONNX_GRU, linear_before_reset=1)
    without = weights.to_haste("lstm", OURS)  # which has no layers without biases
    assert without["bias"].tobytes() == bytes(16 * 4)
    assert list(weights.to_haste("gru", {k: v[:12] for k, v in OURS.items()})) == [
        "kernel",
        "recurrent_kernel",
        "bias",
        "recurrent_bias",
    ]


def stack(layers: int = 3, bidirectional: bool = False) -> Params:
    layer = fastrnn.LSTM(I, H, layers, bidirectional=bidirectional, seed=0)
    return dict(layer.state_dict())


def test_stacks_that_do_not_fit_together() -> None:
    """Both ways of cuDNN's, which take all layers at once."""
    gap = {name: a for name, a in stack().items() if "_l1" not in name}
    ragged = {n: a for n, a in stack(2, True).items() if not n.endswith("l1_reverse")}
    mixed = {n: a.astype("f8") if "_l1" in n else a for n, a in stack(2).items()}
    for params, error in ((gap, ValueError), (ragged, ValueError), (mixed, TypeError)):
        with pytest.raises(error, match=r"^\[to_cudnn\] "):
            weights.to_cudnn("lstm", params)
    matrices, biases = weights.to_cudnn("lstm", stack(2, True))
    with pytest.raises(ValueError, match=r"^\[from_cudnn\] layer 1 must have 4 inputs"):
        weights.from_cudnn("lstm", matrices, biases)
    matrices, biases = weights.to_cudnn("lstm", stack(3))
    assert biases is not None
    with pytest.raises(ValueError, match=r"^\[from_cudnn\] .*projections of all or none"):
        weights.from_cudnn("lstm", matrices, [biases[0], None, biases[2]])
    with pytest.raises(ValueError, match=r"^\[from_cudnn\] layer 1 must have 4 inputs"):
        weights.from_cudnn("lstm", [matrices[0]] * 2, [biases[0]] * 2)
