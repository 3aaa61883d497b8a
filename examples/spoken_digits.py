"""Speech to text: recognise spoken strings of digits, by any voice, through noise.

eSpeak NG speaks (GPL-3; its library and voices come with the package `espeakng-loader`; all sound
is made as the program runs). Three to six digits, fast or slow, high or low, are said by one of a
hundred voices in one of six dialects of English. They come as by telephone: 8,000 samples a second,
each string with noise of its own strength and colour, that is, with more of low or of high tones.
The ten voices of the test said nothing in training; in one more test they speak with a Scottish
accent, which training never had either.

Nothing tells where in the sound a word begins or ends. So a network gives, every 30 ms, the
probability of each word and of none, and training by CTC (connectionist temporal classification)
raises the summed probability of all ways in time to say the right words in the right order. To
read the words off, take the likeliest at each step, drop repetitions, then drop the "none"s.

The network is an LSTM in both directions, since a string is over before it is read. The baseline is
a convolutional network of about as many weights, trained the same way on the same features, that
sees half a second around each step: as much as a word takes.

Run it with ``python examples/spoken_digits.py``. ``--recordings FOLDER`` also tests on a recorded
human voice, joined from files ``0.wav`` to ``9.wav`` and ``oh.wav``; Debian's package
asterisk-core-sounds-en-wav (Allison Smith's voice, CC BY-SA 3.0) installs such files in
``/usr/share/asterisk/sounds/en_US_f_Allison/digits``.
"""

from __future__ import annotations

import struct
import sys
from itertools import pairwise
from pathlib import Path

from _program import Figures, Program, packages

with packages():
    import jiwer
    import kaldi_native_fbank as knf
    import numpy as np
    import torch
    from _espeak import Synthesiser
    from scipy.io import wavfile
    from scipy.signal import lfilter, resample_poly
    from torch import Tensor, nn

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh"]
NONE = len(WORDS)  # CTC's blank
DIALECTS = ["en", "en-us", "en-us-nyc", "en-029", "en-gb-x-rp", "en-gb-x-gbclan"]
NEW_DIALECTS = ["en-gb-scotland"]
# Voices that resemble no other; many in the package are near copies of each other.
NEW_VOICES = ["m5", "Andrea", "Jacky", "Lee", "belinda", "grandma", "gustave", "shelby"]
NEW_VOICES += ["travis", "victor"]

RATE, BINS, STACK = 8000, 24, 3  # of the telephone; of the spectrum; frames of 10 ms in a step
BATCH = 16
Strings = list[tuple[Tensor, list[int]]]  # of each string its features and its words


def noisy(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sound at one level, with coloured noise 5 to 25 decibels below it."""
    noise = lfilter([1], [1, -rng.uniform(-0.5, 0.95)], rng.standard_normal(len(sound)))
    return sound / sound.std() + noise / noise.std() * 10 ** (-rng.uniform(5, 25) / 20)


def features_of(sound: np.ndarray) -> Tensor:
    """The log mel spectrum less its mean over time, STACK frames a step: (T, STACK * BINS)."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = BINS
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(RATE, sound.astype(np.float32))
    bank.input_finished()
    frames = np.stack([bank.get_frame(n) for n in range(bank.num_frames_ready)])
    frames = frames[: len(frames) // STACK * STACK]
    frames -= frames.mean(axis=0)
    return torch.from_numpy(frames.reshape(-1, STACK * BINS))


def random_words(longest: int, rng: np.random.Generator) -> list[int]:
    """A string of half the longest's words at least, as their places in WORDS."""
    return rng.integers(len(WORDS), size=rng.integers(longest // 2, longest + 1)).tolist()


def speak(synthesiser, count: int, longest: int, voices, dialects, rng, stretch=0.0) -> Strings:
    """Strings said by random voices in random ways.

    Sound that is played faster or slower, by a random part of at most `stretch`, is that of a
    smaller or larger throat: more voices to learn from.
    """
    strings = []
    for _ in range(count):
        words = random_words(longest, rng)
        sound = synthesiser.say(
            rng.choice([" ", ", "]).join(WORDS[word] for word in words),
            f"{rng.choice(dialects)}+{rng.choice(voices)}",
            words_a_minute=int(rng.integers(110, 240)),
            pitch=int(rng.integers(25, 75)),
        )
        rate = synthesiser.rate * (1 + rng.uniform(-stretch, stretch))
        rate = 100 * round(rate / 100)  # hundreds are quick to convert from
        sound = np.pad(resample_poly(sound, RATE, rate), RATE // 8)
        strings.append((features_of(noisy(sound, rng)), words))
    return strings


def read_words(folder: Path) -> list[np.ndarray]:
    """The recording of each word."""
    sounds = []
    for name in [*"0123456789", "oh"]:
        try:
            rate, sound = wavfile.read(folder / f"{name}.wav")
        except (OSError, ValueError, struct.error) as error:
            sys.exit(f"--recordings must be a folder with a sound {name}.wav: {error}")
        if sound.ndim != 1 or not sound.any():
            sys.exit(f"--recordings must be of one channel and not silent, got {name}.wav")
        sounds.append(resample_poly(sound.astype(np.float32), RATE, rate))
    return sounds


def join(sounds: list[np.ndarray], count: int, longest: int, rng) -> Strings:
    """Strings put together from one recording of each word."""
    strings = []
    for _ in range(count):
        words = random_words(longest, rng)
        sound = np.concatenate([sounds[word] for word in words])
        strings.append((features_of(noisy(sound, rng)), words))
    return strings


class Recurrent(nn.Module):
    """LSTM in both directions."""

    def __init__(self, layers, hidden: int) -> None:
        super().__init__()
        self.rnn = layers.LSTM(STACK * BINS, hidden, bidirectional=True)
        self.head = nn.Linear(2 * hidden, len(WORDS) + 1)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Logarithms of probabilities, (T, B, words), for padded features (T, B, I)."""
        packed = nn.utils.rnn.pack_padded_sequence(features, lengths, enforce_sorted=False)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])
        return self.head(y).log_softmax(dim=-1)


class Convolutional(nn.Module):
    """Two convolutions, which see 17 steps; what follows a row's end stays zero."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        sizes = (STACK * BINS, hidden, hidden)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, outputs, 9, padding=4) for inputs, outputs in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in self.convolutions)
        self.head = nn.Linear(hidden, len(WORDS) + 1)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """As `Recurrent.forward`."""
        y = features
        there = (torch.arange(len(y))[:, None] < lengths)[..., None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            y = norm(convolution(y.permute(1, 2, 0)).permute(2, 0, 1)).relu() * there
        return self.head(y).log_softmax(dim=-1)


def collate(strings: Strings) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Padded features (T, B, I), their lengths, all words in a row, and how many each has."""
    features = nn.utils.rnn.pad_sequence([f for f, _ in strings])
    lengths = torch.tensor([len(f) for f, _ in strings])
    words = torch.tensor([word for _, words in strings for word in words])
    return features, lengths, words, torch.tensor([len(words) for _, words in strings])


def train(model: nn.Module, strings: Strings, epochs: int, program: Program, name: str) -> None:
    """Minimise CTC's loss; the learning rate rises and falls once."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    steps = epochs * -(-len(strings) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    ctc = nn.CTCLoss(blank=NONE)
    model.train()
    for _ in program.progress(range(epochs), name):
        for rows in torch.randperm(len(strings)).split(BATCH):
            features, lengths, words, counts = collate([strings[row] for row in rows])
            features = nn.functional.dropout(features, 0.2)  # so that no detail is relied on
            loss = ctc(model(features, lengths), words, lengths, counts)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        program.note(f"loss {loss.item():.3f}")


@torch.no_grad()
def transcribe(model: nn.Module, strings: Strings) -> list[str]:
    """The words that the model hears."""
    model.eval()
    texts = []
    for start in range(0, len(strings), BATCH):
        features, lengths, _, _ = collate(strings[start : start + BATCH])
        best = model(features, lengths).argmax(dim=-1)  # (T, B)
        for row, length in enumerate(lengths):
            heard = best[:length, row].unique_consecutive()
            texts.append(" ".join(WORDS[word] for word in heard if word != NONE))
    return texts


def draw(figure, model: nn.Module, features: Tensor, words: list[int]) -> None:
    """A string's spectrum, and the probabilities of the words as it goes by."""
    with torch.no_grad():
        posteriors = model(features[:, None], torch.tensor([len(features)]))[:, 0].exp().numpy()
    top, bottom = figure.subplots(2, 1, sharex=True)
    spectrum = features.reshape(-1, BINS).T
    seconds = (np.arange(len(features)) + 0.5) * STACK / 100
    extent = (0, len(features) * STACK / 100, 0, BINS)
    top.imshow(spectrum, aspect="auto", origin="lower", extent=extent, cmap="magma")
    top.set(ylabel="mel band", title="said: " + " ".join(WORDS[word] for word in words))
    bottom.fill_between(seconds, posteriors[:, NONE], color="0.9")
    bottom.text(0.01, 0.45, "none", color="0.5")
    for word in range(NONE):
        bottom.plot(seconds, posteriors[:, word])
    best = posteriors.argmax(axis=1)
    for step in np.flatnonzero((best != NONE) & (best != np.roll(best, 1))):
        bottom.text(seconds[step], 1.05, WORDS[best[step]], ha="center")
    bottom.set(xlabel="seconds", ylabel="probability", ylim=(0, 1.2))


def main(argv: list[str] | None = None) -> Figures:
    """Train both networks, and count the words that they get wrong."""
    program = Program(__doc__, on_torch=True)
    program.parser.add_argument(
        "--recordings", type=Path, metavar="FOLDER", help="recorded words, see the docstring"
    )
    options = program.start(argv)
    count, test_count, epochs = program.pick(full=(4000, 300, 8), quick=(500, 80, 10))
    hidden = program.pick(full=96, quick=48)
    longest = program.pick(full=6, quick=3)

    recordings = read_words(options.recordings) if options.recordings else None

    rng = np.random.default_rng(options.seed)
    synthesiser = Synthesiser(options.seed)
    voices = [voice for voice in synthesiser.variants if voice not in NEW_VOICES]
    strings = speak(synthesiser, count, longest, voices, DIALECTS, rng, stretch=0.15)
    tests = {
        test: speak(synthesiser, test_count, longest, NEW_VOICES, dialects, rng)
        for test, dialects in [("new voices", DIALECTS), ("new dialect", NEW_DIALECTS)]
    }
    if recordings:
        tests["recorded voice"] = join(recordings, test_count, longest, rng)

    models = {"LSTM": Recurrent(program.layers, hidden), "convolution": Convolutional(hidden)}
    for name, model in models.items():
        train(model, strings, epochs, program, name)

    figures: Figures = {}
    for test, spoken in tests.items():
        said = [" ".join(WORDS[word] for word in words) for _, words in spoken]
        heard = {name: transcribe(model, spoken) for name, model in models.items()}
        figures[f"word error rate, {test}, %"] = {
            name: 100 * jiwer.wer(said, texts) for name, texts in heard.items()
        }
        print(f"\n{test}")
        for text, answer in list(zip(said, heard["LSTM"], strict=True))[:3]:
            print(f"  said  {text}\n  heard {answer}")

    with program.picture("spoken_digits.png", width=10, height=5) as figure:
        draw(figure, models["LSTM"], *max(tests["new voices"], key=lambda s: len(s[1])))
    return program.report(figures)


if __name__ == "__main__":
    main()
