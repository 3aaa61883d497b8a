"""The programs of `examples/` in their quick runs: without a network, in time, and with figures
that only a model that has learned reaches. Those that train twice are in test_examples.py."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import offline

Figures = dict[str, dict[str, float]]
QUICK_SECONDS = 20  # of two processors
MINIMAL = {"numpy", "fastrnn"}  # what is there without an extra


def weather(figures: Figures) -> None:
    error = figures["mean absolute error, °C"]
    assert error["LSTM"] < 0.98 * error["persistence"]
    assert error["persistence"] < error["climatology"]


def stock(figures: Figures) -> None:
    spread = figures["daily range, RMSE of its logarithm"]
    assert spread["LSTM"] < 0.95 * spread["persistence"]
    returns = figures["closing price, RMSE of the return, %"]
    assert returns["LSTM"] == pytest.approx(returns["persistence"], rel=0.03)


def speakers(figures: Figures) -> None:
    accuracy = figures["accuracy on the test, %"]
    assert accuracy["GRU"] > 95
    assert accuracy["logistic regression"] > 90


# A program -> what its quick run must show.
PROGRAMS: dict[str, Callable[[Figures], None]] = {
    "forecast_stock": stock,
    "forecast_weather": weather,
    "speakers": speakers,
}
# Command lines that a program refuses -> what it says of them; every program refuses the first.
EVERY = {("--seed", "-1"): "--seed: must be a whole number of at least 0, got '-1'"}
WRONG: dict[str, dict[tuple[str, ...], str]] = {
    "speakers": {
        ("--hidden", "0"): "--hidden: must be a whole number of at least 1, got '0'",
    },
}


def tree_of(name: str) -> ast.Module:
    return ast.parse((offline.EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> list[str]:
    """Top names of the modules that a syntax tree imports."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return [name.partition(".")[0] for name in names]


def packages_of(name: str) -> list[str]:
    """The modules in the program's ``with packages():``."""
    blocks = [node for node in tree_of(name).body if isinstance(node, ast.With)]
    return [module for block in blocks for module in imported(block)]


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """start(name, refused, run): the program's process, ended."""

    def go(name: str, refused: list[list[str]], run: list[str]) -> Any:
        lines = tmp_path / "lines.json"
        lines.write_text(json.dumps({"refused": refused, "run": run}), encoding="utf-8")
        return subprocess.run(
            [sys.executable, offline.__file__, name, str(lines)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return go


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """program(name): one of the programs as a module."""
    monkeypatch.syspath_prepend(str(offline.EXAMPLES))
    before = set(sys.modules)

    def load(name: str) -> Any:
        for package in packages_of(name) if name in PROGRAMS else ():
            pytest.importorskip(package)
        return importlib.import_module(name)

    yield load
    for name in ["_program", *PROGRAMS]:
        if name not in before:
            sys.modules.pop(name, None)


def test_every_program_is_tested() -> None:
    files = {path.stem for path in offline.EXAMPLES.glob("[!_]*.py")}
    elsewhere = {"hello", "torch_charlm", "torch_tagger"}
    assert files == PROGRAMS.keys() | elsewhere


@pytest.mark.parametrize("name", PROGRAMS)
def test_quick_run(name: str, start: Callable[..., Any], tmp_path: Path) -> None:
    for package in packages_of(name):
        pytest.importorskip(package)
    wrong = {**EVERY, **WRONG.get(name, {})}
    before = os.times()
    done = start(name, [*map(list, wrong)], ["--quick", "--json", "figures.json"])
    after = os.times()
    assert done.returncode == 0, done.stderr[-3000:]

    for message in wrong.values():
        assert message in done.stderr
    assert "Traceback" not in done.stderr
    # Seconds of processors: those of the clock depend on what else the machine does.
    seconds = sum(after[2:4]) - sum(before[2:4])
    assert seconds < 2 * QUICK_SECONDS

    result = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert result["training"] < result["seconds"] < 300
    PROGRAMS[name](result["figures"])
    for title in result["figures"]:
        assert f"\n{title} " in done.stdout
    written = re.findall(r"^writes (.+)$", done.stdout, re.MULTILINE)
    assert {path.name for path in tmp_path.iterdir()} == {
        "lines.json",
        "figures.json",
        *written,
    }
    assert all((tmp_path / file).stat().st_size > 4000 for file in written)


@pytest.mark.parametrize("name", PROGRAMS)
def test_packages_are_asked_for(name: str) -> None:
    """All that a bare environment lacks is imported where the want of it is told."""
    plain = [*MINIMAL, *sys.stdlib_module_names, "_program", *local_modules()]
    everything = set(imported(tree_of(name))) - set(plain)
    assert everything <= set(packages_of(name))


def local_modules() -> list[str]:
    return [path.stem for path in offline.EXAMPLES.glob("*.py")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_missing_package_is_named(name: str) -> None:
    missing = [package for package in packages_of(name) if package not in MINIMAL]
    code = "import runpy, sys\n"
    code += "".join(f"sys.modules[{package!r}] = None\n" for package in missing)
    code += "sys.path.insert(0, sys.argv[1])\n"
    code += "runpy.run_path(f'{sys.argv[1]}/{sys.argv[2]}.py', run_name='__main__')\n"
    done = subprocess.run(
        [sys.executable, "-c", code, offline.EXAMPLES, name], capture_output=True, text=True
    )
    assert done.returncode == 1
    told = re.fullmatch(
        r"this program needs (\S+); in the clone: pip install '\.\[examples\]'\n", done.stderr
    )
    assert told, done.stderr
    assert told[1].partition(".")[0] in missing


# --- what the programs share ---------------------------------------------------------------------


@pytest.fixture
def frame(program: Callable[[str], Any]) -> Any:
    return program("_program")


def test_a_report_holds_all_figures(frame: Any, tmp_path: Path, capsys: Any) -> None:
    program = frame.Program("A title.\n\nAnd more.", on_torch=False)
    program.start(["--folder", str(tmp_path / "new"), "--json", str(tmp_path / "f.json")])
    assert list(program.progress([1, 2, 3], "steps")) == [1, 2, 3]
    figures = {"error, %": {"ours": 1.23456, "theirs": 12}, "longer title": {"theirs": 0.5}}
    assert program.report(figures) == figures
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [
        "                    ours    theirs",
        "error, %           1.235        12",
        "longer title                   0.5",
    ]
    assert re.fullmatch(r"seconds: 0\.\d, of these 0\.\d of training", lines[5])
    assert json.loads((tmp_path / "f.json").read_text())["figures"] == figures
    with program.picture("a.png", 2, 1) as figure:
        figure.subplots().plot([1, 2])
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")


def test_quick_picks_the_small_size(frame: Any) -> None:
    for line, expected in (([], "full"), (["--quick"], "quick")):
        program = frame.Program("A title.", on_torch=False)
        program.start(line)
        assert program.pick("full", "quick") == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--seed", "x"], "argument --seed: must be a whole number of at least 0, got 'x'"),
        (["--folder", __file__], f"--folder must be a folder, got {__file__}: File exists"),
        (["--layers", "torch"], "unrecognized arguments: --layers torch"),
    ],
)
def test_a_wrong_option_names_the_rule(
    line: list[str], message: str, frame: Any, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        frame.Program("A title.", on_torch=False).start(line)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("layers", ["fastrnn", "torch"])
def test_layers_are_whose_they_say(layers: str, frame: Any) -> None:
    torch = pytest.importorskip("torch")
    with torch.random.fork_rng():
        program = frame.Program("A title.", on_torch=True)
        program.start(["--layers", layers])
    home = program.layers.LSTM.__module__
    assert home.partition(".")[0] == layers


# --- single programs -----------------------------------------------------------------------------


def test_forecasts_do_not_look_ahead(program: Callable[[str], Any]) -> None:
    """Other weather, other prices from a day on change no forecast for that day or before."""
    torch = pytest.importorskip("torch")
    import numpy as np

    weather, stock = program("forecast_weather"), program("forecast_stock")
    whole = weather.data.seattle_weather()
    changed = whole.copy()
    columns = ["temp_max", "temp_min", "wind", "precipitation"]
    changed.loc[500:, columns] = 2 * changed.loc[500:, columns] + 3
    learn, test = np.arange(40, 470), np.arange(470, 520)
    prices = np.random.default_rng(0).standard_normal((300, 4))
    others = prices.copy()
    others[250:] += 1

    def forecasts(run: Callable[..., Any], data: Any, learn: Any, test: Any) -> Any:
        torch.manual_seed(0)
        return run(data, learn, test, torch.nn, 1)

    with torch.random.fork_rng():
        for run, before, after, days, first in (
            (weather.forecast_quarter, whole, changed, (learn, test), 500 - 470),
            (stock.forecast_year, prices, others, (np.arange(150), np.arange(150, 240)), 40),
        ):
            ours, theirs = (forecasts(run, data, *days) for data in (before, after))
            for who in ours:
                known = slice(None, first + 1)
                assert np.array_equal(ours[who][known], theirs[who][known]), who
            assert not np.array_equal(ours["LSTM"][first + 1], theirs["LSTM"][first + 1])
            assert ours["persistence"][first + 1] != theirs["persistence"][first + 1]
