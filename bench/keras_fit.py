"""Keras models with fastrnn.keras's layers, beside the same models with Keras's own.

    python -m bench keras [--backend NAME ...] [--cell NAME ...] [--document] [options]

A model is one recurrent layer with a dense one behind it, T = 100, B = 32, H = 128; what is timed
is a batch of `fit`, with Adam and a mean squared error, or on NumPy, which does not train, of
`predict`. Each backend has a process of its own, in which both models take turns in short blocks.
The masks are none, and one of padding on the left. On torch there is a third to take turns: a plain
loop over fastrnn.torch's layer, with torch's Adam, which does what `fit` does but for Keras.

`--document` writes the table into docs/keras.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from fastrnn._bench import report

from . import options as suite_options
from .markdown import ROOT, filled, markdown, three_digits

BACKENDS = ("torch", "jax", "tensorflow", "numpy")
CELLS = {"rnn": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"}
MASKS = ("none", "left")
T, B, I, H = 100, 32, 32, 128
PAGE = ROOT / "docs" / "keras.md"
BLOCK_SECONDS = 1.0  # so that what a `fit` takes to begin, up to 60 ms on TensorFlow, hardly counts


# ---- in the backend's process --------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def data_of(mask: str, batches: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets; masked steps, on the left and of no row all, are zeros."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batches * B, T, I)).astype("f")
    if mask == "left":
        starts = rng.integers(0, T // 2, len(x))
        x[np.arange(T) < starts[:, None]] = 0
    return x, rng.standard_normal((len(x), 1)).astype("f")


def model_of(layers: Any, cell: str, mask: str) -> Any:
    """A compiled model whose recurrent layer is of a module."""
    import keras

    masking = [keras.layers.Masking()] if mask == "left" else []
    recurrent = getattr(layers, CELLS[cell])(H)
    stack = [keras.Input((T, I)), *masking, recurrent, keras.layers.Dense(1)]
    model = keras.Sequential(stack)
    if keras.backend.backend() != "numpy":
        model.compile("adam", "mse")
    return model


def keras_call(model: Any, mask: str) -> Callable[[int], None]:
    """A function of a number of batches: `fit`, or `predict` where the backend does not train."""
    import keras

    def call(batches: int) -> None:
        x, y = data_of(mask, batches)
        if keras.backend.backend() == "numpy":
            model.predict(x, batch_size=B, verbose=0)
        else:
            model.fit(x, y, batch_size=B, epochs=1, shuffle=False, verbose=0)

    return call


def torch_call(cell: str, mask: str) -> Callable[[int], None]:
    """The same steps by torch and fastrnn.torch, without Keras."""
    import torch

    import fastrnn.torch

    layer = getattr(fastrnn.torch, {"SimpleRNN": "RNN"}.get(CELLS[cell], CELLS[cell]))(
        I, H, batch_first=True
    )
    dense = torch.nn.Linear(H, 1)
    adam = torch.optim.Adam([*layer.parameters(), *dense.parameters()])

    def call(batches: int) -> None:
        x, y = map(torch.from_numpy, data_of(mask, batches))
        for k in range(0, len(x), B):
            rows = x[k : k + B]
            holds = (rows == 0).all(-1) if mask == "left" else None
            out = layer(rows, holds=holds, repeat_held=True)[0]
            loss = torch.nn.functional.mse_loss(dense(out[:, -1]), y[k : k + B])
            adam.zero_grad()
            loss.backward()
            adam.step()

    return call


def seconds_of_a_batch(call: Callable[[int], None], batches: int) -> float:
    begin = time.perf_counter()
    call(batches)
    return (time.perf_counter() - begin) / batches


def compare(calls: dict[str, Callable[[int], None]], rounds: int) -> dict[str, float]:
    """The median seconds of a batch of each, of alternating blocks."""
    batches = {}
    for name, call in calls.items():
        call(1)  # traces, compiles, allocates
        batches[name] = max(2, int(BLOCK_SECONDS / seconds_of_a_batch(call, 10)))
        call(batches[name])
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds_of_a_batch(call, batches[name]))
    return {name: statistics.median(taken) for name, taken in times.items()}


def serve(options: argparse.Namespace) -> None:
    """Print a line of JSON for each case of a backend."""
    import keras

    import fastrnn
    import fastrnn.keras

    (backend,) = options.backend
    fastrnn.set_num_threads(options.threads)
    if backend == "torch":
        import torch

        torch.set_num_threads(options.threads)
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    for cell in options.cell:
        for mask in MASKS:
            ours = model_of(fastrnn.keras, cell, mask)
            calls = {"fastrnn": keras_call(ours, mask)}
            calls["keras"] = keras_call(model_of(keras.layers, cell, mask), mask)
            if backend == "torch":
                calls["loop"] = torch_call(cell, mask)
            seconds = compare(calls, options.rounds)
            if fastrnn.keras.report().fallbacks or not fastrnn.keras.report().fused:
                raise SystemExit(f"[bench] fastrnn must serve the layer:\n{fastrnn.keras.report()}")
            row = {"backend": backend, "cell": cell, "mask": mask}
            print(json.dumps({**row, "ms": {k: 1e3 * s for k, s in seconds.items()}}), flush=True)


# ---- the runner's side ---------------------------------------------------------------------------


def rows_of(backend: str, options: argparse.Namespace) -> list[report.Row]:
    command = [sys.executable, "-m", "bench.keras_fit", "--serve", "--backend", backend]
    command += ["--cell", *options.cell, "--rounds", str(options.rounds)]
    command += ["--threads", str(options.threads)]
    quiet = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **quiet}, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"[bench] {backend}: its process ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def ratio(row: report.Row, peer: str = "keras") -> float:
    quotient: float = row["ms"][peer] / row["ms"]["fastrnn"]
    return quotient


HEADER = f"{'backend':11} {'cell':5} {'mask':5} {'fastrnn ms':>11} {'keras ms':>10} {'ratio':>7}"


def line(row: report.Row) -> str:
    text = "{backend:11} {cell:5} {mask:5}".format(**row)
    text += f" {row['ms']['fastrnn']:11.2f} {row['ms']['keras']:10.2f} {ratio(row):7.2f}"
    if "loop" in row["ms"]:
        text += f"   {1 / ratio(row, 'loop'):.2f} of a plain loop's {row['ms']['loop']:.2f}"
    return text


def table(rows: Sequence[report.Row], where: str) -> list[str]:
    """The lines of the page."""
    header = ("backend", "layer", "mask", "fastrnn, ms", "Keras, ms", "ratio")
    cells = [
        (
            row["backend"],
            CELLS[row["cell"]],
            {"none": "none", "left": "padding on the left"}[row["mask"]],
            three_digits(row["ms"]["fastrnn"]),
            three_digits(row["ms"]["keras"]),
            f"{ratio(row):.1f}",
        )
        for row in rows
    ]
    return [
        f"{where}; from `python -m bench keras --document`",
        "",
        *markdown(header, cells),
    ]


def main(arguments: Sequence[str]) -> None:
    parser = suite_options.make_parser("bench keras", __doc__)
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--cell", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--rounds", type=int, default=7, help="blocks of each model (7)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--document", action="store_true", help="write the table into docs/keras.md"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options)
        return
    import fastrnn

    machine = report.machine()
    report.warn_if_busy(machine)
    print(HEADER)
    rows = []
    for backend in tqdm(options.backend, leave=False):
        for row in rows_of(backend, options):
            rows.append(row)
            tqdm.write(line(row))
            if options.json:
                report.append(options.json, {**row, "machine": machine})
    if options.document:
        text = PAGE.read_text(encoding="utf-8")
        level = fastrnn.build_info()["level"]
        where = f"{machine['processor']}, level {level}, {options.threads} threads"
        PAGE.write_text(filled(text, "table", table(rows, where)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
