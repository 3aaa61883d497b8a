"""Correctness on a GPU at full size: every mode against float64, with cuDNN beside it.

Each case runs three times and more: `torch.nn` in float64, whose results are the truth; `torch.nn`
on cuDNN in the case's dtype; `fastrnn.torch` in each mode. All get the same numbers, rounded to the
dtype. An error is max |a - b| / max |b| of a tensor. Ours may be 1.5 times cuDNN's, or `LEAST`
where that is more; in float64, where cuDNN is the truth, 1e-10. Ours with TF32 is measured by
cuDNN's with TF32. Gradients of relu are judged in float64 alone: a unit within rounding of the kink
is on in one and off in the other.

The truth itself, and what torch does not have (resets, other libraries' arrays), is checked against
`fastrnn.reference` on small cases. Beside numbers: graphs that were captured give what calls give,
and calls return while the GPU is still busy.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

import fastrnn
import fastrnn.cuda
import fastrnn.torch
from fastrnn import functional, reference
from fastrnn._bench.report import Row, append

from . import work
from .small import Sizes, all_cells, mapped, sizes_of, small_data, step_of
from .timing import (
    CELLS,
    DTYPES,
    MODELS,
    NARROW,
    SHAPES,
    Case,
    full_precision,
    make_layer,
    normal,
    relative,
    square,
    still_works,
    tf32,
)
from .ways import MODES, TF32, forced, precision, ways_of
from .work import Task

FACTOR = 1.5
# Where cuDNN's error is less: one rounding of the dtype is no fault. (Of float32 a few, since its
# sums have many, and errors that small are chance.)
LEAST = {"float32": 2.0**-21, TF32: 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}
FLOAT64 = 1e-10
# Of small cases against the reference: some roundings in a row.
SMALL = {"float64": FLOAT64, "float32": 1e-4, TF32: 3e-2, "float16": 3e-2, "bfloat16": 2.5e-1}
SMALL_DTYPES = ("float64", *DTYPES)

Tensors = dict[str, torch.Tensor]


def cases() -> list[Case]:
    """The timed shapes, then all options of a layer that torch has, then float64."""
    full = [square(cell, dtype, *shape) for shape in SHAPES for cell in CELLS for dtype in DTYPES]
    models = [square(*sizes, L=layers) for *sizes, layers in MODELS]
    options = [
        square(cell, dtype, 256, 16, 256, L=2, D=2, lengths=True)
        for cell in CELLS
        for dtype in (*DTYPES, "float64")
    ]
    plain = [square(cell, "float64", 256, B, H) for cell in CELLS for B, H in ((1, 200), (64, 512))]
    return [*full, *models, *options, *plain]


# ---- against float64, beside cuDNN ---------------------------------------------------------------


def make_data(case: Case, device: str) -> Tensors:
    """x, initial states and gradients in the case's dtype, and lengths."""

    def data(seed: int, *shape: int) -> torch.Tensor:
        return normal(*shape, seed=seed, dtype=case.dtype, device=device)

    state = (case.L * case.D, case.B, case.H)
    found = {
        "x": data(1, case.T, case.B, case.H),
        "h0": data(2, *state),
        "c0": data(3, *state),
        "dy": data(4, case.T, case.B, case.D * case.H),
        "dhn": data(5, *state),
        "dcn": data(6, *state),
    }
    if case.lengths:
        steps = np.random.default_rng(7).integers(1, case.T + 1, case.B)
        found["lengths"] = torch.from_numpy(np.append(steps[1:], case.T))
    return found


def train_step(layer: torch.nn.Module, data: Tensors, package: Any) -> Tensors:
    """Results and gradients by name, of a layer out of a package."""
    dtype = next(layer.parameters()).dtype
    count = 2 if isinstance(layer, package.LSTM) else 1
    x, *states = (data[name].to(dtype).requires_grad_() for name in ("x", "h0", "c0")[: 1 + count])
    y, final = _called(layer, x, tuple(states) if count == 2 else states[0], data)
    finals = final if isinstance(final, tuple) else (final,)
    outputs = dict(zip(("y", "hn", "cn"), (y, *finals), strict=False))
    inputs = dict(zip(("x", "h0", "c0"), (x, *states), strict=False)) | dict(
        layer.named_parameters()
    )
    grads = torch.autograd.grad(
        list(outputs.values()),
        list(inputs.values()),
        [data[f"d{name}"].to(dtype) for name in outputs],
    )
    named = {f"d{name}": grad for name, grad in zip(inputs, grads, strict=True)}
    return {name: tensor.detach() for name, tensor in (outputs | named).items()}


def _called(layer: Any, x: Any, hx: Any, data: Tensors) -> tuple[Any, Any]:
    """y and the final state; with lengths, which the host has, as torch takes them."""
    if "lengths" not in data:
        y, final = layer(x, hx)
        return y, final
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, data["lengths"], enforce_sorted=False)
    y, final = layer(packed, hx)
    return torch.nn.utils.rnn.pad_packed_sequence(y, total_length=len(x))[0], final


def make_layers(case: Case, device: str) -> dict[str, torch.nn.Module]:
    """The truth, cuDNN and ours, with the same parameters, rounded to the case's dtype."""
    torch.manual_seed(0)
    theirs = make_layer(torch.nn, case, case.dtype, device)
    layers = {
        "float64": make_layer(torch.nn, case, "float64", device),
        "cudnn": theirs,
        "fastrnn": make_layer(fastrnn.torch, case, case.dtype, device),
    }
    for layer in layers.values():
        layer.load_state_dict(theirs.state_dict())
    return layers


def errors(got: Tensors, truth: Tensors) -> dict[str, float]:
    """The error of each tensor."""
    return {name: relative(tensor, truth[name]) for name, tensor in got.items()}


def allowed(rounded_to: str, theirs: float) -> float:
    """The most that our error may be where cuDNN's is `theirs`, in a dtype or TF32."""
    return FLOAT64 if rounded_to == "float64" else max(FACTOR * theirs, LEAST[rounded_to])


def judged(cell: str, name: str) -> bool:
    """Whether a tensor's error is one of rounding: not so past a kink."""
    return "relu" not in cell or name in ("y", "hn")


def judge(
    rounded_to: str, ours: Mapping[str, float], theirs: Mapping[str, float]
) -> tuple[str, float]:
    """The tensor that is furthest towards its bound, and its error over the bound.

    NaN is above every bound.
    """
    shares = {name: error / allowed(rounded_to, theirs[name]) for name, error in ours.items()}
    worst = max(shares, key=lambda name: np.inf if np.isnan(shares[name]) else shares[name])
    return worst, shares[worst]


def compare(case: Case, device: str, ways: tuple[str, ...] = ()) -> Row:
    """The errors of a case: cuDNN's, and ours in each way; or why a way cannot run it."""
    layers, data = make_layers(case, device), make_data(case, device)
    chosen = ways or ways_of(case.dtype)
    with full_precision():
        truth = train_step(layers["float64"], data, torch.nn)
    theirs = {}
    for rounded_to in {precision(way, case.dtype) for way in chosen}:
        with full_precision(), tf32(rounded_to == TF32):
            theirs[rounded_to] = errors(train_step(layers["cudnn"], data, torch.nn), truth)
    found: Row = {"cudnn": theirs[case.dtype], "modes": {}}
    for way in chosen:
        try:
            with forced(way), full_precision():
                ours = errors(train_step(layers["fastrnn"], data, fastrnn.torch), truth)
        except NotImplementedError as error:
            found["modes"][way] = {"skipped": str(error)}
            continue
        rounded_to = precision(way, case.dtype)
        fair = {n: e for n, e in ours.items() if case.dtype == "float64" or judged(case.cell, n)}
        worst, share = judge(rounded_to, fair, theirs[rounded_to])
        found["modes"][way] = {"errors": ours, "worst": worst, "of_bound": share}
        if not share <= 1:
            got, bound = ours[worst], allowed(rounded_to, theirs[rounded_to][worst])
            found["failed"] = f"{way}: {worst} must be within {bound:.2g}, got {got:.2g}"
    return found


def say(row: Row) -> str:
    """A row in the terminal."""
    if "modes" not in row:
        return "ok"
    texts = []
    for mode, found in row["modes"].items():
        if "skipped" in found:
            texts.append(f"{mode} skipped ({found['skipped']})")
        else:
            texts.append(f"{mode} {100 * found['of_bound']:.0f} % of the bound ({found['worst']})")
    return "; ".join(texts)


# ---- against fastrnn.reference -------------------------------------------------------------------


def with_torch(array: np.ndarray, dtype: str) -> Any:
    """On the GPU, as a tensor; floating numbers in a dtype."""
    tensor = torch.from_numpy(array).to("cuda")
    return tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor


def with_cupy(array: np.ndarray, dtype: str) -> Any:
    """The same, as an array of CuPy."""
    import cupy

    return cupy.asarray(array if array.dtype.kind != "f" else array.astype(dtype))


def on_host(array: Any) -> np.ndarray:
    return array.double().cpu().numpy() if isinstance(array, torch.Tensor) else array.get()


def put(data: dict[str, Any], dtype: str, to_gpu: Callable[[np.ndarray, str], Any]) -> Any:
    """The data on the GPU; states beside h are float32 at least."""
    wide = "float32" if dtype in NARROW else dtype
    found = {name: mapped(value, lambda a: to_gpu(a, dtype)) for name, value in data.items()}
    for name in ("state", "dstate"):
        if isinstance(data[name], tuple):
            h, c = data[name]
            found[name] = (to_gpu(h, dtype), to_gpu(c, wide))
    return found


def against_reference(
    cell: str, dtype: str, way: str, sizes: Sizes, to_gpu: Callable[[np.ndarray, str], Any]
) -> Row:
    """A small case with every option by `fastrnn.functional`, against the reference."""
    data = small_data(cell, sizes)
    on_gpu = put(data, dtype, to_gpu)
    rounded = {name: mapped(value, on_host) for name, value in on_gpu.items()}
    as_doubles = mapped(rounded, lambda a: a.astype(np.float64) if a.dtype.kind == "f" else a)
    as_doubles |= {"lengths": data["lengths"], "resets": data["resets"]}
    wanted = step_of(reference, cell, as_doubles)
    with forced(way), full_precision():
        got = step_of(functional, cell, on_gpu)
    found = {}
    for name, array in got.items():
        pair = (on_host(array).astype(np.float64), np.asarray(wanted[name]))
        found[name] = relative(*map(torch.from_numpy, pair))
    chosen = {n: e for n, e in found.items() if dtype not in NARROW or judged(cell, n)}
    bound = SMALL[precision(way, dtype)]
    if not all(error <= bound for error in chosen.values()):
        return {"errors": found, "failed": f"errors must be within {bound:g}, got {chosen}"}
    return {"errors": found}


# ---- graphs, and waiting -------------------------------------------------------------------------


def step_in(
    layer: torch.nn.Module, x: torch.Tensor, train: bool, **options: Any
) -> tuple[torch.Tensor, ...]:
    """The results of a call, or of a training step."""
    if not train:
        with torch.no_grad():
            return (layer(x, **options)[0],)
    y = layer(x, **options)[0]
    return (y.detach(), *torch.autograd.grad(y.sum(), [x, *layer.parameters()]))


def captured(cell: str, mode: str, train: bool) -> Row:
    """A captured call on new numbers gives what a call gives."""
    case = square(cell, "float32", 16, 8, 128)
    layer = make_layer(fastrnn.torch, case, case.dtype, "cuda")
    x = normal(case.T, case.B, case.H, seed=1, dtype=case.dtype, device="cuda")
    x.requires_grad_(train)
    with forced(mode):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries set themselves up outside of the capture
            for _ in range(3):
                step_in(layer, x, train)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = step_in(layer, x, train)
        with torch.no_grad():
            x.copy_(normal(*x.shape, seed=2, dtype=case.dtype, device="cuda"))
        graph.replay()
        wanted = step_in(layer, x, train)
    apart = max(relative(a, b) for a, b in zip(results, wanted, strict=True))
    if not apart <= LEAST["float32"]:
        return {"failed": f"a replay must give what a call gives, got an error of {apart:.2g}"}
    return {"apart": apart}


def returns_early(cell: str, mode: str) -> Row:
    """Training steps come back while the GPU is busy with what was there before them."""
    case = square(cell, "float32", 16, 8, 128)
    layer = make_layer(fastrnn.torch, case, case.dtype, "cuda")
    x = normal(case.T, case.B, case.H, seed=1, dtype=case.dtype, device="cuda").requires_grad_()
    lengths = torch.arange(case.B) + 1  # of the host: they go over, too, without waiting
    with forced(mode):
        for _ in range(3):
            step_in(layer, x, train=True)
            step_in(layer, x, train=True, lengths=lengths)
        torch.cuda.synchronize()
        busy = torch.cuda.Event()
        torch.cuda._sleep(4_000_000_000)  # cycles: seconds, and a call takes milliseconds
        busy.record()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step_in(layer, x, train=True)
            step_in(layer, x, train=True, lengths=lengths)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waited = busy.query()
        torch.cuda.synchronize()
    return {"failed": "a call must not wait for the GPU, got one that did"} if waited else {}


# ---- the command ---------------------------------------------------------------------------------


class Small(NamedTuple):
    """A small case of one way."""

    cell: str
    dtype: str
    way: str
    sizes: Sizes

    def __str__(self) -> str:
        return f"{self.cell} {self.dtype} {self.way} H={self.sizes.H}"


def cupy_row() -> Row:
    """Whether calls with CuPy's arrays can be checked here, or why not."""
    try:
        for name in ("array_api_compat", "cupy"):
            importlib.import_module(name)
        cupy = sys.modules["cupy"]
        # What calls ask of it: cuBLAS, and a kernel that it compiles itself.
        cupy.where(cupy.ones((2, 2)) @ cupy.ones((2, 2)) > 1, 1.0, 0.0).get()
    except Exception as error:  # CuPy without a library of CUDA's raises what it likes
        return {"case": "CuPy's arrays", "unchecked": f"{type(error).__name__}: {error}"}
    return {"case": "CuPy's arrays", "with": cupy.__version__}


def tasks(device: str, with_cupys: bool = True) -> list[Task]:
    """Everything that is checked: quick things first."""
    libraries: dict[str, Any] = {"torch": with_torch}
    if with_cupys:
        libraries["cupy"] = with_cupy
    found = small_tasks(libraries)
    for cell in CELLS:
        for mode in MODES:
            for train in (False, True):
                name = f"{cell} {mode} {'training step' if train else 'forward'} in a graph"
                found.append(Task({"case": name}, partial(captured, cell, mode, train)))
            name = f"{cell} {mode} returns before the GPU is done"
            found.append(Task({"case": name}, partial(returns_early, cell, mode)))
    found += [Task(case.fields(), partial(compare, case, device)) for case in cases()]
    return found


def small_cases(dtypes: Sequence[str], cells: Sequence[str] = ()) -> Iterator[Small]:
    """Every cell, dtype, way and size."""
    for cell in cells or all_cells():
        for dtype in dtypes:
            for way in ways_of(dtype):
                for sizes in sizes_of(cell):
                    yield Small(cell, dtype, way, sizes)


def small_tasks(libraries: Mapping[str, Any]) -> list[Task]:
    """A small case of every kernel in every way, for each library."""
    found = []
    for library, to_gpu in libraries.items():
        # CuPy's bfloat16 wants another package.
        dtypes = [d for d in SMALL_DTYPES if (library, d) != ("cupy", "bfloat16")]
        for case in small_cases(dtypes):
            name = f"{case} on {library} against the reference"
            found.append(Task({"case": name}, partial(against_reference, *case, to_gpu)))
    return found


def one(options: argparse.Namespace) -> None:
    """One small forward and backward for each cell, dtype, way and size: for compute-sanitizer."""
    for case in small_cases(options.dtype, options.cell):
        if case.way not in options.mode:
            continue
        data = small_data(case.cell, case.sizes)
        try:
            with forced(case.way):
                step_of(functional, case.cell, put(data, case.dtype, with_torch))
            torch.cuda.synchronize()
            print(f"{case}: ran", flush=True)
        except NotImplementedError as error:
            print(f"{case}: skipped: {error}", flush=True)


def main(options: argparse.Namespace) -> None:
    """Check what OUT/check.jsonl does not have, as much as fits in the minutes."""
    path = options.out / "check.jsonl"
    cupy = cupy_row()
    append(path, cupy)
    small = options.part == "small"
    todo = small_tasks({"torch": with_torch}) if small else tasks("cuda", "unchecked" not in cupy)
    raise SystemExit(work.work_through(path, todo, options.minutes, say, still_works))
