"""What torch alone has: derivatives of higher order, transforms, its compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import fastrnn.keras
import tiers
from configurations import fused

L = keras.layers


def pair(kind: str = "LSTM", **options: Any) -> tuple[Any, Any]:
    theirs, ours = (getattr(m, kind)(4, return_sequences=True, **options) for m in
                    (L, fastrnn.keras))  # fmt: skip
    for layer in (theirs, ours):
        layer.build((2, 5, 3))
    ours.set_weights(theirs.get_weights())
    return theirs, ours


def random(*shape: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(0).standard_normal(shape).astype("float32"))


def test_gradients_of_second_order() -> None:
    found = []
    for layer in pair():
        x = random(2, 5, 3).requires_grad_()
        (dx,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(dx.square().sum(), x)[0])
    assert torch.allclose(*found, atol=1e-5)
    assert found[0].abs().max() > 1e-3


def test_vmap() -> None:
    theirs, ours = pair("GRU")
    x = random(3, 2, 5, 3)
    y = torch.vmap(ours)(x)
    assert torch.allclose(y, torch.stack([theirs(each) for each in x]), atol=1e-5)


def test_nothing_of_the_kernels_weights_is_copied() -> None:
    """Packing reads the strides of Keras's kernels; what autograd holds is their memory."""
    _, ours = pair()
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.data_ptr()), lambda t: t):
        ours(random(2, 5, 3))
    for weight in (ours.cell.kernel, ours.cell.recurrent_kernel):
        assert weight.value.data_ptr() in held


def test_autocast_of_torch() -> None:
    _, ours = pair()
    x = random(2, 5, 3)
    before = fused()
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(x)
    assert fused() == before + 1
    assert y.dtype == torch.float32  # what the layer's policy says
    assert torch.allclose(y, ours(x), atol=2e-2)


def test_a_trace_and_a_file_of_onnx_hold_torch_s_operators(tmp_path: Path) -> None:
    theirs, ours = (keras.Sequential([keras.Input((5, 3)), layer]) for layer in pair())
    x = random(2, 5, 3)
    wanted = theirs(x).detach().numpy()
    with pytest.warns(fastrnn.keras.FallbackWarning, match="torch records the call for a file"):
        trace = torch.jit.trace(ours, x, check_trace=False)
    assert "fastrnn" not in str(trace.inlined_graph)
    assert trace(x).detach().numpy() == pytest.approx(wanted, abs=1e-5)

    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    ours.export(path, format="onnx", verbose=False)
    session = runtime.InferenceSession(path)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert y == pytest.approx(wanted, abs=1e-5)


@tiers.ci
def test_a_training_that_torch_compiles() -> None:
    x, y = random(4, 5, 3), np.zeros((4, 4), "float32")
    losses = []
    for m in (L, fastrnn.keras):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5, 3)), m.LSTM(4)])
        compiled = m is fastrnn.keras
        model.compile("sgd", "mse", jit_compile=compiled)
        losses.append(model.fit(x, y, epochs=2, verbose=0).history["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
