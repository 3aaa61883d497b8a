"""fastrnn.torch.rl against the loops that it stands for, and in the policy of the example."""

from __future__ import annotations

from typing import Any

import pytest

from tolerances import assert_gradient, assert_output

torch = pytest.importorskip("torch")

import fastrnn  # noqa: E402
import fastrnn.torch as ft  # noqa: E402
from fastrnn.torch.rl import unroll  # noqa: E402

LAYERS = ["RNN", "LSTM", "GRU"]
T, B, I, H = 9, 5, 3, 6


def loop(layer: Any, x: Any, state: Any, starts: Any) -> tuple[Any, Any]:
    """What sb3-contrib and CleanRL do, for any layer of torch."""
    steps = []
    for x_t, start in zip(x, starts, strict=True):
        alive = (1.0 - start).view(1, -1, 1)
        state = tuple(alive * s for s in state) if isinstance(state, tuple) else alive * state
        y, state = layer(x_t[None], state)
        steps.append(y)
    return torch.cat(steps), state


def rollout(name: str, layers: int = 1, dtype: Any = torch.float64) -> tuple[Any, Any]:
    """Steps (T, B, I) and a state of (layers, B, H)."""
    torch.manual_seed(1)
    state = torch.randn(2, layers, B, H, dtype=dtype).unbind()
    return torch.randn(T, B, I, dtype=dtype), state if name == "LSTM" else state[0]


def twins(name: str, **options: Any) -> tuple[Any, Any]:
    """torch's layer and ours, with the same parameters."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(I, H, **options)
    ours = getattr(ft, name)(I, H, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def starts_of(pattern: str) -> Any:
    """Floats (T, B)."""
    starts = torch.zeros(T, B)
    if pattern == "random":
        starts = torch.bernoulli(starts + 0.3, generator=torch.Generator().manual_seed(2))
    elif pattern == "all":
        starts[:] = 1.0
    elif pattern == "first step":
        starts[0, ::2] = 1.0
    elif pattern == "last step":
        starts[-1, ::2] = 1.0
    elif pattern == "one after the other":
        starts[3:6, 1:] = 1.0
    return starts


def flat(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def array(tensor: Any) -> Any:
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    "pattern", ["random", "all", "none", "first step", "last step", "one after the other"]
)
@pytest.mark.parametrize("name", LAYERS)
def test_the_loop(name: str, pattern: str, layers: int, dtype: str) -> None:
    """Outputs, final states, and gradients of inputs, states and parameters."""
    theirs, ours = twins(name, num_layers=layers, dtype=torch.float64)
    ours.to(getattr(torch, dtype))
    starts = starts_of(pattern)
    found = []
    for run, layer, kind in ((loop, theirs, torch.float64), (unroll, ours, getattr(torch, dtype))):
        x, state = rollout(name, layers)
        x, *states = (each.to(kind).requires_grad_() for each in (x, *flat(state)))
        state = tuple(states) if name == "LSTM" else states[0]
        y, final = run(layer, x, state, starts)
        results = [y, *flat(final)]
        torch.manual_seed(3)
        loss = sum((r * torch.randn(r.shape, dtype=torch.float64).to(kind)).sum() for r in results)
        found.append((results, torch.autograd.grad(loss, [x, *states, *layer.parameters()])))
    (expected, expected_grads), (got, grads) = found
    for a, b in zip(got, expected, strict=True):
        assert_output(array(a), array(b), dtype, "result")
    for a, b in zip(grads, expected_grads, strict=True):
        assert_gradient(array(a), array(b), dtype, "gradient")


@pytest.mark.parametrize("name", LAYERS)
def test_an_episode_starts_at_its_very_step(name: str) -> None:
    """To the bit: before it as if there were no start, from it on as if there were nothing else."""
    _, layer = twins(name, num_layers=2, dtype=torch.float64)
    x, state = rollout(name, 2)
    uncut, _ = layer(x, state)
    for t in range(T):
        starts = torch.zeros(T, B, dtype=torch.bool)
        starts[t, 2] = True
        y, final = unroll(layer, x, state, starts)
        alone, alone_final = layer(x[t:, 2:3])
        assert torch.equal(y[:t], uncut[:t])
        assert torch.equal(y[t:, 2], alone[:, 0])
        assert not torch.isclose(y[t, 2], uncut[t, 2]).any()
        others = [0, 1, 3, 4]
        assert torch.equal(y[:, others], uncut[:, others])
        for a, b in zip(flat(final), flat(alone_final), strict=True):
            assert torch.equal(a[:, 2], b[:, 0])


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_end_at_a_start(name: str) -> None:
    _, layer = twins(name, dtype=torch.float64)
    for t in range(T):
        x, state = rollout(name)
        x, *states = (each.requires_grad_() for each in (x, *flat(state)))
        starts = torch.zeros(T, B)
        starts[t, 0] = 1.0
        y, _ = unroll(layer, x, tuple(states) if name == "LSTM" else states[0], starts)
        dx, *dstates = torch.autograd.grad(y[-1].sum(), [x, *states])
        assert not dx[:t, 0].any()
        assert dx[t:, 0].all()
        assert dx[:, 1:].all()
        for dstate in dstates:
            assert not dstate[:, 0].any()
            assert dstate[:, 1:].all()


def test_what_is_forgotten_may_be_nan() -> None:
    _, layer = twins("GRU")
    x, state = rollout("GRU", dtype=torch.float32)
    state[:, 1] = torch.nan
    x[:4, 2] = torch.nan
    starts = torch.zeros(T, B)
    starts[0, 1] = starts[4, 2] = 1.0
    y, final = unroll(layer, x, state, starts)
    assert y[4:].isfinite().all()
    assert final.isfinite().all()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float64", "float16"])
def test_starts_of_any_dtype_and_strides(dtype: str) -> None:
    _, layer = twins("LSTM")
    x, state = rollout("LSTM", dtype=torch.float32)
    starts = starts_of("random")
    expected, _ = unroll(layer, x, state, starts)
    given = starts.to(getattr(torch, dtype)).T.contiguous().T
    assert not given.is_contiguous()
    y, _ = unroll(layer, x, state, given)
    assert torch.equal(y, expected)


@pytest.mark.parametrize("name", LAYERS)
def test_other_layouts(name: str) -> None:
    """`batch_first`, no state, a single step, one row, and no steps or rows at all."""
    _, layer = twins(name, dtype=torch.float64)
    _, by_rows = twins(name, batch_first=True, dtype=torch.float64)
    x, state = rollout(name)
    starts = starts_of("random")
    y, _ = unroll(layer, x, state, starts)
    assert torch.equal(unroll(by_rows, x.transpose(0, 1), state, starts.T)[0].transpose(0, 1), y)
    zeros = torch.zeros(1, B, H, dtype=torch.float64)
    from_zeros, _ = unroll(layer, x, (zeros, zeros) if name == "LSTM" else zeros, starts)
    assert torch.equal(unroll(layer, x, None, starts)[0], from_zeros)
    row = tuple(s[:, 1] for s in flat(state))
    alone, _ = unroll(layer, x[:, 1], row if name == "LSTM" else row[0], starts[:, 1])
    assert torch.equal(alone, y[:, 1])
    steps, s = [], state
    for x_t, start in zip(x, starts, strict=True):
        y_t, s = unroll(layer, x_t[None], s, start[None])
        steps.append(y_t)
    assert torch.equal(torch.cat(steps), y)
    nothing, final = unroll(layer, x[:0], state, starts[:0])
    assert nothing.shape == (0, B, H)
    assert all(torch.equal(a, b) for a, b in zip(flat(final), flat(state), strict=True))
    nobody, _ = unroll(layer, x[:, :0], None, starts[:, :0])
    assert nobody.shape == (T, 0, H)


def test_in_cleanrl_s_layout() -> None:
    """The lines of docs/torch.md against those of `ppo_atari_lstm`; steps one after the other."""
    theirs, ours = twins("LSTM", dtype=torch.float64)
    x, lstm_state = rollout("LSTM")
    hidden, done = x.flatten(0, 1), starts_of("random").double().flatten()

    rows = lstm_state[0].shape[1]
    expected, expected_state = loop(
        theirs, hidden.reshape(-1, rows, I), lstm_state, done.reshape(-1, rows)
    )
    y, state = unroll(ours, hidden.reshape(-1, rows, I), lstm_state, done.reshape(-1, rows))
    for a, b in zip((y, *state), (expected, *expected_state), strict=True):
        assert_output(array(a), array(b), "float64")


def test_wrong_arguments_are_refused() -> None:
    _, layer = twins("LSTM")
    x, state = rollout("LSTM", dtype=torch.float32)
    starts = starts_of("none")

    def refused(kind: type[Exception], message: str, *arguments: Any) -> None:
        with pytest.raises(kind) as error:
            unroll(*arguments)
        assert str(error.value) == message

    rule = "[rl] layer must be a layer of fastrnn.torch, got "
    torchs = f"{rule}torch.nn.modules.rnn.LSTM"
    refused(TypeError, torchs, torch.nn.LSTM(I, H), x, state, starts)
    refused(TypeError, f"{rule}fastrnn.layers.LSTM", fastrnn.LSTM(I, H), x, state, starts)
    refused(TypeError, f"{rule}fastrnn.torch._cells.GRUCell", ft.GRUCell(I, H), x, state, starts)
    both = ft.GRU(I, H, bidirectional=True)
    rule = "[rl] layer must have one direction, got a bidirectional one"
    refused(ValueError, rule, both, x, None, starts)
    refused(TypeError, "[rl] x must be a tensor, got list", layer, [x], state, starts)
    packed = torch.nn.utils.rnn.pack_sequence([x[:, 0]])
    refused(TypeError, "[rl] x must be a tensor, got PackedSequence", layer, packed, None, starts)
    refused(TypeError, "[rl] starts must be a tensor, got ndarray", layer, x, None, starts.numpy())
    rule = "[rl] starts must have shape (9, 5), got "
    refused(RuntimeError, f"{rule}(5, 9)", layer, x, state, starts.T)
    refused(RuntimeError, f"{rule}(45,)", layer, x, state, starts.flatten())
    refused(RuntimeError, f"{rule}(9, 5, 1)", layer, x, state, starts[..., None])
    wrong = "[lstm] h0 must have shape (1, 5, 6), got (1, 4, 6)"
    refused(RuntimeError, wrong, layer, x, tuple(s[:, 1:] for s in state), starts)
    wrong = "[lstm] hx must be a tuple of 2 tensors, got Tensor"
    refused(TypeError, wrong, layer, x, state[0], starts)


# ---- in the policy of sb3-contrib ----------------------------------------------------------------


@pytest.fixture
def example(program: Any) -> Any:
    """examples/recurrent_policy.py; torch's random numbers are put back."""
    with torch.random.fork_rng():
        yield program("recurrent_policy")


@pytest.mark.usefixtures("one_thread_of_torch")
@pytest.mark.parametrize("whole", [False, True], ids=["the library's pieces", "whole rollouts"])
def test_losses_of_the_first_update(whole: bool, example: Any) -> None:
    """On the library's minibatches, and with its loop on starts inside rollouts."""
    assert example.difference_of_losses(0, whole) <= 1e-4


@pytest.mark.usefixtures("one_thread_of_torch")
def test_the_policy_of_the_example(example: Any) -> None:
    """It starts with the library's parameters, and every minibatch takes one call of each LSTM."""
    theirs = example.recurrent(example.MlpLstmPolicy, 0).policy
    ours = example.recurrent(example.OneCallPolicy, 0, whole=True)
    assert type(ours.policy.lstm_actor) is type(ours.policy.lstm_critic) is ft.LSTM
    assert type(theirs.lstm_actor) is torch.nn.LSTM
    expected = theirs.state_dict()
    assert ours.policy.state_dict().keys() == expected.keys()
    for name, parameter in ours.policy.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    optimised = {p for group in ours.policy.optimizer.param_groups for p in group["params"]}
    assert optimised == set(ours.policy.parameters())

    example.Learner(ours).collect()
    minibatches = list(ours.rollout_buffer.get(example.BATCH))
    assert len(minibatches) == example.ENVIRONMENTS * example.STEPS // example.BATCH
    seen = torch.cat([each.observations for each in minibatches])
    buffer = torch.from_numpy(ours.rollout_buffer.observations).flatten(0, 1)
    assert sorted(seen.tolist()) == sorted(buffer.tolist())
    calls: list[Any] = []
    ours.policy.lstm_actor.register_forward_hook(lambda _, given, __: calls.append(given[0].shape))
    for each in minibatches:
        starts = each.episode_starts.view(-1, example.STEPS)
        assert starts[:, 1:].any()
        values, log_probs, _ = ours.policy.evaluate_actions(
            each.observations, each.actions.long().flatten(), each.lstm_states, each.episode_starts
        )
        # What was computed step by step while the rollout was collected.
        assert_output(array(values.flatten()), array(each.old_values), "float32")
        assert_output(array(log_probs), array(each.old_log_prob), "float32")
    B = example.BATCH // example.STEPS
    assert calls == [(example.STEPS, B, 2)] * len(minibatches)


@pytest.mark.parametrize(("rows", "steps"), [(3, 7), (1, 7), (4, 1), (1, 1)])
def test_process_sequence(rows: int, steps: int, example: Any) -> None:
    """The method that the policy overrides, with starts anywhere in the rows."""
    theirs, ours = twins("LSTM", num_layers=2)
    torch.manual_seed(4)
    features = torch.randn(rows * steps, I)
    starts = torch.bernoulli(torch.full((rows * steps,), 0.4))
    state = torch.randn(2, 2, rows, H).unbind()
    y, final = example.OneCallPolicy._process_sequence(features, state, starts, ours)
    policy = example.MlpLstmPolicy
    expected, expected_final = policy._process_sequence(features, state, starts, theirs)
    for a, b in zip((y, *final), (expected, *expected_final), strict=True):
        assert_output(array(a), array(b), "float32")
