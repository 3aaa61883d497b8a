"""A bidirectional tagger of torch.nn on ragged rows, trained as it is and after `accelerate`.

It tells the kind of token that each character of Python source belongs to, as `tokenize` does:
rows are statements of the standard library (PSF licence), as long as they happen to be, in a
`PackedSequence`. Run it with ``python examples/torch_tagger.py``; the last lines compare losses,
accuracies on files that were held out, and seconds.
"""

from __future__ import annotations

import keyword
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

from _program import packages

with packages("torch"):
    import torch
    from _compare import Run, arguments, compare, report
    from torch import Tensor, nn
    from torch.nn.utils.rnn import PackedSequence, pack_sequence

KINDS = ("space", "operator", "name", "keyword", "number", "string", "comment")
BATCH, LONGEST = 64, 300
TRAINING_FILES, HELD_OUT_FILES = 40, 8
Row = tuple[Tensor, Tensor]  # numbers of a statement's characters, and of their kinds


def kind_of(token: tokenize.TokenInfo) -> str:
    """Name of a token's kind; whatever has no characters of its own is space."""
    name = tokenize.tok_name[token.type]
    if name == "NAME" and keyword.iskeyword(token.string):
        return "keyword"
    if "STRING" in name:  # since Python 3.12 a formatted string comes in parts
        return "string"
    name = {"OP": "operator"}.get(name, name.lower())
    return name if name in KINDS else "space"


def rows_of(path: Path) -> Iterator[Row]:
    """Statements of a file, without those of more than `LONGEST` characters."""
    with tokenize.open(path) as file:
        lines = file.readlines()
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    text = "".join(lines)
    ids = torch.tensor([min(ord(c), 127) for c in text])  # 127: whatever is not ASCII
    kinds = torch.zeros(len(text), dtype=torch.long)
    begin = 0
    for token in tokenize.generate_tokens(iter(lines).__next__):
        (line, column), (end_line, end_column) = token.start, token.end
        if line > len(lines):
            break
        end = min(starts[end_line - 1] + end_column, len(text))
        kinds[starts[line - 1] + column : end] = KINDS.index(kind_of(token))
        if token.type == tokenize.NEWLINE:
            if 0 < end - begin <= LONGEST:
                yield ids[begin:end], kinds[begin:end]
            begin = end


def read() -> tuple[list[Row], list[Row]]:
    """Rows to train with, and rows of other files."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    if len(files) < TRAINING_FILES + HELD_OUT_FILES:
        sys.exit("this Python comes without the sources of its standard library")
    files = files[: TRAINING_FILES + HELD_OUT_FILES]
    training, held_out = files[:TRAINING_FILES], files[TRAINING_FILES:]
    rows = [r for path in training for r in rows_of(path)]
    return rows, [r for path in held_out for r in rows_of(path)]


def pack(rows: Sequence[Row]) -> tuple[PackedSequence, Tensor]:
    """The characters of a batch, and the kinds in the order of their data."""
    ids, kinds = zip(*rows, strict=True)
    packed = pack_sequence(ids, enforce_sorted=False)
    return packed, pack_sequence(kinds, enforce_sorted=False).data


class Tagger(nn.Module):
    """The logits of each character's kind, from the whole statement.

    Parameters
    ----------
    cell : str
        "lstm" or "gru".
    hidden : int
        Size of a direction.
    """

    def __init__(self, cell: str, hidden: int) -> None:
        super().__init__()
        layer = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.embedding = nn.Embedding(128, 32)
        self.rnn = layer(32, hidden, bidirectional=True)
        self.head = nn.Linear(2 * hidden, len(KINDS))

    def forward(self, ids: PackedSequence) -> Tensor:
        """Logits (characters, kinds), in the order of the packed data."""
        y, _ = self.rnn(ids._replace(data=self.embedding(ids.data)))
        return self.head(y.data)


def train(model: Tagger, rows: list[Row], seed: int) -> Iterator[float]:
    """Train a step with each batch, in a new order each time round; yields the losses."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    order = torch.Generator().manual_seed(seed)
    while True:
        for chosen in torch.randperm(len(rows), generator=order).split(BATCH):
            ids, kinds = pack([rows[k] for k in chosen])
            loss = nn.functional.cross_entropy(model(ids), kinds)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield loss.item()


@torch.no_grad()
def evaluate(model: Tagger, rows: list[Row]) -> float:
    """Share of the characters whose kind is told correctly."""
    model.eval()
    right = total = 0
    for start in range(0, len(rows), BATCH):
        ids, kinds = pack(rows[start : start + BATCH])
        right += int((model(ids).argmax(-1) == kinds).sum())
        total += len(kinds)
    return right / total


def main(argv: Sequence[str] | None = None) -> tuple[Run, Run]:
    """Train both, print the table and return the runs."""
    options = arguments(__doc__, steps=300, hidden=128).parse_args(argv)
    rows, held_out = read()
    lengths = [len(ids) for ids, _ in rows]
    print(f"{len(rows):,} statements of {min(lengths)} to {max(lengths)} characters")
    runs = compare(
        lambda: Tagger(options.cell, options.hidden),
        lambda model: train(model, rows, options.seed),
        options.steps,
        options.seed,
    )
    report(runs, {"accuracy on held-out files": lambda model: evaluate(model, held_out)})
    return runs


if __name__ == "__main__":
    main()
