"""The command line: ``python -m fastrnn train | sample | onnx | info``."""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
import os
import platform
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import fastrnn
from fastrnn import _native, charlm

_DEFAULT = charlm.Config()
_SAMPLE_LENGTH = 400
_TEMPERATURE = 0.7
# What a resumed run cannot change: it gives the checkpoint its shapes, or the text its order.
_FIXED = ("cell", "layers", "hidden", "dropout", "seq_len", "batch", "seed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastrnn", description="Fused recurrent layers: the demonstration job."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_train(commands)
    _add_sample(commands)
    _add_onnx(commands)
    info = commands.add_parser("info", help="print what a bug report should hold")
    info.set_defaults(run=_info)
    return parser


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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
        help=f"characters of the final sample ({_SAMPLE_LENGTH})",
    )
    train.set_defaults(run=_train)


def _add_sample(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sample = commands.add_parser(
        "sample",
        help="let a trained model write",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    sample.add_argument("checkpoint", metavar="CHECKPOINT", help="what train wrote")
    sample.add_argument("--prompt", help="text to go on from", default=argparse.SUPPRESS)
    sample.add_argument(
        "--length", type=int, metavar="N", default=_SAMPLE_LENGTH, help="characters to write"
    )
    sample.add_argument(
        "--temperature",
        type=float,
        metavar="X",
        default=_TEMPERATURE,
        help="0 for the likeliest, 1 as is",
    )
    sample.add_argument("--seed", type=int, metavar="N", help="for the same text each time")
    sample.add_argument("--threads", type=int, metavar="N", default=argparse.SUPPRESS)
    sample.set_defaults(run=_sample)


def _add_onnx(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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


def _at_least(given: Mapping[str, Any], least: int, *names: str) -> None:
    """Refuse a given number below `least` (0 or 1)."""
    rule = "a positive integer" if least else "an integer >= 0"
    for name in names:
        value = given.get(name)
        if value is not None and value < least:
            raise charlm.UserError(f"--{name.replace('_', '-')} must be {rule}, got {value}")


def _writable(option: str, path: Path) -> None:
    """Refuse a place that cannot be written, before the work and not after it."""
    folder = path.absolute().parent
    if path.is_dir():
        raise charlm.UserError(f"{option} must be a file, got the folder {path}")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise charlm.UserError(f"{option} must be in a folder that can be written, got {path}")
    if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
        raise charlm.UserError(f"{option} must be a file that can be written, got {path}")


def _use_threads(given: Mapping[str, Any]) -> None:
    if "threads" not in given:
        return
    try:
        fastrnn.set_num_threads(given["threads"])
    except ValueError as error:
        rule = str(error).partition(" n ")[2]
        raise charlm.UserError(f"--threads {rule}") from None


def _train(given: dict[str, Any]) -> None:
    _at_least(given, 1, "epochs")
    _at_least(given, 0, "sample_length")
    plot = Path(given["plot"]) if "plot" in given else None
    if plot is not None:
        _writable("--plot", plot)
        charlm.require_plot(plot)
    out = Path(given.get("out", given.get("resume", "charlm.npz")))
    _writable("--out", out)
    _use_threads(given)

    run, text = _run_and_text(given)
    train, held_out = run.split(text)
    if "epochs" in given:
        run.reconfigure(steps=given["epochs"] * (len(train) // run.config.seq_len))
    if run.step >= run.config.steps:
        raise charlm.UserError(
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
    sample_length = given.get("sample_length", _SAMPLE_LENGTH)
    if sample_length:
        print(f"\nsample of {sample_length} characters:")
        prompt = run.model.vocabulary.default_prompt()
        rng = np.random.default_rng(run.config.seed)
        print(prompt + run.model.generate(prompt, sample_length, _TEMPERATURE, rng))


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
            raise charlm.UserError(
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


def _sample(given: dict[str, Any]) -> None:
    _at_least(given, 0, "length", "seed")
    if not 0 <= given["temperature"] < math.inf:
        raise charlm.UserError(f"--temperature must be a number >= 0, got {given['temperature']}")
    _use_threads(given)
    model = charlm.Run.load(Path(given["checkpoint"])).model
    prompt = given.get("prompt", model.vocabulary.default_prompt())
    rng = np.random.default_rng(given["seed"])
    print(prompt + model.generate(prompt, given["length"], given["temperature"], rng))


def _onnx(given: dict[str, Any]) -> None:
    _use_threads(given)
    try:
        from fastrnn.onnx import _command

        print(_command.describe(given["model"], given))
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        raise charlm.UserError(str(error)) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError) or not error.filename:
            raise
        raise charlm.UserError(f"cannot read {given['model']}: {error.strerror}") from None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    except OSError:
        pass  # no such file outside Linux
    return platform.processor() or "unknown"


def _show(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_show(key, v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(str(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "caches" and isinstance(value, int):
        return f"{value / 1024:g} KiB" if value else "unknown"
    return str(value)


def _info(_: dict[str, Any]) -> None:
    build = fastrnn.build_info()
    facts: dict[str, Any] = {"fastrnn": build["version"]}
    facts.update((key, value) for key, value in build.items() if key != "version")
    facts.update(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        numpy=np.__version__,
        platform=platform.platform(),
        cpu=_cpu_model(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )
    for name in ("FASTRNN_ISA", "OMP_NUM_THREADS"):
        if name in os.environ:
            facts[name] = os.environ[name]
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:{width}}  {_show(key, value)}")


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
    except charlm.UserError as error:
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
        raise charlm.UserError(str(error)) from None


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
