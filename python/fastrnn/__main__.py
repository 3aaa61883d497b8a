"""The command line: ``python -m fastrnn COMMAND``; `_commands` has the commands."""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from fastrnn import _commands, _native
from fastrnn._user_error import UserError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastrnn",
        description="Fused recurrent layers: what this build is and does, and a demonstration job.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in _commands.ALL:
        command.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands behind ``python -m fastrnn``; by default that of this process.

    Returns
    -------
    int
        Exit status: 0, 2 for bad input, 1 for what failed on the way, 130 after Ctrl-C, 143 after
        SIGTERM, 141 where nobody reads what is printed any more.
    """
    given = vars(_parser().parse_args(arguments))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a sample may not fit the terminal
    try:
        return _run(given)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE


def _run(given: dict[str, Any]) -> int:
    """One command, and what it ends with."""
    try:
        _check_level()
        given["run"](given)
        if sys.stdout is not None:
            sys.stdout.flush()
        return 0
    except UserError as error:
        message, code = str(error), error.code
    except MemoryError as error:
        message, code = f"not enough memory: {error}", 1
    except KeyboardInterrupt as interrupt:
        message = str(interrupt) or "interrupted"
        code = 128 + getattr(interrupt, "number", signal.SIGINT)
    except BrokenPipeError:
        raise
    except OSError as error:  # of standard output: files are seen to where they are used
        message, code = f"cannot write: {error.strerror}", 1
    print(f"fastrnn: {message}", file=sys.stderr, flush=True)
    return code


def _check_level() -> None:
    try:
        _native.engine.level()
    except ValueError as error:  # FASTRNN_ISA names none
        raise UserError(str(error)) from None


def _let_go(stream: TextIO | None) -> None:
    """Let what a stream cannot take be lost, so that Python does not speak of it at its exit."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_this(command: Sequence[str]) -> bool:
    """Whether a command line of Python's is ``python [options] -m fastrnn ...``.

    It is another where the module is run inside another program: by runpy, by a profiler.
    """
    rest = iter(command[1:])
    for argument in rest:
        # Flags without a value, then perhaps one that has a value, here or in the next place.
        flags = re.fullmatch("-(?!-)([^cmWX]*)([cmWX]?)(.*)", argument, re.DOTALL)
        if not flags or argument == "-":
            return False
        letter, value = flags[2], flags[3]
        if letter and not value:
            value = next(rest, "")
        if letter in ("c", "m"):
            return letter == "m" and value in ("fastrnn", "fastrnn.__main__")
    return False


def _one_blas_thread() -> None:
    """Start this process again with NumPy's BLAS on one thread, unless the caller has chosen.

    The head's products run in that BLAS, whose own threads spin between calls and so take the
    cores from the engine's: on two cores with any other load, products became 15 to 100 times
    slower. The BLAS reads its variable while NumPy is imported, before this module runs. A program
    that runs this module inside itself is never started again.
    """
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
    if os.name != "posix" or not sys.executable or any(name in os.environ for name in names):
        return
    if _is_this(sys.orig_argv):
        os.environ.update(dict.fromkeys(names, "1"))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    _one_blas_thread()
    try:
        sys.exit(main())
    finally:
        _let_go(sys.stdout)
        _let_go(sys.stderr)
