"""Weights of 8 bits: every cell and option against the reference, whose products are the same.

The reference rounds rows in float64. Where a value lies within a rounding of float32 of the middle
between two integers, the kernels may take the other one, which changes results by a part of a step
of the integers: FLIPS of them, at most.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastrnn
import tiers
from builds import DEV_LEVELS, LEVELS, OF_INT8
from cases import Case, Data, chosen_cases, kernel_cases, make_data, masked_cases, projected_cases
from conftest import at_level
from fastrnn import _native, _schemes, functional, reference
from fastrnn.quantized import quantized_parameters
from test_kept_bits import kept_data
from tolerances import INT8_OUTPUT, INT8_ROUNDING, assert_output, output, output_error

FLIPS = 0.1
LINEAR = "rnn(affine(1.0, 0.0))"  # gives its products as they are
EVERY = [
    case
    for cases in (kernel_cases, chosen_cases, projected_cases, masked_cases)
    for case in cases(("float32",))
]
SOME = EVERY[::2]


@pytest.fixture(params=[*tiers.thin(LEVELS, DEV_LEVELS), *OF_INT8])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Also the levels that have nothing but products of 8 bits."""
    yield from at_level(request, monkeypatch)


def named(y: np.ndarray, state: Any) -> dict[str, np.ndarray]:
    """Results by name; h is the first state."""
    states = state if isinstance(state, tuple) else (state,)
    return {"y": y, **dict(zip(("hn", "cn"), states, strict=False))}


def packed(cell: str, params: dict[str, np.ndarray], scheme: str = "int8") -> functional.Packed:
    return functional.pack(cell, params, backward=False, weights=scheme)


def quantized(case: Case, data: Data) -> dict[str, np.ndarray]:
    return quantized_parameters(case.cell, data.params, "int8")


def infer(case: Case, data: Data, params: Any = None, **options: Any) -> dict[str, np.ndarray]:
    params = quantized(case, data) if params is None else params
    params = params if isinstance(params, functional.Packed) else packed(case.cell, params)
    options = {**data.options, **options}
    return named(*functional.infer(case.cell, data.x, params, data.state, **options))


def wanted(case: Case, data: Data, params: Any = None) -> dict[str, np.ndarray]:
    params = quantized(case, data) if params is None else params
    y, final, _ = reference.forward(case.cell, data.x, params, data.state, **data.options)
    return named(y, final)


def assert_close(got: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> None:
    assert got.keys() == exact.keys()
    for name, value in exact.items():
        if value.size == 0:
            assert got[name].shape == value.shape
            continue
        scale = max(1.0, np.abs(value).max())
        error = np.abs(got[name] - value) / scale
        flipped = error > output("float32")
        assert flipped.mean() <= FLIPS, f"{name}: {flipped.mean():.1%} are off"
        assert error.max() <= 4 * INT8_ROUNDING, f"{name}: {error.max():.2e}"


@pytest.mark.parametrize("case", tiers.thin(EVERY, SOME), ids=lambda case: case.id)
def test_against_reference(case: Case, level: str) -> None:
    data = make_data(case)
    got = infer(case, data)
    assert all(array.dtype == np.float32 for array in got.values())
    assert_close(got, wanted(case, data))


def test_every_level_gives_the_same_bits() -> None:
    """Also of float32's part: the sums of products are integers, and begin nothing in pieces."""
    for case in SOME[::3]:
        data, found = make_data(case), {}
        before = _native.engine.level()
        for at in _native.engine.usable_levels():
            _native.engine.use_level(at)
            found[at] = infer(case, data)
        _native.engine.use_level(before)
        first, *others = found.values()
        for other in others:
            for name, array in first.items():
                assert array.tobytes() == other[name].tobytes(), (case.id, name, list(found))


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn_tanh", "rnn_relu"])
def test_how_far_from_the_weights_as_they_were(cell: str, level: str) -> None:
    """The rounding of weights and rows, of long sequences too, in units of what is rounded."""
    case = Case(cell, 1000, 3, 24, 96, "float32")
    data = make_data(case, 3)
    exact, _, _ = reference.forward(cell, data.x, data.params, data.state)
    error = output_error(infer(case, data)["y"], exact)
    assert error <= INT8_OUTPUT * INT8_ROUNDING
    # No more than the scheme itself is off.
    scheme = output_error(wanted(case, data)["y"], exact)
    assert error <= 1.25 * scheme


def test_a_row_alone_is_the_row_in_its_batch(level: str) -> None:
    """Whatever the others are: rows that are much larger, and given states beyond 1."""
    for cell in ("lstm", "gru", "rnn_relu"):
        case = Case(cell, 6, 9, 19, 37, "float32", D=2, L=2)
        data = make_data(case)
        data.x[:, 3] *= 1000
        state = data.state[0] if cell == "lstm" else data.state
        state[:, 5] *= 40
        whole = infer(case, data)
        for b in (0, 3, 5, 8):
            part = Data(**vars(data))
            part.x = data.x[:, b : b + 1]
            part.state = _rows(data.state, b)
            alone = infer(case, part)
            assert alone["y"].tobytes() == np.ascontiguousarray(whole["y"][:, b : b + 1]).tobytes()


def _rows(state: Any, b: int) -> Any:
    if isinstance(state, tuple):
        return tuple(_rows(s, b) for s in state)
    return np.ascontiguousarray(state[:, b : b + 1])


def test_threads_change_no_bit(level: str) -> None:
    case = Case("gru_reset_before", 12, 5, 64, 256, "float32")
    data = make_data(case)
    before = fastrnn.get_num_threads()
    found = []
    for threads in (1, 2, 4):
        fastrnn.set_num_threads(threads)
        found.append(infer(case, data)["y"].tobytes())
    fastrnn.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_relu"])
def test_rows_with_what_is_not_finite_are_nan(cell: str, bad: float, level: str) -> None:
    case = Case(cell, 5, 7, 21, 18, "float32")
    data = make_data(case)
    good = infer(case, data)["y"]
    data.x[2, 4, 20] = bad
    y = infer(case, data)["y"]
    assert np.isnan(y[2:, 4]).all()
    others = np.arange(7) != 4
    assert y[:, others].tobytes() == good[:, others].tobytes()
    assert y[:2].tobytes() == good[:2].tobytes()


def test_states_that_are_not_finite_give_nan(level: str) -> None:
    case = Case("gru", 3, 2, 4, 17, "float32")
    data = make_data(case)
    data.state[0, 1, 16] = np.nan
    y = infer(case, data)["y"]
    assert np.isnan(y[:, 1]).all()
    assert np.isfinite(y[:, 0]).all()


def test_rows_of_any_size(level: str) -> None:
    """Zeros, numbers near the ends of float32, and rows one of whose values outdoes all others."""
    case = Case("rnn_tanh", 1, 6, 23, 19, "float32", state=False)
    data = make_data(case)
    data.x[0, 0] = 0
    data.x[0, 1] *= 1e-30
    data.x[0, 2] *= np.float32(1e-38)  # as good as zeros
    data.x[0, 3] *= np.float32(1e37)
    data.x[0, 4, 7] = 1e6
    params = {name: a * 1e-6 if "weight_ih" in name else a for name, a in data.params.items()}
    made = quantized_parameters("rnn_tanh", params, "int8")
    assert_close(infer(case, data, made), wanted(case, data, made))


def of_one_product(x: Any, w: int, scale: Any, bias: Any = 0.0) -> np.ndarray:
    """What a unit of a layer without a function, one input and one weight makes of numbers x."""
    params = {
        "weight_ih_l0": np.full((1, 1), w, np.int8),
        "weight_hh_l0": np.zeros((1, 1), np.int8),
        "bias_ih_l0": np.full(1, bias, np.float32),
        "bias_hh_l0": np.zeros(1, np.float32),
        "scale_ih_l0": np.full(1, scale, np.float32),
        "scale_hh_l0": np.zeros(1, np.float32),
    }
    x = np.float32(x).reshape(1, -1, 1)
    return functional.infer(LINEAR, x, packed(LINEAR, params))[0].ravel()


def test_what_is_as_good_as_zero_is_zero(level: str) -> None:
    """Also where scales of weights would bring it back."""
    y = of_one_product([1e-38, -1e-39, 0, 1e-36], 127, 1e30)
    assert not y[:3].any()
    assert y[3] == pytest.approx(127e-6)


def test_the_product_is_added_with_one_rounding(level: str) -> None:
    """A row's scale of 1/127 of a third, and a bias that takes the product away but for its end."""
    x = np.float32(1 / 3)
    scale = np.float64(x / np.float32(127))
    bias = np.float32(-127 * 127 * scale)
    exact = 127.0 * 127.0 * scale + np.float64(bias)
    assert of_one_product(x, 127, 1, bias)[0] == np.float32(exact) != 0


def test_scales_whose_product_is_infinite(level: str) -> None:
    params = {
        "weight_ih_l0": np.int8([[0, 127]]),
        "weight_hh_l0": np.zeros((1, 1), np.int8),
        "scale_ih_l0": np.float32([2e4]),
        "scale_hh_l0": np.zeros(1, np.float32),
    }
    y, _ = functional.infer(LINEAR, np.float32([[[3e38, 0]]]), packed(LINEAR, params))
    assert y.item() == 0


def test_weights_of_any_strides(level: str) -> None:
    case = Case("lstm", 4, 3, 11, 20, "float32")
    data = make_data(case)
    params = quantized(case, data)
    wanted = infer(case, data, params)["y"]
    for turned in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2]):
        got = infer(case, data, {name: turned(a) for name, a in params.items()})["y"]
        assert got.tobytes() == wanted.tobytes()


def test_states_beyond_one_are_not_cut_off(level: str) -> None:
    """A given state has a scale of its own until it is within 1."""
    case = Case("gru", 8, 3, 5, 40, "float32")
    data = make_data(case)
    data.state *= 50
    assert np.abs(data.state).max() > 100
    assert_close(infer(case, data), wanted(case, data))


def test_rows_of_weights_of_zeros(level: str) -> None:
    case = Case("lstm", 4, 3, 6, 20, "float32")
    data = make_data(case)
    data.params["weight_ih_l0"][5] = 0
    data.params["weight_hh_l0"][7] = 0
    made = quantized(case, data)
    assert made["scale_ih_l0"][5] == 0
    got = infer(case, data)
    assert np.isfinite(got["y"]).all()
    assert_close(got, wanted(case, data))


@pytest.mark.parametrize("K", [1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 65_000])
def test_sums_are_exact(K: int, level: str) -> None:
    """The largest integers of one sign, as many as there may be: sums near the ends of 32 bits."""
    for sign in (1, -1):
        params = {
            "weight_ih_l0": np.full((3, K), sign * 127, np.int8),
            "weight_hh_l0": np.zeros((3, 3), np.int8),
            "scale_ih_l0": np.float32([1, 1 / 8, 0]),
            "scale_hh_l0": np.zeros(3, np.float32),
        }
        # A scale of 1, and relu, which leaves a sum as it is: q is x.
        x = np.full((1, 2, K), 127, np.float32)
        x[0, 1, ::2] = -127
        y, _ = functional.infer(LINEAR, x, packed(LINEAR, params))
        sums = sign * 127 * x.astype(np.float64).sum(-1)[0]
        assert np.array_equal(y[0, :, 0], sums.astype(np.float32))
        assert np.array_equal(y[0, :, 1], (sums / 8).astype(np.float32))
        assert not y[0, :, 2].any()


def test_too_many_products_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^\[gru\] sums of int8 must be of at most 65000 .* 65001$"
    ):
        fastrnn.Quantized("gru", 65_001, 2)
    with pytest.raises(ValueError, match="at most 65000 products, got 80000"):
        fastrnn.Quantized("gru", 4, 40_000, num_layers=2, bidirectional=True)


# ---- weights alone -------------------------------------------------------------------------------


def meant(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What quantized parameters stand for, in float64."""
    made = {name: array for name, array in params.items() if not name.startswith("scale_")}
    for name, scales in params.items():
        if name.startswith("scale_"):
            weights = name.replace("scale_", "weight_")
            made[weights] = made[weights] * np.float64(scales)[:, None]
    return made


@pytest.mark.parametrize("scheme", [name for name in _schemes.SCHEMES if name != "int8"])
@pytest.mark.parametrize("case", tiers.thin(EVERY[::3], EVERY[::9]), ids=lambda case: case.id)
def test_weights_alone(case: Case, scheme: str, level: str) -> None:
    """They are what they stand for: with those in float64, as float32 is."""
    data = make_data(case)
    params = quantized_parameters(case.cell, data.params, scheme)
    got = infer(case, data, packed(case.cell, params, scheme))
    exact = wanted(case, data, meant(params))
    for name, array in exact.items():
        assert_output(got[name], array, "float32", name)


@pytest.mark.parametrize("scheme", list(_schemes.SCHEMES))
def test_a_row_has_its_bits_in_any_batch(scheme: str, level: str) -> None:
    # Five rows are tiles of three and two, eight are two tiles that fill 16 registers.
    for H, B in itertools.product((5, 16, 33, 130), (5, 8)):
        case = Case("gru", 4, B, 9, H, "float32")
        data = make_data(case)
        params = quantized_parameters("gru", data.params, scheme)
        weights = packed("gru", params, scheme)
        whole, _ = functional.infer("gru", data.x, weights)
        for b in range(B):
            alone, _ = functional.infer("gru", data.x[:, b : b + 1], weights)
            assert alone.tobytes() == whole[:, b : b + 1].tobytes()


# Of results as they were when they were first right, of each cell: what is rounded where, the order
# of what is added, and where one rounding is made of two. The same at every level.
KEPT = {
    "rnn_tanh": "305b96d1",
    "lstm": "a81a5d20",
    "gru": "e433d46c",
    "gru_reset_before": "2300c567",
}


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru", "gru_reset_before"])
def test_bits_are_kept(cell: str, level: str) -> None:
    case = Case(cell, 10, 9, 8, 17, "float32", D=2, L=2, lengths=True, resets=True)
    digest = hashlib.sha256(infer(case, kept_data(case))["y"].tobytes()).hexdigest()
    assert digest[:8] == KEPT[cell]
