"""Times of `fastrnn.torch` and of `torch.nn` on cuDNN: in turns, by CUDA events.

A case is one layer with I = H. Blocks of calls take turns, ours, cuDNN's, ours, ..., so that a
change of the card's clock meets all alike, and ratios are taken within each round. A time is that
of a call among others, so it holds the host's work where the GPU has to wait for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

import fastrnn
import fastrnn.cuda
import fastrnn.torch
from fastrnn._bench import case as base
from fastrnn._bench.report import Row, append
from fastrnn.cuda import _driver

from . import work
from .ways import MODES, TF32, forced, precision
from .work import Task

# torch's class and options of each cell.
CELLS: Mapping[str, tuple[str, dict[str, str]]] = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
}
TIMED = ("lstm", "gru", "rnn_tanh")
NARROW = ("float16", "bfloat16")
DTYPES = ("float32", *NARROW)
KINDS = ("forward", "train")
# Layers of models that people train: brain to text, Bonito's basecallers. cell, dtype, T, B, H, L.
MODELS = [
    ("gru", "bfloat16", 256, 64, 768, 5),
    ("lstm", "float16", 1667, 96, 384, 1),
    ("lstm", "float16", 1667, 96, 1024, 1),
]
# What decides most beside `MODELS`, for a short loan of a card: small, middle and large batches,
# each way where it should be the quickest, and 16 bits against tensor cores. cell, dtype, T, B, H,
# kind, way.
DECIDING = [
    *(("lstm", "float32", 256, 1, H, "forward", mode) for H in (128, 256) for mode in MODES[:3]),
    *(("lstm", "float32", 256, 1, 1024, "forward", mode) for mode in ("grid", "flags")),
    ("lstm", "float32", 256, 1, 1024, "train", "best"),
    ("lstm", "float32", 256, 16, 512, "train", "best"),
    ("lstm", "float32", 256, 64, 512, "forward", "grid"),
    ("lstm", "float32", 256, 64, 512, "forward", "stepwise"),
    ("lstm", "float32", 256, 64, 512, "train", "best"),
    ("lstm", "float32", 256, 64, 512, "train", TF32),
    ("lstm", "float32", 256, 128, 1024, "train", "best"),
    ("lstm", "float32", 1024, 16, 768, "train", "grid"),
    ("lstm", "float32", 1024, 16, 768, "train", "stepwise"),
    ("lstm", "float16", 256, 1, 1024, "forward", "best"),
    ("lstm", "float16", 256, 64, 512, "train", "grid"),
    ("lstm", "float16", 256, 64, 512, "train", "stepwise"),
    ("lstm", "bfloat16", 256, 16, 512, "train", "best"),
    ("lstm", "bfloat16", 256, 128, 1024, "train", "best"),
    ("gru", "float32", 256, 1, 512, "forward", "best"),
    ("gru", "float32", 256, 16, 512, "train", "best"),
    ("gru", "bfloat16", 256, 64, 512, "train", "best"),
    ("rnn_tanh", "float32", 256, 1, 512, "forward", "best"),
    ("rnn_tanh", "float32", 256, 64, 512, "train", "best"),
]
# (T, B, H).
SHAPES = [
    *((256, B, H) for H in (128, 200, 256, 512, 650, 1024, 2048) for B in (1, 16, 64, 128)),
    (1024, 16, 768),
]

ROUNDS = 7
BLOCK_MS = 15.0
MOST_CALLS = 200  # of a block
# Of y, before anything is timed: whoever is further from cuDNN computes something else.
AGREE = {"float32": 1e-3, TF32: 1e-2, "float16": 3e-2, "bfloat16": 2e-1}

Call = Callable[[], Any]
Clock = Callable[[Call, int], float]  # milliseconds of a call, out of so many


@dataclass(frozen=True)
class Case(base.Case):
    """A layer and what it does: `forward` keeps nothing, `train` is forward and backward."""

    kind: str = "train"
    lengths: bool = False

    @property
    def id(self) -> str:
        return f"{super().id} {self.kind}"

    def words(self) -> dict[str, object]:
        return {"len": self.lengths}

    def fields(self) -> Row:
        """What says in a row of results which case it is of."""
        shape = {"T": self.T, "B": self.B, "I": self.I, "H": self.H, "L": self.L, "D": self.D}
        return {
            "case": self.id,
            "cell": self.cell,
            "dtype": self.dtype,
            "kind": self.kind,
            "shape": shape,
        }


def square(cell: str, dtype: str, T: int, B: int, H: int, kind: str = "train", **more: Any) -> Case:
    """A case with as many inputs as units."""
    return Case(cell, T, B, H, H, dtype, kind=kind, **more)


def models() -> list[Case]:
    return [square(*sizes, kind, L=layers) for *sizes, layers in MODELS for kind in KINDS]


def squares() -> list[Case]:
    return [
        square(cell, dtype, *shape, kind)
        for shape in SHAPES
        for cell in TIMED
        for dtype in DTYPES
        for kind in KINDS
    ]


def cases() -> list[Case]:
    return [*models(), *squares()]


def make_layer(package: Any, case: Case, dtype: str, device: str) -> torch.nn.Module:
    """The layer of a case out of `torch.nn` or `fastrnn.torch`."""
    name, options = CELLS[case.cell]
    layer: torch.nn.Module = getattr(package, name)(
        case.H,
        case.H,
        case.L,
        bidirectional=case.D == 2,
        device=device,
        dtype=getattr(torch, dtype),
        **options,
    )
    return layer


def normal(*shape: int, seed: int, dtype: str, device: str) -> torch.Tensor:
    """Random numbers in a dtype, from a seed."""
    generator = torch.Generator(device).manual_seed(seed)
    made = torch.randn(shape, generator=generator, device=device)
    return made.to(getattr(torch, dtype))


# What lets cuBLAS round more than the dtype asks for, in the versions of torch that have it.
ROUNDS_MORE = (
    "allow_tf32",
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_accumulation",
)


@contextmanager
def full_precision() -> Iterator[None]:
    """Products and cuDNN that sum in float32 and round once, as ours do."""
    matmul = torch.backends.cuda.matmul
    before = {name: getattr(matmul, name) for name in ROUNDS_MORE if hasattr(matmul, name)}
    for name in before:
        setattr(matmul, name, False)
    try:
        with tf32(False):
            yield
    finally:
        for name, value in before.items():
            setattr(matmul, name, value)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether cuDNN may round float32 to TF32. (Products outside of cuDNN may not, ever.)"""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


# ---- one case ------------------------------------------------------------------------------------


def make_calls(case: Case, device: str) -> dict[str, Call]:
    """The calls that are timed: ours, cuDNN's, and in float32 cuDNN's in TF32."""
    torch.manual_seed(0)
    theirs = make_layer(torch.nn, case, case.dtype, device)
    ours = make_layer(fastrnn.torch, case, case.dtype, device)
    ours.load_state_dict(theirs.state_dict())
    x = normal(case.T, case.B, case.H, seed=1, dtype=case.dtype, device=device)
    dy = normal(case.T, case.B, case.D * case.H, seed=2, dtype=case.dtype, device=device)
    x.requires_grad_(case.kind == "train")
    call = {"forward": _forward, "train": _train}[case.kind]
    calls = {"fastrnn": partial(call, ours, x, dy), "cudnn": partial(call, theirs, x, dy)}
    if case.dtype == "float32":
        calls["tf32"] = calls["cudnn"]
    return calls


def _forward(layer: torch.nn.Module, x: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y: torch.Tensor = layer(x)[0]
    return y


def _train(layer: torch.nn.Module, x: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = layer(x)[0]
    torch.autograd.grad(y, [x, *layer.parameters()], dy)
    return y


def event_ms(call: Call, calls: int) -> float:
    """A `Clock`: by CUDA events on the current stream."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / calls


def measure(
    calls: Mapping[str, Call], clock: Clock, rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Milliseconds of each call in each round; calls take turns in blocks."""
    counts: dict[str, int] = {}
    found: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in calls.items():
        with tf32(name == "tf32"):
            clock(call, 1)  # what is done once: plans, memory
            counts[name] = int(np.clip(BLOCK_MS / clock(call, 2), 1, MOST_CALLS))
    for _ in range(rounds):
        for name, call in calls.items():
            with tf32(name == "tf32"):
                found[name].append(clock(call, counts[name]))
    return found


def spread(values: Any) -> dict[str, float]:
    """Median and the range that holds 80 %."""
    low, median, high = np.percentile(values, (10, 50, 90))
    return {"median": float(median), "low": float(low), "high": float(high)}


def timed(case: Case, device: str, clock: Clock, way: str = "best") -> Row:
    """The row of a case, where ours runs in a way."""
    calls = make_calls(case, device)
    most = AGREE[precision(way, case.dtype)]
    with tf32(False):
        ours, theirs = (calls[name]().detach() for name in ("fastrnn", "cudnn"))
    apart = relative(ours, theirs)
    if not apart <= most:
        raise ArithmeticError(f"y must be cuDNN's within {most:g}, got {apart:.2g}")
    found = measure(calls, clock)
    ratios = {name: np.divide(ms, found["fastrnn"]) for name, ms in found.items()}
    return {
        "us_per_step": {name: spread(ms)["median"] * 1e3 / case.T for name, ms in found.items()},
        "ms": {name: spread(ms) for name, ms in found.items()},
        "ratios": {name: spread(r) for name, r in ratios.items() if name != "fastrnn"},
        "apart": apart,
    }


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """max |a - b| / max |b|; NaN where there is one."""
    a, b = a.double(), b.double()
    scale = float(b.abs().max()) if b.numel() else 0.0
    most = float((a - b).abs().max()) if b.numel() else 0.0
    return most / scale if scale else most


def plans(case: Case, device: str) -> Row:
    """The mode of each pass that the engine picks, and the model's microseconds of a step."""
    layer = make_layer(fastrnn.torch, case, case.dtype, device)
    parameters = tuple(p.detach() for p in layer.parameters())
    weights = _driver.pack_new(case.cell, case.L, case.D, parameters, True, True)
    index = parameters[0].get_device()
    passes = {"forward": False, "backward": True} if case.kind == "train" else {"forward": False}
    chosen = {
        name: weights.native.plan(case.T, case.B, index, back) for name, back in passes.items()
    }
    return {
        name: {
            "mode": plan["mode"],
            "blocks": plan["blocks"],
            "model_us": plan["model_microseconds"],
        }
        for name, plan in chosen.items()
    }


# ---- the card ------------------------------------------------------------------------------------


def card(device: str) -> Row:
    """What is reported with every figure, and the rates that no program can beat."""
    facts = fastrnn.cuda.devices()[torch.cuda.current_device()]
    properties = torch.cuda.get_device_properties(device)
    return {
        "card": facts["name"],
        "device": facts,
        "l2_bytes": properties.L2_cache_size,
        "memory_bytes": properties.total_memory,
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "fastrnn": fastrnn.__version__,
        "tflops": {dtype: tflops(dtype, device) for dtype in DTYPES},
        "gigabytes_per_second": bandwidth(device),
    }


def tflops(dtype: str, device: str, size: int = 4096) -> float:
    """Of a large product, the most that this card is seen to do; float32 without TF32."""
    a, b = (normal(size, size, seed=s, dtype=dtype, device=device) for s in (0, 1))
    return 2 * size**3 / least_ms(lambda: a @ b) * 1e-9


def bandwidth(device: str, size: int = 1 << 28) -> float:
    """Of memory, by a copy: bytes read and written."""
    a = torch.empty(size, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * size / least_ms(lambda: b.copy_(a)) * 1e-6


def least_ms(call: Call) -> float:
    event_ms(call, 3)
    return min(event_ms(call, 10) for _ in range(5))


# ---- the command ---------------------------------------------------------------------------------


def still_works() -> bool:
    """Whether the device goes on after an error; an illegal access ends a process's work on it."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


def deciding() -> list[tuple[Case, str]]:
    """Cases and ways that are timed first."""
    named = [(square(*sizes), way) for *sizes, way in DECIDING]
    return [*((case, "best") for case in models()), *named]


def tasks(chosen: list[tuple[Case, str]], device: str, card_name: str) -> list[Task]:
    """A task for each case in a way, as its ``mode``; the file keeps these apart."""

    def task(case: Case, way: str) -> Row:
        with forced(way):
            found = timed(case, device, event_ms, way)
            return {**found, "plan": plans(case, device), "card": card_name}

    return [Task({**case.fields(), "mode": way}, partial(task, case, way)) for case, way in chosen]


def say(row: Row) -> str:
    """A row in the terminal."""
    us = row["us_per_step"]
    ratios = ", ".join(f"{name} {r['median']:.2f}" for name, r in row["ratios"].items())
    modes = " ".join(plan["mode"] for plan in row["plan"].values())
    return f"{us['fastrnn']:.2f} us a step ({modes}); their time by ours: {ratios}"


def main(options: argparse.Namespace) -> None:
    """Time the cases that OUT/time.jsonl does not have, as many as fit in the minutes."""
    device = "cuda"
    torch.backends.cuda.matmul.allow_tf32 = False  # ours in float32 is float32
    path = options.out / "time.jsonl"
    known = [row for row in work.read_rows(path) if row.get("case") == "card"]
    if not known:
        known = [{"case": "card", **card(device)}]
        append(path, known[0])
    name = torch.cuda.get_device_name(device)
    if known[0]["card"] != name:
        raise SystemExit(f"[time] {path} must be of one card, got {known[0]['card']} and {name}")
    if options.part == "deciding":
        chosen = deciding()
    else:
        chosen = [
            (case, options.mode)
            for case in cases()
            if (case.cell in options.cell and case.dtype in options.dtype)
            and case.kind in options.kind
        ]
    todo = tasks(chosen, device, known[0]["card"])
    raise SystemExit(work.work_through(path, todo, options.minutes, say, still_works))
