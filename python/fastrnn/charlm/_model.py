"""What defines a run, and the model that it trains."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

import fastrnn
from fastrnn.training import LinearCrossEntropy

from .. import _dtypes
from .._user_error import UserError
from ._data import Array, Streams, Vocabulary

State = Any  # what a layer takes and gives: (L, B, H), or a pair of these for the LSTM

_LAYERS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
DTYPES = ("float32", "bfloat16")  # of the layer


@dataclasses.dataclass(frozen=True)
class Config:
    """What defines a run, in the words of the command line.

    Raises
    ------
    UserError
        A value out of range.
    """

    cell: str = "lstm"
    layers: int = 1
    hidden: int = 256
    dropout: float = 0.0
    seq_len: int = 64
    batch: int = 32
    steps: int = 1500
    lr: float = 4e-3
    clip: float = 1.0
    seed: int = 0
    eval_every: int = 150
    text: str | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "seq_len", "batch", "steps", "eval_every"):
            value = getattr(self, name)
            self._need(name, isinstance(value, int) and value > 0, "a positive integer")
            self._need(name, value < 2**63, "below 2**63")
        self._need("cell", self.cell in _LAYERS, "one of " + ", ".join(_LAYERS))
        self._need("dtype", self.dtype in DTYPES, "one of " + ", ".join(DTYPES))
        try:
            _dtypes.numpy_dtype(self.dtype)
        except TypeError:
            raise UserError(
                f"--dtype {self.dtype} needs ml_dtypes: pip install ml_dtypes"
            ) from None
        self._need("seed", isinstance(self.seed, int) and self.seed >= 0, "an integer >= 0")
        for name in ("lr", "clip"):
            value = getattr(self, name)
            good = isinstance(value, (int, float)) and 0 < value < math.inf
            self._need(name, good, "a positive number")
        good = isinstance(self.dropout, (int, float)) and 0 <= self.dropout < 1
        self._need("dropout", good, "in [0, 1)")
        between = not self.dropout or self.layers > 1
        self._need("dropout", between, "0 for one layer, since it acts between layers")
        self._need("text", self.text is None or isinstance(self.text, str), "a file name")

    def training_bytes(self, characters: int) -> int:
        """Memory of the parameters, their gradients and Adam's two moments, in float32.

        In bfloat16 it is as much: parameters and gradients take half, and Adam a master copy.

        Parameters
        ----------
        characters : int
            The size of the vocabulary.
        """
        rows = {"lstm": 4, "gru": 3, "rnn": 1}[self.cell] * self.hidden
        columns = characters + self.hidden + 2 + (self.layers - 1) * (2 * self.hidden + 2)
        return 4 * 4 * (rows * columns + characters * (self.hidden + 1))

    def _need(self, name: str, good: bool, rule: str) -> None:
        if not good:
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} must be {rule}, got {getattr(self, name)!r}")


class Model:
    """One-hot characters into recurrent layers, and those into a softmax over the next character.

    Parameters
    ----------
    config : Config
        Cell, sizes, dropout and seed.
    vocabulary : Vocabulary
        Its size V is the layer's input size and the head's number of classes.
    """

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        size = len(vocabulary)
        seeds = np.random.default_rng(config.seed).integers(2**31, size=2).tolist()
        self.layer = getattr(fastrnn, _LAYERS[config.cell])(
            size,
            config.hidden,
            num_layers=config.layers,
            dropout=config.dropout,
            dtype=config.dtype,
            seed=seeds[0],
        )
        self.head = LinearCrossEntropy(config.hidden, size, seed=seeds[1])
        self._one_hot = np.eye(size, dtype=self.layer.dtype)

    @property
    def modules(self) -> dict[str, Any]:
        """The modules by their names in a checkpoint, in the optimiser's order."""
        return {"layer": self.layer, "head": self.head}

    def loss_and_grad(
        self, inputs: Array, targets: Array, state: State = None
    ) -> tuple[float, State, list[dict[str, Array]]]:
        """Loss of one window, the state after it and the gradients of `modules`.

        Parameters
        ----------
        inputs, targets : (T, B)
            Numbers of characters.
        state
            The state before the window; None is zero.
        """
        y, state, tape = self.layer.forward(self._one_hot[inputs], state)
        loss, dy, head_grads = self.head.loss_and_grad(_for_head(y), targets)
        _, _, layer_grads = self.layer.backward(tape, dy.astype(y.dtype, copy=False))
        return loss, state, [layer_grads, head_grads]

    def evaluate(self, streams: Streams, seq_len: int) -> float:
        """Mean loss per character, in nats, over all of `streams`, from the zero state."""
        total, state = 0.0, None
        for start in range(0, len(streams), seq_len):
            inputs, targets = streams.window(start, seq_len)
            y, state = self.layer(self._one_hot[inputs], state)
            total += self.head.loss(_for_head(y), targets) * targets.size
        return float(total / streams.targets.size)

    def generate(
        self, prompt: str, length: int, temperature: float, rng: np.random.Generator
    ) -> str:
        """Text that follows `prompt`, drawn character by character.

        Parameters
        ----------
        prompt : str
            Not empty.
        length : int
            How many characters to draw.
        temperature : float
            Divides the logits; 0 takes the most likely character.
        rng
            Where the draws come from.

        Raises
        ------
        UserError
            A character of the prompt that is not in the vocabulary; a model whose logits are
            not finite.
        """
        if not prompt:
            raise UserError("the prompt must not be empty")
        ids, state, text = self.vocabulary.encode(prompt), None, []
        for _ in range(length):
            y, state = self.layer(self._one_hot[ids[:, None]], state)
            z = self.head.logits(_for_head(y[-1, 0])).astype(np.float64)
            if not np.isfinite(z).all():
                raise UserError("the model gives logits that are not finite")
            if temperature > 0:
                with np.errstate(over="ignore"):  # by a temperature of next to nothing
                    p = np.cumsum(np.exp((z - z.max()) / temperature))
                ids = np.searchsorted(p, rng.random(1) * p[-1], side="right")
            else:
                ids = np.argmax(z, keepdims=True)
            text.append(self.vocabulary.characters[int(ids[0])])
        return "".join(text)


def _for_head(y: Array) -> Array:
    """What a layer gives, in the dtype of the head."""
    return y.astype(np.float32, copy=False)
