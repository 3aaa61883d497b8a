"""Random recurrent nodes of ONNX against its text, ONNX Runtime and onnx's own evaluator.

    python tests/fuzz_onnx.py --seconds 60 --seed 0

Each case is a node with attributes, inputs and shapes drawn from a seed: the engine's outputs are
compared with `onnx_text`, with ONNX Runtime but where it is known to depart from the text, and with
onnx's evaluator where that knows the attributes. A case whose cell the engine has not is left out,
as is one that overflows, and one in which rounding decides: whose results move far when its inputs
do by a rounding.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

import fastrnn.onnx
import onnx_text

INPUTS = {
    "RNN": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "GRU": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "LSTM": ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
PLAIN = ["Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"]
# Where a number is left out, ONNX Runtime takes 0.
NO_DEFAULTS = {"Affine", "ThresholdedRelu", "ScaledTanh"}
ROUNDING = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
# Roundings that a result may be off by, in units of the largest of an array or of 1; and in units
# of what one rounding of every weight moves it by.
ALLOWED, ALLOWED_MOVES = 128, 64
ILL = 1e3  # times the rounding, from which a result is left to itself


@dataclass
class Case:
    """A node, and values for its inputs by what they are."""

    op: str
    attributes: dict[str, Any]
    inputs: dict[str, np.ndarray]
    outputs: list[str]
    departs: set[str] = field(default_factory=set)  # why ONNX Runtime is not asked

    def node(self, **attributes: Any) -> onnx.NodeProto:
        names = [name if name in self.inputs else "" for name in INPUTS[self.op]]
        while not names[-1]:
            names.pop()
        return helper.make_node(self.op, names, self.outputs, **{**self.attributes, **attributes})

    @property
    def dtype(self) -> str:
        return str(self.inputs["X"].dtype)


def draw(seed: int) -> Case:
    """The case of a seed."""
    rng = np.random.default_rng(seed)

    def chance(p: float) -> bool:
        return bool(rng.random() < p)

    op = str(rng.choice(["RNN", "GRU", "LSTM"]))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    D = 2 if direction == "bidirectional" else 1
    T, B, I, H = (
        int(rng.choice(sizes)) for sizes in ([0, 1, 2, 3, 7], [1, 2, 5], [1, 3, 8], [1, 2, 5, 17])
    )
    attributes: dict[str, Any] = {}
    departs: set[str] = set()
    if direction != "forward" or chance(0.5):
        attributes["direction"] = direction
    if chance(0.9):
        attributes["hidden_size"] = H
    if chance(0.3):
        attributes["clip"] = float(rng.choice([0.105, 0.505, 2.0]))
        if op == "LSTM":
            departs.add("clip")
    if chance(0.2):
        attributes["layout"] = 1
        departs.add("layout")
    if op == "GRU" and chance(0.6):
        attributes["linear_before_reset"] = 1
    if op == "LSTM" and chance(0.3):
        attributes["input_forget"] = 1
    if chance(0.4):
        add_activations(rng, op, D, attributes, departs)
    dtype = str(rng.choice(["float32"] * 8 + ["float64", "float16"]))
    if dtype != "float32":
        departs.add("dtype")
    inputs = draw_inputs(rng, op, (T, B, I, H, D), attributes)
    if 0 in inputs.get("sequence_lens", [1]) or T == 0:
        departs.add("no steps")
    made = {k: a if a.dtype == np.int32 else a.astype(dtype) for k, a in inputs.items()}
    every = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    named = [name if chance(0.85) else "" for name in every]
    return Case(op, attributes, made, named if any(named) else every, departs)


def add_activations(
    rng: np.random.Generator, op: str, D: int, attributes: dict[str, Any], departs: set[str]
) -> None:
    names = [*PLAIN, *onnx_text.NUMBERS]
    count = len(onnx_text.DEFAULTS[op])
    chosen = [str(rng.choice(names)) for _ in range(count)]
    if D == 2:
        chosen += [str(rng.choice(names)) for _ in range(count)] if rng.random() < 0.5 else chosen
    attributes["activations"] = chosen
    takers = [[n for n in chosen if len(onnx_text.NUMBERS.get(n, ())) > k] for k in (0, 1)]
    for attribute, of in zip(("activation_alpha", "activation_beta"), takers, strict=True):
        given = len(of) if rng.random() < 0.8 else int(rng.integers(0, len(of) + 1))
        if given:
            attributes[attribute] = [float(a) for a in rng.uniform(0.1, 0.9, given).round(2)]
        if NO_DEFAULTS.intersection(of[given:]):
            departs.add("left-out numbers")


def draw_inputs(
    rng: np.random.Generator, op: str, sizes: tuple[int, ...], attributes: dict[str, Any]
) -> dict[str, np.ndarray]:
    T, B, I, H, D = sizes
    G = GATES[op]

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape)

    states = (B, D, H) if attributes.get("layout") else (D, B, H)
    inputs = {
        "X": 2 * (uniform(B, T, I) if attributes.get("layout") else uniform(T, B, I)),
        "W": uniform(D, G * H, I) / I**0.5,
        "R": uniform(D, G * H, H) / H**0.5,
        "B": uniform(D, 2 * G * H),
        "sequence_lens": rng.integers(0 if rng.random() < 0.3 else min(1, T), T + 1, B, np.int32),
        "initial_h": uniform(*states),
    }
    if op == "LSTM":
        inputs |= {"initial_c": 2 * uniform(*states), "P": uniform(D, 3 * H)}
    optional = [name for name in inputs if name not in ("X", "W", "R")]
    return {k: a for k, a in inputs.items() if k not in optional or rng.random() < 0.5}


# ---- the others ----------------------------------------------------------------------------------


@cache
def runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        return None
    return onnxruntime


def model_of(case: Case, **attributes: Any) -> onnx.ModelProto:
    node = case.node(**attributes)
    graph = helper.make_graph(
        [node],
        "case",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(case.inputs[name].dtype), None
            )
            for name in node.input
            if name
        ],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def by_runtime(case: Case) -> list[np.ndarray]:
    options = runtime().SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    model = model_of(case, hidden_size=case.inputs["R"].shape[2])
    session = runtime().InferenceSession(model.SerializeToString(), options)
    found: list[np.ndarray] = session.run(None, case.inputs)
    return found


def evaluator_knows(case: Case) -> bool:
    known = {"direction", "hidden_size", "layout", "linear_before_reset"}
    plain = set(case.attributes) <= known and "sequence_lens" not in case.inputs
    return plain and 0 not in case.inputs["X"].shape and all(case.outputs)


# ---- comparison ----------------------------------------------------------------------------------


def named(case: Case, found: Any) -> list[np.ndarray]:
    return [a for a, name in zip(found, case.outputs, strict=False) if name]


def moved(case: Case, wanted: list[np.ndarray]) -> float:
    """How far results go, in units of their size, when every weight does by a rounding."""
    rng, rounding = np.random.default_rng(0), ROUNDING[case.dtype]
    largest = 0.0
    for _ in range(2):
        inputs = {
            k: a
            if k == "sequence_lens"
            else a.astype(float) * (1 + rounding * rng.choice([-1, 1], a.shape))
            for k, a in case.inputs.items()
        }
        other = named(case, onnx_text.run(case.op, case.attributes, inputs))
        largest = max(largest, error(other, wanted))
    return largest


def error(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    """The largest difference of any output, in units of its largest number or of 1."""
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        if a.shape != b.shape or not finite([a, b]):
            return np.inf
        if b.size:
            difference = np.abs(a.astype(np.float64) - b).max()
            worst = max(worst, float(difference / max(1.0, np.abs(b).max())))
    return worst


def finite(arrays: list[np.ndarray]) -> bool:
    return all(np.isfinite(a).all() for a in arrays)


def with_steps(case: Case, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The rows that have steps, of which ONNX Runtime's states are the text's."""
    if "sequence_lens" not in case.inputs:
        return arrays
    running = case.inputs["sequence_lens"] > 0
    return [a[..., running, :] for a in arrays]


def check(seed: int) -> str:
    """What became of a case: "ok", or why it was left out.

    Raises
    ------
    AssertionError
        Somebody differs; the message names the case.
    """
    case = draw(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        every = onnx_text.run(case.op, case.attributes, case.inputs)
        wanted = named(case, every)
        move = moved(case, wanted)
    if max(np.abs(a).max(initial=0) for a in every) > np.finfo(case.dtype).max / 100:
        return "overflows"
    rounding = ROUNDING[case.dtype]
    if not move < ILL * rounding:
        return "rounding decides"
    ours = list(fastrnn.onnx.run_node(case.node(), case.inputs))
    allowed = ALLOWED * rounding + ALLOWED_MOVES * move

    def compare(who: str, found: list[np.ndarray], other: list[np.ndarray]) -> None:
        off = error(found, other)
        assert off <= allowed, f"seed {seed}, {who}: {off:.1e} over {allowed:.1e}: {describe(case)}"

    assert all(a.dtype == case.dtype for a in ours), describe(case)
    compare("the text", ours, wanted)
    if case.departs <= {"no steps"} and case.inputs["X"].size and runtime():
        theirs = with_steps(case, by_runtime(case))
        # Its Softplus is log(1 + exp(x)) as it stands, and infinite for an x above 88.
        if "Softplus" not in case.attributes.get("activations", ()) or finite(theirs):
            compare("ONNX Runtime", with_steps(case, ours), [a.astype(float) for a in theirs])
    if evaluator_knows(case):
        theirs = ReferenceEvaluator(model_of(case)).run(None, case.inputs)
        compare("onnx", ours, [a.astype(float) for a in theirs])
    return "ok"


def describe(case: Case) -> str:
    shapes = {name: a.shape for name, a in case.inputs.items()}
    return f"{case.op} {case.attributes} {case.outputs} {case.dtype} {shapes}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    options = parser.parse_args()
    counts, failures = Counter[str](), 0
    end, seed = time.monotonic() + options.seconds, options.seed
    while time.monotonic() < end:
        try:
            counts[check(seed)] += 1
        except AssertionError as wrong:
            failures += 1
            print(wrong)
        seed += 1
    print(f"{seed - options.seed} cases: {dict(counts)}, {failures} mismatches")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
