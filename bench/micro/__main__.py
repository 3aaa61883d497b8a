"""Times of the engine's parts, one line each.

    python -m bench.micro [--threads N] [--json FILE]

From C++: the GEMM tile, the gates' maths, the barrier; a step of a stream (T = B = 1, I = H) inside
a long call and as a call of its own, beside RTNeural's. From Python: the tile inside a layer (a
huge number of inputs and hardly a recurrence), packing, a step of a stream, and what a call costs
beside its arithmetic.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn._bench import report
from fastrnn._bench.worker import time_calls

from ..options import make_parser
from .native import HERE, SOURCES, compile_program, level, run_program

# Microseconds of a step of RTNeural of 2025 (C++ templates over Eigen, AVX-512) on one core of a
# Zen 4, I = H: cell -> H.
RTNEURAL_US = {
    "lstm": {"16": 0.100, "32": 0.260, "64": 1.30, "128": 5.12},
    "gru": {"16": 0.101, "32": 0.219, "64": 1.00, "128": 3.66},
}


def least(call: Callable[[], Any], calls: int, trials: int = 7) -> float:
    """Least mean seconds of a call."""
    call()
    return min(time_calls(call, calls) for _ in range(trials))


def native(threads: int) -> dict[str, Any]:
    """What micro.cpp measures."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("load", "processors", "team", "thread_count")
        team = [str(SOURCES / "cpu" / f"{name}.cpp") for name in names]
        program = compile_program(HERE / "micro.cpp", folder, *team, "-fopenmp")
        return run_program(program, threads)


def steps_ns() -> dict[str, Any]:
    """What stream.cpp measures: cell -> H -> [inside a long call, a call for one step]."""
    with tempfile.TemporaryDirectory() as folder:
        units = kernel_units(Path(folder))
        units += [(path, []) for path in SOURCES.glob("core/*.cpp")]
        # What kernel_units has, and products that no layer here has.
        apart = ("kernel.cpp", "products.cpp", "quantized.cpp")
        units += [(p, []) for p in SOURCES.glob("cpu/*.cpp") if p.name not in apart]
        options = ("-I", folder, "-fopenmp")

        def compile_unit(number: int) -> str:
            path, definitions = units[number]
            own = Path(folder) / str(number)  # kernel.cpp is there once for each cell
            own.mkdir()
            return str(compile_program(path, str(own), *options, *definitions, "-c"))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_unit, range(len(units))))
        program = compile_program(HERE / "stream.cpp", folder, *options, *objects)
        return run_program(program)


def kernel_units(folder: Path) -> list[tuple[Path, list[str]]]:
    """The kernels of RTNeural's cells, a file and its definitions; writes their list."""
    registry = (SOURCES / "cells" / "registry.h").read_text(encoding="utf-8")
    products = SOURCES / "cpu" / "products.cpp"
    units = [(products, ["-DFASTRNN_UNIT_ELEMENT=float"])]
    names = f"FASTRNN_PRODUCTS({level()}, float)\n"
    for cell, struct, header in re.findall(r"^FASTRNN_CELL\((\w+), (.+), (\S+)\)$", registry, re.M):
        if cell in RTNEURAL_US:
            defined = {
                "CELL": cell,
                "STRUCT": struct,
                "HEADER": f'"cells/{header}"',
                "ELEMENTS(X)": "X(float)",
                "MATH": "Exact",
            }
            definitions = [f"-DFASTRNN_UNIT_{name}={value}" for name, value in defined.items()]
            units.append((SOURCES / "cpu" / "kernel.cpp", definitions))
            names += f"FASTRNN_KERNEL({level()}, {cell}, float)\n"
    (folder / "kernel_list.inc").write_text(names, encoding="utf-8")
    return units


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


def step_us(layer: fastrnn.Recurrent) -> float:
    """One step of a stream, called from Python."""
    x = np.zeros((1, 1, layer.input_size), np.float32)
    state = layer(x)[1]
    return least(lambda: layer(x, state), 5000) * 1e6


def native_lines(found: dict[str, Any]) -> list[str]:
    """The lines of what `native` and `steps_ns` found."""
    lines = [
        f"{f'tile, {rows} rows x 4 vectors, K = 512':44} {gflops:8.1f} GF/s"
        for rows, gflops in found["tile_gflops"].items()
    ]
    for cell, ns in found["gates_ns"].items():
        lines.append(f"{f'gates of {cell}, one vector':44} {ns:8.2f} ns")
    threads = f"barrier, {found['threads']} threads"
    lines.append(f"{threads:44} {found['barrier_ns']:8.0f} ns")
    for cell, sizes in found["steps_ns"].items():
        for H, (inside, call) in sizes.items():
            lines.append(
                f"{f'step of {cell}, I = H = {H}: inside, call':44} {inside / 1e3:8.3f} us "
                f"{call / 1e3:8.3f} us   RTNeural {RTNEURAL_US[cell][H]:.3f} us"
            )
    return lines


def main() -> None:
    parser = make_parser("bench.micro", __doc__)
    parser.add_argument("--threads", type=int, default=fastrnn.get_num_threads())
    options = parser.parse_args()
    fastrnn.set_num_threads(1)
    found: dict[str, Any] = {"threads": options.threads, "machine": report.machine()}
    try:
        found |= {**native(options.threads), "steps_ns": steps_ns()}
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no tile, gates, barrier, steps: the C++ part cannot be compiled or run: {error}")
    else:
        print(*native_lines(found), sep="\n")
    found["projection_gflops"] = projection_gflops()
    print(f"{'projection in a layer, one thread':44} {found['projection_gflops']:8.1f} GF/s")
    found["packing_us"] = {H: packing_us(H) for H in (64, 256, 512)}
    for H, times in found["packing_us"].items():
        for use, us in times.items():
            print(f"{f'packing LSTM I = H = {H}, {use}':44} {us:8.1f} us")
    found["steps_us"] = {name: step_us(getattr(fastrnn, name)(64, 64)) for name in ("LSTM", "GRU")}
    for name, us in found["steps_us"].items():
        print(f"{f'layer(x, state), {name} T = B = 1, I = H = 64':44} {us:8.3f} us")
    found["overheads_us"] = overheads_us()
    for name, us in found["overheads_us"].items():
        print(f"{f'{name}, T = B = I = H = 1':44} {us:8.3f} us")
    if options.json:
        report.append(options.json, found)


if __name__ == "__main__":
    main()
