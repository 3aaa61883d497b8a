"""fastrnn against its peers on the CPU: times, ratios, shares of the machine's limit.

    python -m bench [options]              run the grid of bench/shapes.toml, or --quick
    python -m bench compare A.json B.json  how much faster run B is than run A
    python -m bench table A.json           the tables of a run in Markdown
    python -m bench document A.json        writes them to docs/benchmarks.md, the first to README.md
    python -m bench plot A.json FOLDER     the pictures of a run
    python -m bench memory [options]       peaks of memory of training steps, beside torch's
    python -m bench scale [options]        what threads gain, and how cost grows with T and B
    python -m bench load [options]         on a busy machine, and among other threads
    python -m bench holds [options]        what it costs that rows are held
    python -m bench phases [options]       what a second product in the step costs
    python -m bench jax [options]          a call through JAX beside its work, and XLA's threads
    python -m bench keras [options]        fit of Keras models beside Keras's own layers
    python -m bench programs [NAME ...]    the programs of examples/, whole; fills their README
    python -m bench.micro                  the parts: tile, packing, gates, barrier, overheads

A ratio is a peer's time divided by fastrnn's: above 1 fastrnn is faster. Each library lives in a
process of its own; they take turns in short blocks, and ratios are medians over the rounds. Before
anything is timed, each peer proves that its result equals the reference.

Without --peers, --threads and --isa the grid runs three times: with all threads against every peer,
then with one thread, and at the AVX2 level, against torch alone (--quick: the first alone).
With --kind model the shapes are those of models that people use, each with its own cell and modes;
`document` puts them into a part of their own.
With --adapter torch, jax or onnx, fastrnn.torch, fastrnn.jax or fastrnn.onnx stands for fastrnn;
the last has the modes forward and stream, and no projections.

--against takes the fastrnn of another environment into the same rounds, for instance the version
before a change: its Python, or a command that starts one ("env PYTHONPATH=FOLDER python"). What
this environment has in PYTHONPATH is not seen there. Other peers are then those of --peers alone.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import (
    cases,
    holds,
    jax_calls,
    keras_fit,
    limits,
    load,
    markdown,
    memory,
    phases,
    plots,
    programs,
    report,
    runner,
    scale,
)
from .options import add_grid, chosen_cases, make_parser
from .peers import ADAPTERS, AGAINST, PEERS


@dataclass(frozen=True)
class Setting:
    """A part of a run: threads, instruction set (None: the best), peers."""

    threads: int
    isa: str | None
    peers: tuple[str, ...]


def parser() -> argparse.ArgumentParser:
    made = make_parser("bench", __doc__)
    add_grid(made, cases.MODES)
    made.add_argument("--quick", action="store_true", help="a few shapes, under 5 minutes")
    made.add_argument("--peers", nargs="*", choices=PEERS, help="beside fastrnn")
    made.add_argument("--adapter", choices=ADAPTERS, help="fastrnn through another library's face")
    made.add_argument("--against", metavar="PYTHON", help="another environment's fastrnn")
    made.add_argument("--rounds", type=int, default=15, help="at most (15); 5 at least")
    made.add_argument("--minutes", type=float, help="aim at so many for the whole run (38; 4.5)")
    made.add_argument("--plot", metavar="FOLDER", help="run the sweeps too, and write plots")
    return made


def settings_of(options: argparse.Namespace, cores: int, level: str) -> list[Setting]:
    """The parts of a run; see the module's text."""
    named = options.peers is not None or options.against
    peers = tuple(options.peers or ()) if named else PEERS
    threads = options.threads or cores
    settings = [Setting(threads, options.isa, peers)]
    if not (named or options.threads or options.isa or options.quick):
        if cores > 1:
            settings.append(Setting(1, None, ("torch",)))
        if level == "avx512":
            settings.append(Setting(threads, "avx2", ("torch",)))
    return settings


def run(options: argparse.Namespace, command: str) -> list[report.Row]:
    """Run every setting and case; prints the table and returns its rows, which name the command."""
    from tqdm import tqdm

    import fastrnn

    info = fastrnn.build_info()
    ours = ADAPTERS.get(options.adapter, runner.OURS)
    against = shlex.split(options.against or "")
    if against:
        check_against(against, ours)
    minutes = options.minutes or (4.5 if options.quick else 38.0)
    deadline = time.perf_counter() + 60 * minutes
    chosen = chosen_cases(options, options.quick, sweeps=options.plot is not None)
    if options.adapter == "onnx":
        chosen = [case for case in chosen if not case.P]
    settings = settings_of(options, info["threads"], info["level"])
    machine = report.machine()
    print(f"fastrnn {info['version']}, {info['compiler']}; {machine['processor']}")
    report.warn_if_busy(machine)
    plan = [(setting, parts(chosen, setting, first=k == 0)) for k, setting in enumerate(settings)]
    rows: list[report.Row] = []
    bar = tqdm(total=sum(len(c) for _, p in plan for _, c in p), leave=False, file=sys.stderr)
    for setting, with_peers in plan:
        measured = probe(setting.threads, bar)
        for peers, todo in with_peers:
            with runner.workers(peers, setting.threads, setting.isa, ours, against) as all_workers:
                team = those_present(all_workers, bar)
                common = {
                    "threads": setting.threads,
                    "level": team[0].level,
                    "limits": measured,
                    "machine": machine,
                    "command": command,
                    "versions": {worker.name: worker.hello["version"] for worker in team},
                }
                bar.write(heading(common), file=sys.stdout)
                for case in todo:
                    bar.set_description(case.id)
                    seconds = runner.share_of_time(deadline, bar.total - bar.n)
                    times = runner.measure(team, case, seconds, options.rounds)
                    rows.append({**report.identity(case), **times, **common})
                    if measured:
                        add_share(rows[-1], limits.bound(case, measured))
                    show(rows[-1], bar)
                    if options.json:
                        report.append(options.json, rows[-1])
                    bar.update()
    bar.close()
    return rows


def check_against(python: Sequence[str], ours: str) -> None:
    """Before anything is measured: an environment that has no other fastrnn is refused."""
    with (
        runner.Worker(ours, 1, None) as here,
        runner.Worker(ours, 1, None, AGAINST, python=python) as there,
    ):
        if there.absent:
            raise SystemExit(f"[bench] {AGAINST}: {there.absent}")
        found = there.hello["fastrnn"]
        if found == here.hello.get("fastrnn"):
            raise SystemExit(f"[bench] {AGAINST}: its fastrnn is this environment's: {found}")


def those_present(workers: Sequence[runner.Worker], bar: Any) -> list[runner.Worker]:
    """The workers whose peers can run here; says which cannot."""
    for worker in workers:
        if worker.absent:
            bar.write(f"{worker.peer}: left out: {worker.absent}", file=sys.stdout)
    if workers[0].absent:
        raise SystemExit(1)  # fastrnn itself
    return [worker for worker in workers if not worker.absent]


def add_share(row: report.Row, bound: float) -> None:
    row["bound_ms"] = bound * 1e3
    row["share"] = row["bound_ms"] / row["ms"][runner.OURS]["median"]


def show(row: report.Row, bar: Any) -> None:
    """Print a row, and why peers are not in it; what holds for a whole mode the heading says."""
    bar.write(report.line(row), file=sys.stdout)
    for peer, reason in row["without"].items():
        if reason not in NOTES.get(peer, ""):
            bar.write(f"    {peer}: left out: {reason}", file=sys.stdout)


NOTES = {
    "onnxruntime": "forward in float32 alone",
    "openvino": "forward in float32 alone",
    "torch_compile": "torch.compile breaks the graph at the layer",
}


def parts(
    chosen: Sequence[cases.Case], setting: Setting, first: bool
) -> list[tuple[tuple[str, ...], list[cases.Case]]]:
    """The cases of a setting by the peers they run against: cells and sweeps against torch alone.

    Sweeps run in the first setting.
    """
    grid = [case for case in chosen if not case.sweep and case.mode != "cell"]
    others = [case for case in chosen if case.mode == "cell" or (case.sweep and first)]
    against_torch = tuple(peer for peer in setting.peers if peer == "torch")
    return [part for part in ((setting.peers, grid), (against_torch, others)) if part[1]]


def heading(common: Mapping[str, Any]) -> str:
    versions: Mapping[str, str] = common["versions"]
    names = ", ".join(f"{peer} {text}" for peer, text in versions.items())
    notes = "".join(f"\n{peer}: {note}" for peer, note in NOTES.items() if peer in versions)
    setting = f"{common['threads']} threads, level {common['level']}"
    return f"\n{setting}: {names}{notes}\n{report.header(versions)}"


def probe(threads: int, bar: Any) -> limits.Limits | None:
    """The machine's limits; without a compiler none, and a line that says so."""
    bar.set_description("the machine's limits")
    try:
        measured = limits.probe(threads)
    except (OSError, subprocess.CalledProcessError) as error:
        bar.write(f"no limits: the probe cannot be compiled or run: {error}", file=sys.stdout)
        return None
    one, all_ = measured["fma_gflops"]
    reads = ", ".join(f"{k} {a:.0f}/{b:.0f}" for k, (a, b) in measured["bandwidth"].items())
    steps = ", ".join(f"{cell} {ns:.0f}" for cell, ns in measured["step_ns"].items())
    bar.write(
        f"limits, 1/{threads} threads: FMA {one:.0f}/{all_:.0f} GF/s; reads GB/s: {reads}; "
        f"chain of a step ns: {steps}; exchange {measured['exchange_ns']:.0f} ns",
        file=sys.stdout,
    )
    return measured


def compare(arguments: Sequence[str]) -> None:
    print(*report.compare(*map(report.read, arguments)), sep="\n")


def table(arguments: Sequence[str]) -> None:
    print(*markdown.tables(report.read(arguments[0])), sep="\n")


def document(arguments: Sequence[str]) -> None:
    markdown.write(report.read(arguments[0]))


def plot(arguments: Sequence[str]) -> None:
    print(*plots.plot(report.read(arguments[0]), arguments[1]), sep="\n")


# What does it, and how many arguments it takes (None: options).
COMMANDS: dict[str, tuple[Callable[[Sequence[str]], None], int | None]] = {
    "compare": (compare, 2),
    "table": (table, 1),
    "document": (document, 1),
    "plot": (plot, 2),
    "memory": (memory.main, None),
    "scale": (scale.main, None),
    "load": (load.main, None),
    "holds": (holds.main, None),
    "jax": (jax_calls.main, None),
    "keras": (keras_fit.main, None),
    "phases": (phases.main, None),
    "programs": (programs.main, None),
}


def main(arguments: Sequence[str] | None = None) -> None:
    try:
        dispatch(sys.argv[1:] if arguments is None else list(arguments))
    except ModuleNotFoundError as error:
        raise SystemExit(f'{error.name} is not installed: pip install ".[bench]"') from None


def dispatch(arguments: list[str]) -> None:
    if arguments and arguments[0] in COMMANDS:
        command, count = COMMANDS[arguments[0]]
        if count in (None, len(arguments) - 1):
            command(arguments[1:])
            return
    options = parser().parse_args(arguments)
    rows = run(options, shlex.join(["python", "-m", "bench", *arguments]))
    print("", *report.totals(rows), sep="\n")
    if options.plot and rows:
        print(*plots.plot(rows, options.plot), sep="\n")


if __name__ == "__main__":
    main()
