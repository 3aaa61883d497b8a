"""The programs of `examples/`: runs them whole, and puts what they measured into their README.

    python -m bench programs [NAME ...]    all of them, or those named; some minutes each

Each program on torch runs twice, with fastrnn's layers and with torch's, and with the seed 1: what
settings were looked for with seed 0, whose test data are drawn otherwise. The results are kept in
`examples/figures.json`, pictures in `docs/images/examples`; the part of `examples/README.md`
between ``<!-- figures NAME -->`` and ``<!-- end -->`` is written anew from them.
"""

from __future__ import annotations

import argparse
import json
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastrnn._bench import report

from .markdown import ROOT, markdown
from .markdown import filled as filled_part

EXAMPLES = ROOT / "examples"
PICTURES = ROOT / "docs" / "images" / "examples"
RESULTS = EXAMPLES / "figures.json"
README = EXAMPLES / "README.md"
SEED = "1"
APART = {"strangers"}  # asks a registry for packages
# As programs print it; their folder is no package.
table_of = runpy.run_path(str(EXAMPLES / "_program.py"))["table_of"]


def names() -> list[str]:
    """The programs that report figures, and ask for nothing from a network."""
    sources = {path.stem: path.read_text("utf-8") for path in sorted(EXAMPLES.glob("[!_]*.py"))}
    reporting = {name for name, source in sources.items() if "program.report(" in source}
    return sorted(reporting - APART)


def layers_of(name: str) -> list[str]:
    """Whose layers a program runs with."""
    source = (EXAMPLES / f"{name}.py").read_text("utf-8")
    return ["fastrnn", "torch"] if "on_torch=True" in source else ["fastrnn"]


def run(name: str) -> dict[str, Any]:
    """One program with each kind of layers; the picture that it draws with fastrnn's is kept."""
    result: dict[str, Any] = {"machine": report.machine()["processor"]}
    for layers in layers_of(name):
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "figures.json"
            command = [sys.executable, f"{EXAMPLES / name}.py"]
            command += ["--seed", SEED, "--json", str(file), "--folder", scratch]
            command += ["--layers", layers] if len(layers_of(name)) > 1 else []
            subprocess.run(command, check=True)
            result[layers] = json.loads(file.read_text("utf-8"))
            if layers == "fastrnn":
                for picture in Path(scratch).glob("*.png"):
                    shutil.copy(picture, PICTURES)
    return result


def table(name: str, result: Mapping[str, Any]) -> list[str]:
    """What a program measured, in Markdown."""
    ours = result["fastrnn"]
    line = f"`python examples/{name}.py --seed {SEED}` on {result['machine']}: {seconds(ours)}"
    if "torch" in result:
        line += f" (with the layers of `torch.nn` {seconds(result['torch'])})"
    header, *rows = table_of(ours["figures"])
    return [f"{line}.", "", *markdown(header, rows)]


def seconds(run: Mapping[str, Any]) -> str:
    return f"{run['seconds']:.0f} s, of these {run['loops']:.0f} in its loops"


def filled(text: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """The README with the figures of all programs in their places."""
    for name, result in results.items():
        text = filled_part(text, f"figures {name}", table(name, result))
    return text


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench programs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a program, without .py")
    chosen = parser.parse_args(arguments).names or names()
    for name in chosen:
        if name not in names():
            parser.error(f"NAME must be one of {' '.join(names())}, got {name}")
    report.warn_if_busy(report.machine())
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        print(f"== {name}", flush=True)
        results[name] = run(name)
        kept = {name: results[name] for name in sorted(results)}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        README.write_text(filled(README.read_text("utf-8"), results), "utf-8")
