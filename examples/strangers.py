"""Run networks that other packages ship trained, by their own code and by fastrnn, and compare.

The packages are silero-vad (MIT) and faster-whisper (MIT), which hear whether somebody speaks;
g2p_en and g2pM (both Apache-2.0), which pronounce English and Chinese; Resemblyzer (Apache-2.0),
which knows voices; textgenrnn (MIT), which writes; sleepecg (BSD-3), which tells stages of sleep
from heartbeats. They are the one thing here that comes from a network: pip installs each, without
what it needs beside, into a folder that is removed at the end, or with ``--packages`` stays. A
package that cannot be had, or whose framework is missing, is left out with a line that says so.

Each network is built into the layers of fastrnn from its own file: safetensors' and torch's names,
nodes of ONNX, Keras with a mask, the matrices of cuDNN, plain NumPy arrays. The own code is the
package's, or where that cannot be imported alone the framework's layer on the same weights; both
run with one thread, as silero-vad and faster-whisper have it, and the own code word by word where
that is its way. What is said (phonemes, readings, stages, the next character) must be the same, or
the difference is inf; of the numbers behind it the table has the largest difference, and it has the
milliseconds of the fastest call of some.

Run it with ``python examples/strangers.py``.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _pairs import difference
from _program import Figures, Program
from _registry import Unavailable, install
from _strangers import NETWORKS, Network

import fastrnn


def one_thread() -> None:
    """For fastrnn and for torch, if it is there; ONNX Runtime gets it from the packages."""
    fastrnn.set_num_threads(1)
    with contextlib.suppress(ModuleNotFoundError):
        import torch

        torch.set_num_threads(1)


def milliseconds(call: Callable[[], Any], calls: int) -> float:
    """Of the fastest call of some."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def compare(network: Network, folder: Path, seed: int, calls: int) -> dict[str, float]:
    """A row of the table."""
    pair = network.read(install(network.package, folder), seed)
    return {
        "difference": difference(pair.own(), pair.ours()),
        "own, ms": milliseconds(pair.own, calls),
        "fastrnn, ms": milliseconds(pair.ours, calls),
    }


def main(argv: list[str] | None = None) -> Figures:
    """Compare all networks."""
    program = Program(__doc__, on_torch=False)
    program.parser.add_argument(
        "--packages", type=Path, metavar="FOLDER", help="keep the packages here for the next run"
    )
    options = program.start(argv)

    one_thread()
    figures: Figures = {}
    left_out = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.packages or Path(scratch)
        for network in program.progress(NETWORKS, "networks"):
            program.note(network.package)
            try:
                calls = program.pick(full=10, quick=1)
                figures[network.name] = compare(network, folder, options.seed, calls)
            except Unavailable as why:
                left_out.append(f"{network.name}: left out: {why}")
            except ModuleNotFoundError as error:
                missing = (error.name or "").partition(".")[0]
                left_out.append(f"{network.name}: left out: needs {missing}")
    print(*left_out, sep="\n")
    if not figures:
        sys.exit("no network is left")
    with program.picture("strangers.png", width=8, height=4) as figure:
        axes = figure.subplots()
        ratios = [row["own, ms"] / row["fastrnn, ms"] for row in figures.values()]
        axes.barh([*figures], ratios)
        axes.axvline(1, color="black", lw=0.8)
        axes.invert_yaxis()
        axes.set(xlabel="time of the own code / time with fastrnn", xscale="log")
    return program.report(figures)


if __name__ == "__main__":
    main()
