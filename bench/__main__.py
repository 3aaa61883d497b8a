"""fastrnn against its peers on the CPU: times, ratios, shares of the machine's limit.

    python -m bench [options]              run the grid of bench/shapes.toml, or --quick
    python -m bench compare A.json B.json  how much faster run B is than run A
    python -m bench table A.json           the tables of a run in Markdown
    python -m bench document A.json        writes them to docs/benchmarks.md
    python -m bench plot A.json FOLDER     the pictures of a run
    python -m bench memory [options]       peaks of memory of training steps, beside torch's
    python -m bench scale [options]        what threads gain, and how cost grows with T and B
    python -m bench load [options]         on a busy machine, and among other threads
    python -m bench holds [options]        what it costs that rows are held
    python -m bench phases [options]       what a second product in the step costs
    python -m bench tasks [TASK ...]       what 16 and 8 bits cost three trained models
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
With --dtype float16, bfloat16 or int8, fastrnn and ONNX Runtime in float32 are peers too; int8, of
the weights, has the modes forward and stream.

--against takes the fastrnn of another environment into the same rounds, for instance the version
before a change: its Python, or a command that starts one ("env PYTHONPATH=FOLDER python"). What
this environment has in PYTHONPATH is not seen there. Other peers are then those of --peers alone.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from fastrnn._bench import limits, report, rows, runner
from fastrnn._bench.cases import ITEMSIZE, MODES, Case
from fastrnn._bench.peers import AGAINST

from . import (
    compare,
    holds,
    jax_calls,
    keras_fit,
    load,
    markdown,
    memory,
    phases,
    plots,
    programs,
    scale,
    tasks,
)
from .options import add_grid, chosen_cases, make_parser
from .peers import ADAPTERS, PEERS, PEERS_OF_NARROW


@dataclass(frozen=True)
class Setting:
    """A part of a run: threads, instruction set (None: the best), peers."""

    threads: int
    isa: str | None
    peers: tuple[str, ...]


def parser() -> argparse.ArgumentParser:
    made = make_parser("bench", __doc__)
    add_grid(made, MODES)
    made.add_argument("--quick", action="store_true", help="a few shapes, under 5 minutes")
    made.add_argument("--peers", nargs="*", choices=PEERS_OF_NARROW, help="beside fastrnn")
    made.add_argument("--adapter", choices=ADAPTERS, help="fastrnn through another library's face")
    made.add_argument("--against", metavar="PYTHON", help="another environment's fastrnn")
    made.add_argument("--rounds", type=int, default=15, help="at most (15); 5 in a hurry")
    made.add_argument("--minutes", type=float, help="aim at so many for the whole run (38; 4.5)")
    made.add_argument("--plot", metavar="FOLDER", help="run the sweeps too, and write plots")
    return made


def settings_of(options: argparse.Namespace, cores: int, level: str) -> list[Setting]:
    """The parts of a run; see the module's text."""
    named = options.peers is not None or options.against
    every = PEERS_OF_NARROW if ITEMSIZE[options.dtype] < 4 else PEERS
    peers = tuple(options.peers or ()) if named else every
    threads = options.threads or cores
    settings = [Setting(threads, options.isa, peers)]
    if not (named or options.threads or options.isa or options.quick):
        if cores > 1:
            settings.append(Setting(1, None, ("torch",)))
        if level.startswith("avx512"):
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
    found: list[report.Row] = []
    bar = tqdm(total=sum(len(c) for _, p in plan for _, c in p), leave=False, file=sys.stderr)

    def say(text: str) -> None:
        bar.write(text, file=sys.stdout)

    for setting, with_peers in plan:
        bar.set_description("the machine's limits")
        measured = limits.probe(setting.threads)
        say(limits.line(measured))
        for peers, todo in with_peers:
            with runner.workers(peers, setting.threads, setting.isa, ours, against) as all_workers:
                team = rows.present(all_workers, say)
                shared = rows.common(team, measured, machine, command)
                columns = columns_of(shared["versions"])
                say("\n" + "\n".join(rows.heading(team, shared)))
                say(report.header(columns))
                for case in todo:
                    bar.set_description(case.id)
                    seconds = runner.share_of_time(deadline, bar.total - bar.n)
                    found.append(rows.measure(team, case, seconds, options.rounds, shared))
                    say(report.line(found[-1], columns))
                    for line in rows.left_out(team, found[-1]):
                        say(line)
                    if options.json:
                        report.append(options.json, found[-1])
                    bar.update()
    bar.close()
    return found


def columns_of(peers: Container[str]) -> list[str]:
    """Of the table: another build where there is one, torch, and whichever peer is best."""
    return [*([AGAINST] if AGAINST in peers else []), "torch", "best"]


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


def parts(
    chosen: Sequence[Case], setting: Setting, first: bool
) -> list[tuple[tuple[str, ...], list[Case]]]:
    """The cases of a setting by the peers they run against: cells and sweeps against torch alone.

    Sweeps run in the first setting.
    """
    grid = [case for case in chosen if not case.sweep and case.mode != "cell"]
    others = [case for case in chosen if case.mode == "cell" or (case.sweep and first)]
    against_torch = tuple(peer for peer in setting.peers if peer == "torch")
    return [part for part in ((setting.peers, grid), (against_torch, others)) if part[1]]


def compare_two(arguments: Sequence[str]) -> None:
    print(*compare.lines(*map(report.read, arguments)), sep="\n")


def table(arguments: Sequence[str]) -> None:
    print(*markdown.tables(report.read(arguments[0])), sep="\n")


def document(arguments: Sequence[str]) -> None:
    markdown.write(report.read(arguments[0]))


def plot(arguments: Sequence[str]) -> None:
    print(*plots.plot(report.read(arguments[0]), arguments[1]), sep="\n")


# What does it, and how many arguments it takes (None: options).
COMMANDS: dict[str, tuple[Callable[[Sequence[str]], None], int | None]] = {
    "compare": (compare_two, 2),
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
    "tasks": (tasks.main, None),
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
    found = run(options, shlex.join(["python", "-m", "bench", *arguments]))
    print("", *report.totals(found), sep="\n")
    if options.plot and found:
        print(*plots.plot(found, options.plot), sep="\n")


if __name__ == "__main__":
    main()
