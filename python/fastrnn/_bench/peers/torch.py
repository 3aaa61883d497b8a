"""torch.nn: the layers, padded or packed; for a stream also the cells. In int8 those of dynamic
quantization.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Case, Data, as_tuple, state_names
from . import Unsupported, Way, missing

PROJECTS = True


def available() -> str | None:
    return missing("torch")


def version() -> str:
    import torch

    return str(torch.__version__)


def setup(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)


def tensor(array: np.ndarray) -> Any:
    """The same memory; torch takes no bfloat16 of ml_dtypes."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def array(tensor: Any) -> np.ndarray:
    """Its values, those of bfloat16 as float32."""
    values = tensor.detach()
    found: np.ndarray = (
        values.float() if str(values.dtype) == "torch.bfloat16" else values
    ).numpy()
    return found


def make_layer(case: Case, params: dict[str, np.ndarray], library: Any = None) -> Any:
    import torch

    library = library or torch.nn
    classes = {"lstm": library.LSTM, "gru": library.GRU, "rnn_tanh": library.RNN}
    options = {"proj_size": case.P} if case.P else {}  # which a GRU refuses, be it 0
    layer = classes[case.cell](
        case.I,
        case.H,
        case.L,
        bidirectional=case.D == 2,
        dtype=getattr(torch, case.elements),
        **options,
    )
    layer.load_state_dict({name: tensor(a) for name, a in params.items()})
    return quantized(layer) if case.dtype == "int8" else layer


def quantized(layer: Any) -> Any:
    """torch's own layer of integers in its place."""
    import torch

    if not isinstance(layer, (torch.nn.LSTM, torch.nn.GRU)) or layer.proj_size:
        raise Unsupported("no dynamic quantization of this layer")
    kinds = {torch.nn.LSTM, torch.nn.GRU}
    with warnings.catch_warnings():  # it is deprecated, and what there is
        warnings.simplefilter("ignore")
        quantize: Any = torch.ao.quantization.quantize_dynamic
        return quantize(torch.nn.Sequential(layer.eval()), kinds)[0]


def make_cells(case: Case, params: dict[str, np.ndarray], library: Any = None) -> list[Any]:
    """A cell for each layer."""
    import torch

    library = library or torch.nn
    classes = {"lstm": library.LSTMCell, "gru": library.GRUCell, "rnn_tanh": library.RNNCell}
    cells = []
    for k, inputs in enumerate(case.layer_inputs()):
        cell = classes[case.cell](inputs, case.H, dtype=getattr(torch, case.dtype))
        of_layer = {name: a for name, a in params.items() if name.endswith(f"_l{k}")}
        cell.load_state_dict(
            {name.removesuffix(f"_l{k}"): tensor(a) for name, a in of_layer.items()}
        )
        cells.append(cell)
    return cells


def make_step(case: Case, params: dict[str, np.ndarray], library: Any = None) -> Any:
    """A step through the cells of all layers: x (B, I) and a state for each layer to y, states."""
    cells = make_cells(case, params, library)

    def step(x: Any, states: Any) -> Any:
        new = []
        for cell, state in zip(cells, states, strict=True):
            state = cell(x, state)
            x = state[0] if case.states == 2 else state
            new.append(state)
        return x, new

    return step


def step_states(case: Case, initial: Any) -> list[Any]:
    """What `make_step` begins with: the initial state by layers."""
    if case.states == 1:
        return list(initial)
    return list(zip(*initial, strict=True))


def step_arrays(case: Case) -> Callable[[Any], dict[str, np.ndarray]]:
    """From what `make_step` gives."""
    import torch

    def arrays(value: Any) -> dict[str, np.ndarray]:
        y, states = value
        finals = zip(*map(as_tuple, states), strict=True)
        return arrays_of(case)((y[None], tuple(torch.stack(parts) for parts in finals)))

    return arrays


def tensors(case: Case, data: Data) -> tuple[Any, Any, Any]:
    """x, initial state as the layers take it, dy."""

    state = tuple(tensor(s) for s in data.state)
    return tensor(data.x), state if case.states == 2 else state[0], data.dy


def arrays_of(case: Case, finals: bool = True) -> Callable[[Any], dict[str, np.ndarray]]:
    """From (y, final state) or (y, final state, {name: gradient})."""

    def arrays(value: Any) -> dict[str, np.ndarray]:
        y, final, *rest = value
        result = {"y": array(y)}
        if finals:
            rows = case.L * case.D, case.B
            states = [array(s).reshape(*rows, -1) for s in as_tuple(final)]
            result.update(zip(state_names(case), states, strict=True))
        for grads in rest:
            result.update({name: array(g) for name, g in grads.items()})
        return result

    return arrays


def streaming(step: Callable[[Any, Any], Any], x: Any, initial: Any) -> Callable[[], Any]:
    import torch

    state = initial

    def stream() -> Any:
        nonlocal state
        with torch.inference_mode():
            y, state = step(x, state)
        return y, state

    return stream


def build(case: Case, data: Data, library: Any = None) -> dict[str, Way]:
    """The ways of torch.nn, or of a library with the same classes."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    layer = make_layer(case, data.params, library)
    x, initial, _ = tensors(case, data)
    dy = tensor(data.dy)
    lengths = torch.from_numpy(case.row_lengths)

    def padded(inputs: Any) -> Any:
        return layer(inputs, initial)

    def packed(inputs: Any) -> Any:
        rows = pack_padded_sequence(inputs, lengths, enforce_sorted=False)
        y, final = layer(rows, initial)
        return pad_packed_sequence(y, total_length=case.T)[0], final

    def forward(run: Callable[[Any], Any]) -> Callable[[], Any]:
        def call() -> Any:
            with torch.inference_mode():
                return run(x)

        return call

    def train(run: Callable[[Any], Any]) -> Callable[[], Any]:
        leaves = {"dx": x, **dict(zip(state_names(case, "d", "0"), as_tuple(initial), strict=True))}
        for leaf in leaves.values():
            leaf.requires_grad_(True)

        def call() -> Any:
            for leaf in leaves.values():
                leaf.grad = None
            layer.zero_grad()
            y, final = run(x)
            y.backward(dy)
            grads = {name: leaf.grad for name, leaf in leaves.items()}
            grads.update((name, p.grad) for name, p in layer.named_parameters())
            return y, final, grads

        return call

    if case.streams:
        step, first = make_step(case, data.params, library), step_states(case, initial)
        ways = {"cell": Way(streaming(step, x[0], first), step_arrays(case))}
        if case.mode == "stream":
            ways["layer"] = Way(streaming(layer, x, initial), arrays_of(case))
        return ways
    make = train if case.mode == "train" else forward
    ways = {"padded": Way(make(padded), arrays_of(case, finals=not case.lengths))}
    if case.lengths:
        ways["packed"] = Way(make(packed), arrays_of(case))
    return ways
