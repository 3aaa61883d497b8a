"""``python -m fastrnn``: the character language model from text to checkpoint to sample, what the
commands print, and what they refuse."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pydoc_data.topics import topics

import numpy as np
import pytest

import fastrnn
from builds import ROOT
from fastrnn import __main__ as cli
from fastrnn import charlm

TINY = ["--hidden", "6", "--seq-len", "8", "--batch", "4", "--eval-every", "5"]
WORDS = ["the", "gate", "of", "a", "cell", "keeps", "what", "it", "reads", "and", "lets", "in"]


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A UTF-8 file of 3,000 characters: few words in random order."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(" ".join(rng.choice(WORDS, 900))[:2999] + "é", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(text, tmp_path_factory):
    """A small trained checkpoint, not to be written to."""
    out = tmp_path_factory.mktemp("trained") / "model.npz"
    arguments = ["train", "--text", str(text), *TINY, "--steps", "10", "--out", str(out)]
    assert cli.main([*arguments, "--sample-length", "0"]) == 0
    return out


@pytest.fixture
def fails(capsys):
    """A call of the command line that must end with one line on stderr and a status."""

    def call(*arguments, code=2):
        capsys.readouterr()
        assert cli.main([str(a) for a in arguments]) == code
        message = capsys.readouterr().err.splitlines()[-1]
        assert message.startswith("fastrnn: ")
        return message.removeprefix("fastrnn: ")

    return call


def start(*arguments, cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "fastrnn", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        stdout=stdout,
        stderr=stderr,
        encoding="utf-8",
    )


def contents(path):
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


# --- train and sample --------------------------------------------------------------------------


def test_train_learns_reports_draws_and_samples(text, tmp_path):
    process = start(
        *["train", "--text", text, "--hidden", 24, "--seq-len", 16, "--batch", 8, "--lr", 0.01],
        *["--steps", 60, "--eval-every", 20, "--threads", 3],
        *["--out", "model.npz", "--plot", "loss.png", "--sample-length", 50],
        cwd=tmp_path,
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    lines = out.splitlines()
    assert "3,000 characters" in lines[0]
    assert "lstm, 1 x 24 units" in lines[1]
    assert lines[2].endswith("threads 3")
    validations = [line for line in lines if "validation" in line]
    assert [int(line.split()[1]) for line in validations] == [20, 40, 60]
    assert all("bits/char" in line for line in validations)
    sample = out.split("sample of 50 characters:\n")[1]
    assert (
        len(sample)
        == len(charlm.Run.load(tmp_path / "model.npz").model.vocabulary.default_prompt()) + 50 + 1
    )
    for part in ("100%", "loss", "bits/char", "char/s"):
        assert part in err
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["loss.png", "model.npz"]

    history = contents(tmp_path / "model.npz")
    assert len(history["history.train"]) == 60
    assert history["history.valid"][:, 0].tolist() == [20, 40, 60]
    first, last = history["history.train"][0], history["history.valid"][-1, 1]
    assert last < 0.75 * first
    assert f"{last:.3f}" in validations[-1]


def test_the_default_text_is_pythons_help_each_paragraph_once():
    text = charlm.load_text(None)
    assert len(text) > 200_000
    assert 'The "assert" statement' in text
    paragraphs = text.split("\n\n")
    assert len(paragraphs) == len(set(paragraphs))
    everything = "\n\n".join(topics.values()).split("\n\n")
    assert {p.strip("\n") for p in everything} == set(paragraphs)


def resume_arguments(cell, text):
    # 14 steps are a pass over the text, so both halves of 20 steps cross or touch its end.
    layers = ["--layers", "2", "--dropout", "0.3"] if cell != "rnn" else []
    batch = ["--hidden", "6", "--seq-len", "25", "--batch", "8", "--eval-every", "5"]
    return ["train", "--text", str(text), "--cell", cell, *layers, *batch, "--sample-length", "0"]


def test_a_checkpoint_of_the_first_version_loads_and_goes_on(tmp_path):
    """`tests/data/charlm.checkpoint`: three steps of this run, saved by fastrnn 0.1.0."""
    content = "the cell keeps what it reads. " * 8
    stored = ROOT / "tests" / "data" / "charlm.checkpoint"
    run = charlm.Run.load(stored)
    assert (run.step, run.model.layer.random_state["draws"]) == (3, 3)
    run.save(tmp_path / "again.npz")
    old, new = contents(stored), contents(tmp_path / "again.npz")
    header, again = (json.loads(str(arrays.pop("config"))) for arrays in (old, new))
    config = header["config"] | {"dtype": "float32"}  # the only one there was
    assert again == header | {"fastrnn": fastrnn.__version__, "config": config}
    assert {name: a.tobytes() for name, a in old.items()} == {
        name: a.tobytes() for name, a in new.items()
    }
    # The fourth step of the same run in one go; another mask would give another loss.
    whole = charlm.Run.start(run.config, content)
    streams, _ = whole.split(content)
    losses = [whole.train_step(streams) for _ in range(5)]
    assert [run.train_step(streams) for _ in range(2)] == pytest.approx(losses[3:], rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_resumed_run_gives_the_bits_of_one_that_was_not_stopped(cell, dtype, text, tmp_path):
    whole, half = str(tmp_path / "whole.npz"), str(tmp_path / "half.npz")
    arguments = [*resume_arguments(cell, text), "--dtype", dtype]
    assert cli.main([*arguments, "--steps", "20", "--out", whole]) == 0
    assert cli.main([*arguments, "--steps", "10", "--out", half]) == 0
    assert len(contents(half)["history.train"]) == 10
    # What the checkpoint knows need not be said again; --out is the same file then.
    assert cli.main(["train", "--resume", half, "--steps", "20", "--sample-length", "0"]) == 0
    one, two = contents(whole), contents(half)
    assert one.keys() == two.keys()
    assert json.loads(str(one["config"]))["config"]["steps"] == 20
    for name in one:
        assert one[name].dtype == two[name].dtype
        assert one[name].tobytes() == two[name].tobytes(), name


def test_epochs_are_passes_over_the_text(text, tmp_path):
    out = tmp_path / "model.npz"
    arguments = [*resume_arguments("rnn", text), "--out", str(out)]
    assert cli.main([*arguments, "--epochs", "1"]) == 0
    assert len(contents(out)["history.train"]) == (2850 - 1) // 8 // 25
    assert cli.main([*arguments, "--resume", str(out), "--epochs", "2", "--lr", "0.5"]) == 0
    assert len(contents(out)["history.train"]) == 2 * ((2850 - 1) // 8 // 25)
    assert json.loads(str(contents(out)["config"]))["config"]["lr"] == 0.5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_to_go_on_from(number, text, tmp_path):
    out = tmp_path / "model.npz"
    process = start(
        *["train", "--text", text, *TINY, "--steps", 10**7, "--eval-every", 10**7],
        *["--out", out],
        cwd=tmp_path,
    )
    line = "no step yet"
    while line and "loss" not in line:
        line = process.stderr.readline()
    assert not out.exists()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    run = charlm.Run.load(out)
    assert last == f"fastrnn: stopped at step {run.step}; checkpoint written to {out}"
    assert run.step > 0
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]
    steps = run.step + 1
    arguments = ["train", "--resume", str(out), "--steps", str(steps), "--sample-length", "0"]
    assert cli.main(arguments) == 0
    assert charlm.Run.load(out).step == steps


def test_a_second_ctrl_c_stops_at_once():
    before = signal.getsignal(signal.SIGINT)
    with charlm.interrupts() as noted:
        signal.raise_signal(signal.SIGINT)
        assert noted == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_after_sigterm_a_second_signal_ends_the_process():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with charlm.interrupts() as noted:
        signal.raise_signal(signal.SIGTERM)
        assert noted == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_signal_that_was_ignored_stays_ignored():
    """As SIGINT is under nohup, and in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with charlm.interrupts() as noted:
            signal.raise_signal(signal.SIGINT)
            assert noted == []
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_in_a_worker_thread(text, trained, tmp_path):
    """Where Python lets nobody handle signals."""
    run = charlm.Run.load(trained)
    run.reconfigure(steps=run.step + 3)
    streams = run.split(charlm.load_text(text))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(charlm.train, run, *streams, tmp_path / "model.npz").result()
    assert charlm.Run.load(tmp_path / "model.npz").step == run.config.steps


def test_a_closed_pipe_ends_training_quietly_after_the_checkpoint(text, tmp_path):
    out = tmp_path / "model.npz"
    process = start(
        *["train", "--text", text, *TINY, "--steps", 10**7, "--eval-every", 50, "--out", out],
        cwd=tmp_path,
    )
    assert process.stdout.readline().startswith("text ")
    process.stdout.close()
    with process:
        err = process.stderr.read()
    assert process.returncode == 128 + signal.SIGPIPE
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    assert charlm.Run.load(out).step == 50
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_a_closed_pipe_of_the_progress_leaves_a_checkpoint_too(text, tmp_path):
    out = tmp_path / "model.npz"
    process = start(
        *["train", "--text", text, *TINY, "--steps", 10**7, "--eval-every", 10**7, "--out", out],
        cwd=tmp_path,
        stderr=subprocess.STDOUT,
    )
    line = process.stdout.readline()
    while line and "loss" not in line:
        line = process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert charlm.Run.load(out).step > 0


def test_output_that_cannot_be_written(trained, tmp_path):
    with open("/dev/full", "w") as full:
        process = start("sample", trained, "--length", "1", cwd=tmp_path, stdout=full)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "fastrnn: cannot write: No space left on device\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    error, trained, tmp_path, monkeypatch
):
    out = tmp_path / "model.npz"
    out.write_bytes(trained.read_bytes())

    def half(file, **arrays):
        file.write(b"half")
        raise error

    run = charlm.Run.load(out)
    monkeypatch.setattr(np, "savez", half)
    with pytest.raises((KeyboardInterrupt, charlm.UserError)) as caught:
        run.save(out)
    if caught.type is charlm.UserError:
        assert str(caught.value) == f"cannot write {out}: No space left on device"
    assert out.read_bytes() == trained.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def sample(capsys, *arguments):
    capsys.readouterr()
    assert cli.main(["sample", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_samples_repeat_by_seed(trained, capsys):
    first = sample(capsys, trained, "--prompt", "the cé", "--length", 60, "--seed", 1)
    assert first.startswith("the cé")
    assert len(first) == 6 + 60 + 1
    assert first == sample(capsys, trained, "--prompt", "the cé", "--length", 60, "--seed", 1)
    assert first != sample(capsys, trained, "--prompt", "the cé", "--length", 60, "--seed", 2)
    for temperature in (1e-320, 1e308):  # without a warning
        assert len(sample(capsys, trained, "--temperature", temperature, "--length", 9)) > 9
    cold = {sample(capsys, trained, "--temperature", 0, "--seed", s) for s in (1, 2)}
    assert len(cold) == 1
    assert sample(capsys, trained, "--prompt", "the", "--length", 0) == "the\n"
    unseeded = {sample(capsys, trained, "--length", 60) for _ in range(2)}
    assert len(unseeded) == 2


def test_sampling_draws_with_the_models_probabilities(trained):
    model = charlm.Run.load(trained).model
    with model.head.mutable() as p:
        p["weight"][:] = 0
        p["bias"][:] = -100
        p["bias"][[3, 5]] = np.log([0.2, 0.8]) * 0.5
    text = model.generate("the", 2000, 0.5, np.random.default_rng(0))
    one, two = model.vocabulary.characters[3], model.vocabulary.characters[5]
    assert set(text) == {one, two}
    assert text.count(one) / 2000 == pytest.approx(0.2, abs=0.03)


def test_the_prompt_is_read_to_its_end(trained):
    model = charlm.Run.load(trained).model
    rng = np.random.default_rng(0)
    with model.head.mutable() as p:
        p["weight"][...] = rng.standard_normal(p["weight"].shape)
    x = np.eye(len(model.vocabulary), dtype=np.float32)
    seen = set()
    for prompt in ("w", "wh", "what", "what the", "what the cell", "what the cell reads"):
        y, _ = model.layer(x[model.vocabulary.encode(prompt)[:, None]])
        expected = model.vocabulary.characters[model.head(y)[-1, 0].argmax()]
        assert model.generate(prompt, 1, 0, rng) == expected
        seen.add(expected)
    assert len(seen) > 2


def test_validation_carries_the_state_over_windows(trained, text):
    run = charlm.Run.load(trained)
    _, held_out = run.split(charlm.load_text(text))
    whole = run.model.evaluate(held_out, len(held_out))
    assert run.model.evaluate(held_out, 7) == pytest.approx(whole, rel=1e-6)


def test_streams_pair_each_character_with_the_next():
    ids = np.arange(23)
    streams = charlm.Streams(ids, 4)
    assert streams.inputs.shape == (5, 4)
    assert np.array_equal(streams.targets, streams.inputs + 1)
    assert np.array_equal(streams.inputs[:, 1], [5, 6, 7, 8, 9])
    inputs, targets = streams.window(3, 8)
    assert inputs[:, 0].tolist() == [3, 4]
    assert targets[:, 3].tolist() == [19, 20]
    assert len(charlm.Streams(ids[:3], 4)) == 0


def test_the_gradient_reaches_the_layer(trained):
    """A step of the run is a step of layer and head together."""
    run = charlm.Run.load(trained)
    before = {k: m.state_dict() for k, m in run.model.modules.items()}
    ids = np.arange(40).reshape(5, 8) % len(run.model.vocabulary)
    loss, state, grads = run.model.loss_and_grad(ids, ids)
    run.optimizer.step(grads)
    for name, module in run.model.modules.items():
        for key, p in module.parameters.items():
            assert not np.array_equal(p, before[name][key]), (name, key)
    assert run.model.loss_and_grad(ids, ids)[0] < loss
    assert len(state) == 2


def test_the_gradient_is_clipped(trained, text):
    content = charlm.load_text(text)
    run = charlm.Run.start(charlm.Run.load(trained).config, content)
    run.reconfigure(clip=1e-3, lr=0.5)
    assert run.optimizer.lr == 0.5
    run.train_step(run.split(content)[0])
    moments = [v for k, v in run.optimizer.state_dict().items() if k.startswith("exp_avg.")]
    norm = np.sqrt(sum(np.sum(m.astype(float) ** 2) for m in moments))
    assert norm == pytest.approx(0.1 * 1e-3, rel=2e-3)  # (1 - b1) g, and the 1e-6 of the formula


def test_the_state_is_carried_within_a_pass_and_zero_at_its_start(trained, text):
    run = charlm.Run.load(trained)
    streams, _ = run.split(charlm.load_text(text))
    windows = len(streams) // run.config.seq_len
    for step, carried in ((3, True), (windows, False), (2 * windows, False)):
        run.step = step
        inputs, targets = streams.window(step % windows * 8, 8)
        state = run.state if carried else None
        expected, _, _ = run.model.loss_and_grad(inputs, targets, state)
        assert run.train_step(streams) == expected


# --- without the optional packages -------------------------------------------------------------


def test_without_tqdm_there_is_a_plain_line(text, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    out = str(tmp_path / "model.npz")
    assert cli.main(["train", "--text", str(text), *TINY, "--steps", "6", "--out", out]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("step 6/6  loss ")
    assert "bits/char" in lines[-1]
    assert lines[-1].endswith(" char/s")


def test_without_matplotlib_a_plot_is_refused_before_training(text, tmp_path, monkeypatch, fails):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out = tmp_path / "model.npz"
    message = fails("train", "--text", text, *TINY, "--out", out, "--plot", tmp_path / "a.png")
    assert message == '--plot needs matplotlib: pip install "fastrnn[demo]"'
    assert not out.exists()


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("--hidden", 0, "a positive integer"),
        ("--layers", -1, "a positive integer"),
        ("--seq-len", 0, "a positive integer"),
        ("--batch", 0, "a positive integer"),
        ("--steps", 0, "a positive integer"),
        ("--epochs", 0, "a positive integer"),
        ("--eval-every", 0, "a positive integer"),
        ("--hidden", 2**63, "below 2**63"),
        ("--steps", 2**63, "below 2**63"),
        ("--eval-every", 2**70, "below 2**63"),
        ("--threads", 0, "within 1..4096"),
        ("--threads", 5000, "within 1..4096"),
        ("--threads", 2**70, "within 1..4096"),
        ("--sample-length", -1, "an integer >= 0"),
        ("--seed", -1, "an integer >= 0"),
        ("--lr", 0.0, "a positive number"),
        ("--lr", "nan", "a positive number"),
        ("--clip", "inf", "a positive number"),
        ("--dropout", 1.0, "in [0, 1)"),
        ("--dropout", 0.5, "0 for one layer, since it acts between layers"),
    ],
)
def test_train_refuses_numbers_out_of_range(option, value, rule, text, tmp_path, fails):
    message = fails("train", "--text", text, "--out", tmp_path / "a.npz", option, value)
    assert message == f"{option} must be {rule}, got {value}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("--length", -1, "an integer >= 0"),
        ("--seed", -1, "an integer >= 0"),
        ("--threads", 0, "within 1..4096"),
        ("--threads", 2**31, "within 1..4096"),
        ("--temperature", -0.5, "a number >= 0"),
        ("--temperature", "nan", "a number >= 0"),
    ],
)
def test_sample_refuses_numbers_out_of_range(option, value, rule, trained, fails):
    assert fails("sample", trained, option, value) == f"{option} must be {rule}, got {value}"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--hidden", 3_000_000), ("--hidden", 2**41), ("--layers", 2_000_000), ("--layers", 2**62)],
)
def test_train_refuses_models_that_no_memory_holds(option, value, text, tmp_path, fails):
    message = fails("train", "--text", text, "--out", tmp_path / "a.npz", option, value)
    assert re.fullmatch(
        r"--layers \d+ of --hidden \d+ must fit in this machine's memory of [\d,]+ GiB, "
        r"got [\d,]+ GiB to train them",
        message,
    )
    assert str(value) in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_memory_that_training_needs(cell, dtype, text):
    config = charlm.Config(cell=cell, layers=3, hidden=5, dtype=dtype)
    run = charlm.Run.start(config, charlm.load_text(text))
    arrays = [p for m in run.model.modules.values() for p in m.parameters.values()]
    of_adam = [a for name, a in run.optimizer.state_dict().items() if name != "step"]
    held = 2 * sum(a.nbytes for a in arrays) + sum(a.nbytes for a in of_adam)
    assert run.config.training_bytes(len(run.model.vocabulary)) == held


def test_training_in_bfloat16_learns_what_float32_does(text, tmp_path):
    content = charlm.load_text(text)
    losses = {}
    for dtype in ("float32", "bfloat16"):
        config = charlm.Config(hidden=16, seq_len=8, batch=4, steps=60, lr=1e-2, dtype=dtype)
        run = charlm.Run.start(config, content)
        train, held_out = run.split(content)
        for _ in range(config.steps):
            run.train_step(train)
        losses[dtype] = run.model.evaluate(held_out, config.seq_len)
        assert {p.dtype.name for p in run.model.layer.parameters.values()} == {dtype}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=2e-2)
    assert losses["bfloat16"] < 0.8 * np.log(len(run.model.vocabulary))


def test_bfloat16_needs_ml_dtypes(text, tmp_path, monkeypatch, fails):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    out = tmp_path / "model.npz"
    message = fails("train", "--text", text, *TINY, "--out", out, "--dtype", "bfloat16")
    assert message == "--dtype bfloat16 needs ml_dtypes: pip install ml_dtypes"
    assert not out.exists()


def test_memory_that_the_system_does_not_give(text, tmp_path, fails, monkeypatch):
    monkeypatch.setattr(charlm, "_memory", lambda: 2**80)
    arguments = ["train", "--text", text, "--out", tmp_path / "a.npz", "--hidden", 2**33]
    message = fails(*arguments, code=1)
    assert message.startswith("not enough memory: [lstm] weights must be addressable, got ")


def test_epochs_that_cannot_be_counted(text, tmp_path, fails):
    message = fails("train", "--text", text, *TINY, "--out", tmp_path / "a", "--epochs", 2**62)
    assert message.startswith("--steps must be below 2**63, got ")


def test_train_refuses_texts(tmp_path, fails):
    out = ["--out", tmp_path / "a.npz"]
    missing = tmp_path / "missing.txt"
    assert fails("train", "--text", missing, *out) == (
        f"cannot read {missing}: No such file or directory"
    )
    assert fails("train", "--text", tmp_path, *out) == f"cannot read {tmp_path}: Is a directory"
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"abc\xff")
    assert fails("train", "--text", bad, *out) == (
        f"{bad} is not UTF-8: invalid start byte at byte 3"
    )
    bad.write_text("")
    assert fails("train", "--text", bad, *out) == "the text is empty"
    bad.write_text("ab")
    assert fails("train", "--text", bad, *out).startswith("the text is too short: 0 characters")
    bad.write_text("ab" * 1000)
    assert fails("train", "--text", bad, *out) == (
        "the text is too short: 1900 characters to train on, and --batch 32 times --seq-len 64 "
        "needs more than 2048"
    )
    bad.write_text("ab" * 100)
    short = ["--hidden", 2, "--seq-len", 10, "--steps", 1, "--sample-length", 0]
    assert fails("train", "--text", bad, *out, *short, "--batch", 19).startswith("the text is too")
    assert cli.main([*map(str, ["train", "--text", bad, *out, *short, "--batch", 18])]) == 0


def test_train_refuses_places_that_cannot_be_written(text, tmp_path, fails):
    place = tmp_path / "missing" / "a.npz"
    start = ["train", "--text", text]
    rule = "must be in a folder that can be written, got"
    assert fails(*start, "--out", place) == f"--out {rule} {place}"
    assert fails(*start, "--out", tmp_path) == f"--out must be a file, got the folder {tmp_path}"
    out = tmp_path / "a.npz"
    plot = place.with_name("a.png")
    assert fails(*start, "--out", out, "--plot", plot) == f"--plot {rule} {plot}"
    plot = tmp_path / "a.txt"
    message = fails(*start, "--out", out, "--plot", plot)
    assert message.startswith("--plot must end in one of ")
    assert message.endswith(f", got {plot}")
    assert not out.exists()


def test_train_refuses_places_that_only_a_checkpoint_finds_out(text, tmp_path, fails, monkeypatch):
    """Before a step is done: whatever a checkpoint would fail with."""
    monkeypatch.setattr(charlm.Run, "train_step", None)
    start = ["train", "--text", text, *TINY, "--out"]
    rule = "--out must be a file that can be written, got"
    assert fails(*start, os.devnull) == f"{rule} {os.devnull}"
    os.mkfifo(tmp_path / "pipe")
    assert fails(*start, tmp_path / "pipe") == f"{rule} {tmp_path / 'pipe'}"
    # A name that is long enough for the temporary file to be impossible.
    place = tmp_path / ("a" * 250)
    assert fails(*start, place, code=1) == f"cannot write {place}: File name too long"

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    out = tmp_path / "old.npz"
    out.write_bytes(b"old")
    assert fails(*start, out, code=1) == f"cannot write {out}: No space left on device"
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.npz", "pipe"]


def test_train_stops_when_the_loss_is_lost(text, tmp_path, fails):
    out = tmp_path / "model.npz"
    arguments = ["train", "--text", text, *TINY, "--out", out]
    message = fails(*arguments, "--lr", 1e38, "--steps", 50, code=1)
    assert message.startswith("the loss is ")
    assert message.endswith("a smaller --lr may help")


def test_resume_refuses_what_does_not_fit(trained, text, tmp_path, fails):
    resume = ["train", "--resume", trained, "--out", tmp_path / "a.npz"]
    assert fails(*resume, "--hidden", 7) == (
        f"--hidden is 6 in {trained} and cannot be changed, got 7"
    )
    assert fails(*resume) == (
        f"{trained} has done 10 of 10 steps; give more with --steps or --epochs"
    )
    other = tmp_path / "other.txt"
    other.write_text(text.read_text(encoding="utf-8")[::-1], encoding="utf-8")
    assert fails(*resume, "--text", other, "--steps", 20) == (
        "the text is not the one that this checkpoint was trained on"
    )
    assert fails("train", "--resume", tmp_path / "no.npz").startswith("cannot read ")


def test_sample_refuses_prompts(trained, fails):
    assert fails("sample", trained, "--prompt", "the Ω\ud800 cell") == (
        "not in the vocabulary of this model: 'Ω' '\\ud800'"
    )
    assert fails("sample", trained, "--prompt", "") == "the prompt must not be empty"


class _Marker:
    """Unpickling it would leave a trace."""

    seen = False

    def __reduce__(self):
        return (setattr, (_Marker, "seen", True))


def test_sample_refuses_files_that_are_no_checkpoint(trained, text, tmp_path, fails):
    path = tmp_path / "bad.npz"

    def refused():
        message = fails("sample", path)
        assert message.startswith(f"{path} is not a whole fastrnn checkpoint: "), message
        return message

    assert fails("sample", path) == f"cannot read {path}: No such file or directory"
    path.write_bytes(b"")
    refused()
    path.write_bytes(text.read_bytes())
    refused()
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    assert refused().endswith("not an .npz file")
    np.savez(path, a=np.zeros(3))
    refused()
    with open(path, "wb") as file:
        np.savez(file, config=np.array([_Marker()], object))
    refused()
    assert not _Marker.seen

    good = contents(trained)
    header = json.loads(str(good["config"]))

    def written(change_header=None, **change):
        arrays = {**good, "config": json.dumps({**header, **(change_header or {})}), **change}
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})

    written()
    assert cli.main(["sample", str(path), "--length", "1"]) == 0
    for config in ({"hidden": 10**6}, {"hidden": "6"}, {"cell": "gru"}, {"layers": 2}, {"x": 1}):
        written({"config": {**header["config"], **config}})
        refused()
    for change in (
        {"format": 2},
        {"format": None},
        {"vocabulary": "aa"},
        {"vocabulary": header["vocabulary"][1:]},
        {"step": 9},
        {"dropout_draws": "x"},
        {"config": 7},
    ):
        written(change)
        refused()
    for name in good:
        written(**{name: None})
        refused()
        written(**{name: np.zeros((3, 5), np.float32)})
        refused()
    written(config="[" * 100_000)
    refused()


def test_sample_survives_damaged_bytes(trained, tmp_path, capsys):
    whole = trained.read_bytes()
    path = tmp_path / "bad.npz"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(trained) as archive:
        data = [info.header_offset + 200 for info in archive.infolist()]
    damaged = [whole[:n] for n in (1, 30, 1000, len(whole) // 2, len(whole) - 1)]
    for at in [*data, *rng.integers(0, len(whole), 60).tolist()]:
        damaged.append(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        code = cli.main(["sample", str(path), "--length", "1"])
        message = capsys.readouterr().err
        assert code in (0, 2)
        assert code == 0 or message.startswith("fastrnn: ")
        refused += code == 2
    # Bytes that neither a checksum nor a reader covers (dates, flags) may change unseen.
    assert refused > 0.8 * len(damaged)


def test_bad_input_gives_no_traceback(tmp_path):
    process = start("sample", "no.npz", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err == "fastrnn: cannot read no.npz: No such file or directory\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["play"], ["train", "--hidden", "x"], ["train", "--steps", "1", "--epochs", "1"]],
)
def test_the_parser_refuses_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m fastrnn" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["-h"], ["train", "-h"], ["sample", "-h"], ["info", "-h"], ["check", "-h"]]
)
def test_help_names_every_default(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "==SUPPRESS==" not in out
    if arguments[0] == "train":
        config = vars(charlm.Config()).items()
        for value in [f"({v})" for k, v in config if k != "text"] + ["charlm.npz"]:
            assert value in out


# --- info and the way in -----------------------------------------------------------------------


def test_info_prints_every_fact_on_its_own_aligned_line(tmp_path):
    process = start("info", cwd=tmp_path, FASTRNN_ISA="scalar")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    lines = out.splitlines()
    build = fastrnn.build_info()
    keys = [line.split()[0] for line in lines]
    assert keys[0] == "fastrnn"
    assert {"python", "numpy", "platform", "cpu", "cpus", "FASTRNN_ISA"} < set(keys)
    assert set(build) - {"version"} < set(keys)
    assert len({len(line) - len(line.split(None, 1)[1]) for line in lines}) == 1
    facts = {line.split()[0]: line.split(None, 1)[1] for line in lines}
    assert facts["fastrnn"] == build["version"]
    assert facts["levels_built"].split() == build["levels_built"]
    assert facts["numpy"] == np.__version__
    assert facts["FASTRNN_ISA"] == "scalar"
    assert "KiB" in facts["caches"] or "unknown" in facts["caches"]


def test_a_level_that_is_unknown(tmp_path):
    process = start("info", cwd=tmp_path, FASTRNN_ISA="sse9")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(r"fastrnn: \[isa\] FASTRNN_ISA must be one of .+, got sse9\n", err)


@pytest.mark.parametrize(
    ("command", "is_this"),
    [
        ("python -m fastrnn info", True),
        ("python -mfastrnn", True),
        ("python -u -W error -Xutf8 -bIm fastrnn.__main__ train -c x", True),
        ("python -W -m -m fastrnn", True),
        ("python program.py -m fastrnn", False),
        ("python - -m fastrnn", False),
        ("python -c pass -m fastrnn", False),
        ("python -Wm fastrnn", False),
        ("python -m cProfile -m fastrnn", False),
        ("python -m", False),
        ("python", False),
        ("frozen-program train", False),
    ],
)
def test_the_command_line_of_this_module(command, is_this):
    assert cli._is_this(command.split()) == is_this


@pytest.mark.parametrize("alter_sys", [False, True])
def test_inside_another_program_that_program_is_not_run_again(alter_sys, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import runpy, sys\n"
        "print('once', flush=True)\n"
        "sys.argv[1:] = ['sample', 'missing.npz']\n"
        f"runpy.run_module('fastrnn', run_name='__main__', alter_sys={alter_sys})\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "once\n")
    assert done.stderr == "fastrnn: cannot read missing.npz: No such file or directory\n"


def test_blas_gets_one_thread_unless_the_caller_chose(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "environ", {"A": "1"})
    monkeypatch.setattr(os, "execv", lambda *call: calls.append(call))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-W", "error", "-m", "fastrnn", "info"])
    cli._one_blas_thread()
    assert calls == [(sys.executable, [sys.executable, "-W", "error", "-m", "fastrnn", "info"])]
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    cli._one_blas_thread()
    assert len(calls) == 1


def test_a_plain_start_runs_through(tmp_path):
    """Without the variables of BLAS, where the process starts itself again."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-m", "fastrnn", "info"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("fastrnn ")
    assert not list(tmp_path.iterdir())
