"""Results whose bits are kept in `tests/data/bits.json`, so that a change of any number is seen.

    FASTRNN_WRITE_BITS=1 python -m pytest --tier ci tests/kernels/test_kept_bits.py

writes the file anew for the levels of this machine, which is right only where a change of the
numbers is meant, or a cell or a level is new; levels that the machine lacks keep what they had. A
level's bits depend on nothing but the level: exp and tanh are the engine's own, and the data come
from integers, so that neither the C library nor NumPy's random numbers are in them. `test_bits.py`
holds what must agree with what; here every way to compute a case is held to the same kept bits.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fake_gpu
import fastrnn
import on_gpu
import tiers
from builds import ROOT
from cases import CHOSEN, Case, Data, cells, flat_state, make_data
from fastrnn import _native, cuda, functional
from fastrnn._engine import Call
from on_gpu import put

FILE = ROOT / "tests" / "data" / "bits.json"
WRITING = bool(os.environ.get("FASTRNN_WRITE_BITS"))
DTYPES = ("float32", "float64")
# Case -> level, or mode on a GPU -> digests of the outputs and of the gradients.
Kept = dict[str, dict[str, str]]


def kept_cases(cell: str, dtype: str) -> Iterator[Case]:
    """Every way that sums are cut and panels are filled, each option, and a single step.

    The cells whose functions are chosen have the same sums: a case for what else is theirs.
    """
    if cell in CHOSEN:
        yield Case(cell, 10, 9, 8, 17, dtype, D=2, L=2, lengths=True, resets=True, dropout=True)
        return
    # One row: its sums are cut in pieces by the width of the product.
    for H in (8, 16, 24, 32, 37, 300):
        yield Case(cell, 9, 1, 5, H, dtype)
    yield from (
        Case(cell, 4, 9, 21, 130, dtype, state=False),
        Case(cell, 5, 32, 16, 64, dtype),
        Case(cell, 7, 3, 3, 5, dtype, bias=False),
        Case(cell, 6, 2, 5, 12, dtype, D=2, L=2, batched=False, resets=True),
        Case(cell, 8, 5, 6, 19, dtype, D=2, L=3, batch_first=True, dropout=True),
        Case(cell, 10, 9, 8, 17, dtype, D=2, L=2, lengths=True, resets=True, dropout=True),
        Case(cell, 70, 2, 3, 18, dtype, D=2, lengths=True),
        Case(cell, 1, 1, 64, 64, dtype),
        Case(cell, 1, 5, 21, 37, dtype, bias=False),
        Case(cell, 1, 2, 7, 23, dtype, D=2, L=2),
    )
    if cell == "lstm":
        yield from (
            Case(cell, 9, 1, 5, 37, dtype, P=16),
            Case(cell, 5, 9, 21, 130, dtype, P=70),
            Case(cell, 10, 9, 8, 17, dtype, D=2, L=2, lengths=True, resets=True, P=21),
            Case(cell, 1, 5, 21, 37, dtype, bias=False, P=8),
        )


CELLS = [*cells(), *CHOSEN]
NAMES = [case.id for cell in CELLS for dtype in DTYPES for case in kept_cases(cell, dtype)]


def uniform(shape: Sequence[int], dtype: Any, seed: int) -> np.ndarray:
    """Values in [-1, 1) with all bits of the type, from integers (splitmix64)."""
    z = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) + np.uint64(seed << 32)
    z *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    z ^= z >> np.uint64(31)
    digits = np.finfo(dtype).nmant
    whole = (z >> np.uint64(63 - digits)).astype(np.int64) - (1 << digits)
    return (whole.astype(dtype) * dtype.type(2.0**-digits)).reshape(shape)


def kept_data(case: Case) -> Data:
    """The arrays of a case, which are the same with any NumPy."""
    data, seeds = make_data(case), itertools.count()
    real = np.dtype(case.dtype)

    def fill(array: np.ndarray, scale: float = 1.0) -> None:
        array[...] = uniform(array.shape, real, next(seeds)) * real.type(scale)

    for array in data.params.values():
        fill(array, 2.0 ** -(case.H.bit_length() // 2))
    for array in (data.x, data.dy, *flat_state(data.state), *flat_state(data.dstate)):
        fill(array)
    lengths, resets = data.options.get("lengths"), data.options.get("resets")
    if lengths is not None:
        lengths[...] = (uniform(lengths.shape, real, next(seeds)) + 1) * 0.5 * (case.T + 1)
        lengths[0] = case.T
    if resets is not None:
        resets[...] = uniform(resets.shape, real, next(seeds)) < -0.4
    for mask in data.options.get("dropout_masks", ()):
        mask[...] = (uniform(mask.shape, real, next(seeds)) < 0.4) * 1.25
    return data


Ways = Iterator[tuple[str, list[np.ndarray]]]


def outputs(y: Any, state: Any) -> list[np.ndarray]:
    return [y, *flat_state(state)]


def gradients(dx: Any, dstate: Any, grads: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [dx, *flat_state(dstate), *(grads[name] for name in sorted(grads))]


def by_functions(case: Case, data: Data) -> Ways:
    given = (case.cell, data.x, data.params, data.state)
    yield "infer", outputs(*functional.infer(*given, **data.options))
    for recompute in (False, 3):
        y, state, tape = functional.forward(*given, recompute=recompute, **data.options)
        yield f"forward, recompute={recompute}", outputs(y, state)
        back = functional.backward(case.cell, data.params, tape, data.dy, data.dstate)
        yield f"backward, recompute={recompute}", gradients(*back)


def by_layer(case: Case, data: Data) -> Ways:
    layer = fastrnn.Recurrent(
        case.cell,
        case.I,
        case.H,
        case.L,
        bias=case.bias,
        batch_first=case.batch_first,
        bidirectional=case.D == 2,
        dtype=case.dtype,
        proj_size=case.P,
    )
    layer.load_state_dict(data.params)
    given = (data.x, data.state, data.options.get("lengths"), data.options.get("resets"))
    yield "layer", outputs(*layer(*given))
    y, state, tape = layer.forward(*given)
    yield "layer.forward", outputs(y, state)
    yield "layer.backward", gradients(*layer.backward(tape, data.dy, data.dstate))


def by_engine(case: Case, data: Data) -> Ways:
    """One step with parameters as they lie, which is what layers and cells under torch call."""
    engine, params = _native.engine, tuple(data.params.values())
    call = Call(data.x, data.state, batch_first=case.batch_first)
    yield "run_new", outputs(*engine.run_new(case.cell, case.L, case.D, params, call))
    if case.L == case.D == 1:
        x, before = data.x[0], one_layer(data.state)
        after = tuple(s[None] for s in engine.step_new(case.cell, params, x, before))
        yield "step_new", outputs(after[0], after)


CELL_CLASSES: dict[str, Any] = {
    "rnn": fastrnn.RNNCell,
    "lstm": fastrnn.LSTMCell,
    "gru": fastrnn.GRUCell,
}


def by_cell(case: Case, data: Data) -> Ways:
    options: dict[str, Any] = {"bias": case.bias, "dtype": case.dtype}
    kind, _, rest = case.cell.partition("_")
    if rest == "reset_before":
        options["reset_after"] = False
    elif rest:
        options["nonlinearity"] = rest
    cell = CELL_CLASSES[kind](case.I, case.H, **options)
    cell.load_state_dict({name.removesuffix("_l0"): a for name, a in data.params.items()})
    given = data.x[0], one_layer(data.state)
    for name, state in (("cell", cell(*given)), ("cell.forward", cell.forward(*given)[0])):
        after = tuple(s[None] for s in flat_state(state))
        yield name, outputs(after[0], after)


def one_layer(state: Any) -> Any:
    """(1, B, H) becomes (B, H)."""
    return tuple(s[0] for s in state) if isinstance(state, tuple) else state[0]


def digests(case: Case) -> dict[str, str]:
    """What each way to compute a case gives, by the way's name."""
    data = kept_data(case)
    ways = [by_functions(case, data)]
    if not case.dropout:  # a layer draws its own masks
        ways.append(by_layer(case, data))
    if case.T == 1:
        ways.append(by_engine(case, data))
        if case.L == case.D == 1 and not case.P and case.cell.partition("_")[0] in CELL_CLASSES:
            ways.append(by_cell(case, data))
    return {name: digest(arrays) for name, arrays in itertools.chain(*ways)}


def digest(arrays: Sequence[np.ndarray]) -> str:
    made = hashlib.blake2b(digest_size=4)
    for array in arrays:
        made.update(f"{array.dtype.str} {array.shape} ".encode())
        made.update(array.tobytes())
    return made.hexdigest()


Found = Callable[[Case], dict[str, str]]


def assert_kept(kept: Kept, column: str, chosen: Sequence[Case], digests: Found) -> None:
    """Every way gives what is kept for these cases; or their first ways are kept from now on."""
    wrong = []
    for case in chosen:
        found = digests(case)
        if WRITING:
            kept[case.id][column] = f"{found['infer']} {found['backward, recompute=False']}"
        of_outputs, of_gradients = kept.get(case.id, {}).get(column, "none none").split()
        for name, value in found.items():
            if value != (of_gradients if "backward" in name else of_outputs):
                wrong.append(f"{case.id} {name}")
    assert not wrong, f"{len(wrong)} results are not the kept ones: {column}"


@pytest.fixture(scope="module")
def kept() -> Iterator[Kept]:
    """The file, which is written at the end where that is asked for."""
    bits: Kept = json.loads(FILE.read_text("utf-8"))
    if WRITING:
        assert "PYTEST_XDIST_WORKER" not in os.environ, "one process writes the file"
        bits = {name: bits.get(name, {}) for name in NAMES}
    yield bits
    if WRITING:
        lines = [f"{json.dumps(name)}: {json.dumps(levels)}" for name, levels in bits.items()]
        FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_bits_are_kept(cell: str, dtype: str, level: str, kept: Kept) -> None:
    # Sixteen lanes are the same sums with AVX-512 or without.
    column = "avx512" if level == "wide" else level
    assert_kept(kept, column, list(kept_cases(cell, dtype)), digests)


def test_the_file_holds_these_cases_and_no_others(kept: Kept) -> None:
    assert list(kept) == NAMES


# ---- the CUDA engine, on the emulated device -----------------------------------------------------


def product_in_order(a: fake_gpu.Array, b: fake_gpu.Array) -> fake_gpu.Array:
    """A product whose sums are in the order of k, which no library promises."""
    x, y = (each.get().astype(np.float64) for each in (a, b))
    sums = np.zeros((*x.shape[:-1], y.shape[-1]))
    for k in range(x.shape[-1]):
        sums += x[..., k, None] * y[..., k, None, :]
    return fake_gpu.Array(sums.astype(a.dtype), a.device)


def sum_in_order(array: fake_gpu.Array, *, axis: int, dtype: Any) -> fake_gpu.Array:
    values = array.get().astype(dtype)
    sums = np.zeros_like(values.sum(axis))
    for part in np.moveaxis(values, axis, 0):
        sums += part
    return fake_gpu.Array(sums, array.device)


def digests_on_gpu(case: Case) -> dict[str, str]:
    data, found = kept_data(case), {}
    given = (case.cell, put(data.x), put(data.params), on_gpu.put_state(data.state))
    y, state = functional.infer(*given, **put(data.options))
    found["infer"] = digest([a.get() for a in outputs(y, state)])
    for recompute in (False, 3):
        results = on_gpu.run(case, data, recompute)
        of_outputs = [name for name in ("y", "hn", "cn") if name in results]
        found[f"forward, recompute={recompute}"] = digest([results.pop(n) for n in of_outputs])
        # Sums over the steps of more than one window are cut where windows meet.
        if case.T <= 64 or not recompute:
            arrays = [results[name] for name in sorted(results)]
            found[f"backward, recompute={recompute}"] = digest(arrays)
    return found


MODES = [("grid", "float32"), ("stepwise", "float32"), ("stepwise", "float64")]


@pytest.mark.parametrize(("mode", "dtype"), tiers.thin(MODES, MODES[:2]))
def test_bits_on_the_emulated_gpu_are_kept(
    emulated: ModuleType, mode: str, dtype: str, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ReLU alone: the emulator's exp and tanh are those of the C library at hand."""
    monkeypatch.setattr(fake_gpu, "matmul", product_in_order)
    monkeypatch.setattr(fake_gpu, "sum", sum_in_order)
    # What is wide takes the emulator seconds, and one panel more is nothing new to it.
    chosen = [case for case in kept_cases("rnn_relu", dtype) if case.B * case.H < 400]
    with cuda.mode(mode):
        assert_kept(kept, mode, [case for case in chosen if case.H < 100], digests_on_gpu)
