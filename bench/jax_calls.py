"""What a call through JAX costs beside the engine's work, and how it gets on with XLA's threads.

    python -m bench jax [--rounds N] [--threads N]

The first table is one step of one row, H = 64, jitted: the call, a jitted function without work
that has the same arguments and results, the engine's own step from the same weights, not packed.
What is left of the first when the others are taken away is the cost of the way through XLA: 3 us at
most.

The second is a program in which XLA may run two things at once: two layers that need nothing of
each other, and a layer beside a product of matrices that XLA gives its own threads. It compares
their time with that of the parts, one after the other: above 1 they are in each other's way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from fastrnn._bench import report

from . import options as suite_options
from .side_by_side import compare, use_engine

CELLS = ("rnn_tanh", "gru", "lstm")
H, MOST_MICROSECONDS = 64, 3.0
T, B, WIDE, MOST_SHARE = 100, 16, 256, 1.15


def step_calls(cell: str) -> tuple[Callable[[], Any], ...]:
    """The jitted step, the jitted function without work, the engine's step."""
    import jax

    import fastrnn.jax
    from fastrnn._native import engine

    params = fastrnn.jax.init(jax.random.key(0), cell, H, H)
    x = jax.numpy.ones((1, 1, H))
    state: Any = jax.numpy.zeros((1, 1, H))
    state = (state, state) if cell == "lstm" else state
    layer = jax.jit(lambda p, x, s: fastrnn.jax.recurrent(cell, x, p, s))
    nothing = jax.jit(lambda p, x, s: (x * 1, s))
    arrays = tuple(np.asarray(p) for p in params.values())
    call = (np.asarray(x), jax.tree.map(np.asarray, state))
    return (
        lambda: jax.block_until_ready(layer(params, x, state)),
        lambda: jax.block_until_ready(nothing(params, x, state)),
        lambda: engine.run_new(cell, 1, 1, arrays, call),
    )


def pairs() -> dict[str, tuple[Callable[[], Any], ...]]:
    """Of each program: all at once, and its parts."""
    import jax

    import fastrnn.jax

    keys = jax.random.split(jax.random.key(0), 3)
    first, second = (fastrnn.jax.init(key, "lstm", WIDE, WIDE) for key in keys[:2])
    x = jax.random.normal(keys[2], (T, B, WIDE))
    matrix = jax.random.normal(keys[2], (1024, 1024))

    def layer(params: Any) -> Any:
        return fastrnn.jax.lstm(x, params)[0]

    def product(matrix: Any) -> Any:
        return matrix @ matrix @ matrix

    def timed(f: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        compiled = jax.jit(f)
        return lambda: jax.block_until_ready(compiled(*args))

    both = timed(lambda p, q: (layer(p), layer(q)), first, second)
    mixed = timed(lambda p, m: (layer(p), product(m)), first, matrix)
    return {
        "two layers": (both, timed(layer, first), timed(layer, second)),
        "a layer and a product": (mixed, timed(layer, first), timed(product, matrix)),
    }


def main(arguments: Sequence[str]) -> None:
    parser = suite_options.make_parser("bench jax", __doc__)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--isa")
    parser.add_argument("--rounds", type=int, default=15, help="blocks of each call (15)")
    options = parser.parse_args(arguments)
    use_engine(options)
    missed = steps(options) + programs(options)
    sys.exit(f"{missed} figures over their bound" if missed else None)


def steps(options: argparse.Namespace) -> int:
    missed = 0
    print(f"{'us, T=1 B=1 H=64':24} {'jitted':>8} {'no work':>8} {'engine':>8} {'left':>8}")
    for cell in tqdm(CELLS, leave=False):
        jitted, nothing, engine = (1e6 * t for t in compare(step_calls(cell), options.rounds))
        left = jitted - nothing - engine
        missed += left > MOST_MICROSECONDS
        tqdm.write(f"{cell:24} {jitted:8.2f} {nothing:8.2f} {engine:8.2f} {left:8.2f}")
        if options.json:
            report.append(options.json, {"case": f"{cell}_step", "left_us": left})
    return missed


def programs(options: argparse.Namespace) -> int:
    missed = 0
    print(f"{'ms, LSTM T=100 B=16 H=256':24} {'together':>8} {'apart':>8} {'share':>8}")
    for name, calls in tqdm(pairs().items(), leave=False):
        together, *apart = (1e3 * t for t in compare(calls, options.rounds))
        share = together / sum(apart)
        missed += share > MOST_SHARE
        tqdm.write(f"{name:24} {together:8.2f} {sum(apart):8.2f} {share:8.2f}")
        if options.json:
            report.append(options.json, {"case": name, "share": share})
    return missed
