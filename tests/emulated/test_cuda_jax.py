"""XLA's calls of the CUDA engine: the handler, and its way through Python, on the emulated device.

XLA itself is on its CPU here, whose buffers the emulated device takes for its own memory.
"""

import ctypes
from collections.abc import Iterator
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fake_gpu
import fastrnn
import streams
import tiers
from fastrnn import _dtypes, reference

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import fastrnn.jax  # noqa: E402
from fastrnn.jax import _gpu, _handlers, _primitives  # noqa: E402

calls: list[str] = []


def array_of(pointer: int, shape: tuple[int, ...], dtype: str) -> fake_gpu.Array:
    """The memory at a host address as an array of the fake library."""
    kind = _dtypes.numpy_dtype(dtype)
    count = int(np.prod(shape)) * kind.itemsize
    if not count:
        return fake_gpu.empty(shape, dtype=kind)
    memory = (ctypes.c_uint8 * count).from_address(pointer)
    return fake_gpu.Array(np.frombuffer(memory, np.uint8).view(kind).reshape(shape))


@pytest.fixture
def on_emulated(
    request: pytest.FixtureRequest, device: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Let calls be compiled for the handler of the emulated engine.

    What a call does may be queued until it is back, where XLA on its CPU reads the results.
    """
    target = "fastrnn.emulated"
    run = _gpu.run
    is_queued = getattr(request, "param", "at once") == "queued"

    def counted(cell: str, *rest: Any) -> None:
        calls.append(cell)
        with streams.queued(device, "forward") if is_queued else nullcontext():
            run(cell, *rest)

    monkeypatch.setattr(_gpu, "array_of", array_of)
    monkeypatch.setattr(_gpu, "on_stream", lambda stream: nullcontext())
    monkeypatch.setattr(_gpu, "run", counted)
    monkeypatch.setattr(_handlers, "TARGET", target)
    engine = _gpu.engine()
    assert engine is device
    version = fastrnn.jax._jaxlib.interface_version(jax.ffi.include_dir())
    engine.xla_set_version(*version)
    jax.ffi.register_ffi_target(target, engine.xla_handler, platform="cpu")
    _primitives._compiled.cache_clear()
    jax.clear_caches()
    calls.clear()
    yield
    _primitives._compiled.cache_clear()
    jax.clear_caches()


CASES = [
    ("lstm", {}),
    ("lstm", {"bidirectional": True, "num_layers": 2}),
    ("gru", {"num_layers": 2}),
    ("rnn_tanh", {"bidirectional": True}),
    ("gru_reset_before", {}),
    ("lstm", {"proj_size": 3}),
]


@pytest.mark.parametrize(
    "on_emulated", tiers.thin(["at once", "queued"], ["queued"]), indirect=True
)
@pytest.mark.parametrize(("cell", "sizes"), CASES)
@pytest.mark.parametrize("given", ["plain", "all"])
def test_values_and_gradients(
    on_emulated: None, cell: str, sizes: dict[str, Any], given: str
) -> None:
    T, B, I, H = 4, 3, 5, 6
    rng = np.random.default_rng(len(cell))
    params = fastrnn.jax.init(jax.random.key(0), cell, I, H, **sizes)
    x = jnp.asarray(rng.standard_normal((T, B, I)), jnp.float32)
    options: dict[str, Any] = {}
    state: Any = None
    if given == "all":
        passes = sizes.get("num_layers", 1) * (2 if sizes.get("bidirectional") else 1)
        widths = [sizes.get("proj_size", H)] + [H] * cell.startswith("lstm")
        states = [rng.standard_normal((passes, B, width)).astype("f") for width in widths]
        state = tuple(map(jnp.asarray, states)) if len(states) > 1 else jnp.asarray(states[0])
        options = {
            "lengths": np.array([4, 0, 3]),
            "resets": rng.random((T, B)) < 0.3,
            "holds": rng.random((T, B)) < 0.3,
            "repeat_held": True,
        }
        if sizes.get("num_layers", 1) > 1:
            width = widths[0] * (2 if sizes.get("bidirectional") else 1)
            masks = 2.0 * (rng.random((T, B, width)) < 0.5)
            options["dropout_masks"] = [masks.astype("f")]
    weight = rng.standard_normal(())

    def loss(params: Any, x: Any, state: Any) -> Any:
        y, final = fastrnn.jax.recurrent(cell, x, params, state, **options)
        return (y * jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum() + sum(
            weight * leaf.sum() for leaf in jax.tree.leaves(final)
        ), (y, final)

    gradients, (y, final) = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, x, state)
    assert calls == [cell, cell]
    numpy = {name: np.asarray(p) for name, p in params.items()}
    given_state = None if state is None else jax.tree.map(np.asarray, state)
    wanted, last, tape = reference.forward(cell, np.asarray(x), numpy, given_state, **options)
    np.testing.assert_allclose(y, wanted, atol=2e-6)
    for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(last), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    dy = np.cos(np.arange(wanted.size).reshape(wanted.shape))
    dstate = jax.tree.map(lambda s: np.full(s.shape, weight), last)
    dx, _, dparams = reference.backward(cell, numpy, tape, dy, dstate)
    np.testing.assert_allclose(gradients[1], dx, atol=2e-5)
    for name, wanted in dparams.items():
        np.testing.assert_allclose(gradients[0][name], wanted, atol=5e-5, err_msg=name)


def test_an_error_of_the_engine_comes_through(on_emulated: None) -> None:
    params = fastrnn.jax.init(jax.random.key(0), "gru", 3, 4)
    masks = np.ones((1, 2, 4), "f")
    with pytest.raises(Exception, match="recurrent_masks have no kernel on a GPU, got some"):
        fastrnn.jax.gru(np.zeros((2, 2, 3), "f"), params, recurrent_masks=masks)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits(on_emulated: None, dtype: str) -> None:
    params = fastrnn.jax.init(jax.random.key(0), "lstm", 3, 4)
    x = jax.random.normal(jax.random.key(1), (5, 2, 3))
    wanted = fastrnn.jax.lstm(x, params)
    narrow = {name: p.astype(dtype) for name, p in params.items()}
    with pytest.raises(TypeError, match=rf"must be {dtype} alike, got float32"):
        fastrnn.jax.lstm(x, narrow)
    y, (h, c) = fastrnn.jax.lstm(x.astype(dtype), narrow)
    assert [y.dtype.name, h.dtype.name, c.dtype.name] == [dtype, dtype, "float32"]
    for a, b in zip(jax.tree.leaves((y, (h, c))), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.asarray(a, "f"), b, atol=2e-2)
