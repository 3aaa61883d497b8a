"""What the examples with torch share: train a model twice, as it is and accelerated, and compare.

Both start from the same seed. They train in turns, a block of steps each, so that both meet
whatever else the machine does, and each has its own place in torch's random numbers. On a machine
that is busy otherwise only the median step compares them: a sum of seconds then holds the waiting.

The losses of both are the same up to rounding, which training amplifies: late in a run of the
tagger they are as far apart as those of torch.nn and torch.nn, with weights changed by 1e-7.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from _program import positive, seed
from torch import Tensor, nn

from fastrnn.torch import accelerate

EARLY = 50  # steps whose losses are also compared alone


@dataclass
class Run:
    """One of the two trainings.

    Attributes
    ----------
    name : str
        Its column in the table.
    model : torch.nn.Module
        The model.
    steps : iterator of float
        Each `next` trains one step and gives its loss.
    generator : Tensor
        State of torch's random numbers where this run goes on.
    losses : list of float
        One for each step done.
    seconds : list of float
        Likewise.
    """

    name: str
    model: nn.Module
    steps: Iterator[float]
    generator: Tensor
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def advance(self, count: int) -> None:
        """Train `count` steps."""
        torch.set_rng_state(self.generator)
        for _ in range(count):
            start = time.perf_counter()
            self.losses.append(next(self.steps))
            self.seconds.append(time.perf_counter() - start)
        self.generator = torch.get_rng_state()


def arguments(description: str, steps: int, hidden: int) -> argparse.ArgumentParser:
    """Make a parser with the options of every example."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--cell", choices=("lstm", "gru"), default="lstm")
    parser.add_argument("--steps", type=positive, default=steps, help="(default: %(default)s)")
    parser.add_argument("--hidden", type=positive, default=hidden, help="(default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="(default: %(default)s)")
    return parser


def compare(
    make: Callable[[], nn.Module],
    train: Callable[[Any], Iterator[float]],
    steps: int,
    seed: int,
    block: int = 20,
) -> tuple[Run, Run]:
    """Train a model of torch.nn and an accelerated one, in turns.

    Parameters
    ----------
    make : callable
        Gives a fresh model.
    train : callable
        Gives the steps of a model's training: an iterator without end over their losses.
    steps, seed : int
        For each of the two.
    block : int
        Steps of a turn.

    Returns
    -------
    tuple of Run
        torch's, then ours.
    """
    runs = []
    for name in ("torch.nn", "fastrnn.torch"):
        for counts in (False, True):  # what torch loads and sets up once is nobody's time
            torch.manual_seed(seed)
            model = make()
            changes = accelerate(model) if name == "fastrnn.torch" else None
            if not counts:
                next(train(model))
        if changes is not None:
            print(changes)
        runs.append(Run(name, model, train(model), torch.get_rng_state()))
    torchs, ours = runs
    try:
        from tqdm import tqdm
    except ImportError:
        print("no progress bar without tqdm: pip install 'fastrnn[demo]'")
        tqdm = None
    bar = tqdm(total=2 * steps, unit="step", dynamic_ncols=True) if tqdm else None
    for turn, done in enumerate(range(0, steps, block)):
        for run in runs if turn % 2 == 0 else reversed(runs):
            run.advance(min(block, steps - done))
            if bar is not None:
                bar.update(min(block, steps - done))
        losses = ", ".join(f"{run.name} {run.losses[-1]:.4f}" for run in runs)
        if bar is not None:
            bar.set_postfix_str(losses)
        else:
            print(f"step {len(ours.losses)}/{steps}  loss: {losses}", flush=True)
    if bar is not None:
        bar.close()
    return torchs, ours


def report(runs: tuple[Run, Run], more: dict[str, Callable[[Any], float]]) -> None:
    """Print the table.

    Parameters
    ----------
    runs : tuple of Run
        Of `compare`.
    more : dict
        A further row's title, and its figure for a model.
    """
    torchs, ours = runs
    count = len(ours.losses)
    last = min(20, count)
    rows: list[tuple[str, list[float]]] = [
        ("loss of the first step", [run.losses[0] for run in runs]),
        (f"mean loss of the last {last} steps", [sum(r.losses[-last:]) / last for r in runs]),
    ]
    rows += [(title, [figure(run.model) for run in runs]) for title, figure in more.items()]
    rows.append((f"seconds for {count} steps", [sum(run.seconds) for run in runs]))
    rows.append(("seconds of the median step", [statistics.median(r.seconds) for r in runs]))
    print(f"\n{'':34}{torchs.name:>15}{ours.name:>15}")
    for title, figures in rows:
        print(f"{title:34}" + "".join(f"{figure:15.4f}" for figure in figures))
    gaps = [abs(a - b) for a, b in zip(torchs.losses, ours.losses, strict=True)]
    early = min(EARLY, count)
    print(f"\nlargest difference of the losses, steps 1 to {early}: {max(gaps[:early]):.1e}")
    worst = max(range(count), key=gaps.__getitem__)
    print(
        f"largest difference of the losses, all {count} steps: {gaps[worst]:.1e} "
        f"(step {worst + 1}: {torchs.losses[worst]:.4f} and {ours.losses[worst]:.4f})"
    )
    for title, figures in rows[-2:]:
        print(f"{title}, {torchs.name} / {ours.name}: {figures[0] / figures[1]:.2f}")
