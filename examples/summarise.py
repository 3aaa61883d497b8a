"""Summarise documentation: choose the sentence of a docstring that says what its first line says.

The documents are docstrings of the standard library (PSF licence) and of packages that come with
the programs of this folder: NumPy, SciPy, scikit-learn, pandas, Matplotlib, PyTorch, NetworkX and
SymPy (BSD licences all, but Matplotlib's, which is based on the PSF's). They are read from source
files; nothing is imported for it. By custom a docstring begins with one line that sums up the rest.
That line is the reference summary; the prose after it is the document, if it has at least four
sentences.

A summary here is one sentence, as the reference is. Its quality is ROUGE: the words (ROUGE-1),
pairs of words (ROUGE-2) and common subsequences (ROUGE-L) that it shares with the reference. A
bidirectional LSTM reads the sentences of a document, each a vector of its words (TF-IDF, reduced
by an SVD) with its place, its length and its likeness to the rest, and learns to forecast the ROUGE
of each. The sentence with the highest forecast is the summary. It is compared with

* lead, the first sentence, which is hard to beat in texts that begin with what matters;
* ridge regression of the same numbers, which sees each sentence without those around it, and
  does as well here: context adds next to nothing to words, place and likeness;
* any sentence of the document, on average;
* the best sentence, which nobody knows without the reference.

Each package is held out in turn, and summarised by a model that learned from the others. The few
settings of LSTM and ridge were looked for on these packages too: that the two are a little better
than lead flatters them, and which of them is ahead means nothing. Run it with
``python examples/summarise.py``.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from _program import Figures, Program, folder_of, packages

with packages():
    import numpy as np
    import torch
    from rouge_score.rouge_scorer import RougeScorer
    from scipy.sparse import csr_array
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import LeaveOneGroupOut
    from sklearn.preprocessing import StandardScaler
    from torch import nn
    from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

QUICK = ["networkx", "numpy", "sklearn"]
FULL = [*QUICK, "scipy", "pandas", "matplotlib", "sympy", "torch", "standard library"]
LEAST = 4  # sentences of a document
BATCH, EPOCHS = 32, 6
COLOURS = {"lead": "0.6", "ridge": "tab:orange", "LSTM": "tab:blue", "best": "tab:green"}
HEADING = re.compile(r"^(.+)\n[-=~]{3,}$", re.MULTILINE)  # of a section: a line, underlined
NOT_PROSE = re.compile(r"^(\s|>>>|\.\.|[-*:|+@#]|\d+[.)])", re.MULTILINE)  # code, lists, tables
BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*])")
SENTENCE = re.compile(r"[A-Z`*]\S*( \S+){3,}[.!?]")
WORDS_OF_NAME = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass
class Document:
    """What a docstring says after its first line."""

    package: str
    name: str  # of what is documented
    reference: str  # the first line
    sentences: list[str]


def sentences_of(text: str) -> list[str]:
    """The sentences of a docstring's prose: what comes before the first section, and the notes."""
    before, *parts = HEADING.split(text)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    paragraphs = re.split(r"\n\s*\n", before + "\n\n" + sections.get("Notes", ""))
    prose = [" ".join(p.split()) for p in paragraphs if not NOT_PROSE.search(p.strip("\n"))]
    sentences = [s for paragraph in prose for s in BETWEEN_SENTENCES.split(paragraph)]
    return list(filter(SENTENCE.fullmatch, sentences))


def documents_of(package: str) -> Iterator[Document]:
    """The documents in a package's source files, without its tests."""
    if package == "standard library":
        root = Path(sysconfig.get_path("stdlib"))
    else:
        root = folder_of(package)
    for path in sorted(root.rglob("*.py")):
        if re.search("test|(site|dist)-packages|externals|vendor", str(path.relative_to(root))):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python has to say about the code of others
            tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
                reference, sentences = " ".join(first.split()), sentences_of(rest)
                is_sentence = re.fullmatch(r"[A-Z]\S*( \S+){3,30}\.", reference)
                if is_sentence and len(sentences) >= LEAST:
                    yield Document(package, getattr(node, "name", path.stem), reference, sentences)


def read(names: Sequence[str]) -> list[Document]:
    """All documents whose reference, and whose text, is that of no document before."""
    seen, documents = set(), []
    for document in (d for name in names for d in documents_of(name)):
        marks = {document.reference.lower(), " ".join(document.sentences).lower()}
        if not marks & seen:
            documents.append(document)
        seen |= marks
    return documents


class Tagger(nn.Module):
    """From the sentences of documents to the ROUGE that each of them will have.

    Parameters
    ----------
    layers : module
        Where the LSTM comes from.
    features, hidden : int
        Numbers that describe a sentence, and units in each direction.
    """

    def __init__(self, layers, features: int, hidden: int = 32) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)
        self.rnn = layers.LSTM(features, hidden, bidirectional=True)
        self.head = nn.Linear(2 * hidden + features, 1)

    def forward(self, rows: PackedSequence) -> PackedSequence:
        """A number for each sentence; the rows are documents, as long as they happen to be."""
        # A PackedSequence is a named tuple, whose `data` holds the steps of all rows one after the
        # other: what looks at single steps, as dropout does, is applied to `data` alone.
        hidden, _ = self.rnn(rows._replace(data=self.dropout(rows.data)))
        # The sentence itself goes past the LSTM too, so that this can learn what its context adds.
        both = torch.cat([self.dropout(hidden.data), rows.data], dim=1)
        return hidden._replace(data=self.head(both)[:, 0])


def features_of(documents: Sequence[Document], learn: np.ndarray, seed: int) -> list[np.ndarray]:
    """Numbers that describe the sentences of each document, (sentences, features).

    Words, their weights and all scales come from the documents with the numbers `learn`.
    """
    counts = np.array([len(document.sentences) for document in documents])
    owner = np.repeat(np.arange(len(documents)), counts)  # of each sentence
    learned = np.isin(owner, learn)
    sentences = [sentence for document in documents for sentence in document.sentences]
    tfidf = TfidfVectorizer(sublinear_tf=True, min_df=2)
    tfidf.fit([sentence for sentence, is_in in zip(sentences, learned, strict=True) if is_in])
    words = csr_array(tfidf.transform(sentences))
    names = csr_array(tfidf.transform([" ".join(WORDS_OF_NAME.findall(d.name)) for d in documents]))
    member = csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    others = (member @ words)[owner] - words  # of the same document

    place = np.concatenate([np.arange(count) for count in counts])
    lengths = np.log([len(sentence.split()) for sentence in sentences])
    columns = [
        place == 0,
        place == 1,
        place == 2,
        np.log1p(place),
        (place + 1) / counts[owner],
        lengths,
        lengths**2,
        (place == 0) * lengths,
        words.multiply(others).sum(axis=1) / (counts[owner] - 1),  # mean cosine to the others,
        words.multiply(names[owner]).sum(axis=1),  # and to the name of what is documented
    ]
    svd = TruncatedSVD(64, random_state=seed).fit(words[learned])
    features = np.column_stack([*columns, svd.transform(words)])
    scaled = StandardScaler().fit(features[learned]).transform(features).astype(np.float32)
    return np.split(scaled, np.cumsum(counts)[:-1])


def rouge_of(document: Document, scorer: RougeScorer) -> np.ndarray:
    """ROUGE-1, ROUGE-2 and ROUGE-L of each sentence against the reference, (sentences, 3)."""
    scores = [scorer.score(document.reference, sentence) for sentence in document.sentences]
    return np.array([[kind.fmeasure for kind in score.values()] for score in scores], np.float32)


def pack(rows: Sequence[np.ndarray], which: Iterable[int]) -> PackedSequence:
    """Some of the rows as a batch, without padding."""
    return pack_sequence([torch.from_numpy(rows[i]) for i in which], enforce_sorted=False)


def train(model: Tagger, inputs: list[np.ndarray], targets: list[np.ndarray]) -> float:
    """Fit the model to the documents; gives the mean loss of the last epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        losses = []
        for batch in torch.randperm(len(inputs)).split(BATCH):
            rows, target = pack(inputs, batch.tolist()), pack(targets, batch.tolist())
            loss = nn.functional.mse_loss(model(rows).data, target.data)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return float(np.mean(losses))


def forecast(model: Tagger, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The ROUGE that the model expects of the sentences of each document."""
    model.eval()
    with torch.no_grad():
        scores = model(pack(inputs, range(len(inputs))))
    return [row.numpy() for row in unpack_sequence(scores)]


def hold_out(
    program: Program, documents: Sequence[Document], means: list[np.ndarray], names: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What LSTM and ridge expect of all sentences, learned from the documents of other packages."""
    forecasts = [np.empty(0)] * len(documents)
    of_ridge = forecasts.copy()
    splits = list(LeaveOneGroupOut().split(documents, groups=names))
    for learn, test in program.progress(splits, "packages"):
        inputs = features_of(documents, learn, program.options.seed)
        targets = np.concatenate([means[i] for i in learn])
        ridge = Ridge(alpha=1000).fit(np.vstack([inputs[i] for i in learn]), targets)
        model = Tagger(program.layers, inputs[0].shape[1])
        shift, scale = targets.mean(), targets.std()
        scaled = [(means[i] - shift) / scale for i in learn]
        loss = train(model, [inputs[i] for i in learn], scaled)
        program.note(f"loss {loss:.3f}")
        for i, row in zip(test, forecast(model, [inputs[i] for i in test]), strict=True):
            forecasts[i], of_ridge[i] = row * scale + shift, ridge.predict(inputs[i])
    return forecasts, of_ridge


def show(document: Document, scores: np.ndarray, means: np.ndarray) -> None:
    """Print a document with what was expected of its sentences, and what they are worth."""
    print(f"\n{document.name} of {document.package}: {document.reference}")
    print("  forecast  ROUGE")
    for place, sentence in enumerate(document.sentences):
        mark = "->" if place == scores.argmax() else "  "
        line = textwrap.shorten(sentence, 75, placeholder=" ...")
        print(f"{mark}    {scores[place]:.2f}   {means[place]:.2f}  {line}")


def draw(
    program: Program,
    chosen: dict[str, np.ndarray],
    worth: dict[str, np.ndarray],
    names: np.ndarray,
) -> None:
    """Where the chosen sentences stand, and ROUGE-1 package by package."""
    with program.picture("summarise.png", width=10) as figure:
        left, right = figure.subplots(1, 2)
        places = np.arange(8)
        for shift, who in enumerate(("best", "ridge", "LSTM")):
            of_who = [np.mean(np.minimum(chosen[who], places[-1]) == place) for place in places]
            left.bar(places + (shift - 1) * 0.27, of_who, 0.27, label=who, color=COLOURS[who])
        left.set_xticks(places, [*(places[:-1] + 1), f"{places[-1] + 1}+"])
        left.set(xlabel="place of the sentence", ylabel="share of documents")
        left.set_title("Which sentence is the summary")
        left.legend()
        for who, colour in COLOURS.items():
            means = [np.mean(worth[who][names == name, 0]) for name in np.unique(names)]
            right.plot(means, np.unique(names), "o", label=who, color=colour)
        right.set(xlabel="ROUGE-1 of the summaries", title="Packages, each held out")
        right.grid(axis="y", alpha=0.3)
        right.legend()


def main(argv: list[str] | None = None) -> Figures:
    """Hold out package after package, and compare the summaries."""
    program = Program(__doc__, on_torch=True)
    options = program.start(argv)

    documents = read(program.pick(full=FULL, quick=QUICK))
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    rouge = [rouge_of(document, scorer) for document in documents]
    means = [of_each.mean(axis=1) for of_each in rouge]  # what is learned, and what best is best by
    names = np.array([document.package for document in documents])
    print(f"{len(documents)} documents of {sum(map(len, means))} sentences")

    forecasts, of_ridge = hold_out(program, documents, means, names)
    chosen = {
        "LSTM": np.array([row.argmax() for row in forecasts]),
        "ridge": np.array([row.argmax() for row in of_ridge]),
        "lead": np.zeros(len(documents), int),
        "best": np.array([row.argmax() for row in means]),
    }
    worth = {
        who: np.stack([of_each[place] for of_each, place in zip(rouge, places, strict=True)])
        for who, places in chosen.items()
    }
    draw(program, chosen, worth, names)
    others = np.flatnonzero(chosen["LSTM"])  # where the model differs from lead
    if len(others):
        example = np.random.default_rng(options.seed).choice(others)
        show(documents[example], forecasts[example], means[example])

    worth["any"] = np.stack([of_each.mean(axis=0) for of_each in rouge])
    kinds = ("ROUGE-1", "ROUGE-2", "ROUGE-L")
    return program.report(
        {
            kind: {who: float(of_who[:, column].mean()) for who, of_who in worth.items()}
            for column, kind in enumerate(kinds)
        }
    )


if __name__ == "__main__":
    main()
