"""Times of the engine's parts, one line each.

    python -m bench.micro [--threads N] [--json FILE]

From C++: the GEMM tile, the gates' maths, the barrier. From Python: the tile inside a layer (a huge
number of inputs and hardly a recurrence), packing, and what a call costs beside its arithmetic.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn

from .. import limits, report
from ..worker import time_calls

HERE = Path(__file__).resolve().parent


def least(call: Callable[[], Any], calls: int, trials: int = 7) -> float:
    """Least mean seconds of a call."""
    call()
    return min(time_calls(call, calls) for _ in range(trials))


def native(threads: int) -> dict[str, Any]:
    """What micro.cpp measures."""
    with tempfile.TemporaryDirectory() as folder:
        team = str(limits.HERE.parent / "csrc" / "cpu" / "team.cpp")
        program = limits.compile_program(HERE / "micro.cpp", folder, team, "-fopenmp")
        done = subprocess.run(
            [str(program), str(threads)], check=True, stdout=subprocess.PIPE, text=True
        )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def projection_gflops() -> float:
    """A layer whose time is its input GEMM: T = 1, H = 64, I = 8192."""
    B, I, H = 192, 8192, 64
    layer = fastrnn.LSTM(I, H, seed=0)
    x = np.random.default_rng(0).standard_normal((1, B, I)).astype(np.float32)
    return 2 * B * I * 4 * H / least(lambda: layer(x), 3) * 1e-9


def packing_us(H: int) -> dict[str, float]:
    """Packing the weights of an LSTM with I = H."""
    params = fastrnn.LSTM(H, H, seed=0).state_dict()
    calls = max(1, 200_000 // H**2)

    def pack(**uses: bool) -> float:
        return least(lambda: fastrnn.functional.pack("lstm", params, **uses), calls) * 1e6

    return {"forward": pack(backward=False), "both": pack(backward=True)}


def overheads_us() -> dict[str, float]:
    """Calls that compute next to nothing: T = B = I = H = 1."""
    layer = fastrnn.LSTM(1, 1, seed=0)
    packed = fastrnn.functional.pack("lstm", layer.state_dict())
    x = np.zeros((1, 1, 1), np.float32)
    state = layer(x)[1]
    _, _, tape = layer.forward(x, state)

    def us(call: Callable[[], Any]) -> float:
        return least(call, 5000) * 1e6

    return {
        "layer(x, state)": us(lambda: layer(x, state)),
        "functional.infer": us(lambda: fastrnn.functional.infer("lstm", x, packed, state)),
        "layer.forward": us(lambda: layer.forward(x, state)),
        "layer.backward": us(lambda: layer.backward(tape, x)),
        "np.empty": us(lambda: np.empty((1, 1, 1), np.float32)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.micro",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=fastrnn.get_num_threads())
    parser.add_argument("--json", metavar="FILE", help="append a line with everything")
    options = parser.parse_args()
    fastrnn.set_num_threads(1)
    found: dict[str, Any] = {"threads": options.threads, "machine": report.machine()}
    try:
        found |= native(options.threads)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no tile, gates, barrier: the C++ part cannot be compiled or run: {error}")
    else:
        for rows, gflops in found["tile_gflops"].items():
            print(f"tile, {rows} rows x 4 vectors, K = 512        {gflops:8.1f} GF/s")
        for cell, ns in found["gates_ns"].items():
            print(f"{f'gates of {cell}, one vector':40} {ns:8.2f} ns")
        print(f"{f'barrier, {options.threads} threads':40} {found['barrier_ns']:8.0f} ns")
    found["projection_gflops"] = projection_gflops()
    print(f"{'projection in a layer, one thread':40} {found['projection_gflops']:8.1f} GF/s")
    found["packing_us"] = {H: packing_us(H) for H in (64, 256, 512)}
    for H, times in found["packing_us"].items():
        for use, us in times.items():
            print(f"{f'packing LSTM I = H = {H}, {use}':40} {us:8.1f} us")
    found["overheads_us"] = overheads_us()
    for name, us in found["overheads_us"].items():
        print(f"{f'{name}, T = B = I = H = 1':40} {us:8.3f} us")
    if options.json:
        report.append(options.json, found)


if __name__ == "__main__":
    main()
