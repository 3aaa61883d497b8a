"""``python -m fastrnn sample``: what a trained model writes."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import charlm
from fastrnn._user_error import UserError

from ._options import at_least, use_threads

if TYPE_CHECKING:
    from ._options import Commands

SAMPLE_LENGTH = 400
TEMPERATURE = 0.7


def add(commands: Commands) -> None:
    sample = commands.add_parser(
        "sample",
        help="let a trained model write",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sample.add_argument("checkpoint", metavar="CHECKPOINT", help="what train wrote")
    sample.add_argument("--prompt", help="text to go on from", default=argparse.SUPPRESS)
    sample.add_argument(
        "--length", type=int, metavar="N", default=SAMPLE_LENGTH, help="characters to write"
    )
    sample.add_argument(
        "--temperature",
        type=float,
        metavar="X",
        default=TEMPERATURE,
        help="0 for the likeliest, 1 as is",
    )
    sample.add_argument("--seed", type=int, metavar="N", help="for the same text each time")
    sample.add_argument("--threads", type=int, metavar="N", default=argparse.SUPPRESS)
    sample.set_defaults(run=_sample)


def _sample(given: dict[str, Any]) -> None:
    at_least(given, 0, "length", "seed")
    if not 0 <= given["temperature"] < math.inf:
        raise UserError(f"--temperature must be a number >= 0, got {given['temperature']}")
    use_threads(given)
    model = charlm.Run.load(Path(given["checkpoint"])).model
    prompt = given.get("prompt", model.vocabulary.default_prompt())
    rng = np.random.default_rng(given["seed"])
    print(prompt + model.generate(prompt, given["length"], given["temperature"], rng))
