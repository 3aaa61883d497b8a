"""``python -m fastrnn train``: a character language model."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fastrnn
from fastrnn import charlm
from fastrnn._user_error import UserError

from ._options import at_least, use_threads, writable
from ._sample import SAMPLE_LENGTH, TEMPERATURE

if TYPE_CHECKING:
    from ._options import Commands

_DEFAULT = charlm.Config()
# What a resumed run cannot change: it gives the checkpoint its shapes, or the text its order.
_FIXED = ("cell", "layers", "hidden", "dropout", "seq_len", "batch", "seed", "dtype")


def add(commands: Commands) -> None:
    # No defaults here: what is not given comes from Config, or with --resume from the checkpoint.
    train = commands.add_parser(
        "train",
        help="train a character language model",
        description="Train a character language model; by default on Python's own help texts.",
        argument_default=argparse.SUPPRESS,
    )

    def option(name: str, kind: type, text: str) -> None:
        default = getattr(_DEFAULT, name[2:].replace("-", "_"))
        train.add_argument(name, type=kind, metavar="N", help=f"{text} ({default})")

    train.add_argument("--text", metavar="FILE", help="UTF-8 text to learn (Python's help texts)")
    train.add_argument(
        "--cell", choices=("lstm", "gru", "rnn"), help=f"recurrent cell ({_DEFAULT.cell})"
    )
    train.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="what the layers compute in; bfloat16 is faster, and most so on processors with "
        f"instructions for it ({_DEFAULT.dtype})",
    )
    option("--layers", int, "number of layers")
    option("--hidden", int, "units of a layer")
    option("--dropout", float, "dropout between layers")
    option("--seq-len", int, "steps of a window, through which gradients go back")
    option("--batch", int, "pieces of the text that are read side by side")
    length = train.add_mutually_exclusive_group()
    length.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help=f"steps in all, those of a resumed run included ({_DEFAULT.steps})",
    )
    length.add_argument("--epochs", type=int, metavar="N", help="the same, in passes over the text")
    option("--lr", float, "learning rate of Adam")
    option("--clip", float, "largest norm of the gradient")
    option("--seed", int, "seed of parameters, dropout and the final sample")
    option("--eval-every", int, "steps between validations, each followed by a checkpoint")
    train.add_argument("--threads", type=int, metavar="N", help="threads of the engine")
    train.add_argument(
        "--out", metavar="FILE", help="checkpoint to write (charlm.npz, or that of --resume)"
    )
    train.add_argument("--resume", metavar="FILE", help="checkpoint to go on from")
    train.add_argument("--plot", metavar="FILE", help="draw the loss curve, for example to x.png")
    train.add_argument(
        "--sample-length",
        type=int,
        metavar="N",
        help=f"characters of the final sample ({SAMPLE_LENGTH})",
    )
    train.set_defaults(run=_train)


def _train(given: dict[str, Any]) -> None:
    at_least(given, 1, "epochs")
    at_least(given, 0, "sample_length")
    plot = Path(given["plot"]) if "plot" in given else None
    if plot is not None:
        writable("--plot", plot)
        charlm.require_plot(plot)
    out = Path(given.get("out", given.get("resume", "charlm.npz")))
    writable("--out", out)
    use_threads(given)

    run, text = _run_and_text(given)
    train, held_out = run.split(text)
    if "epochs" in given:
        run.reconfigure(steps=given["epochs"] * (len(train) // run.config.seq_len))
    if run.step >= run.config.steps:
        raise UserError(
            f"{given['resume']} has done {run.step} of {run.config.steps} steps; "
            "give more with --steps or --epochs"
        )

    run.rehearse_save(out)
    _print_heading(run, text, held_out)
    charlm.train(run, train, held_out, out)
    print(f"checkpoint written to {out}")
    if plot is not None:
        charlm.plot(run, plot)
        print(f"loss curve drawn to {plot}")
    sample_length = given.get("sample_length", SAMPLE_LENGTH)
    if sample_length:
        print(f"\nsample of {sample_length} characters:")
        prompt = run.model.vocabulary.default_prompt()
        rng = np.random.default_rng(run.config.seed)
        print(prompt + run.model.generate(prompt, sample_length, TEMPERATURE, rng))


def _run_and_text(given: Mapping[str, Any]) -> tuple[charlm.Run, str]:
    """A new run, or with --resume that of a checkpoint with the changes that it allows."""
    changes = {f.name: given[f.name] for f in dataclasses.fields(charlm.Config) if f.name in given}
    if "text" in changes:
        changes["text"] = str(Path(changes["text"]).absolute())
    if "resume" not in given:
        config = charlm.Config(**changes)
        text = charlm.load_text(config.text)
        return charlm.Run.start(config, text), text
    run = charlm.Run.load(Path(given["resume"]))
    for name in _FIXED:
        kept = getattr(run.config, name)
        if changes.get(name, kept) != kept:
            raise UserError(
                f"--{name.replace('_', '-')} is {kept} in {given['resume']} and cannot be "
                f"changed, got {changes[name]}"
            )
    run.reconfigure(**changes)
    return run, charlm.load_text(run.config.text)


def _print_heading(run: charlm.Run, text: str, held_out: charlm.Streams) -> None:
    c = run.config
    parameters = sum(p.size for m in run.model.modules.values() for p in m.parameters.values())
    # In one piece, also to a pipe whose reader goes after the first line.
    print(
        f"text   {c.text or 'help texts of Python'}: {len(text):,} characters, "
        f"{len(run.model.vocabulary)} of them distinct; {held_out.targets.size:,} held out\n"
        f"model  {c.cell}, {c.layers} x {c.hidden} units, {parameters:,} parameters\n"
        f"run    steps {run.step} to {c.steps} of {c.batch} x {c.seq_len} characters, "
        f"threads {fastrnn.get_num_threads()}\n",
        end="",
        flush=True,
    )
