"""A character language model, from text to checkpoint to sample.

The way of the data: `load_text` -> `Vocabulary` (characters to integers) -> `Streams` (B parallel
pieces of the text, cut into windows of T steps) -> `Model` (one-hot characters into the layer,
the layer into the softmax head) -> `Run` (model, optimiser and position; what a checkpoint holds)
-> `train` (the loop, with validation and checkpoints).

Training is truncated backpropagation through time with carried state: each window starts from the
final state of the window before it, and gradients stop at its start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import importlib
import json
import math
import os
import signal
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

import fastrnn
from fastrnn.training import Adam, LinearCrossEntropy, clip_grad_norm_

__all__ = [
    "Config",
    "Model",
    "Run",
    "Stopped",
    "Streams",
    "UserError",
    "Vocabulary",
    "load_text",
    "plot",
    "require_plot",
    "train",
]

_Array = npt.NDArray[Any]
_State = Any  # what a layer takes and gives: (L, B, H), or a pair of these for the LSTM

_FORMAT = 1
_VALIDATION_SHARE = 0.05
_LN2 = math.log(2)


class UserError(Exception):
    """What the caller can put right; the message is for them, `code` is the exit status."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


# --- text --------------------------------------------------------------------------------------


def load_text(path: str | os.PathLike[str] | None) -> str:
    """The text of a UTF-8 file, or with None the English help texts that come with Python.

    The help texts share many paragraphs; each is kept once, so that the part held out for
    validation is not seen in training.

    Raises
    ------
    UserError
        A file that is missing, unreadable or not UTF-8; a Python without its help texts.
    """
    if path is None:
        try:
            topics = importlib.import_module("pydoc_data.topics").topics
        except ImportError:
            raise UserError(
                "this Python comes without pydoc_data.topics; give a text with --text FILE"
            ) from None
        everything = "\n\n".join(topics[name] for name in sorted(topics))
        return "\n\n".join(dict.fromkeys(p.strip("\n") for p in everything.split("\n\n")))
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


class Vocabulary:
    """The characters of a text, sorted, and their numbers.

    Parameters
    ----------
    characters : str
        Distinct characters; the number of one is its place.
    """

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._number = {c: i for i, c in enumerate(characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> _Array:
        """Numbers of the characters of `text`, (len(text),) int64.

        Raises
        ------
        UserError
            A character that is not in the vocabulary.
        """
        unknown = sorted(set(text) - self._number.keys())
        if unknown:
            shown = " ".join(repr(c) for c in unknown[:10])
            raise UserError(f"not in the vocabulary of this model: {shown}")
        return np.fromiter((self._number[c] for c in text), np.int64, len(text))

    def default_prompt(self) -> str:
        """A prompt that every text of this vocabulary could hold."""
        return "The " if set("The ") <= self._number.keys() else self.characters[0]


class Streams:
    """A text cut into B pieces that are read side by side.

    Parameters
    ----------
    ids : (N,)
        Numbers of the characters.
    batch : int
        B. Each piece has ``(N - 1) // B`` steps; the remainder of the text is not used.

    Attributes
    ----------
    inputs, targets : (steps, B)
        A character and the one after it.
    """

    def __init__(self, ids: _Array, batch: int) -> None:
        steps = max(0, len(ids) - 1) // batch
        self.inputs = ids[: steps * batch].reshape(batch, steps).T
        self.targets = ids[1 : steps * batch + 1].reshape(batch, steps).T

    def __len__(self) -> int:
        return len(self.inputs)

    def window(self, start: int, length: int) -> tuple[_Array, _Array]:
        """Inputs and targets of the steps [start, start + length), each (T, B)."""
        at = slice(start, start + length)
        return self.inputs[at], self.targets[at]


# --- model -------------------------------------------------------------------------------------

_LAYERS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


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

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "seq_len", "batch", "steps", "eval_every"):
            value = getattr(self, name)
            self._need(name, isinstance(value, int) and value > 0, "a positive integer")
            self._need(name, value < 2**63, "below 2**63")
        self._need("cell", self.cell in _LAYERS, "one of " + ", ".join(_LAYERS))
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
            size, config.hidden, num_layers=config.layers, dropout=config.dropout, seed=seeds[0]
        )
        self.head = LinearCrossEntropy(config.hidden, size, seed=seeds[1])
        self._one_hot = np.eye(size, dtype=np.float32)

    @property
    def modules(self) -> dict[str, Any]:
        """The modules by their names in a checkpoint, in the optimiser's order."""
        return {"layer": self.layer, "head": self.head}

    def loss_and_grad(
        self, inputs: _Array, targets: _Array, state: _State = None
    ) -> tuple[float, _State, list[dict[str, _Array]]]:
        """Loss of one window, the state after it and the gradients of `modules`.

        Parameters
        ----------
        inputs, targets : (T, B)
            Numbers of characters.
        state
            The state before the window; None is zero.
        """
        y, state, tape = self.layer.forward(self._one_hot[inputs], state)
        loss, dy, head_grads = self.head.loss_and_grad(y, targets)
        _, _, layer_grads = self.layer.backward(tape, dy)
        return loss, state, [layer_grads, head_grads]

    def evaluate(self, streams: Streams, seq_len: int) -> float:
        """Mean loss per character, in nats, over all of `streams`, from the zero state."""
        total, state = 0.0, None
        for start in range(0, len(streams), seq_len):
            inputs, targets = streams.window(start, seq_len)
            y, state = self.layer(self._one_hot[inputs], state)
            total += self.head.loss(y, targets) * targets.size
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
            z = self.head.logits(y[-1, 0]).astype(np.float64)
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


# --- a run and its checkpoint ------------------------------------------------------------------


class Run:
    """A model, its optimiser and the place in the text: all that training goes on from.

    Parameters
    ----------
    config : Config
        Kept in the checkpoint.
    vocabulary : Vocabulary
        Likewise.
    text_hash : str
        SHA-256 of the text, by which a later run knows it again.
    """

    def __init__(self, config: Config, vocabulary: Vocabulary, text_hash: str) -> None:
        self.config = config
        self.text_hash = text_hash
        self.model = Model(config, vocabulary)
        self.optimizer = Adam(list(self.model.modules.values()), config.lr)
        self.step = 0
        self.state: _State = None
        self.train_losses: list[float] = []  # one per step
        self.valid_losses: list[tuple[int, float]] = []  # (step, loss)

    def reconfigure(self, **changes: Any) -> None:
        """Change what may change within a run: steps, lr, clip, eval_every, text."""
        self.config = dataclasses.replace(self.config, **changes)
        self.optimizer.lr = self.config.lr

    @classmethod
    def start(cls, config: Config, text: str) -> Run:
        """A new run on `text`.

        Raises
        ------
        UserError
            No text; a model that this machine's memory cannot hold.
        """
        if not text:
            raise UserError("the text is empty")
        vocabulary = Vocabulary("".join(sorted(set(text))))
        # Asked before: a system may promise more than it has, and then ends the process.
        need, have = config.training_bytes(len(vocabulary)), _memory()
        if need > have:
            raise UserError(
                f"--layers {config.layers} of --hidden {config.hidden} must fit in this machine's "
                f"memory of {have / 2**30:,.0f} GiB, got {need // 2**30:,} GiB to train them"
            )
        return cls(config, vocabulary, _hash(text))

    def split(self, text: str) -> tuple[Streams, Streams]:
        """The streams to train on and those to validate with (the end of the text).

        Raises
        ------
        UserError
            Another text than the run's, or one too short for a single window.
        """
        if _hash(text) != self.text_hash:
            raise UserError("the text is not the one that this checkpoint was trained on")
        c = self.config
        held_out = max(2, round(len(text) * _VALIDATION_SHARE))
        ids = self.model.vocabulary.encode(text)
        train_ids, valid_ids = ids[:-held_out], ids[-held_out:]
        if len(train_ids) <= c.batch * c.seq_len:
            raise UserError(
                f"the text is too short: {len(train_ids)} characters to train on, and --batch "
                f"{c.batch} times --seq-len {c.seq_len} needs more than {c.batch * c.seq_len}"
            )
        # A piece must be long against the steps that a zero state needs to warm up.
        pieces = max(1, min(c.batch, held_out // (4 * c.seq_len)))
        return Streams(train_ids, c.batch), Streams(valid_ids, pieces)

    def train_step(self, streams: Streams) -> float:
        """One window: loss in nats before the update."""
        c = self.config
        window = self.step % (len(streams) // c.seq_len)
        if window == 0:
            self.state = None  # the streams start anew, far from where they ended
        inputs, targets = streams.window(window * c.seq_len, c.seq_len)
        loss, self.state, grads = self.model.loss_and_grad(inputs, targets, self.state)
        clip_grad_norm_(grads, c.clip)
        self.optimizer.step(grads)
        self.step += 1
        self.train_losses.append(loss)
        return loss

    def save(self, path: Path) -> None:
        """Write the checkpoint: to a temporary file beside `path`, which then takes its place.

        So `path` is at any moment whole, the old one or the new one.

        Raises
        ------
        UserError
            The checkpoint cannot be written.
        """
        self._write(path, keep=True)

    def rehearse_save(self, path: Path) -> None:
        """Do all that `save` does and leave `path` as it is: what fails now would fail later.

        Raises
        ------
        UserError
            As `save`.
        """
        self._write(path, keep=False)

    def _write(self, path: Path, keep: bool) -> None:
        header = {
            "format": _FORMAT,
            "fastrnn": fastrnn.__version__,
            "config": dataclasses.asdict(self.config),
            "vocabulary": self.model.vocabulary.characters,
            "text_sha256": self.text_hash,
            "step": self.step,
            "dropout_draws": self.model.layer._draws,
        }
        arrays: dict[str, Any] = {"config": json.dumps(header)}
        for prefix, module in [*self.model.modules.items(), ("optimizer", self.optimizer)]:
            arrays.update((f"{prefix}.{k}", v) for k, v in module.state_dict().items())
        if self.state is not None:
            parts = self.state if isinstance(self.state, tuple) else (self.state,)
            arrays.update((f"state.{i}", part) for i, part in enumerate(parts))
        arrays["history.train"] = np.array(self.train_losses, np.float64)
        arrays["history.valid"] = np.array(self.valid_losses, np.float64).reshape(-1, 2)

        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            if path.exists() and not path.is_file():  # a device or a pipe; it would be replaced
                raise OSError(errno.EINVAL, "not a regular file")
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            if keep:
                os.replace(temporary, path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}", code=1) from None
        finally:
            with contextlib.suppress(OSError):  # of a name that no file can have
                temporary.unlink()

    @classmethod
    def load(cls, path: Path) -> Run:
        """The run of a checkpoint.

        Raises
        ------
        UserError
            A file that is missing or is no whole checkpoint. Nothing in it is ever executed.
        """
        try:
            with open(path, "rb") as file:
                return cls._read(file)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from None
        except (
            UserError,
            ValueError,
            TypeError,
            KeyError,
            EOFError,
            MemoryError,
            OverflowError,
            RuntimeError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            # All that zipfile, np.load, json and the checks of `_read` raise for other bytes.
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path} is not a whole fastrnn checkpoint: {reason}") from None

    @classmethod
    def _read(cls, file: BinaryIO) -> Run:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("not an .npz file")
        arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays["config"]))
        if not isinstance(header, dict) or header["format"] != _FORMAT:
            raise ValueError("another format of checkpoint")

        config = Config(**header["config"])
        characters = header["vocabulary"]
        if not isinstance(characters, str) or not 0 < len(characters) == len(set(characters)):
            raise ValueError("vocabulary must be distinct characters")
        # Checked before a layer of that size is made.
        last = arrays[f"layer.weight_hh_l{config.layers - 1}"].shape
        first = arrays["layer.weight_ih_l0"].shape
        if last[-1:] != (config.hidden,) or first[-1:] != (len(characters),):
            raise ValueError("sizes of config and parameters differ")

        def part(prefix: str) -> dict[str, _Array]:
            start = prefix + "."
            return {k[len(start) :]: v for k, v in arrays.items() if k.startswith(start)}

        run = cls(config, Vocabulary(characters), header["text_sha256"])
        for prefix, module in [*run.model.modules.items(), ("optimizer", run.optimizer)]:
            module.load_state_dict(part(prefix))
        run.model.layer._draws = int(header["dropout_draws"])
        run.step = header["step"]
        train, valid = arrays["history.train"], arrays["history.valid"]
        if train.shape != (run.step,) or valid.shape[1:] != (2,) or train.dtype != valid.dtype:
            raise ValueError("step and history differ")
        run.train_losses = train.tolist()
        run.valid_losses = [(int(step), loss) for step, loss in valid.tolist()]
        state = [v for _, v in sorted(part("state").items())]
        shape = (config.layers, config.batch, config.hidden)
        count = 0 if run.step == 0 else 2 if config.cell == "lstm" else 1
        if len(state) != count or any(s.shape != shape or s.dtype != np.float32 for s in state):
            raise ValueError(f"state must be {count} arrays of float32 {shape}")
        if state:
            run.state = tuple(state) if config.cell == "lstm" else state[0]
        return run


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- training loop -----------------------------------------------------------------------------


class _Progress:
    """tqdm's bar, or without tqdm a plain line every second."""

    def __init__(self, run: Run) -> None:
        self._chars = run.config.batch * run.config.seq_len
        self._steps, self._done = run.config.steps, run.step
        self._start, self._first = time.monotonic(), run.step
        self._said = self._start
        self._average = 0.0
        self._bar = None
        try:
            tqdm = importlib.import_module("tqdm").tqdm
        except ImportError:
            return
        self._bar = tqdm(
            total=self._steps * self._chars,
            initial=self._done * self._chars,
            unit="char",
            unit_scale=True,
            mininterval=0.2,
            dynamic_ncols=True,
        )

    def update(self, loss: float) -> None:
        """One more step is done."""
        self._done += 1
        steps = self._done - self._first
        self._average += (loss - self._average) / min(steps, 20)
        bits = self._average / _LN2
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"loss {self._average:.3f}, {bits:.3f} bits/char", refresh=False
            )
            self._bar.update(self._chars)
            return
        now = time.monotonic()
        if now - self._said >= 1 or self._done == self._steps:
            self._said = now
            speed = steps * self._chars / (now - self._start)
            line = f"step {self._done}/{self._steps}  loss {self._average:.3f}  "
            print(f"{line}{bits:.3f} bits/char  {speed:,.0f} char/s", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line)
            sys.stdout.flush()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


class Stopped(KeyboardInterrupt):
    """Training that a signal has ended; `number` is the signal's."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


# What a second signal does. (A second Ctrl-C is a KeyboardInterrupt, at once.)
_SECOND: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """Within: the first Ctrl-C or SIGTERM is noted in the list; a second one ends what goes on.

    A signal that is ignored, as under nohup, stays so, and one whose handler is not Python's
    stays with it. Outside the main thread, where Python lets no signal be handled, nothing is
    noted.
    """
    noted: list[int] = []
    previous = {number: signal.getsignal(number) for number in _SECOND}
    if threading.current_thread() is not threading.main_thread():
        previous = {}
    previous = {n: by for n, by in previous.items() if by not in (signal.SIG_IGN, None)}

    def note(number: int, _: FrameType | None) -> None:
        noted.append(number)
        for each in previous:
            signal.signal(each, _SECOND[each])

    for number in previous:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def train(run: Run, streams: Streams, held_out: Streams, out: Path) -> None:
    """Train until ``run.config.steps``; validate and write the checkpoint at intervals.

    Parameters
    ----------
    run : Run
        A new one, or a loaded one to go on with.
    streams, held_out : Streams
        What ``run.split`` gave.
    out : Path
        The checkpoint to write.

    Raises
    ------
    UserError
        A loss that is no longer finite, a checkpoint that cannot be written. The last
        checkpoint stays.
    Stopped
        A KeyboardInterrupt: after Ctrl-C or SIGTERM, once the step under way is done and the
        checkpoint written.
    BrokenPipeError
        Nobody reads what is printed any more; the checkpoint is written.
    """
    first = run.step
    with interrupts() as noted:
        try:
            with contextlib.closing(_Progress(run)) as progress:
                while run.step < run.config.steps and not noted:
                    _train_on(run, streams, held_out, out, progress)
        except BrokenPipeError:
            if run.step > first:
                run.save(out)
            raise
        if noted:
            run.save(out)
    if noted:
        message = f"stopped at step {run.step}; checkpoint written to {out}"
        raise Stopped(message, noted[0])


def _train_on(
    run: Run, streams: Streams, held_out: Streams, out: Path, progress: _Progress
) -> None:
    """One step; where they are due, the validation and the checkpoint after it."""
    c = run.config
    loss = run.train_step(streams)
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss} at step {run.step}; a smaller --lr may help", code=1)
    due = run.step % c.eval_every == 0 or run.step >= c.steps
    if due:
        valid = run.model.evaluate(held_out, c.seq_len)
        since = run.valid_losses[-1][0] if run.valid_losses else 0
        run.valid_losses.append((run.step, valid))
        run.save(out)  # before anything is printed, which may fail
    progress.update(loss)
    if due:
        mean = float(np.mean(run.train_losses[since:]))
        progress.say(
            f"step {run.step:6}  train {mean:.3f}  validation {valid:.3f} nats  "
            f"= {valid / _LN2:.3f} bits/char"
        )


# --- plot --------------------------------------------------------------------------------------


def require_plot(path: Path) -> None:
    """Refuse a plot that could not be drawn, before the training and not after it.

    Raises
    ------
    UserError
        No matplotlib; a file type that it does not write.
    """
    try:
        figure = importlib.import_module("matplotlib.figure").Figure()
    except ImportError:
        raise UserError('--plot needs matplotlib: pip install "fastrnn[demo]"') from None
    known = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise UserError(f"--plot must end in one of {', '.join(sorted(known))}, got {path}")


def plot(run: Run, path: Path) -> None:
    """Draw training and validation loss against the characters seen."""
    figure = importlib.import_module("matplotlib.figure").Figure(layout="constrained")
    axes = figure.subplots()
    chars = run.config.batch * run.config.seq_len
    losses = np.array(run.train_losses)
    group = max(1, len(losses) // 200)  # steps averaged into one of about 200 points
    points = len(losses) // group
    means = losses[: points * group].reshape(points, group).mean(axis=1)
    axes.plot((np.arange(points) + 1) * group * chars, means, label="training")
    steps, valid = np.array(run.valid_losses).reshape(-1, 2).T
    axes.plot(steps * chars, valid, "o-", markersize=3, label="validation")
    axes.set_xlabel("characters seen")
    axes.set_ylabel("loss, nats per character")
    bits = axes.secondary_yaxis("right", functions=(lambda x: x / _LN2, lambda x: x * _LN2))
    bits.set_ylabel("bits per character")
    axes.legend()
    try:
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}", code=1) from None
