"""fastrnn against cuDNN on one GPU; bench/gpu.sh calls these one after the other.

    python -m bench.gpu check    correctness at full size: every mode, float64, cuDNN
    python -m bench.gpu time     times in turns with torch.nn on cuDNN
    python -m bench.gpu report   tables and a plot of what was measured
    python -m bench.gpu one      one small forward and backward, for compute-sanitizer

Results are JSON lines in a folder; check and time go on where an earlier call stopped. Their cases
run in processes of their own, so that one that hangs or loses the device costs no other case.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import work
from .ways import WAYS

DTYPES = ("float32", "float16", "bfloat16")
# Module and function of each command; and whether it needs a GPU.
COMMANDS = {
    "check": ("check", "main", True),
    "time": ("timing", "main", True),
    "one": ("check", "one", True),
    "report": ("report", "main", False),
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(dest="command", required=True)
    added = {name: commands.add_parser(name) for name in COMMANDS}
    for name in ("check", "time", "report"):
        added[name].add_argument(
            "--out",
            type=Path,
            default=Path(os.environ.get("OUT", "gpu-results")),
            metavar="FOLDER",
            help="of the results (OUT, or gpu-results)",
        )
    for name in ("check", "time"):
        added[name].add_argument(
            "--minutes", type=minutes, default=9.0, help="then stop; 0: go on to the end (9)"
        )
        # Do the cases in this process, which another one watches.
        added[name].add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    for name, part in (("check", "small"), ("time", "deciding")):
        added[name].add_argument(
            "--part", choices=["all", part], default="all", help="which cases (all)"
        )
    cells = ["lstm", "gru", "rnn_tanh"]
    added["time"].add_argument("--cell", nargs="+", choices=cells, default=cells)
    added["one"].add_argument("--cell", nargs="+", help="(all that there are)")
    for name, dtypes in (("time", DTYPES), ("one", (*DTYPES, "float64"))):
        added[name].add_argument("--dtype", nargs="+", choices=dtypes, default=list(dtypes))
    kinds = ["forward", "train"]
    added["time"].add_argument("--kind", nargs="+", choices=kinds, default=kinds)
    for name in ("time", "report"):
        added[name].add_argument("--mode", choices=["best", *WAYS], default="best")
    added["one"].add_argument("--mode", nargs="+", choices=WAYS, default=WAYS)
    return made


def minutes(value: str) -> float:
    """A number of minutes."""
    found = float(value)
    if not 0 <= found < float("inf"):
        raise argparse.ArgumentTypeError(f"[gpu] minutes must be 0 or more, got {value}")
    return found


def missing() -> str:
    """What a command that needs a GPU lacks; empty where nothing."""
    for name in ("torch", "fastrnn"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"{name} cannot be imported: {error}"
    import torch

    if not torch.cuda.is_available():
        return "torch sees none"
    import fastrnn.cuda

    return fastrnn.cuda.why_not_available()


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    module, function, needs_gpu = COMMANDS[options.command]
    if "out" in options:
        options.out.mkdir(parents=True, exist_ok=True)
    if not getattr(options, "worker", True):
        worker = [sys.executable, "-m", "bench.gpu", *given, "--worker"]
        path = options.out / f"{options.command}.jsonl"
        raise SystemExit(work.supervise(worker, path, options.minutes))
    if needs_gpu:
        reason = missing()
        if reason:
            raise SystemExit(
                f"[{options.command}] a GPU with torch and fastrnn's CUDA engine must be there, "
                f"got none: {reason}"
            )
    getattr(importlib.import_module(f".{module}", __package__), function)(options)


if __name__ == "__main__":
    main()
