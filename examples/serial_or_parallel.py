"""Measure what an LSTM and a Transformer of equal size take to train and to generate.

Textbooks say: a Transformer works on all steps of a sequence at once, where a recurrent layer waits
for each step before the next; but attention compares every step with all before it, so its cost
grows with the square of the length, and to generate a step it needs the whole past, where a
recurrent layer needs only its state. This program measures both sides of that trade on the machine
that runs it. There is no data set: the inputs are random numbers, which take as long as any.

Both models are one layer from 128 features to 128, with as many parameters within one in twenty: an
LSTM with a linear output, and torch's TransformerEncoder with a causal mask. Training is a forward
and a backward pass. Generation is one step at position t, the steps before it known. torch's
encoder keeps nothing between calls, so it reads all t steps again; the third column is what people
use instead: the same layer, which keeps the keys and values of the past in a cache.

All threads of torch are used. On a few cores a Transformer gains little from having all steps at
once, as an LSTM's matrix products keep these cores busy, too; a GPU has thousands of lanes, which
one step of an LSTM cannot fill. So nothing here tells who would be faster on a GPU. Run it with
``python examples/serial_or_parallel.py``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

from _program import Figures, Program, packages

with packages():
    import torch
    from matplotlib.ticker import NullFormatter, StrMethodFormatter
    from torch import Tensor, nn
    from torch.nn import functional as F
    from torch.utils.benchmark import Timer

FEATURES, UNITS, HEADS = 128, 156, 4  # UNITS: so many that the LSTM has as many parameters
COLORS = {"LSTM": "tab:blue", "Transformer": "tab:orange", "Transformer, cached": "tab:red"}


class Recurrent(nn.Module):
    """An LSTM and a linear layer that gives as many features as came in."""

    def __init__(self, layers) -> None:
        super().__init__()
        self.rnn = layers.LSTM(FEATURES, UNITS, batch_first=True)
        self.output = nn.Linear(UNITS, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, T, FEATURES) for inputs of the same shape."""
        return self.output(self.rnn(x)[0])

    def step(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Tensor:
        """The output for one more step, (B, 1, FEATURES), after those that led to `state`."""
        y, _ = self.rnn(x, state)
        return self.output(y)


class Transformer(nn.Module):
    """One layer of torch's encoder, in which each step sees itself and those before it.

    It has no dropout, so nothing changes between training and evaluation, and it is never set to
    evaluate: torch's encoder would then take a path that reads the mask, and several times as long
    for long sequences.

    Parameters
    ----------
    T : int
        The most steps of a sequence.
    """

    def __init__(self, T: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            FEATURES, HEADS, dim_feedforward=4 * FEATURES, dropout=0, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(T))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, T, FEATURES) for inputs of the same shape."""
        T = x.shape[1]
        return self.encoder(x, self.mask[:T, :T], is_causal=True)


class Cached:
    """The layer of a Transformer, a step at a time, with the keys and values of the past kept.

    Parameters
    ----------
    transformer : Transformer
        Whose weights to use.
    B, T : int
        Rows, and the most steps that the cache can hold.
    """

    def __init__(self, transformer: Transformer, B: int, T: int) -> None:
        self.layer = transformer.encoder.layers[0]
        self.keys, self.values = torch.zeros(2, B, HEADS, T, FEATURES // HEADS)

    def step(self, x: Tensor, t: int) -> Tensor:
        """The output for step t, (B, 1, FEATURES), after steps 0 to t - 1."""
        layer, attention = self.layer, self.layer.self_attn
        projected = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        # (B, 1, 3 * FEATURES) to three of (B, HEADS, 1, FEATURES // HEADS)
        query, key, value = projected.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        self.keys[:, :, t : t + 1], self.values[:, :, t : t + 1] = key, value
        past = self.keys[:, :, : t + 1], self.values[:, :, : t + 1]
        heads = F.scaled_dot_product_attention(query, *past)
        x = layer.norm1(x + attention.out_proj(heads.transpose(1, 2).flatten(2)))
        return layer.norm2(x + layer.linear2(layer.linear1(x).relu()))


def parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(p.numel() for p in model.parameters())


def seconds(calls: dict[str, Callable[[], object]], rounds: int, block: float) -> dict[str, float]:
    """The median seconds of each call; they take turns, `block` seconds or one call at a time."""
    timers = {
        who: Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
        for who, call in calls.items()
    }
    # The first measurement is the warm-up, and tells how many calls make a block.
    number = {who: max(1, round(block / timer.timeit(1).mean)) for who, timer in timers.items()}
    turns = [
        {who: timer.timeit(number[who]).mean for who, timer in timers.items()}
        for _ in range(rounds)
    ]
    return {who: statistics.median(turn[who] for turn in turns) for who in calls}


def training(models: dict[str, nn.Module], T: int, B: int) -> dict[str, Callable[[], object]]:
    """A forward and a backward pass of each model."""
    x = torch.randn(B, T, FEATURES)

    def step(model: nn.Module) -> None:
        model.zero_grad()
        model(x).square().mean().backward()

    return {who: lambda model=model: step(model) for who, model in models.items()}


def generation(models: dict[str, nn.Module], t: int, B: int) -> dict[str, Callable[[], object]]:
    """Step t of each model, and of the Transformer with a cache, after t random steps."""
    recurrent, transformer = models["LSTM"], models["Transformer"]
    x = torch.randn(B, t + 1, FEATURES)
    cached = Cached(transformer, B, t + 1)
    _, state = recurrent.rnn(x[:, :t])
    for i in range(t):
        cached.step(x[:, i : i + 1], i)
    last = x[:, t:]
    calls = {
        "LSTM": lambda: recurrent.step(last, state),
        "Transformer": lambda: transformer(x)[:, t:],
        "Transformer, cached": lambda: cached.step(last, t),
    }
    # All three compute what the whole sequence gives.
    torch.testing.assert_close(calls["LSTM"](), recurrent(x)[:, t:], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        calls["Transformer, cached"](), calls["Transformer"](), rtol=1e-3, atol=1e-4
    )
    return calls


def draw(axes, measured: dict[tuple[int, int], dict[str, float]], unit: float) -> None:
    """A line for each model and batch against the length."""
    for B in sorted({B for _, B in measured}):
        lengths = sorted(T for T, b in measured if b == B)
        for who in measured[lengths[0], B]:
            line = [measured[T, B][who] * unit for T in lengths]
            style = "o-" if B == 1 else "o:"
            axes.loglog(lengths, line, style, color=COLORS[who], ms=4, label=f"{who}, B={B}")
    axes.set_xticks(lengths, lengths)
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def main(argv: list[str] | None = None) -> Figures:
    """Measure every length and batch, and draw both sides of the trade."""
    program = Program(__doc__, on_torch=True)
    options = program.start(argv)
    lengths = program.pick(full=(32, 128, 512, 2048), quick=(16, 64, 256))
    batches = program.pick(full=(1, 16), quick=(1, 4))
    rounds, block = program.pick(full=(7, 0.1), quick=(3, 0.02))

    models = {"LSTM": Recurrent(program.layers), "Transformer": Transformer(lengths[-1] + 1)}
    for who, model in models.items():
        print(f"{who}: {parameters(model):,} parameters")

    sizes = [(T, B) for B in batches for T in lengths]
    trained = {
        (T, B): seconds(training(models, T, B), rounds, block)
        for T, B in program.progress(sizes, "training")
    }
    if options.layers == "fastrnn":
        models["LSTM"].rnn.freeze()  # now its weights stay packed between calls
    with torch.inference_mode():
        generated = {
            (t, B): seconds(generation(models, t, B), rounds, block)
            for t, B in program.progress(sizes, "generation")
        }

    with program.picture("serial_or_parallel.png", width=11, height=4.5) as figure:
        left, right = figure.subplots(1, 2)
        draw(left, trained, unit=1e3)
        left.set(xlabel="steps of the sequence, T", ylabel="ms", title="A training step")
        draw(right, generated, unit=1e6)
        right.set(xlabel="position t", ylabel="µs", title="One more step, after t others")
        figure.legend(*right.get_legend_handles_labels(), loc="outside right center", frameon=False)

    def rows(title: str, measured, unit: float) -> Figures:
        return {
            title.format(T=T, B=B): {who: time * unit for who, time in times.items()}
            for (T, B), times in measured.items()
        }

    return program.report(
        {
            **rows("training step, ms, T={T} B={B}", trained, 1e3),
            **rows("generated step, µs, t={T} B={B}", generated, 1e6),
        }
    )


if __name__ == "__main__":
    main()
