"""How often a call crosses between Python and the compiled CUDA engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from cases import Case, make_data
from fastrnn import cuda, functional
from fastrnn.cuda import _driver
from on_gpu import put, put_state


class Counted:
    """An object of Python's or of the engine's, whose calls are counted."""

    def __init__(self, target: Any, counts: Counter[str]) -> None:
        self._target, self._counts = target, counts

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            self._counts[name] += 1  # a property of the engine's
            return value

        def call(*arguments: Any) -> Any:
            self._counts[name] += 1
            result = value(*arguments)
            return counted(result, f"{name}d", self._counts) if name == "prepare" else result

        return call


def counted(function: Callable[[], None], name: str, counts: Counter[str]) -> Callable[[], None]:
    def call() -> None:
        counts[name] += 1
        function()

    return call


def train(case: Case, mode: str, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The crossings of a training step with packed weights, by what they are for."""
    counts: Counter[str] = Counter()
    data = make_data(case)
    packed = functional.pack(case.cell, put(data.params))
    packed.add(put(data.params), backward=True)
    calls = _driver._Calls
    with monkeypatch.context() as patch, cuda.mode(mode):
        patch.setattr(packed.native, "native", Counted(packed.native.native, counts))
        patch.setattr(_driver, "_Calls", lambda *given: Counted(calls(*given), counts))
        x, state = put(data.x), put_state(data.state)
        _, _, tape = functional.forward(case.cell, x, packed, state)
        functional.backward(case.cell, packed, tape, put(data.dy), put_state(data.dstate))
    return counts


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_a_training_step_of_four_layers(
    emulated: ModuleType, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is asked for twice a pass; products come between scans, all at once."""
    counts = train(Case(cell, 6, 3, 5, 7, L=4), "grid", monkeypatch)
    assert counts == {"run": 2, "empty": 4, "multiply": 8}  # 14, where 20 are allowed


def test_a_step_is_one_product(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the stepwise mode each step crosses once, to a product that was prepared before."""
    short, long = (train(Case("lstm", T, 3, 5, 7), "stepwise", monkeypatch) for T in (4, 9))
    assert long - short == {"prepared": 2 * (9 - 4)}
