"""The recurrent networks that packages ship trained, each by its own code and by fastrnn.

For each there is a function that reads its weights and gives a `Pair`; `NETWORKS` lists them. The
own code is the package's where it runs without all that the package needs beside, and otherwise the
framework's layer on the package's weights. Inputs come from a seed.
"""

from __future__ import annotations

import json
import os
import runpy
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from _detectors import silero_sequence, silero_stream, whisper_detector
from _pairs import Pair, Result, load
from _registry import class_of, imported

import fastrnn
from fastrnn import weights

# ---- pronunciation -------------------------------------------------------------------------------


def recorded(thing: Any, method: str) -> list[Any]:
    """A list of what the calls of a method give from now on."""
    kept: list[Any] = []
    call = getattr(thing, method)

    def recording(*arguments: Any) -> Any:
        kept.append(call(*arguments))
        return kept[-1]

    setattr(thing, method, recording)
    return kept


WORDS = ["frumious", "snickersnack", "galumphing", "pythonesque", "a", "recurrently", "xylograph"]


def g2p_en(folder: Path, _: int) -> Pair:
    """Letters to phonemes of English: a GRU reads the word, a second one says it."""
    # Its module downloads dictionaries when it is imported; the class has the network.
    home = folder / "g2p_en"
    make = class_of(
        home / "g2p.py",
        "G2p",
        np=np,
        os=os,
        dirname=str(home),
        cmudict=SimpleNamespace(dict=dict),
        construct_homograph_dictionary=dict,
    )
    model = make()
    states = recorded(model, "grucell")

    def layer(name: str) -> Any:
        names = {f"{name}_{kind[0]}_{ends}": f"{kind}_{ends}_l0"
                 for kind in ("weight", "bias") for ends in ("ih", "hh")}  # fmt: skip
        params = {ours: model.variables[theirs] for theirs, ours in names.items()}
        inputs, units = params["weight_ih_l0"].shape[1], params["weight_hh_l0"].shape[1]
        return load(fastrnn.GRU(inputs, units), params)

    encoder, decoder = layer("enc"), layer("dec")

    def own() -> Result:
        states.clear()
        said = [model.predict(word) for word in WORDS]
        return Result(np.concatenate(states), said)

    def ours() -> Result:
        """All words in one call, and then their phonemes in steps of all words."""
        letters = [model.encode(word)[0] for word in WORDS]
        x = np.zeros((max(map(len, letters)), len(WORDS), letters[0].shape[1]), np.float32)
        for b, row in enumerate(letters):
            x[: len(row), b] = row
        read, state = encoder(x, lengths=[len(row) for row in letters])
        phoneme, spoken, told = np.full(len(WORDS), 2), [], []  # 2 begins a word, 3 ends it
        for _ in range(20):
            _, state = decoder(model.dec_emb[phoneme][None], state)
            phoneme = (state[0] @ model.fc_w.T + model.fc_b).argmax(-1)
            spoken.append(state[0])
            told.append(phoneme)
        values, said = [], []
        for b, row in enumerate(letters):
            numbers = [int(step[b]) for step in told]
            count = numbers.index(3) if 3 in numbers else len(numbers)
            said.append([model.idx2p[number] for number in numbers[:count]])
            values += [read[: len(row), b], np.stack(spoken)[: count + 1, b]]
        return Result(np.concatenate(values), said)

    return Pair(own, ours)


SENTENCES = ["他长大了想当银行行长", "音乐让人快乐", "重要的事情不必重复", "他还没有还书", "好"]


def g2pm(folder: Path, _: int) -> Pair:
    """Readings of Chinese characters that have several: an LSTM in both directions."""
    model = imported(folder, "g2pM").G2pM()
    logits = recorded(model, "fc_layer")
    unknown = model.char2idx["<UNK>"]
    rows = [[model.char2idx.get(char, unknown) for char in text] for text in SENTENCES]
    lengths = [len(row) for row in rows]
    numbers = np.zeros((len(rows), max(lengths)), np.int32)
    for b, row in enumerate(rows):
        numbers[b, : len(row)] = row
    targets = [len(row) // 2 for row in rows]
    params = {f"{name}_l0{suffix}": getattr(model, f"{name}{suffix}").astype(np.float64)
              for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
              for suffix in ("", "_reverse")}  # fmt: skip
    inputs, units = params["weight_ih_l0"].shape[1], params["weight_hh_l0"].shape[1]
    # Its zero states make it compute in float64.
    lstm = load(fastrnn.LSTM(inputs, units, bidirectional=True, dtype="float64"), params)

    def result(classes: Any) -> Result:
        return Result(logits[-1], [model.idx2class[int(each)] for each in classes])

    def own() -> Result:
        return result(model.predict(numbers, targets))

    def ours() -> Result:
        y, _ = lstm(model.get_embedding(numbers.T).astype(np.float64), lengths=lengths)
        return result(model.fc_layer(y[targets, range(len(rows))]).argmax(axis=1))

    return Pair(own, ours)


# ---- voices, texts, sleep ------------------------------------------------------------------------


def resemblyzer(folder: Path, seed: int) -> Pair:
    """What is a speaker's own in a voice, as 256 numbers: three layers of LSTM."""
    import torch

    home = folder / "resemblyzer"
    names = runpy.run_path(str(home / "hparams.py"))
    names |= {"torch": torch, "nn": torch.nn, "Path": Path, "timer": lambda: 0.0}
    model = class_of(home / "voice_encoder.py", "VoiceEncoder", **names)("cpu", verbose=False)
    own_lstm = model.lstm
    params = {name: tensor.numpy() for name, tensor in own_lstm.state_dict().items()}
    lstm = load(fastrnn.LSTM(40, 256, 3, batch_first=True), params)
    # Eight voices of 1.6 s: mel spectra are powers, with much at few frequencies.
    rng = np.random.default_rng(seed)
    bands = rng.gamma(0.5, 0.2, (8, 1, 40)) * rng.gamma(2.0, 0.5, (8, 160, 40))
    mels = torch.from_numpy(bands.astype(np.float32))

    class Ours(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            y, final = lstm(x.numpy())
            return torch.from_numpy(y), tuple(map(torch.from_numpy, final))

    @torch.inference_mode()
    def embed(layer: Any) -> Result:
        model.lstm = layer
        return Result(model(mels).numpy())

    return Pair(partial(embed, own_lstm), partial(embed, Ours()))


TEXT = "it is a truth universally acknowledged that a single man must be in want of a wife"
LONGEST = 40  # characters that textgenrnn looks back


def textgenrnn(folder: Path, _: int) -> Pair:
    """The next character of a text: two layers of LSTM, and attention over the steps of both."""
    import h5py
    import torch

    home = folder / "textgenrnn"
    numbers = json.loads((home / "textgenrnn_vocab.json").read_text(encoding="utf-8"))
    characters = {number: char for char, number in numbers.items()}
    rows = [[numbers[char] for char in TEXT[:end]][-LONGEST:] for end in range(1, len(TEXT) + 1)]
    contexts = np.array([[0] * (LONGEST - len(row)) + row for row in rows]).T
    with h5py.File(home / "textgenrnn_weights.hdf5") as file:
        embedding = file["embedding/embedding/embeddings:0"][()]
        attention = file["attention/attention/attention_W:0"][()]
        kernel, bias = (file[f"output/output/{name}:0"][()] for name in ("kernel", "bias"))
        stack = [cudnn_lstm(file[f"rnn_{k}/rnn_{k}"]) for k in (1, 2)]

    def tell(layers: Sequence[Callable[[np.ndarray], np.ndarray]], dtype: str) -> Result:
        steps = [embedding[contexts].astype(dtype)]
        for layer in layers:
            steps.append(layer(steps[-1]))
        x = np.concatenate(steps, axis=2)
        mean = (softmax(x @ attention, axis=0) * x).sum(axis=0)
        found = softmax(mean @ kernel + bias, axis=1)
        return Result(found, [characters.get(int(best), "") for best in found.argmax(axis=1)])

    def by_torch(params: dict[str, np.ndarray], dtype: str) -> Callable[[np.ndarray], np.ndarray]:
        lstm = torch.nn.LSTM(params["weight_ih_l0"].shape[1], 128, dtype=getattr(torch, dtype))
        lstm.load_state_dict({name: torch.from_numpy(a) for name, a in params.items()})
        return lambda x: lstm(torch.from_numpy(x))[0].detach().numpy()

    def by_us(params: dict[str, np.ndarray], dtype: str) -> Callable[[np.ndarray], np.ndarray]:
        lstm = load(fastrnn.LSTM(params["weight_ih_l0"].shape[1], 128, dtype=dtype), params)
        return lambda x: lstm(x)[0]

    def result(make: Any, dtype: str) -> Callable[[], Result]:
        layers = [make(params, dtype) for params in stack]
        return lambda: tell(layers, dtype)

    own, ours = result(by_torch, "float32"), result(by_us, "float32")
    # In float32 neither is within 1e-6 of this: rounding grows over two layers of large weights.
    truth, wide = result(by_torch, "float64"), result(by_us, "float64")
    return Pair(own, ours, lambda: (truth(), wide()))


def cudnn_lstm(group: Any) -> dict[str, np.ndarray]:
    """Parameters out of the weights of a layer ``CuDNNLSTM``, as the first Keras had it.

    Each gate's block of `kernel` holds cuDNN's matrix (H, I) in the order of its memory under the
    shape (I, H).
    """
    inputs, outputs, biases = (
        group[f"{name}:0"][()] for name in ("kernel", "recurrent_kernel", "bias")
    )
    blocks = [
        np.ascontiguousarray(block).reshape(-1, len(inputs)) for block in np.hsplit(inputs, 4)
    ]
    return weights.from_cudnn("lstm", [[*blocks, *np.hsplit(outputs, 4)]], [np.split(biases, 8)])


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def sleepecg(name: str, folder: Path, seed: int) -> Pair:
    """Stages of sleep in steps of 30 s: two layers of GRU in both directions."""
    os.environ.setdefault("KERAS_BACKEND", "torch")  # as the package does
    import keras
    import torch

    home = folder / "sleepecg" / "classifiers"
    with zipfile.ZipFile(home / f"{name}.zip") as archive, tempfile.TemporaryDirectory() as scratch:
        model = keras.models.load_model(archive.extract("classifier.keras", scratch))
    recurrent = [k for k, layer in enumerate(model.layers) if "Bidirectional" in str(type(layer))]
    first, end = recurrent[0], recurrent[-1] + 1
    params = {}
    for number, k in enumerate(recurrent):
        params |= weights.from_keras("gru", model.layers[k].get_weights(), number)
    gru = load(fastrnn.GRU(64, 8, len(recurrent), batch_first=True, bidirectional=True), params)
    # Parts of two nights; a step whose features are all -1 is none.
    lengths = np.array([240, 180])
    features = np.random.default_rng(seed).standard_normal((2, 240, 36)).astype(np.float32)
    features[1, lengths[1] :] = -1

    def result(found: Any) -> Result:
        rows = zip(found.numpy(), lengths, strict=True)
        values = np.concatenate([row[:length] for row, length in rows])
        return Result(values, values.argmax(axis=1).tolist())

    @torch.no_grad()
    def own() -> Result:
        return result(model(torch.from_numpy(features), training=False))

    @torch.no_grad()
    def ours() -> Result:
        x = torch.from_numpy(features)
        for layer in model.layers[:first]:
            x = layer(x)
        y, _ = gru(x.numpy(), lengths=lengths)
        x = torch.from_numpy(y)
        for layer in model.layers[end:]:
            x = layer(x)
        return result(x)

    return Pair(own, ours)


@dataclass(frozen=True)
class Network:
    """A trained network of a package.

    Parameters
    ----------
    package : str
        The requirement, pinned to the version that was read.
    title : str
        What the network is.
    compared : str
        What the numbers of its results are.
    within : float
        How far they may be apart; what is said must be the same.
    read : callable
        From the folder that the package is installed in, and the seed of the input, to its `Pair`.
        Raises `ModuleNotFoundError` where this needs a package that is not there.
    """

    package: str
    title: str
    compared: str
    within: float
    read: Callable[[Path, int], Pair]

    @property
    def name(self) -> str:
        return f"{self.package.partition('==')[0]}, {self.title}: {self.compared}"


SILERO, SLEEPECG = "silero-vad==6.2.3", "sleepecg==0.6.0"
# What float32 leaves open. Where that is more than 1e-6 of a probability, fastrnn is within 1e-6 of
# the same network with layers in float64 (`Pair.exact`), and the own code is as far from it or
# further; textgenrnn's is so in float64 alone, and both are some 2e-6 away in float32.
NETWORKS = [
    Network(SILERO, "LSTM 128, whole recordings", "probabilities", 1e-6, silero_sequence),
    Network(SILERO, "LSTM 128, step by step", "probabilities", 5e-6, silero_stream),
    Network("faster-whisper==1.2.1", "LSTM 128", "probabilities", 5e-6, whisper_detector),
    Network("g2p_en==2.1.0", "GRU 256, GRU 256", "phonemes, states", 1e-5, g2p_en),
    Network("g2pM==0.1.2.5", "LSTM 32, two directions", "readings, logits", 1e-5, g2pm),
    Network("Resemblyzer==0.1.4", "LSTM 256 x 3", "embeddings", 1e-5, resemblyzer),
    Network("textgenrnn==2.0.0", "LSTM 128 x 2", "characters, probabilities", 5e-6, textgenrnn),
    *(
        Network(
            SLEEPECG, f"GRU 8 x 2, {name}", "stages, probabilities", 1e-6, partial(sleepecg, name)
        )
        for name in ("wrn-gru-mesa", "wrn-gru-mesa-weighted", "ws-gru-mesa")
    ),
]
