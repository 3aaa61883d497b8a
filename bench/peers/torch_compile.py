"""torch.compile, where it works: single steps.

The compiler breaks the graph at ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` and runs the same call as
without it; forced through them it unrolls time and compiles for minutes. A step compiles whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cases import Case, Data
from . import Unsupported, Way, missing
from . import torch as eager

setup = eager.setup
version = eager.version


def available() -> str | None:
    return missing("torch")


def build(case: Case, data: Data) -> dict[str, Way]:
    if case.mode != "stream":
        raise Unsupported("torch.compile breaks the graph at the layer")
    import torch

    torch._dynamo.reset()
    cell = make_step(case, data.params)
    x, initial, _ = eager.tensors(case, data)
    first = tuple(s[0] for s in initial) if case.states == 2 else initial[0]

    def arrays(value: Any) -> dict[str, np.ndarray]:
        return eager.arrays_of(case)((value[0][None], value[1]))

    return {"cell": Way(eager.streaming(torch.compile(cell), x[0], first), arrays)}


def make_step(case: Case, params: dict[str, np.ndarray]) -> Any:
    cell = eager.make_cell(case, params)

    def step(x: Any, state: Any) -> Any:
        state = cell(x, state)
        return (state[0] if case.states == 2 else state), state

    return step
