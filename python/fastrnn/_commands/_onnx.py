"""``python -m fastrnn onnx``: the recurrent nodes of a model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fastrnn._user_error import UserError

from ._options import use_threads

if TYPE_CHECKING:
    from ._options import Commands


def add(commands: Commands) -> None:
    model = commands.add_parser(
        "onnx",
        help="show the recurrent nodes of a model of ONNX, and their times",
        description="Show the recurrent nodes of a model of ONNX, which of them run fused, and "
        "their times beside ONNX Runtime's. Inputs are random numbers, and ones where they are "
        "integers; sizes that the model leaves open are 1.",
        argument_default=argparse.SUPPRESS,
    )
    model.add_argument("model", metavar="MODEL", help="a file of ONNX")
    for option, text in (
        ("size", "NAME=N: a size that the model has a name for"),
        ("shape", "INPUT=N,N,...: the shape of an input"),
        ("value", "INPUT=X: what an input is full of"),
    ):
        model.add_argument(f"--{option}", action="append", metavar="NAME=...", help=text)
    model.add_argument("--threads", type=int, metavar="N", help="threads of both")
    model.set_defaults(run=_onnx)


def _onnx(given: dict[str, Any]) -> None:
    use_threads(given)
    try:
        from fastrnn.onnx import _command

        print(_command.describe(given["model"], given))
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        raise UserError(str(error)) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError) or not error.filename:
            raise
        raise UserError(f"cannot read {given['model']}: {error.strerror}") from None
