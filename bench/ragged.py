"""Ragged rows in a PackedSequence: a training step's peak of memory and its time, beside torch's.

One row has T steps and the others share the rest evenly, so that few rows run at most steps: what
is in proportion to the rows that run is small, what goes with T x B is not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from fastrnn._bench import case as base
from fastrnn._bench import report, runner
from fastrnn._bench.worker import pilot

from . import memory
from .peers import ADAPTERS

# The largest error of fastrnn against torch, relative to each array's largest value.
TOLERANCE = 1e-3
OTHER, OURS = "torch", ADAPTERS["torch"]


@dataclass(frozen=True)
class Ragged(base.Case):
    """A layer, and B rows with so many running steps together, T of them in the longest row."""

    rows: int = 0

    def words(self) -> Mapping[str, object]:
        return {f"rows{self.rows}": True}

    def lengths(self) -> np.ndarray:
        """Steps of each row, longest first."""
        each, more = divmod(self.rows - self.T, self.B - 1)
        others = np.full(self.B - 1, each)
        others[:more] += 1
        return np.concatenate([[self.T], others])

    def batch_sizes(self) -> np.ndarray:
        """Rows that run at each step."""
        return np.count_nonzero(np.arange(self.T)[:, None] < self.lengths(), axis=1)


CASES = (
    Ragged("lstm", 3000, 256, 64, 128, rows=14_820),
    Ragged("lstm", 4000, 2000, 16, 16, rows=8_192),
)
WARM_UP = Ragged("lstm", 20, 32, 64, 64, rows=200)


# ---- in the peer's process -----------------------------------------------------------------------


def training_step(module: ModuleType, case: Ragged) -> Any:
    """A function that does one step and returns y and the gradients by name."""
    import torch
    from torch.nn.utils.rnn import PackedSequence

    import fastrnn.torch

    library: Any = torch.nn if module.__name__.endswith(f".{OTHER}") else fastrnn.torch
    torch.manual_seed(0)
    layer = library.LSTM(case.I, case.H)
    x = torch.randn(case.rows, case.I).requires_grad_()
    dy, sizes = torch.randn(case.rows, case.H), torch.from_numpy(case.batch_sizes())

    def step() -> dict[str, Any]:
        x.grad = None
        layer.zero_grad()
        y = layer(PackedSequence(x, sizes))[0].data
        y.backward(dy)
        return {"y": y, "x": x.grad} | {name: p.grad for name, p in layer.named_parameters()}

    return step


def footprint(module: ModuleType, case: Ragged) -> dict[str, Any]:
    """Bytes of the first step beyond what was resident, seconds of later ones, and its results."""
    training_step(module, WARM_UP)()
    step = training_step(module, case)
    start = memory.reset_peak()
    begin = time.perf_counter()
    results = step()
    seconds = time.perf_counter() - begin
    taken = memory.resident("VmHWM") - start
    arrays = {name: a.detach().numpy().copy() for name, a in results.items()}
    if seconds < memory.LONG_STEP:
        seconds = pilot(step)
    return {"bytes": taken, "ms": 1e3 * seconds, "arrays": arrays}


# ---- the runner's side ---------------------------------------------------------------------------


def measure(peer: str, case: Ragged, threads: int, isa: str | None) -> dict[str, Any]:
    """`footprint` in a fresh process.

    Raises
    ------
    SystemExit
        The peer cannot run here.
    """
    with runner.Worker(peer, threads, isa) as worker:
        if worker.absent:
            raise SystemExit(f"{case.id}: {peer}: {worker.absent}")
        return dict(worker.apply(footprint, case))


def rows(threads: int, isa: str | None) -> Iterator[report.Row]:
    """A row of each case.

    Raises
    ------
    SystemExit
        fastrnn's numbers are not torch's.
    """
    for case in CASES:
        both = {peer: measure(peer, case, threads, isa) for peer in (OTHER, OURS)}
        for name, wanted in both[OTHER]["arrays"].items():
            error = np.abs(both[OURS]["arrays"][name] - wanted).max() / np.abs(wanted).max()
            if not error <= TOLERANCE:
                raise SystemExit(f"{case.id}: {name} must be torch's, got an error of {error:.1e}")
        yield {
            "case": case.id,
            "threads": threads,
            "bytes": {peer: found["bytes"] for peer, found in both.items()},
            "ms": {peer: found["ms"] for peer, found in both.items()},
        }


HEADER = (
    f"{'':46} {'peak, MiB':^16} {'ms':^20}\n"
    f"{'case':46} {'torch':>7} {'fastrnn':>8} {'torch':>10} {'fastrnn':>9}"
)


def line(row: report.Row) -> str:
    sizes = (row["bytes"][peer] / 2**20 for peer in (OTHER, OURS))
    return "{:46} {:7.1f} {:8.1f} {:10.1f} {:9.1f}".format(
        row["case"], *sizes, row["ms"][OTHER], row["ms"][OURS]
    )
