"""Model a distorting guitar amplifier, sample by sample, and play through the model in real time.

What is to be modelled is this circuit, which the program solves at 96,000 samples a second; x is
the guitar, u the amplified voltage behind the input capacitor, v that across a pair of diodes (one
this way, two in series that way) with a capacitor beside them, and y what comes out of the tone
filter:

    du/dt = A dx/dt - 2π 70 u
    C dv/dt = (u - v) / R - Is (exp(v / V1) - 1) + Is (exp(-v / 2 V1) - 1)
    dy/dt = 2π 4000 (v - y)

A = 30, R = 2200 Ω, C = 22 nF, Is = 2.52 nA and V1 = 45 mV, as of a 1N4148.

The guitars are plucked strings by the algorithm of Karplus and Strong; a chirp and speech of eSpeak
NG (GPL-3, of the package `espeakng-loader`) are played through the amplifier too. All sound is made
here. The held-out tune is the theme of Beethoven's last symphony.

The model is what Neural Amp Modeler trains under the name LSTM: three layers of 18 units, which
read one sample and give one. Baselines are the best linear filter, the best curve without memory
(both by least squares), and a filter, a curve and a filter in turn (Wiener and Hammerstein's model,
trained as the LSTM is), which resembles this circuit more than it would most amplifiers.

At last the weights go into a layer of plain fastrnn, on NumPy, which plays the tune in blocks as an
audio driver asks for them. Run it with ``python examples/synthesise.py``, and listen to
``synthesise.wav``.
"""

from __future__ import annotations

import time

from _program import Figures, Program, packages

with packages():
    import numpy as np
    import torch
    from _espeak import Synthesiser
    from scipy.io import wavfile
    from scipy.linalg import solve_toeplitz
    from scipy.signal import butter, chirp, correlate, lfilter, resample_poly, welch
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import SplineTransformer
    from torch import Tensor, nn

    import fastrnn

RATE, OVERSAMPLING = 48_000, 2
GAIN, RESISTOR, CAPACITOR, LEAK, VOLTS = 30.0, 2200.0, 22e-9, 2.52e-9, 0.045
CHORDS = [[0], [0, 7], [0, 4, 7], [0, 3, 7, 10]]  # in half tones above a root
BLOCK = 64  # samples that an audio driver asks for at once
BATCH, WARM, SCORED = 16, 1024, 512  # windows of an update, and their samples


def circuit(guitar: np.ndarray) -> np.ndarray:
    """What comes out of the amplifier, (rows, samples)."""
    rate = OVERSAMPLING * RATE  # distortion makes frequencies beyond RATE / 2
    guitar = resample_poly(guitar, OVERSAMPLING, 1, axis=1)
    u = GAIN * lfilter(*butter(1, 70, "highpass", fs=rate), guitar)
    # A step of the implicit Euler method, v' + h (v' / R + diodes(v')) = v + h u' / R with
    # h = dt / C, is stable however steep the diodes are. Its left side rises with v', so a table
    # tells which v' gives the right side.
    h = 1 / (rate * CAPACITOR)
    table = np.linspace(-3, 3, 20_000)
    diodes = LEAK * (np.expm1(table / VOLTS) - np.expm1(-table / (2 * VOLTS)))
    left = table + h * (table / RESISTOR + diodes)
    pushes = np.ascontiguousarray(u.T) * (h / RESISTOR)
    voltages = np.zeros_like(pushes)
    v = voltages[0]
    for n, push in enumerate(pushes):
        v = voltages[n] = np.interp(v + push, left, table)
    y = lfilter(*butter(1, 4000, fs=rate), voltages.T)
    return resample_poly(y, 1, OVERSAMPLING, axis=1)


def pluck(note: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A string by Karplus and Strong: noise runs round a delay line that smooths it each time."""
    delay = round(RATE / (440 * 2 ** ((note - 69) / 12)) - 0.5)
    noise = rng.uniform(-1, 1, delay)
    burst = np.zeros(samples)
    burst[:delay] = (noise - noise.mean())[:samples]  # a string sways about its place of rest
    burst = lfilter(*butter(1, 2000, fs=RATE), burst)  # a finger is softer than noise
    loop = np.zeros(delay + 2)
    loop[0], loop[delay:] = 1, -0.498
    return lfilter([1], loop, burst)


def play(score: list[tuple[float, list[int], float]], seconds: float, rng) -> np.ndarray:
    """Sound of a score of (second, notes of the chord, loudness)."""
    sound = np.zeros(round(seconds * RATE))
    for start, chord, loudness in score:
        begin = round(start * RATE)
        samples = min(len(sound) - begin, 2 * RATE)
        for note in chord:
            sound[begin : begin + samples] += loudness * pluck(note, samples, rng)
    return sound / 2


def practice(rows: int, seconds: float, synthesiser: Synthesiser, rng) -> np.ndarray:
    """Sounds to learn from, (rows, samples): a chirp, some speech, and notes at random."""
    samples = round(seconds * RATE)
    at = np.arange(samples) / RATE
    sweep = np.linspace(0, 1, samples) * chirp(at, 40, seconds, 12_000, "logarithmic")
    text = "An amplifier for a guitar, which distorts what is loud. " * 4
    speech = resample_poly(synthesiser.say(text, "en-us"), RATE, synthesiser.rate)
    takes = [sweep, np.resize(speech, samples)]
    while len(takes) < rows:
        starts = np.sort(rng.uniform(0, seconds, round(3 * seconds)))
        score = []
        for start in starts:
            root, chord = rng.integers(40, 72), CHORDS[rng.integers(len(CHORDS))]
            score.append((start, [root + step for step in chord], rng.uniform(0.1, 1)))
        takes.append(play(score, seconds, rng))
    return np.stack(takes).astype(np.float32)


def tune(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """The theme of the Ninth Symphony's last movement, with a bass."""
    theme = [64, 64, 65, 67, 67, 65, 64, 62, 60, 60, 62, 64, 64, 62, 62]
    beats = seconds / (len(theme) + 1)
    melody = [(n * beats, [note], 0.8) for n, note in enumerate(theme)]
    bass = [(n * beats, [48 - 5 * (n // 4 % 2), 55], 0.6) for n in range(0, len(theme), 4)]
    return play(melody + bass, seconds, rng).astype(np.float32)


class Recurrent(nn.Module):
    """Three layers of LSTM, and a sum of the last one's outputs."""

    def __init__(self, layers) -> None:
        super().__init__()
        self.rnn = layers.LSTM(1, 18, num_layers=3)
        self.head = nn.Linear(18, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs after the first WARM samples, (T - WARM, B) for (T, B)."""
        x = x[:, :, None]
        with torch.no_grad():  # the state as it would be amid a tune
            _, state = self.rnn(x[:WARM])
        y, _ = self.rnn(x[WARM:], state)
        return self.head(y)[:, :, 0]


class WienerHammerstein(nn.Module):
    """A linear filter, a curve, and a linear filter."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv1d(1, 1, 512, bias=False)
        self.curve = nn.Sequential(nn.Linear(1, 18), nn.Tanh(), nn.Linear(18, 1))
        self.after = nn.Conv1d(1, 1, 128, bias=False)
        for taps in (self.before.weight, self.after.weight):
            nn.init.zeros_(taps)
            taps.data[0, 0, -1] = 1.0  # lets all pass

    def forward(self, x: Tensor) -> Tensor:
        """As `Recurrent.forward`."""
        y = self.before(x.T[:, None])
        y = self.after(self.curve(y.mT).mT)
        return y[:, 0, WARM - len(x) :].T


def emphasise(y: Tensor) -> Tensor:
    """Raise high frequencies, to which ears are more sensitive than errors' squares are."""
    return y[1:] - 0.85 * y[:-1]


def error_to_signal(y, target):
    """Energy of the error in parts of the signal's, of tensors or arrays."""
    return ((y - target) ** 2).sum() / (target**2).sum()


def train(
    model: nn.Module, dry: Tensor, wet: Tensor, updates: int, program: Program, name: str
) -> None:
    """Minimise the error-to-signal ratio of windows at random places, as ears would have it."""
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=updates)
    window = torch.arange(WARM + SCORED)[:, None]
    for _ in program.progress(range(updates), name):
        rows = torch.randint(len(dry), (BATCH,))
        places = window + torch.randint(dry.shape[1] - len(window), (BATCH,))
        y, target = model(dry[rows, places]), wet[rows, places][WARM:]
        # Of a constant the emphasis leaves next to nothing, so the error's mean counts by itself.
        mean_error = (y - target).mean(dim=0).square().mean() / target.square().mean()
        loss = error_to_signal(emphasise(y), emphasise(target)) + mean_error
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        program.note(f"loss {loss.item():.4f}")


def linear_filter(dry: np.ndarray, wet: np.ndarray, taps: int = 512) -> np.ndarray:
    """The filter of so many taps that is best by least squares, from its normal equations."""
    zero = dry.shape[1] - 1  # the place of lag 0
    own = sum(correlate(x, x)[zero : zero + taps] for x in dry)
    cross = sum(correlate(y, x)[zero : zero + taps] for x, y in zip(dry, wet, strict=True))
    return solve_toeplitz(own, cross)


def curve(dry: np.ndarray, wet: np.ndarray) -> Pipeline:
    """The cubic spline from input to output that is best by least squares."""
    splines = SplineTransformer(n_knots=30, knots="quantile")
    return make_pipeline(splines, LinearRegression()).fit(dry.reshape(-1, 1), wet.ravel())


def stream(model: Recurrent, dry: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Play through the model in blocks, in plain fastrnn; also the seconds that each block took."""
    layer = fastrnn.LSTM(1, 18, num_layers=3)
    layer.load_state_dict({name: p.numpy() for name, p in model.rnn.state_dict().items()})
    weight, bias = (p.detach().numpy() for p in model.head.parameters())
    played, seconds, state = [], [], None
    for start in range(0, len(dry), block):
        begin = time.perf_counter()
        y, state = layer(dry[start : start + block, None, None], state)
        played.append(y[:, 0] @ weight[0] + bias)
        seconds.append(time.perf_counter() - begin)
    return np.concatenate(played), np.array(seconds)


def draw(figure, dry: np.ndarray, wet: np.ndarray, played: np.ndarray) -> None:
    """Some milliseconds from the middle of the tune, and the spectra of all of it."""
    wave, spectrum = figure.subplots(1, 2)
    thick = {"color": "C0", "linewidth": 4, "alpha": 0.5}  # what is to be met, below
    start = len(dry) * 15 // 32  # amid a note
    part = slice(start, start + RATE // 80)
    milliseconds = np.arange(RATE // 80) * 1000 / RATE
    wave.plot(milliseconds, dry[part], color="0.6", label="guitar")
    wave.plot(milliseconds, wet[part], **thick, label="circuit")
    wave.plot(milliseconds, played[part], "C1", label="LSTM")
    wave.set(xlabel="milliseconds", ylabel="volts", title="From the middle of the tune")
    wave.set(ylim=(-1.6, 0.8))
    wave.legend(loc="lower center", ncols=3)
    frequency, power = welch(np.stack([wet, played, wet - played]), RATE, nperseg=1024)
    decibels = 10 * np.log10(power)
    spectrum.semilogx(frequency, decibels[0], **thick)
    spectrum.semilogx(frequency, decibels[1], "C1")
    spectrum.semilogx(frequency, decibels[2], "C3")
    spectrum.set(xlim=(40, 20_000), ylim=(-110, -20), xlabel="hertz", ylabel="decibels")
    spectrum.set_title("Spectra of the tune")
    spectrum.legend(["circuit", "LSTM", "their difference"])


def main(argv: list[str] | None = None) -> Figures:
    """Solve the circuit, train the models, compare, and play in real time."""
    program = Program(__doc__, on_torch=True)
    options = program.start(argv)
    rows, seconds, updates = program.pick(full=(16, 6.0, 2400), quick=(6, 2.0, 180))
    rng = np.random.default_rng(options.seed)

    dry = practice(rows, seconds, Synthesiser(options.seed), rng)
    melody = tune(seconds, rng)
    wet = circuit(np.vstack([dry, melody])).astype(np.float32)
    wet, target = wet[:-1], wet[-1]

    models = {"LSTM": Recurrent(program.layers), "filter-curve-filter": WienerHammerstein()}
    for name, model in models.items():
        train(model, torch.from_numpy(dry), torch.from_numpy(wet), updates, program, name)

    played, took = stream(models["LSTM"], melody, BLOCK)
    half_second = RATE // 2
    whole, _ = stream(models["LSTM"], melody[:half_second], half_second)
    by_samples, _ = stream(models["LSTM"], melody[:half_second], 1)
    difference = max(np.abs(played[:half_second] - whole).max(), np.abs(by_samples - whole).max())

    with torch.no_grad():
        after_silence = torch.from_numpy(np.pad(melody, (WARM, 0)))
        filtered = models["filter-curve-filter"](after_silence[:, None])[:, 0].numpy()
    sounds = {
        "LSTM": played,
        "filter-curve-filter": filtered,
        "filter": lfilter(linear_filter(dry, wet), [1], melody),
        "curve": curve(dry[:, ::8], wet[:, ::8]).predict(melody[:, None]),
    }
    with program.picture("synthesise.png", width=10) as figure:
        draw(figure, melody, target, played)
    in_turn = np.concatenate([melody / np.abs(melody).max(), target, played])
    wavfile.write(program.file("synthesise.wav"), RATE, np.float32(in_turn / 2))
    print("in it: the tune as plucked, through the circuit, and through the LSTM")

    audio = len(melody) / RATE
    return program.report(
        {
            "error-to-signal ratio, %": {
                who: 100 * float(error_to_signal(sound, target)) for who, sound in sounds.items()
            },
            f"median of {BLOCK} samples, ms": {"LSTM": 1000 * float(np.median(took))},
            "99 of 100 take at most, ms": {"LSTM": 1000 * float(np.quantile(took, 0.99))},
            "times faster than played": {"LSTM": audio / float(took.sum())},
            "blocks, steps, whole differ by": {"LSTM": float(difference)},
        }
    )


if __name__ == "__main__":
    main()
