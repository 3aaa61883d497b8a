"""fastrnn against torch.nn on the CPU: the ratio of their times, in one alternating run.

    python bench/vs_torch.py [--cells lstm gru rnn] [--shapes T,B,I,H ...] [--modes forward train]
                             [--threads N] [--rounds N] [--json FILE]

Each library lives in a process of its own with its own pool of threads; the two never run at
once. The runner lets them take turns in short blocks (A B A B ...), so that a drift of the
machine's speed meets both, and reports the median over the rounds of torch's time divided by
fastrnn's: above 1 fastrnn is faster. Before anything is timed the results are compared.

`train` is forward with what backward needs, and backward for x and every weight.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

SHAPES = ["100,32,256,256", "500,16,64,64"]
CELLS = ["lstm", "gru", "rnn"]
BLOCK_SECONDS = 0.15


def case_data(case: dict[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Parameters, x and dy, the same in both processes."""
    T, B, I, H = case["shape"]
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[case["cell"]]
    rng = np.random.default_rng(0)
    bound = H**-0.5

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    params = {
        "weight_ih_l0": uniform(gates * H, I),
        "weight_hh_l0": uniform(gates * H, H),
        "bias_ih_l0": uniform(gates * H),
        "bias_hh_l0": uniform(gates * H),
    }
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    return params, x, rng.standard_normal((T, B, H)).astype(np.float32)


def fastrnn_calls(case: dict[str, Any], threads: int) -> Any:
    import fastrnn

    fastrnn.set_num_threads(threads)
    params, x, dy = case_data(case)
    layer_class = {"lstm": fastrnn.LSTM, "gru": fastrnn.GRU, "rnn": fastrnn.RNN}[case["cell"]]
    layer = layer_class(case["shape"][2], case["shape"][3])
    layer.load_state_dict(params)

    def forward() -> np.ndarray:
        return layer(x)[0]

    def train() -> np.ndarray:
        # The weights change between training steps: packing them anew is part of the step.
        with layer.mutable():
            pass
        _, _, tape = layer.forward(x)
        return layer.backward(tape, dy)[0]

    return {"forward": forward, "train": train}[case["mode"]]


def torch_calls(case: dict[str, Any], threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    params, x_array, dy_array = case_data(case)
    layer_class = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[case["cell"]]
    layer = layer_class(case["shape"][2], case["shape"][3])
    layer.load_state_dict({name: torch.from_numpy(value) for name, value in params.items()})
    x, dy = torch.from_numpy(x_array), torch.from_numpy(dy_array)

    def forward() -> np.ndarray:
        with torch.inference_mode():
            return layer(x)[0].numpy()

    def train() -> np.ndarray:
        x.requires_grad_(True)
        x.grad = None
        layer.zero_grad()
        layer(x)[0].backward(dy)
        return x.grad.numpy()

    return {"forward": forward, "train": train}[case["mode"]]


PEERS = {"fastrnn": fastrnn_calls, "torch": torch_calls}


def worker(peer: str, threads: int, pipe: Connection) -> None:
    """Answer ("case", case) with a result, and ("block", seconds) with the mean time of a call."""
    call = None
    while True:
        what, argument = pipe.recv()
        if what == "stop":
            return
        if what == "case":
            call = PEERS[peer](argument, threads)
            pipe.send(np.array(call()))
        else:
            start, calls = time.perf_counter(), 0
            while True:
                call()
                calls += 1
                elapsed = time.perf_counter() - start
                if elapsed >= argument:
                    break
            pipe.send(elapsed / calls)


def ask(pipe: Connection, what: str, argument: Any) -> Any:
    pipe.send((what, argument))
    return pipe.recv()


def measure(pipes: dict[str, Connection], case: dict[str, Any], rounds: int) -> dict[str, Any]:
    results = [ask(pipe, "case", case) for pipe in pipes.values()]
    scale = max(1.0, float(np.abs(results[1]).max()))
    error = float(np.abs(results[0] - results[1]).max()) / scale
    if error > 1e-4:
        raise SystemExit(f"{case}: the results differ by {error:.1e}")
    times: dict[str, list[float]] = {peer: [] for peer in pipes}
    for round_number in range(rounds + 1):
        for peer, pipe in pipes.items():
            seconds = ask(pipe, "block", BLOCK_SECONDS)
            if round_number:  # the first warms up
                times[peer].append(seconds)
    ratios = np.array(times["torch"]) / np.array(times["fastrnn"])
    return {
        **case,
        **{f"{peer}_ms": float(np.median(t)) * 1e3 for peer, t in times.items()},
        "ratio": float(np.median(ratios)),
        "low": float(np.quantile(ratios, 0.1)),
        "high": float(np.quantile(ratios, 0.9)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", default=CELLS, choices=CELLS)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="T,B,I,H")
    parser.add_argument("--modes", nargs="+", default=["forward", "train"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", help="append one line a case to this file")
    options = parser.parse_args()
    try:
        import torch
        from tqdm import tqdm
    except ImportError as error:
        sys.exit(f'{error.name} is needed: pip install "torch==2.13.0" "fastrnn[bench]"')
    import fastrnn

    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for peer in PEERS:
        pipes[peer], far = context.Pipe()
        processes.append(context.Process(target=worker, args=(peer, options.threads, far)))
        processes[-1].start()
    cases = [
        {"cell": cell, "mode": mode, "shape": [int(n) for n in shape.split(",")]}
        for cell in options.cells
        for mode in options.modes
        for shape in options.shapes
    ]
    info = fastrnn.build_info()
    print(
        f"fastrnn {info['version']} ({info['level']}) and torch {torch.__version__}, "
        f"{options.threads} threads, {platform.machine()}"
    )
    print(f"{'case':34} {'fastrnn':>10} {'torch':>10} {'torch / fastrnn':>16} {'10 .. 90 %':>14}")
    try:
        for case in (bar := tqdm(cases, leave=False, file=sys.stderr)):
            T, B, I, H = case["shape"]
            name = f"{case['cell']}_f32_T{T}_B{B}_I{I}_H{H}_D1 {case['mode']}"
            bar.set_description(name)
            row = measure(pipes, case, options.rounds)
            bar.write(
                f"{name:34} {row['fastrnn_ms']:7.3f} ms {row['torch_ms']:7.3f} ms "
                f"{row['ratio']:16.2f} {row['low']:6.2f} ..{row['high']:5.2f}",
                file=sys.stdout,
            )
            if options.json:
                with open(options.json, "a", encoding="utf-8") as out:
                    print(json.dumps({"level": info["level"], **row}), file=out)
    finally:
        for pipe in pipes.values():
            pipe.send(("stop", None))
        for process in processes:
            process.join()


if __name__ == "__main__":
    main()
