"""The examples with torch: both trainings go the same way, and what is printed. That of the engine
alone is tested in test_training.py."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tiers
from builds import ROOT

SOME_TEXT = Path(__file__).read_text(encoding="utf-8") * 20
EXAMPLES = ROOT / "examples"
NAMES = ["torch_charlm", "torch_tagger"]
STEPS = 8
ARGUMENTS = ["--steps", str(STEPS), "--hidden", "24", "--seed", "3"]


@pytest.fixture
def example(monkeypatch, program, one_thread_of_torch):
    """An example by its name, with little to read; torch's random numbers are put back."""
    torch = pytest.importorskip("torch")

    def load(name):
        module = program(name)
        if name == "torch_tagger":
            monkeypatch.setattr(module, "TRAINING_FILES", 3)
            monkeypatch.setattr(module, "HELD_OUT_FILES", 1)
        else:
            monkeypatch.setattr(module.charlm, "load_text", lambda path: SOME_TEXT)
        return module

    with torch.random.fork_rng():
        yield load


@pytest.mark.parametrize("cell", tiers.thin(["lstm", "gru"], ["gru"]))
@pytest.mark.parametrize("name", NAMES)
def test_both_trainings_have_the_same_curve(name, cell, example, capsys):
    torchs, ours = example(name).main([*ARGUMENTS, "--cell", cell])
    out = capsys.readouterr().out

    assert type(torchs.model.rnn).__module__ == "torch.nn.modules.rnn"
    assert type(ours.model.rnn).__module__.startswith("fastrnn.torch")
    assert len(ours.losses) == len(ours.seconds) == STEPS
    assert all(map(math.isfinite, torchs.losses))
    assert torchs.losses[-1] < torchs.losses[0] - 0.01
    assert ours.losses == pytest.approx(torchs.losses, rel=0, abs=1e-4)
    assert f"rnn: now fastrnn.torch.{cell.upper()}\n" in out


@pytest.mark.parametrize("name", tiers.thin(NAMES, ["torch_charlm"]))
def test_the_table_says_what_the_runs_hold(name, example, capsys):
    runs = example(name).main(ARGUMENTS)
    out = capsys.readouterr().out

    def figures(title):
        found = re.search(rf"^{re.escape(title)} +([0-9.]+) +([0-9.]+)$", out, re.MULTILINE)
        assert found, out
        return [float(figure) for figure in found.groups()]

    held_out = "loss on held-out text" if name == "torch_charlm" else "accuracy on held-out files"
    assert figures("loss of the first step") == pytest.approx([r.losses[0] for r in runs], abs=1e-4)
    assert figures(f"seconds for {STEPS} steps") == pytest.approx(
        [sum(r.seconds) for r in runs], abs=1e-4
    )
    torchs, ours = figures(held_out)
    assert ours == pytest.approx(torchs, abs=2e-3)
    gap = max(abs(a - b) for a, b in zip(runs[0].losses, runs[1].losses, strict=True))
    assert f"largest difference of the losses, all {STEPS} steps: {gap:.1e} (step " in out
    assert re.search(r"^seconds of the median step, torch.nn / fastrnn.torch: [0-9.]+$", out, re.M)


def test_turns_change_no_loss(example):
    """Each run goes on from its own random numbers: dropout is on in this one."""
    charlm = example("torch_charlm")
    compare = charlm.compare
    whole = charlm.main(ARGUMENTS)
    charlm.compare = lambda *arguments: compare(*arguments, block=3)
    turns = charlm.main(ARGUMENTS)
    for a, b in zip(whole, turns, strict=True):
        assert a.losses == pytest.approx(b.losses, rel=0, abs=1e-5)


def test_without_tqdm_there_are_lines(example, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    example("torch_charlm").main(ARGUMENTS)
    out = capsys.readouterr().out
    assert "no progress bar without tqdm: pip install 'fastrnn[demo]'\n" in out
    assert re.search(rf"^step {STEPS}/{STEPS}  loss: torch.nn [0-9.]+, fastrnn", out, re.M)


@pytest.mark.parametrize("name", NAMES)
def test_without_torch_there_is_one_line(name):
    code = (
        "import runpy, sys; sys.modules['torch'] = None; sys.path.insert(0, sys.argv[1]); "
        "runpy.run_path(f'{sys.argv[1]}/{sys.argv[2]}.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, EXAMPLES, name], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "this program needs torch; in the clone: pip install '.[torch]'\n"


def test_tags_are_those_of_tokenize(example, tmp_path):
    tagger = example("torch_tagger")
    source = '# é\nif x1 >= 2:\n    y = \'a\\\'\' \\\n        + """b\nc"""\nz = 1_0'
    path = tmp_path / "source.py"
    path.write_text(source, encoding="utf-8")
    letters = {kind[:2]: i for i, kind in enumerate(tagger.KINDS)}
    expected = [
        "co3 sp1 ke2 sp1 na2 sp1 op2 sp1 nu1 op1 sp1",
        "sp4 na1 sp1 op1 sp1 st5 sp11 op1 sp1 st9 sp1",
        "na1 sp1 op1 sp1 nu3",
    ]
    rows = list(tagger.rows_of(path))
    assert [kinds.tolist() for _, kinds in rows] == [
        [letters[run[:2]] for run in row.split() for _ in range(int(run[2:]))] for row in expected
    ]
    read = "".join(chr(c) for ids, _ in rows for c in ids)
    assert read == source.replace("é", "\x7f")


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--hidden", "x"], ["--cell", "rnn"]])
def test_wrong_options_are_refused(wrong, example, capsys):
    with pytest.raises(SystemExit):
        example("torch_charlm").main(wrong)
    assert wrong[0] in capsys.readouterr().err
