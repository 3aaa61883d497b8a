"""The operators RNN, LSTM and GRU of ONNX as their text has them, in float64 and in plain loops.

Written from https://onnx.ai/onnx/operators/, so that the engine and ONNX Runtime can both be
compared with it. Where the text is silent: after 0 steps the final state is the initial one, and
steps past a row's length are 0 in Y.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
# Of the functions with numbers, alpha and beta where they are left out.
NUMBERS: dict[str, tuple[float, ...]] = {
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01,),
    "ThresholdedRelu": (1.0,),
    "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0,),
}


def function(name: str, numbers: tuple[float, ...]) -> Function:
    alpha, beta = (*numbers, 0.0, 0.0)[:2]
    with_numbers: dict[str, Function] = {
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "Tanh": np.tanh,
        "Relu": lambda x: np.maximum(x, 0),
        "Softsign": lambda x: x / (1 + np.abs(x)),
        "Softplus": lambda x: np.logaddexp(0, x),
        "Affine": lambda x: alpha * x + beta,
        "LeakyRelu": lambda x: np.where(x >= 0, x, alpha * x),
        "ThresholdedRelu": lambda x: np.where(x >= alpha, x, 0),
        "ScaledTanh": lambda x: alpha * np.tanh(beta * x),
        "HardSigmoid": lambda x: np.clip(alpha * x + beta, 0, 1),
        "Elu": lambda x: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    }
    return with_numbers[name]


def functions(op: str, attributes: Mapping[str, Any], D: int) -> list[list[Function]]:
    """Those of each direction."""
    names = attributes.get("activations", DEFAULTS[op] * D)
    alphas = list(attributes.get("activation_alpha", ()))
    betas = list(attributes.get("activation_beta", ()))
    made = []
    for name in names:
        usual = NUMBERS.get(name, ())
        numbers = [
            given.pop(0) if given else left_out
            for given, left_out in zip((alphas, betas), usual, strict=False)
        ]
        made.append(function(name, tuple(numbers)))
    count = len(DEFAULTS[op])
    return [made[d * count : (d + 1) * count] for d in range(D)]


def run(
    op: str, attributes: Mapping[str, Any], inputs: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Y, Y_h and of an LSTM Y_c, in float64."""
    batch_first = attributes.get("layout", 0) == 1
    given = {k: np.asarray(v, np.float64) for k, v in inputs.items() if k != "sequence_lens"}
    if batch_first:
        for name in ("X", "initial_h", "initial_c"):
            if name in given:
                given[name] = given[name].swapaxes(0, 1)
    direction = attributes.get("direction", "forward")
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    (T, B, _), D, H = given["X"].shape, len(backwards), given["R"].shape[2]
    lengths = inputs.get("sequence_lens", np.full(B, T))
    Y = np.zeros((T, D, B, H))
    finals = {"h": np.zeros((D, B, H)), "c": np.zeros((D, B, H))}
    for d, backward in enumerate(backwards):
        step = stepper(op, attributes, functions(op, attributes, D)[d], given, d)
        for b in range(B):
            h, c = (given.get(f"initial_{s}", np.zeros((D, B, H)))[d, b] for s in ("h", "c"))
            times = range(lengths[b])
            for t in reversed(times) if backward else times:
                h, c = step(given["X"][t, b], h, c)
                Y[t, d, b] = h
            finals["h"][d, b], finals["c"][d, b] = h, c
    found = (Y, finals["h"], finals["c"])[: 3 if op == "LSTM" else 2]
    if batch_first:
        return (Y.transpose(2, 0, 1, 3), *(a.swapaxes(0, 1) for a in found[1:]))
    return found


def stepper(
    op: str,
    attributes: Mapping[str, Any],
    of_direction: list[Function],
    given: Mapping[str, np.ndarray],
    d: int,
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """One step of one row: of x, h and c the next h and c."""
    W, R = given["W"][d], given["R"][d]
    H = R.shape[1]
    G = len(W) // H
    zeros = np.zeros(2 * G * H)
    Wb, Rb = np.split(given["B"][d] if "B" in given else zeros, 2)
    P = given["P"][d] if "P" in given else np.zeros(3 * H)
    clip = attributes.get("clip", np.inf)
    f, *others = [lambda a, own=own: own(np.clip(a, -clip, clip)) for own in of_direction]

    def rnn(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return f(W @ x + R @ h + Wb + Rb), c

    def gru(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (g,) = others
        wz, wr, wh = np.split(W @ x + Wb, 3)
        (Rz, Rr, Rh), (bz, br, bh) = np.split(R, 3), np.split(Rb, 3)
        z, r = f(wz + Rz @ h + bz), f(wr + Rr @ h + br)
        if attributes.get("linear_before_reset", 0):
            n = g(wh + r * (Rh @ h + bh))
        else:
            n = g(wh + Rh @ (r * h) + bh)
        return (1 - z) * n + z * h, c

    def lstm(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        g, last = others
        ai, ao, af, ac = np.split(W @ x + R @ h + Wb + Rb, 4)
        pi, po, pf = np.split(P, 3)
        i = f(ai + pi * c)
        forget = 1 - i if attributes.get("input_forget", 0) else f(af + pf * c)
        c = forget * c + i * g(ac)
        o = f(ao + po * c)
        return o * last(c), c

    return {"RNN": rnn, "GRU": gru, "LSTM": lstm}[op]
