"""``python -m bench tasks``: what 16 and 8 bits cost, from figures to a verdict."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiers
from bench import tasks


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"seeds": 2, "steps": None, "cell": "lstm", "json": None, **given})


@pytest.mark.parametrize(("most", "missed"), [(0.6, 0), (0.4, 1)])
def test_costs_are_means_over_seeds(
    most: float,
    missed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = (
        {"float32": 2.0, "bfloat16 training": 2.0},
        {"float32": 4.0, "bfloat16 training": 5.0},
    )
    task = tasks.Task(
        "a title",
        lambda seed, _: figures[seed],
        lambda a, b: a - b,
        "points",
        {"bfloat16 training": most},
    )
    monkeypatch.setitem(tasks.TASKS, "charlm", task)
    found = tmp_path / "found.json"
    assert tasks.compare_trained("charlm", options(json=found)) == missed
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "charlm, lstm: a title, 2 seeds"
    assert lines[-1].split() == (
        f"bfloat16 training 3.5000 2.0000 5.0000 0.500 (0.000 .. 1.000), at most {most}".split()
    )
    first, second = map(json.loads, found.read_text().splitlines())
    assert first == {"task": "charlm", "cell": "lstm", "way": "float32", "figures": [2.0, 4.0]}
    assert second["cost"] == 0.5


def test_what_a_cost_is() -> None:
    assert tasks.TASKS["charlm"].cost(2.02, 2.0) == pytest.approx(1)
    assert tasks.TASKS["tagger"].cost(97.5, 98.0) == pytest.approx(0.5)


@tiers.ci
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_character_model_costs_little(cell: str) -> None:
    figures = tasks.TASKS["charlm"].figures(0, options(steps=30, cell=cell))
    assert len(set(figures.values())) == 3  # nothing ran twice
    for way, figure in figures.items():
        assert figure == pytest.approx(figures["float32"], rel=0.02), way
    assert figures["float32"] < 5


@tiers.ci
def test_the_tagger_costs_little() -> None:
    pytest.importorskip("torch")
    figures = tasks.TASKS["tagger"].figures(0, options(steps=30))
    assert len(figures) == 3
    for way, figure in figures.items():
        assert figure == pytest.approx(figures["float32"], abs=2), way
    assert figures["float32"] > 50


class Detector:
    """In the place of silero-vad: the largest output of its layer says how likely speech is."""

    def __init__(self, layer: Any) -> None:
        self.session = argparse.Namespace(lstm=layer)

    def audio_forward(self, sound: np.ndarray) -> np.ndarray:
        y, _ = self.session.lstm(sound.reshape(-1, 1, 8), None)
        return np.abs(y).max(axis=-1)


def test_the_simulation_is_the_engines_scheme(capsys: pytest.CaptureFixture[str]) -> None:
    layer = tasks.fastrnn.LSTM(8, 16, seed=0)
    rng = np.random.default_rng(0)
    sounds = [rng.standard_normal(8 * 50).astype(np.float32) for _ in range(3)]
    assert tasks.compare_detector(Detector(layer), sounds, options()) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    largest = {" ".join(line[:-3]): float(line[-3]) for line in lines[3:]}
    assert 0.0005 < largest["int8 inference"] < 0.05
    assert largest["simulation"] == pytest.approx(largest["int8 inference"], rel=0.1)
    assert largest["int8 weights alone"] < largest["simulation"]


def test_another_scheme_than_the_engines_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With coarser weights than the simulation's the engine would be farther from float32."""
    layer = tasks.fastrnn.LSTM(8, 16, seed=0)
    coarse = tasks.fastrnn.quantize(layer)
    with coarse.mutable() as parameters:
        for name in ("weight_ih_l0", "weight_hh_l0"):
            parameters[name][...] = parameters[name] // 32 * 32
    ours = tasks.fastrnn.quantize

    def quantize(layer: Any, weights: str = "int8") -> Any:
        return coarse if weights == "int8" else ours(layer, weights)

    rng = np.random.default_rng(0)
    sounds = [rng.standard_normal(8 * 50).astype(np.float32)]
    monkeypatch.setattr(tasks.fastrnn, "quantize", quantize)
    assert tasks.compare_detector(Detector(layer), sounds, options()) >= 1


def test_a_task_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tasks.main(["chess"])
    assert "TASK must be one of charlm tagger silero, got chess" in capsys.readouterr().err
