"""torch.compile, where it works: single steps.

The compiler breaks the graph at ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` and runs the same call as
without it; forced through them it unrolls time and compiles for minutes. A step compiles whole.
"""

from __future__ import annotations

from fastrnn._bench.cases import Case, Data
from fastrnn._bench.peers import Unsupported, Way, missing
from fastrnn._bench.peers import torch as eager

NOTE = "torch.compile breaks the graph at the layer"
setup = eager.setup
version = eager.version


def available() -> str | None:
    return missing("torch")


def build(case: Case, data: Data) -> dict[str, Way]:
    if case.mode != "stream":
        raise Unsupported(NOTE)
    import torch

    torch._dynamo.reset()
    step = torch.compile(eager.make_step(case, data.params))
    x, initial, _ = eager.tensors(case, data)
    call = eager.streaming(step, x[0], eager.step_states(case, initial))
    return {"cell": Way(call, eager.step_arrays(case))}
