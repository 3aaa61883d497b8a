"""The programs of `examples/` in their quick runs: without a network, in time, and with figures
that only a model that has learned reaches. Those that train twice are in test_examples.py."""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import offline
import tiers
from bench import programs

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


def long_memory(figures: Figures) -> None:
    assert figures["adding, mean square error, T=50"]["GRU, open"] < 0.03
    copied = figures["copy, accuracy, T=50"]
    assert copied["GRU, open"] > 0.4
    assert copied["RNN"] < 0.2


def policy(figures: Figures) -> None:
    assert max(figures["largest difference of losses"].values()) <= 1e-4
    rate = figures["frames a second, learning alone"]
    assert rate["one call"] > 1.1 * rate["loop"]
    assert min(figures["return, mean of the seeds"].values()) > 15


def pronounce(figures: Figures) -> None:
    phonemes, words = figures["phoneme error rate"], figures["word error rate"]
    assert phonemes["GRU"] < 0.55
    assert words["GRU"] < words["nearest"] - 0.02
    assert phonemes["g2p_en"] < 0.13


def sentiment(figures: Figures) -> None:
    assert figures["accuracy"]["GRU"] > 0.68
    area = figures["area under ROC"]
    assert 0.76 < area["GRU"] < area["bag"] + 0.03


def serial_or_parallel(figures: Figures) -> None:
    for title, row in figures.items():
        cached = ["Transformer, cached"] if title.startswith("generated") else []
        assert [*row] == ["LSTM", "Transformer", *cached]
        assert all(time > 0 for time in row.values())
    assert len(figures) == 12


def speakers(figures: Figures) -> None:
    accuracy = figures["accuracy on the test, %"]
    assert accuracy["GRU"] > 95
    assert accuracy["logistic regression"] > 90


def spoken_digits(figures: Figures) -> None:
    assert figures["word error rate, new voices, %"]["LSTM"] < 55
    assert figures["word error rate, new dialect, %"]["LSTM"] < 60


def synthesise(figures: Figures) -> None:
    error = figures["error-to-signal ratio, %"]
    assert error["LSTM"] < min(12, error["curve"], error["filter"])
    assert figures["blocks, steps, whole differ by"]["LSTM"] < 1e-6


def summarise(figures: Figures) -> None:
    one = figures["ROUGE-1"]
    assert one["LSTM"] > one["any"] + 0.06
    assert one["best"] > one["LSTM"] > one["lead"] - 0.01


def translate(figures: Figures) -> None:
    for kind in ("numbers", "dates"):
        exact = figures[f"exact match, {kind}"]
        assert exact["attention, beam"] > exact["last state, beam"] + 0.15
        assert figures[f"character error rate, {kind}"]["attention, beam"] < 0.3


# A program -> what its quick run must show.
PROGRAMS: dict[str, Callable[[Figures], None]] = {
    "forecast_stock": stock,
    "forecast_weather": weather,
    "long_memory": long_memory,
    "pronounce": pronounce,
    "recurrent_policy": policy,
    "sentiment": sentiment,
    "serial_or_parallel": serial_or_parallel,
    "speakers": speakers,
    "spoken_digits": spoken_digits,
    "summarise": summarise,
    "synthesise": synthesise,
    "translate": translate,
}
# Command lines that a program refuses -> what it says of them; every program refuses the first.
EVERY = {("--seed", "-1"): "--seed: must be a whole number from 0 to 2^31 - 1, got '-1'"}
WRONG: dict[str, dict[tuple[str, ...], str]] = {
    "pronounce": {
        ("--words", "naïve"): "--words: must be of the letters a to z, got 'naïve'",
    },
    "speakers": {
        ("--hidden", "0"): "--hidden: must be a whole number of at least 1, got '0'",
    },
    "spoken_digits": {
        ("--recordings", "none"): "--recordings must be a folder with a sound 0.wav: ",
    },
    "translate": {
        ("--dictionary", "none"): "--dictionary must be a .dict.dz file of FreeDict, got none: ",
        ("--dictionary", "."): "--dictionary must be a .dict.dz file of FreeDict, got .: ",
        ("--dictionary", "lines.json"): "got lines.json: Not a gzipped file",
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
    """The modules in the ``with packages():`` of a program and of what it shares with others, and
    the packages whose folders it asks for."""
    tree = tree_of(name)
    blocks = [node for node in tree.body if isinstance(node, ast.With)]
    found = [module for block in blocks for module in imported(block)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "folder_of":
            found += [item.value for item in node.args if isinstance(item, ast.Constant)]
    shared = [module for module in found if module in local_modules()]
    return [*(set(found) - set(shared)), *(each for part in shared for each in packages_of(part))]


def local_modules() -> list[str]:
    return [path.stem for path in offline.EXAMPLES.glob("*.py")]


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """start(name, refused, run): the program's process, ended."""

    def go(name: str, refused: list[list[str]], run: list[str]) -> Any:
        lines = tmp_path / "lines.json"
        lines.write_text(json.dumps({"refused": refused, "run": run}), encoding="utf-8")
        return subprocess.run(
            [sys.executable, offline.__file__, name, str(lines)],
            cwd=tmp_path,
            # Threads that wait for others spin, and on a busy machine that is most of their time.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )

    return go


def test_every_program_is_tested() -> None:
    files = {path.stem for path in offline.EXAMPLES.glob("[!_]*.py")}
    elsewhere = {"hello", "keras_first_program", "strangers", "torch_charlm", "torch_tagger"}
    assert files == PROGRAMS.keys() | elsewhere


@pytest.mark.parametrize("name", tiers.thin(PROGRAMS, ["forecast_stock"]))
def test_quick_run(name: str, start: Callable[..., Any], tmp_path: Path) -> None:
    wrong = {**EVERY, **WRONG.get(name, {})}
    before = os.times()
    done = start(name, [*map(list, wrong)], ["--quick", "--json", "figures.json"])
    after = os.times()
    if done.stderr.startswith("this program needs"):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr[-3000:]

    for message in wrong.values():
        assert message in done.stderr
    assert "Traceback" not in done.stderr
    # Seconds of processors: those of the clock depend on what else the machine does.
    seconds = sum(after[2:4]) - sum(before[2:4])
    assert seconds < 2 * QUICK_SECONDS

    result = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert result["loops"] < result["seconds"] < 300
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


def test_the_readme_holds_the_figures_of_every_program() -> None:
    """As `python -m bench programs` wrote them, with a picture where there is one."""
    text = programs.README.read_text(encoding="utf-8")
    results = json.loads(programs.RESULTS.read_text(encoding="utf-8"))
    assert results.keys() == PROGRAMS.keys() == set(programs.names())
    assert programs.filled(text, results) == text
    for name, result in results.items():
        assert all(line in text.splitlines() for line in programs.table(name, result)), name
        assert f"\n### {name}\n" in text
        assert result.keys() == {"machine", *programs.layers_of(name)}
    pictures = {path.name for path in programs.PICTURES.iterdir()}
    assert set(re.findall(r"\.\./docs/images/examples/(\S+\.png)\)", text)) == pictures
    other = results["speakers"] | {"machine": "another"}
    assert programs.filled(text, results | {"speakers": other}) == text.replace(
        programs.table("speakers", results["speakers"])[0], programs.table("speakers", other)[0]
    )


def test_a_program_that_is_not_there_is_refused(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        programs.main(["hello"])
    assert "NAME must be one of forecast_stock forecast_weather" in capsys.readouterr().err


def test_a_readme_without_a_place_for_figures_is_refused() -> None:
    results = json.loads(programs.RESULTS.read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match=r"one part <!-- figures speakers -->, got 0"):
        programs.filled("# Programs", {"speakers": results["speakers"]})


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
    assert re.fullmatch(r"seconds: 0\.\d, of these 0\.\d in the loops with a bar", lines[5])
    assert json.loads((tmp_path / "f.json").read_text())["figures"] == figures
    with program.picture("a.png", 2, 1) as figure:
        figure.subplots().plot([1, 2])
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_not_finite_is_null_in_json(frame: Any, tmp_path: Path, capsys: Any) -> None:
    program = frame.Program("A title.", on_torch=False)
    program.start(["--folder", str(tmp_path), "--json", str(tmp_path / "f.json")])
    program.report({"error": {"ours": float("nan"), "theirs": 1.0}})
    assert re.search(r"^error +nan +1$", capsys.readouterr().out, re.MULTILINE)
    found = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert found == {"error": {"ours": None, "theirs": 1.0}}
    assert frame.table_of(found)[1] == ["error", "nan", "1"]


def test_a_loop_that_is_left_counts(frame: Any, tmp_path: Path, capsys: Any) -> None:
    program = frame.Program("A title.", on_torch=False)
    program.start(["--folder", str(tmp_path)])
    with contextlib.closing(program.progress([1, 2, 3], "steps")) as steps:
        for _ in steps:
            time.sleep(0.06)
            break
    program.report({"error": {"ours": 1.0}})
    assert "of these 0.1 in" in capsys.readouterr().out


def test_nearest(frame: Any) -> None:
    assert frame.nearest(["abc", "xyz", "abcd"], ["xy", "abcde", "ab"]) == [1, 2, 0]


def test_quick_picks_the_small_size(frame: Any) -> None:
    for line, expected in (([], "full"), (["--quick"], "quick")):
        program = frame.Program("A title.", on_torch=False)
        program.start(line)
        assert program.pick("full", "quick") == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--seed", "x"], "argument --seed: must be a whole number from 0 to 2^31 - 1, got 'x'"),
        (["--seed", str(2**31)], "--seed: must be a whole number from 0 to 2^31 - 1, got '21474"),
        (["--json", "none/f"], "--json must be a file in a folder that exists, got none/f"),
        (["--json", "."], "--json must be a file in a folder that exists, got ."),
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


@pytest.mark.usefixtures("one_thread_of_torch")
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


@pytest.mark.parametrize("seed", [0, 1])
def test_a_beam_search_of_all_finds_the_best(seed: int, program: Callable[[str], Any]) -> None:
    """With a beam for every text it is a search of all; with one beam it is greedy."""
    torch = pytest.importorskip("torch")
    translate = program("translate")
    letters, longest = 6, 3
    choices = range(translate.PAD + 1, letters)
    texts = [
        text
        for length in range(1, longest + 1)
        for text in itertools.product(choices, repeat=length)
        if translate.END not in text[:-1] and (length == longest or text[-1] == translate.END)
    ]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = translate.Translator(torch.nn, letters, 8, attends=True)
        model.head.weight *= 8  # so that texts differ
        model.embedding.weight *= 3
        sources = torch.tensor([[4, 5, 4, translate.END], [5, translate.END, 0, 0]])

        def mean_of(text: tuple[int, ...], source: Any) -> float:
            inputs = torch.tensor([[translate.START, *text[:-1]]])
            logits = model(source[None], inputs)[0].log_softmax(-1)
            return float(sum(logits[t, c] for t, c in enumerate(text)) / len(text))

        bests, greedies = [], []
        for source in (sources[0], sources[1, :2]):
            bests.append(max(texts, key=lambda text, s=source: mean_of(text, s)))
            greedy: tuple[int, ...] = ()
            while len(greedy) < longest and greedy[-1:] != (translate.END,):
                tries = [(*greedy, c) for c in choices]
                greedy = max(tries, key=lambda text, s=source: mean_of(text, s))
            greedies.append(greedy)
        for beams, expected in ((letters**longest, bests), (1, greedies)):
            found = model.search(sources, beams, longest).tolist()
            assert [tuple(c for c in row if c != translate.PAD) for row in found] == expected
        assert bests != greedies


def test_padding_changes_nothing(program: Callable[[str], Any]) -> None:
    """A string of digits is heard alike by both networks, alone and beside a longer one."""
    torch = pytest.importorskip("torch")
    digits = program("spoken_digits")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        features = [torch.randn(T, digits.STACK * digits.BINS) for T in (40, 90)]
        batch = torch.nn.utils.rnn.pad_sequence(features)
        for model in (digits.Recurrent(torch.nn, 8), digits.Convolutional(8)):
            alone = model.eval()(features[0][:, None], torch.tensor([40]))
            beside = model(batch, torch.tensor([40, 90]))
            torch.testing.assert_close(alone[:, 0], beside[:40, 0])


SOUNDS = """
import hashlib
import sys

import numpy as np

import spoken_digits
import synthesise

seed = int(sys.argv[1])
rng = np.random.default_rng(seed)
synthesiser = spoken_digits.Synthesiser(seed)
strings = spoken_digits.speak(synthesiser, 3, 4, ["m1", "f2"], ["en"], rng)
sounds = [features.numpy() for features, _ in strings]
sounds += [*synthesise.practice(3, 0.2, synthesiser, rng)[1:], synthesise.tune(0.5, rng)]
print(*(hashlib.sha256(sound.tobytes()).hexdigest() for sound in sounds))
"""


@tiers.ci
def test_a_seed_repeats_the_sounds(program: Callable[[str], Any]) -> None:
    """In processes of their own: the C library that speaks goes on from where it was."""
    program("spoken_digits"), program("synthesise")  # or skip

    def made(seed: int) -> list[str]:
        command = [sys.executable, "-c", SOUNDS, str(seed)]
        path = os.pathsep.join([str(offline.EXAMPLES), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.check_output(command, env=environment, text=True).split()

    first, again, other = made(3), made(3), made(4)
    assert first == again
    assert len(first) == 6
    # The fourth of the sounds is speech that the seed changes in its breath alone.
    assert not {*first} & {*other}


def test_a_seed_repeats_pairs_and_splits(program: Callable[[str], Any]) -> None:
    import numpy as np

    translate, sentiment = program("translate"), program("sentiment")

    def made(seed: int) -> list[Any]:
        splits = sentiment.split(np.arange(50), seed)
        learn, tests = translate.made_pairs(100, 5, 2, seed)
        assert tests.keys() == {"numbers", "dates"}
        assert not any(pair in learn for test in tests.values() for pair in test)
        return [learn, *tests.values(), *(part.tolist() for part in splits)]

    first, again, other = made(3), made(3), made(4)
    assert first == again
    assert not any(a == b for a, b in zip(first, other, strict=True))
    assert sorted(itertools.chain(*first[3:])) == [*range(50)]


def test_a_voice_that_is_not_there_is_refused(program: Callable[[str], Any]) -> None:
    synthesiser = program("_espeak").Synthesiser(0)
    assert len(synthesiser.say("one", "en+f2")) > 1000
    for voice in ("en+nobody", "nowhere", "nowhere+f2"):
        with pytest.raises(ValueError, match=f"eSpeak NG has no voice '{re.escape(voice)}'"):
            synthesiser.say("one", voice)
