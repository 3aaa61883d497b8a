"""A character language model of torch.nn, trained as it is and after `accelerate`.

It learns the English help topics that come with Python (PSF licence): two layers with dropout,
windows of 64 characters, each from the state that the window before it ended with. Run it with
``python examples/torch_charlm.py``; the last lines compare losses and seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from _program import packages

with packages("torch"):
    import torch
    from _compare import Run, arguments, compare, report
    from torch import Tensor, nn

from fastrnn import charlm

BATCH, WINDOW, VALID_SHARE = 32, 64, 0.05


class CharLM(nn.Module):
    """The next character's logits after each character.

    Parameters
    ----------
    cell : str
        "lstm" or "gru".
    vocabulary : int
        Number of different characters.
    hidden : int
        Size of the two layers.
    """

    def __init__(self, cell: str, vocabulary: int, hidden: int) -> None:
        super().__init__()
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.embedding = nn.Embedding(vocabulary, 64)
        self.rnn = layer(64, hidden, num_layers=2, dropout=0.2)
        self.head = nn.Linear(hidden, vocabulary)

    def forward(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (T, B, vocabulary) for ids (T, B), and the state after them."""
        y, state = self.rnn(self.embedding(ids), state)
        return self.head(y), state


def windows(streams: charlm.Streams) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets, (T, B) each, in the text's order."""
    for start in range(0, len(streams), WINDOW):
        inputs, targets = streams.window(start, WINDOW)
        yield torch.from_numpy(inputs), torch.from_numpy(targets)


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy per character, in nats."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def train(model: CharLM, streams: charlm.Streams) -> Iterator[float]:
    """Train a step with each window, over and over; yields the losses."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    while True:
        state = None
        for inputs, targets in windows(streams):
            logits, state = model(inputs, state)
            loss = loss_of(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            # Gradients stop at the start of a window.
            pair = isinstance(state, tuple)
            state = tuple(s.detach() for s in state) if pair else state.detach()
            yield loss.item()


@torch.no_grad()
def evaluate(model: CharLM, streams: charlm.Streams) -> float:
    """Mean loss per character over all of `streams`."""
    model.eval()
    total, state = 0.0, None
    for inputs, targets in windows(streams):
        logits, state = model(inputs, state)
        total += loss_of(logits, targets).item() * targets.numel()
    return total / streams.targets.size


def main(argv: Sequence[str] | None = None) -> tuple[Run, Run]:
    """Train both, print the table and return the runs."""
    options = arguments(__doc__, steps=300, hidden=256).parse_args(argv)
    try:
        text = charlm.load_text(None)
    except charlm.UserError as error:
        sys.exit(str(error))
    vocabulary = charlm.Vocabulary("".join(sorted(set(text))))
    ids = vocabulary.encode(text)
    cut = int(len(ids) * (1 - VALID_SHARE))
    streams, held_out = charlm.Streams(ids[:cut], BATCH), charlm.Streams(ids[cut:], BATCH)
    print(f"{len(ids):,} characters, {len(vocabulary)} different ones")

    runs = compare(
        lambda: CharLM(options.cell, len(vocabulary), options.hidden),
        lambda model: train(model, streams),
        options.steps,
        options.seed,
    )
    report(runs, {"loss on held-out text": lambda model: evaluate(model, held_out)})
    return runs


if __name__ == "__main__":
    main()
