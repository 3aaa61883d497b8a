"""See how far back RNN, LSTM and GRU remember, and what their gradients have to do with it.

There is no data set: both tasks are generated, after Hochreiter and Schmidhuber (1997). In the
adding task each step brings a number from 0 to 1, one step of each half is marked, and at the end
the network gives the sum of the two marked numbers. Always saying the mean, 1, has an error of 1/6.
In the copy task three of eight symbols come first and nothing after them, and at the end the
network names all three; guessing is right for one in eight. (The copy task of the literature has
more symbols, and names them one after the other.)

Every network has 32 units and a linear layer that reads the last state. The cells begin in two
ways. "RNN", "LSTM" and "GRU" begin as torch begins them. The others begin so that they remember:
the RNN with orthogonal weights, which keep the length of what they multiply, LSTM and GRU with
gates that stay open: they forget in 1 to T steps (biases of Tallec and Ollivier 2018; T must be
known). "RNN, doubled" has twice the orthogonal weights, to see gradients explode. Where they leave
the range of floats, clipping cannot help, and the error is not a number (nan).

The picture shows, for the copy task, the norm of the loss's gradient with regard to the state after
each step, an LSTM's cell included. Where it has vanished, nothing is learnt about what came before;
where it holds, learning may still take long. Run it with ``python examples/long_memory.py``.
"""

from __future__ import annotations

from itertools import product
from operator import itemgetter
from typing import NamedTuple

from _program import Figures, Program, packages

with packages():
    import torch
    from torch import Tensor, nn

SYMBOLS, COPIED = 8, 3
HIDDEN, BATCH = 32, 32
POINTS = 50  # of a line in the picture
LOW, HIGH = 1e-12, 1e12  # ends of the picture's axis
APART = 50  # least ratio between the heights of two names on it: the axis is logarithmic
Line = tuple[list[int], list[float]]  # steps before the end, and the norms there


class Start(NamedTuple):
    """The cell of a network, how it begins, the best of the learning rates tried, and a colour."""

    cell: str
    how: str
    rate: float
    color: str


NETWORKS = {
    "RNN": Start("RNN", "torch", 3e-3, "tab:red"),
    "RNN, orthogonal": Start("RNN", "orthogonal", 3e-3, "tab:red"),
    "RNN, doubled": Start("RNN", "doubled", 3e-3, "tab:orange"),
    "LSTM": Start("LSTM", "torch", 2e-2, "tab:blue"),
    "LSTM, open": Start("LSTM", "open", 2e-2, "tab:blue"),
    "GRU": Start("GRU", "torch", 2e-2, "tab:green"),
    "GRU, open": Start("GRU", "open", 2e-2, "tab:green"),
}


class Adding:
    """Sum the two marked numbers of a sequence."""

    name, inputs, outputs = "adding, mean square error", 2, 1
    loss = staticmethod(nn.functional.mse_loss)

    @staticmethod
    def draw(T: int, B: int) -> tuple[Tensor, Tensor]:
        """Sequences (T, B, 2), of a number and a mark each, and their sums (B, 1)."""
        numbers, marks, rows = torch.rand(T, B), torch.zeros(T, B), torch.arange(B)
        marks[torch.randint(0, T // 2, (B,)), rows] = 1
        marks[torch.randint(T // 2, T, (B,)), rows] = 1
        return torch.stack([numbers, marks], dim=2), (numbers * marks).sum(0)[:, None]

    @staticmethod
    def score(output: Tensor, target: Tensor) -> float:
        """The mean square error."""
        return nn.functional.mse_loss(output, target).item()

    @staticmethod
    def baseline(target: Tensor) -> float:
        """The error of always saying the mean."""
        return Adding.score(torch.ones_like(target), target)


class Copy:
    """Name the first symbols of a sequence at its end."""

    name, inputs, outputs = "copy, accuracy", SYMBOLS + 1, SYMBOLS * COPIED

    @staticmethod
    def draw(T: int, B: int) -> tuple[Tensor, Tensor]:
        """Sequences (T, B, SYMBOLS + 1), one hot, and the symbols to name (B, COPIED)."""
        steps = torch.full((T, B), SYMBOLS)  # one more than the symbols: nothing
        steps[:COPIED] = torch.randint(0, SYMBOLS, (COPIED, B))
        return nn.functional.one_hot(steps, SYMBOLS + 1).float(), steps[:COPIED].T

    @staticmethod
    def loss(output: Tensor, target: Tensor) -> Tensor:
        """The cross entropy of a symbol."""
        return nn.functional.cross_entropy(output.unflatten(1, (SYMBOLS, COPIED)), target)

    @staticmethod
    def score(output: Tensor, target: Tensor) -> float:
        """The share of symbols named rightly."""
        named = output.unflatten(1, (SYMBOLS, COPIED)).argmax(1)
        return (named == target).float().mean().item()

    @staticmethod
    def baseline(target: Tensor) -> float:
        """The share that a guess has right."""
        return 1 / SYMBOLS


def begin(rnn: nn.RNNBase, how: str, T: int) -> None:
    """Set a layer's first weights for sequences of T steps; "torch" leaves them as they are."""
    if how == "orthogonal":
        nn.init.orthogonal_(rnn.weight_hh_l0)
    elif how == "doubled":
        nn.init.orthogonal_(rnn.weight_hh_l0, gain=2)
    elif how == "open":
        # A gate of sigmoid(log(t)) keeps t / (t + 1) of the state a step: it forgets in t steps.
        # The second gate is the LSTM's forget gate and the GRU's update gate.
        keep = torch.empty(HIDDEN).uniform_(1, T - 1).log()
        with torch.no_grad():
            rnn.bias_hh_l0.zero_()
            rnn.bias_ih_l0.zero_()
            rnn.bias_ih_l0[HIDDEN : 2 * HIDDEN] = keep
            if rnn.mode == "LSTM":
                rnn.bias_ih_l0[:HIDDEN] = -keep  # the input gate lets in what the other loses


class Network(nn.Module):
    """A recurrent layer and a linear one that reads its last state."""

    def __init__(self, layers, task, start: Start, T: int) -> None:
        super().__init__()
        self.rnn = getattr(layers, start.cell)(task.inputs, HIDDEN)
        self.head = nn.Linear(HIDDEN, task.outputs)
        begin(self.rnn, start.how, T)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, outputs) for sequences (T, B, inputs)."""
        return self.head(self.rnn(x)[0][-1])

    def gradients(self, task, T: int) -> Line:
        """How many steps before the end, and the norm of the loss's gradient there.

        The sequence goes through the layer in pieces, so that the states between them, an LSTM's
        cell included, can be differentiated by. The norms are relative to that of the last state,
        whose cell nothing depends on.
        """
        x, target = task.draw(T, BATCH)
        state, states, before, left = None, [], [], T
        for piece in x.split(max(1, T // POINTS)):
            _, state = self.rnn(piece, state)
            states.append(state if isinstance(state, tuple) else (state,))
            left -= len(piece)
            before.append(left)
        loss = task.loss(self.head(states[-1][0][-1]), target)
        wanted = [part for parts in states for part in parts]
        gradients = torch.stack(torch.autograd.grad(loss, wanted, materialize_grads=True))
        norms = gradients.reshape(len(states), -1).norm(dim=1)
        return before, (norms / norms[-1]).tolist()


def train(network: Network, task, T: int, steps: int, rate: float, clip: bool) -> None:
    """Fit the network to fresh sequences at each step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        x, target = task.draw(T, BATCH)
        loss = task.loss(network(x), target)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()


def draw(axes, lines: dict[str, Line], title: str) -> None:
    """A panel: gradients against the steps before the end, each line named where it ends."""
    ends = []
    for name, (before, norms) in lines.items():
        color = NETWORKS[name].color
        axes.plot(before, norms, color=color)
        seen = [point for point in zip(before, norms, strict=True) if LOW < point[1] < HIGH]
        if seen:  # not so where training has ended in nan
            ends.append((*max(seen), name, color))
    axes.set(title=title, yscale="log", ylim=(LOW, HIGH))
    axes.spines[["top", "right"]].set_visible(False)
    lowest = LOW
    for x, y, name, color in sorted(ends, key=itemgetter(1)):
        lowest = max(y, lowest * APART)  # names must not lie on each other
        axes.annotate(f" {name}", (x, lowest), color=color, va="center", annotation_clip=False)


def main(argv: list[str] | None = None) -> Figures:
    """Train every network on both tasks, and follow the gradients back."""
    program = Program(__doc__, on_torch=True)
    options = program.start(argv)
    lengths = program.pick(full=(50, 200, 800), quick=(50,))
    pictured = program.pick(full=200, quick=50)
    steps = program.pick(full=600, quick=250)
    # Gradients that vanish become numbers so small that processors take many times as long.
    torch.set_flush_denormal(True)

    runs = [(task, T, True) for task in (Adding, Copy) for T in lengths]
    runs.append((Copy, pictured, False))
    figures: Figures = {}
    begun: dict[str, Line] = {}
    trained: dict[bool, dict[str, Line]] = {True: {}, False: {}}  # clipped or not
    for (task, T, clipped), name in program.progress([*product(runs, NETWORKS)], "networks"):
        torch.manual_seed(options.seed)  # the same weights and sequences, clipped or not
        start = NETWORKS[name]
        network = Network(program.layers, task, start, T)
        if followed := task is Copy and pictured == T:
            begun[name] = network.gradients(task, T)
        train(network, task, T, steps, start.rate, clipped)
        if followed:
            trained[clipped][name] = network.gradients(task, T)
        torch.manual_seed(options.seed + 1)  # fresh sequences, the same for all
        x, target = task.draw(T, 1000)
        with torch.no_grad():
            score = task.score(network(x), target)
        title = f"{task.name}, T={T}" + ("" if clipped else ", not clipped")
        row = figures.setdefault(title, {"baseline": task.baseline(target)})
        row[name] = score
        program.note(f"{title}: {name} {score:.3f}")
    torch.set_flush_denormal(False)

    plain = {name: line for name, line in begun.items() if NETWORKS[name].how == "torch"}
    others = {name: line for name, line in begun.items() if name not in plain}
    with program.picture("long_memory.png", width=10, height=6) as figure:
        axes = figure.subplots(2, 2, sharex=True, sharey=True)
        draw(axes[0, 0], plain, "At the start, as torch begins")
        draw(axes[0, 1], others, "At the start, begun to remember")
        for panel, clipped, how in ((axes[1, 0], True, "with"), (axes[1, 1], False, "without")):
            lines = {name: trained[clipped][name] for name in others}
            draw(panel, lines, f"Those after training {how} clipping")
        figure.supxlabel(
            "steps before the end (the symbols to copy are the first steps, at the right)"
        )
        figure.supylabel("gradient, relative to the last step's")
    return program.report(figures)


if __name__ == "__main__":
    main()
