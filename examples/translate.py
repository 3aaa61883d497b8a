"""Translate numbers and dates into French, letter by letter, with attention over the letters read.

The pairs are written by the packages `num2words` (LGPL) and, for the months, `babel` (BSD licence):
numbers below a million, and dates of two thousand years, in German, Danish, English and Spanish,
and in French. Tens and units change places on the way from German and Danish ("siebenundneunzig" is
seven and ninety), and French counts ninety-seven as "quatre-vingt-dix-sept". The numbers and dates
of the test are kept out of the training in every language.

One GRU reads the letters of the source in both directions. A second one starts from its last state
and writes the target; to choose a letter it attends to the states of all letters read. In training
it is given the true letters before each one, so that one call runs over all steps; afterwards it is
given its own, and a beam search keeps the best few beginnings. Two baselines have the same test:

* the same network, trained as long, that may attend to nothing but the last state;
* the translation of the source that is nearest by edit distance among those of the training.

Run it with ``python examples/translate.py``. With ``--dictionary FILE`` it learns the words of a
dictionary of FreeDict instead (most of them GPL), such as Debian's packages `dict-freedict-*` put
into /usr/share/dictd. Most words cannot be translated by their letters, so expect little; there the
source itself, copied, is a baseline too.
"""

from __future__ import annotations

import gzip
import itertools
import re
import sys
import zlib
from datetime import date
from pathlib import Path

from _program import Figures, Program, nearest, packages

with packages():
    import torch
    from babel.dates import get_month_names
    from jiwer import cer
    from num2words import num2words
    from sklearn.model_selection import train_test_split
    from torch import Tensor, nn
    from torch.nn.functional import cross_entropy, scaled_dot_product_attention
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

SOURCES, TARGET = ("de", "da", "en", "es"), "fr"
PAD, START, END, UNKNOWN = range(4)
EMBEDDING, BATCH, BEAMS = 32, 64, 5
Pairs = list[tuple[str, str]]  # sources and their targets
Tests = dict[str, Pairs]  # those of each kind
Read = tuple[Tensor, Tensor]  # what the encoder made of the letters (B, S, H), and where (B, 1, S)


class Translator(nn.Module):
    """From the letters of a source to those of its target.

    Parameters
    ----------
    layers : module
        Where the GRUs come from.
    letters, hidden : int
        Size of the alphabet, and units.
    attends : bool
        Whether it attends to the states of all letters read, or to the last state alone.
    """

    def __init__(self, layers, letters: int, hidden: int, attends: bool) -> None:
        super().__init__()
        self.attends = attends
        self.embedding = nn.Embedding(letters, EMBEDDING)
        # Two directions of half the units, side by side, are as wide as the decoder.
        self.encoder = layers.GRU(EMBEDDING, hidden // 2, batch_first=True, bidirectional=True)
        self.decoder = layers.GRU(EMBEDDING, hidden, batch_first=True)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.combine = nn.Linear(2 * hidden, hidden)
        self.head = nn.Linear(hidden, letters)

    def read(self, sources: Tensor) -> tuple[Read, Tensor]:
        """What there is to attend to, and the decoder's first state, for sources (B, S)."""
        there = sources != PAD
        packed = pack_padded_sequence(
            self.embedding(sources), there.sum(1), batch_first=True, enforce_sorted=False
        )
        states, last = self.encoder(packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=sources.shape[1])
        last = torch.cat([*last], dim=-1)
        if not self.attends:
            states, there = last[:, None], there[:, :1]
        return (states, there[:, None]), last[None]

    def attend(self, written: Tensor, read: Read, values: Tensor) -> Tensor:
        """For each state of the decoder (B, T, H) the mean of the values it attends to."""
        states, there = read
        return scaled_dot_product_attention(self.query(written), states, values, attn_mask=there)

    def predict(self, written: Tensor, read: Read) -> Tensor:
        """Logits (B, T, letters) of what follows each state of the decoder (B, T, H)."""
        context = self.attend(written, read, values=read[0])
        return self.head(torch.tanh(self.combine(torch.cat([written, context], dim=-1))))

    def forward(self, sources: Tensor, inputs: Tensor) -> Tensor:
        """Logits (B, T, letters) of what follows each letter of the inputs (B, T)."""
        read, state = self.read(sources)
        written, _ = self.decoder(self.embedding(inputs), state)
        return self.predict(written, read)

    @torch.no_grad()
    def weights(self, source: Tensor, inputs: Tensor) -> Tensor:
        """How much each step (T) attends to each letter of one source (S)."""
        read, state = self.read(source[None])
        written, _ = self.decoder(self.embedding(inputs[None]), state)
        # Attention gives the weighted mean of the values. Of the rows of an identity matrix, that
        # is the list of weights.
        return self.attend(written, read, values=torch.eye(len(source))[None])[0]

    @torch.no_grad()
    def search(self, sources: Tensor, beams: int, longest: int) -> Tensor:
        """The letters (B, T) of the best targets that a beam search finds; one beam is greedy.

        The beams of a source are compared by the logarithm of their probability, those that have
        ended among them. At the end the best is the one of the highest mean over its letters:
        by the sum alone, short ones would win.
        """
        B = len(sources)
        read, state = self.read(sources)
        state = state.repeat_interleave(beams, dim=1)
        texts = torch.full((B, beams, 1), START)
        scores = torch.full((B, beams), -torch.inf)
        scores[:, 0] = 0  # all begin alike: one is enough to go on from
        for _ in range(longest):
            last = texts[:, :, -1]
            written, state = self.decoder(self.embedding(last.view(-1, 1)), state)
            following = self.predict(written.view(B, beams, -1), read).log_softmax(-1)
            # What has ended can only go on with padding, at no cost, so that its score stays.
            ended = (last == END) | (last == PAD)
            following[..., PAD] = torch.where(ended, 0.0, -torch.inf)
            following[..., PAD + 1 :].masked_fill_(ended[..., None], -torch.inf)

            scores, best = (scores[..., None] + following).flatten(1).topk(beams)
            origin, letter = best // following.shape[-1], best % following.shape[-1]
            texts = texts.gather(1, origin[..., None].expand_as(texts))
            texts = torch.cat([texts, letter[..., None]], dim=-1)
            state = state[:, (origin + beams * torch.arange(B)[:, None]).flatten()]
            if bool(((letter == END) | (letter == PAD)).all()):
                break
        best = (scores / (texts[:, :, 1:] != PAD).sum(-1)).argmax(1)
        return texts[torch.arange(B), best, 1:]


class Alphabet:
    """The letters of the training set, and their numbers."""

    def __init__(self, pairs: Pairs) -> None:
        self.letters = sorted({letter for pair in pairs for text in pair for letter in text})
        self.numbers = {letter: i for i, letter in enumerate(self.letters, UNKNOWN + 1)}

    def __len__(self) -> int:
        return UNKNOWN + 1 + len(self.letters)

    def encode(self, texts: list[str], start: list[int], end: list[int]) -> Tensor:
        """The numbers of the letters (B, T), padded."""
        rows = [[*start, *(self.numbers.get(c, UNKNOWN) for c in text), *end] for text in texts]
        return pad_sequence([torch.tensor(r) for r in rows], batch_first=True, padding_value=PAD)

    def decode(self, rows: Tensor) -> list[str]:
        """The texts of rows of numbers, without what is no letter."""
        rows = rows - (UNKNOWN + 1)
        return ["".join(self.letters[i] for i in row if i >= 0) for row in rows.tolist()]


def say_date(number: int, lang: str) -> str:
    """The date with a number of Python's calendar, such as "douze mai deux mille vingt-quatre"."""
    day = date.fromordinal(number)
    ordinal = lang in ("de", "da", "en") or (lang == "fr" and day.day == 1)
    parts = [
        num2words(day.day, lang=lang, to="ordinal" if ordinal else "cardinal"),
        get_month_names("wide", locale=lang)[day.month],
        num2words(day.year, lang=lang, to="year"),
    ]
    return (" de " if lang == "es" else " ").join(parts).lower()


def made_pairs(below: int, count: int, held_out: int, seed: int) -> tuple[Pairs, Tests]:
    """Pairs of `count` numbers and as many dates for training, and of others for the tests."""
    days = range(date(1000, 1, 1).toordinal(), date(3000, 1, 1).toordinal())
    kinds = {"numbers": (range(below), num2words), "dates": (days, say_date)}
    learn: Pairs = []
    tests: Tests = {}
    for kind, (numbers, say) in kinds.items():
        split = train_test_split(numbers, train_size=count, test_size=held_out, random_state=seed)
        known, tests[kind] = (
            [(say(n, lang=source), say(n, lang=TARGET)) for n in part for source in SOURCES]
            for part in split
        )
        learn += known
    return learn, tests


def dictionary_pairs(path: Path, held_out: int, seed: int) -> tuple[Pairs, Tests]:
    """Headwords and the first translation of each, where both are single words.

    The file is gzipped text in UTF-8. An entry begins with a line of its headword, then the
    pronunciation in slashes and the grammar in angle brackets, if any. On the next line are the
    translations with commas between them, after a number and subjects in square brackets, if any.
    """
    entry = re.compile(r"([^\W\d_]+)( /.*/)?( <.*>)?\n")
    translation = re.compile(r"(1\.)? ?(\[.*?\] )*([^\W\d_]+)( <[^>]*>)*([,;].*)?\n")
    found: dict[str, str] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for first, second in itertools.pairwise(lines):
                if (head := entry.fullmatch(first)) and (said := translation.fullmatch(second)):
                    found.setdefault(head[1].lower(), said[3].lower())
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        sys.exit(f"--dictionary must be a .dict.dz file of FreeDict, got {path}: {error}")
    if len(found) < 2 * held_out:
        sys.exit(
            f"--dictionary must have at least {2 * held_out} words with a translation of one word, "
            f"got {len(found)} in {path}"
        )
    learn, test = train_test_split(list(found.items()), test_size=held_out, random_state=seed)
    return learn, {"words": test}


def without_padding(rows: Tensor) -> Tensor:
    """Rows of numbers cut to the longest of them."""
    return rows[:, : (rows != PAD).sum(1).max()]


def train(program: Program, model: Translator, alphabet: Alphabet, pairs: Pairs, what: str) -> None:
    """Teach the model each letter of the targets from those before it."""
    steps, max_lr = program.pick(full=600, quick=150), 2e-2
    if program.options.dictionary:  # words are short, and hard
        steps, max_lr = 4 * steps, 5e-3
    sources, targets = map(list, zip(*pairs, strict=True))
    sources = alphabet.encode(sources, [], [END])
    targets = alphabet.encode(targets, [START], [END])
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=max_lr, total_steps=steps)
    for _ in program.progress(range(steps), what):
        batch = torch.randint(len(pairs), (BATCH,))
        source, target = without_padding(sources[batch]), without_padding(targets[batch])
        logits = model(source, target[:, :-1])
        loss = cross_entropy(logits.transpose(1, 2), target[:, 1:], ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        program.note(f"{loss.item():.3f} nats a letter")


def exact_match(targets: list[str], found: list[str]) -> float:
    """The share of the targets that were found to the letter."""
    return sum(map(str.__eq__, targets, found)) / len(targets)


def draw(figure, weights: Tensor, source: str, target: str) -> None:
    """Draw what was attended to (T, S) while the target was written."""
    axes = figure.subplots()
    axes.imshow(weights, cmap="Blues", aspect="auto")
    axes.xaxis.tick_top()
    read, written = ([*text.replace(" ", "␣"), "↵"] for text in (source, target))
    axes.set_xticks(range(len(read)), read)
    axes.set_yticks(range(len(written)), written)
    axes.tick_params(length=0)
    axes.set(xlabel="letters read", ylabel="letters written")


def main(argv: list[str] | None = None) -> Figures:
    """Train with attention and without, and compare the translations of the test."""
    program = Program(__doc__, on_torch=True)
    program.parser.add_argument(
        "--dictionary", type=Path, metavar="FILE", help="learn the words of this .dict.dz file"
    )
    options = program.start(argv)
    held_out = program.pick(full=1000, quick=200)
    if options.dictionary:
        learn, tests = dictionary_pairs(options.dictionary, held_out, options.seed)
    else:
        below, count = program.pick(full=(1_000_000, 6000), quick=(1000, 400))
        learn, tests = made_pairs(below, count, held_out // len(SOURCES), options.seed)
    alphabet = Alphabet(learn)
    sources, targets = map(list, zip(*itertools.chain(*tests.values()), strict=True))
    rows = alphabet.encode(sources, [], [END])
    longest = 1 + max(len(target) for _, target in learn)

    translations = {}
    for who, attends in (("last state", False), ("attention", True)):
        hidden = program.pick(full=128, quick=96)
        model = Translator(program.layers, len(alphabet), hidden, attends)
        train(program, model, alphabet, learn, who)
        for how, beams in (("greedy", 1), ("beam", BEAMS)):
            translations[f"{who}, {how}"] = alphabet.decode(model.search(rows, beams, longest))
    known = [source for source, _ in learn]
    translations["nearest"] = [learn[i][1] for i in nearest(known, sources)]
    if options.dictionary:
        translations["copy"] = sources

    source, target = sources[-len(SOURCES)], translations["attention, beam"][-len(SOURCES)]
    with program.picture("translate.png", width=10, height=8) as figure:
        read = alphabet.encode([source], [], [END])[0]
        written = alphabet.encode([target], [START], [])[0]
        draw(figure, model.weights(read, written), source, target)

    ends = [*itertools.accumulate(map(len, tests.values()), initial=0)]
    parts = dict(zip(tests, itertools.starmap(slice, itertools.pairwise(ends)), strict=True))
    return program.report(
        {
            f"{measure}, {kind}": {
                who: function(targets[part], found[part]) for who, found in translations.items()
            }
            for kind, part in parts.items()
            for measure, function in (("exact match", exact_match), ("character error rate", cer))
        }
    )


if __name__ == "__main__":
    main()
