"""Tell nine speakers apart by how they say one vowel: rows of different lengths, in plain fastrnn.

The data are the Japanese Vowels of the UCI repository (M. Kudo, J. Toyama, M. Shimbo; CC BY 4.0),
out of the package `sktime`: nine men say /ae/, and each of the 640 recordings is a sequence of 7 to
29 steps with 12 coefficients of the sound's spectrum. 270 recordings are there to learn from, the
370 others are the test, as the donors split them.

The rows of a batch are padded to the longest and go into one call with `lengths=`: a row's final
state is the one after its own last step, and the padding costs nothing. A GRU reads each recording
in both directions, and a linear layer tells the speaker from the two final states. The baseline
knows nothing of time: logistic regression on the mean and the standard deviation of each
coefficient, its strength chosen by cross-validation.

The network needs NumPy and fastrnn alone; there is no other framework. Run it with
``python examples/speakers.py``.
"""

from __future__ import annotations

from _program import Figures, Program, packages, positive

with packages():
    import numpy as np
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sktime.datasets import load_japanese_vowels

import fastrnn
from fastrnn.training import Adam, LinearCrossEntropy, clip_grad_norm_

SPEAKERS, BATCH = 9, 32


def recordings(split: str) -> tuple[list[np.ndarray], np.ndarray]:
    """The recordings (length, 12) of "train" or "test", and the speakers' numbers."""
    frame, speakers = load_japanese_vowels(split, return_type="nested_univ")
    rows = [np.stack([channel.to_numpy() for channel in row], axis=1) for row in frame.to_numpy()]
    return rows, speakers.astype(int) - 1


def pad(rows: list[np.ndarray], scaler: StandardScaler) -> tuple[np.ndarray, np.ndarray]:
    """The scaled rows as one array (T, B, I), and their lengths (B,)."""
    lengths = np.array([len(row) for row in rows])
    x = np.zeros((lengths.max(), len(rows), rows[0].shape[1]), np.float32)
    for b, row in enumerate(rows):
        x[: len(row), b] = scaler.transform(row)
    return x, lengths


def both_ends(final: np.ndarray) -> np.ndarray:
    """The final states of the two directions (2, B, H) side by side, (B, 2 H)."""
    return np.concatenate(list(final), axis=1)


class Classifier:
    """A GRU in both directions with a linear layer on its final states, and how both learn.

    Parameters
    ----------
    hidden : int
        Units of a direction.
    seed : int
        Of the initial parameters.
    """

    def __init__(self, hidden: int, seed: int) -> None:
        self.rnn = fastrnn.GRU(12, hidden, bidirectional=True, seed=seed)
        self.head = LinearCrossEntropy(2 * hidden, SPEAKERS, seed=seed + 1)
        self.optimizer = Adam([self.rnn, self.head], lr=3e-3)

    def step(self, x: np.ndarray, lengths: np.ndarray, speakers: np.ndarray) -> float:
        """Learn from one batch; gives its loss."""
        y, final, tape = self.rnn.forward(x, lengths=lengths)
        loss, gradient, head_gradients = self.head.loss_and_grad(both_ends(final), speakers)
        # The loss depends on the final states alone: nothing flows in through the outputs.
        dfinal = np.stack(np.split(gradient, 2, axis=1))
        _, _, gradients = self.rnn.backward(tape, np.zeros_like(y), dfinal)
        clip_grad_norm_([gradients, head_gradients], 1.0)
        self.optimizer.step([gradients, head_gradients])
        return loss

    def read(self, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The final states (B, 2 H) of recordings."""
        _, final = self.rnn(x, lengths=lengths)
        return both_ends(final)


def baseline(train: list[np.ndarray], speakers: np.ndarray, test: list[np.ndarray]) -> np.ndarray:
    """Speakers of the test, told from means and standard deviations."""

    def summary(rows: list[np.ndarray]) -> np.ndarray:
        return np.array([np.concatenate([row.mean(axis=0), row.std(axis=0)]) for row in rows])

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    search = GridSearchCV(model, {"logisticregression__C": [0.01, 0.1, 1, 10, 100]})
    return search.fit(summary(train), speakers).predict(summary(test))


def main(argv: list[str] | None = None) -> Figures:
    """Learn, test, and compare with the baseline."""
    program = Program(__doc__, on_torch=False)
    program.parser.add_argument(
        "--hidden", type=positive, default=64, help="units of a direction (default: 64)"
    )
    options = program.start(argv)

    train, speakers = recordings("train")
    test, truth = recordings("test")
    scaler = StandardScaler().fit(np.concatenate(train))
    x, lengths = pad(train, scaler)
    rng = np.random.default_rng(options.seed)
    classifier = Classifier(options.hidden, options.seed)
    for _ in program.progress(range(program.pick(full=100, quick=15)), "epochs"):
        order = rng.permutation(len(train))
        for batch in np.array_split(order, -(-len(train) // BATCH)):
            loss = classifier.step(x[:, batch], lengths[batch], speakers[batch])
        program.note(f"loss {loss:.4f}")

    states = classifier.read(*pad(test, scaler))
    told = classifier.head(states).argmax(axis=1)
    with program.picture("speakers.png", width=7, height=5) as figure:
        axes = figure.subplots()
        places = PCA(2).fit_transform(states)
        points = axes.scatter(*places.T, c=truth + 1, cmap="tab10", vmin=0.5, vmax=10.5, s=14)
        axes.set(title="Final states of the test's recordings, in the plane of most variance")
        axes.set(xticks=[], yticks=[])
        axes.legend(
            *points.legend_elements(), title="speaker", loc="center left", bbox_to_anchor=(1, 0.5)
        )
    return program.report(
        {
            "accuracy on the test, %": {
                "GRU": 100 * float(np.mean(told == truth)),
                "logistic regression": 100
                * float(np.mean(baseline(train, speakers, test) == truth)),
            }
        }
    )


if __name__ == "__main__":
    main()
