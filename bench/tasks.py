"""What 16 and 8 bits cost in tasks: a character model, a tagger, a detector of speech.

    python -m bench tasks [charlm tagger silero] [--seeds N] [--cell lstm|gru] [options]

charlm   the model of `python -m fastrnn train`, trained in float32 and in bfloat16, and the first
         of these with weights of 8 bits: bits per character on text that was held out
tagger   that of examples/torch_tagger.py, trained in float32 and under torch's autocast, and the
         first with weights of 8 bits: characters of other files whose kind is told correctly
silero   silero-vad's trained network on speech of eSpeak NG, with weights of 8 bits and by a
         simulation of them in NumPy: probabilities of speech, and decisions that changed. pip
         installs silero-vad for it into --packages; onnx, onnxruntime and espeakng-loader must
         be there

Training amplifies rounding, and any other small change, so figures of one seed say little: the
costs are means over seeds, each beside what the runs in float32 of different seeds differ by.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn import charlm
from fastrnn._bench import report

from . import options as suite_options
from .programs import EXAMPLES

FLOAT, TRAINED, SERVED = "float32", "bfloat16 training", "int8 inference"
SIMULATION = "simulation"
Figures = dict[str, list[float]]  # of a way to compute, for each seed


@dataclass(frozen=True)
class Task:
    """A model that is trained.

    Attributes
    ----------
    title : str
        What a figure is.
    figures : callable
        Those of a seed, by the way to compute.
    cost : callable
        What a figure loses against that of float32.
    unit : str
        Of costs.
    most : dict
        The cost that a way may have.
    """

    title: str
    figures: Callable[[int, argparse.Namespace], dict[str, float]]
    cost: Callable[[float, float], float]
    unit: str
    most: dict[str, float]


# ---- a character model ---------------------------------------------------------------------------


def charlm_figures(seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Bits per character on held-out text."""
    text = charlm.load_text(None)
    found = {}
    for way, dtype in ((FLOAT, "float32"), (TRAINED, "bfloat16")):
        steps = options.steps or 1500
        config = charlm.Config(cell=options.cell, seed=seed, steps=steps, dtype=dtype)
        run = charlm.Run.start(config, text)
        train, held_out = run.split(text)
        for _ in progress(steps, f"charlm, seed {seed}, {dtype}"):
            run.train_step(train)
        found[way] = bits(run, held_out)
        if way == FLOAT:
            run.model.layer = fastrnn.quantize(run.model.layer)
            found[SERVED] = bits(run, held_out)
    return found


def bits(run: charlm.Run, held_out: charlm.Streams) -> float:
    return run.model.evaluate(held_out, run.config.seq_len) / np.log(2)


# ---- a tagger ------------------------------------------------------------------------------------


def tagger_figures(seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Characters of held-out files that are told correctly, in 100."""
    import torch

    from fastrnn.torch import accelerate

    tagger = example("torch_tagger")
    rows, held_out = tagger.read()

    class Autocast(torch.nn.Module):
        """A model in bfloat16, with parameters in float32."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any) -> Any:
            with torch.autocast("cpu", torch.bfloat16):
                return self.model(ids).float()

    found = {}
    for way in (FLOAT, TRAINED):
        torch.manual_seed(seed)
        model: torch.nn.Module = tagger.Tagger(options.cell, 128)
        accelerate(model)
        if way == TRAINED:
            model = Autocast(model)
        steps = tagger.train(model, rows, seed)
        for _ in progress(options.steps or 300, f"tagger, seed {seed}, {way}"):
            next(steps)
        found[way] = 100 * tagger.evaluate(model, held_out)
        if way == FLOAT:
            served = copy.deepcopy(model)
            accelerate(served, dtype="int8")
            found[SERVED] = 100 * tagger.evaluate(served, held_out)
    return found


TASKS = {
    "charlm": Task(
        "bits per character",
        charlm_figures,
        lambda figure, of_float: 100 * (figure / of_float - 1),
        "%",
        {TRAINED: 0.5, SERVED: 1.0},
    ),
    "tagger": Task(
        "characters told, in 100",
        tagger_figures,
        lambda figure, of_float: of_float - figure,
        "points",
        {TRAINED: 0.3, SERVED: 0.3},
    ),
}


def compare_trained(name: str, options: argparse.Namespace) -> int:
    """Run a task with all seeds and print what it gives; how many costs are too high."""
    task = TASKS[name]
    figures: Figures = {}
    for seed in range(options.seeds):
        for way, figure in task.figures(seed, options).items():
            figures.setdefault(way, []).append(figure)
    print(f"\n{name}, {options.cell}: {task.title}, {options.seeds} seeds")
    print(f"{'':20} {'mean':>9} {'low':>9} {'high':>9}   cost, {task.unit}")
    missed = 0
    for way, each in figures.items():
        line = f"{way:20} {statistics.fmean(each):9.4f} {min(each):9.4f} {max(each):9.4f}"
        row = {"task": name, "cell": options.cell, "way": way, "figures": each}
        if way in task.most:
            costs = list(map(task.cost, each, figures[FLOAT]))
            cost = statistics.fmean(costs)
            missed += cost > task.most[way]
            line += (
                f"   {cost:.3f} ({min(costs):.3f} .. {max(costs):.3f}), at most {task.most[way]}"
            )
            row["cost"] = cost
        print(line)
        if options.json:
            report.append(options.json, row)
    return missed


# ---- a detector of speech ------------------------------------------------------------------------

SENTENCES = (
    "The north wind and the sun were disputing which was the stronger.",
    "Then the sun shone out warmly, and immediately the traveller took off his cloak.",
    "Please call Stella, and ask her to bring these things with her from the store.",
    "Six spoons of fresh snow peas, five thick slabs of blue cheese.",
)
VOICES = ("en-us", "en-us+f3", "de", "es+m4")
NOISES = (0.0, 0.02, 0.1)  # of standard deviation, beside speech of about 0.1
SPEAKS = 0.5  # from this probability on
FARTHER, CHANGED = 1.25, 2.0  # that 8 bits may be, of what the simulation is


class Simulated:
    """An LSTM whose weights, x and h are rounded as `fastrnn.Quantized` says, in float64.

    It shares nothing with fastrnn: what is rounded is multiplied as numbers, not as integers.
    """

    def __init__(self, parameters: Mapping[str, np.ndarray]) -> None:
        self.dtype = np.dtype(np.float32)
        wide = {name: array.astype(np.float64) for name, array in parameters.items()}
        self.w_ih, self.w_hh = by_row(wide["weight_ih_l0"]), by_row(wide["weight_hh_l0"])
        self.bias = wide["bias_ih_l0"] + wide["bias_hh_l0"]

    def __call__(self, x: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
        sizes = x.shape[1], self.w_hh.shape[1]
        h, c = (a[0].astype(np.float64) for a in state) if state else np.zeros((2, *sizes))
        y = np.empty((len(x), *sizes), np.float32)
        for t, row in enumerate(x.astype(np.float64)):
            gates = by_row(row) @ self.w_ih.T + rounded(h, 1.0) @ self.w_hh.T + self.bias
            i, f, g, o = np.split(gates, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            y[t] = h = sigmoid(o) * np.tanh(c)
        return y, (h[None].astype(np.float32), c[None].astype(np.float32))


def by_row(a: np.ndarray) -> np.ndarray:
    """Each row rounded to multiples of its largest magnitude divided by 127."""
    return rounded(a, np.abs(a).max(axis=-1, keepdims=True))


def rounded(a: np.ndarray, largest: Any) -> np.ndarray:
    scale = np.where(largest > 0, largest, 1.0) / 127
    return np.asarray(np.rint(a / scale) * scale)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-a)))


def recordings(seed: int) -> list[np.ndarray]:
    """Speech at 16 kHz with pauses, each kind of voice with each kind of noise."""
    detectors, espeak = example("_detectors"), example("_espeak")
    synthesiser = espeak.Synthesiser(seed)
    rng = np.random.default_rng(seed)
    found = []
    for voice in VOICES:
        parts = []
        for sentence in SENTENCES:
            parts += [synthesiser.say(sentence, voice), np.zeros(synthesiser.rate, np.float32)]
        sound = np.concatenate(parts)
        at = np.arange(0, len(sound), synthesiser.rate / detectors.RATE)
        sound = np.interp(at, np.arange(len(sound)), sound).astype(np.float32)
        for noise in NOISES:
            found.append(sound + rng.normal(0, noise, sound.shape).astype(np.float32))
    return found


def compare_silero(options: argparse.Namespace) -> int:
    """`compare_detector` of silero-vad, which pip installs."""
    registry, detectors, strangers = map(example, ("_registry", "_detectors", "_strangers"))
    try:
        folder = registry.install(strangers.SILERO, options.packages)
    except registry.Unavailable as why:
        sys.exit(f"[bench tasks] silero: {why}")
    detectors.silero(folder)
    file = folder / "silero_vad" / "data" / "silero_vad_16k_sequence.onnx"
    model = detectors.imported(folder, "silero_vad.sequence_vad").SileroVADSequence(file)
    model.session = detectors.Session(file)
    return compare_detector(model, recordings(0), options)


def compare_detector(model: Any, sounds: Sequence[np.ndarray], options: argparse.Namespace) -> int:
    """Print how far 8 bits are from float32; how many of the two limits are missed.

    Parameters
    ----------
    model
        `audio_forward(sound)` gives probabilities, by the layer `session.lstm`.
    sounds
        What it hears.
    options
        `json`.
    """
    exact = model.session.lstm
    ways = {
        FLOAT: exact,
        SIMULATION: Simulated(exact.parameters),
        SERVED: fastrnn.quantize(exact),
        "int8 weights alone": fastrnn.quantize(exact, "int8_weights"),
    }
    found = {}
    for way, layer in ways.items():
        model.session.lstm = layer
        found[way] = np.concatenate([np.ravel(model.audio_forward(sound)) for sound in sounds])
    of_float = found.pop(FLOAT)
    print(f"\nsilero: probabilities of speech, {len(of_float)} of {len(sounds)} recordings")
    print(f"{'':20} {'largest':>9} {'mean':>9}   changed decisions")
    largest, changed = {}, {}
    for way, probabilities in found.items():
        difference = np.abs(probabilities - of_float)
        largest[way] = float(difference.max())
        changed[way] = int(((probabilities >= SPEAKS) != (of_float >= SPEAKS)).sum())
        mean = float(difference.mean())
        print(f"{way:20} {largest[way]:9.4f} {mean:9.5f}   {changed[way]}")
        if options.json:
            row = {"task": "silero", "way": way, "of": len(of_float), "mean": mean}
            report.append(options.json, {**row, "largest": largest[way], "changed": changed[way]})
    far = largest[SERVED] > FARTHER * largest[SIMULATION]
    return far + (changed[SERVED] > CHANGED * changed[SIMULATION])


# ---- the command ---------------------------------------------------------------------------------


def example(name: str) -> Any:
    """A module of examples/, which is no package."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    return importlib.import_module(name)


def progress(steps: int, title: str) -> Iterator[int]:
    from tqdm import tqdm

    return iter(tqdm(range(steps), desc=title, leave=False, dynamic_ncols=True))


def main(arguments: Sequence[str]) -> None:
    parser = suite_options.make_parser("bench tasks", __doc__)
    names = [*TASKS, "silero"]
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--seeds", type=int, default=3, help="of trainings (3)")
    parser.add_argument("--steps", type=int, help="of a training (1500, 300)")
    parser.add_argument("--cell", choices=("lstm", "gru"), default="lstm", help="(lstm)")
    parser.add_argument(
        "--packages", type=Path, metavar="FOLDER", help="what pip installs, kept (a temporary one)"
    )
    options = parser.parse_args(arguments)
    for name in options.tasks:
        if name not in names:
            parser.error(f"TASK must be one of {' '.join(names)}, got {name}")
    missed = 0
    with contextlib.ExitStack() as stack:
        if options.packages is None:
            options.packages = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in options.tasks or names:
            missed += (
                compare_silero(options) if name == "silero" else compare_trained(name, options)
            )
    sys.exit(f"{missed} costs are too high" if missed else None)
