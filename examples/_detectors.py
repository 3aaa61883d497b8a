"""silero-vad, which hears speech, in its own package and in faster-whisper: an LSTM of 128 units.

Both ship it as graphs of ONNX: for single steps, and for many at once. Steps are of 32 ms.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _pairs import Pair, Result, load
from _registry import class_of, imported

import fastrnn
from fastrnn import weights

RATE, FRAME, CONTEXT = 16_000, 512, 64  # samples a second, of a step, of the step before


def speech(seconds: float, seed: int) -> np.ndarray:
    """Something like it at 16 kHz: syllables of a buzz through three resonances, and pauses."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formants = 500 + 250 * np.sin(2 * np.pi * 1.7 * time), 1500 + 500 * np.sin(4 * time), 2500
    voice = np.zeros_like(time)
    for k in range(1, 30):
        near = [np.exp(-(((k * pitch - f) / 180) ** 2)) for f in formants]
        voice += (sum(near) + 0.02) / np.sqrt(k) * np.sin(k * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2.2 * time), 0, 1) * (np.sin(2 * np.pi * 0.4 * time) > 0)
    noise = rng.standard_normal(len(time))
    return (0.1 * voice * syllables + 0.002 * noise).astype(np.float32)


class Session:
    """In the place of a session of ONNX Runtime: fastrnn runs the one LSTM of the graph.

    Attributes
    ----------
    lstm : fastrnn.LSTM
        It may be another layer with the same sizes.
    """

    def __init__(self, file: Path, dtype: str = "float32") -> None:
        import onnx
        import onnx.utils
        import onnxruntime

        model = onnx.load(file)
        (node,) = (node for node in model.graph.node if node.op_type == "LSTM")
        for name in (node.input[0], node.output[0]):  # for what cuts: shapes are not inferred
            shaped = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            model.graph.value_info.append(shaped)
        extractor = onnx.utils.Extractor(model)

        def part(inputs: list[str], outputs: list[str]) -> Any:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            text = extractor.extract_model(inputs, outputs).SerializeToString()
            return onnxruntime.InferenceSession(text, options, ["CPUExecutionProvider"])

        self._before = part(["input"], [node.input[0]])
        self._after = part([node.output[0]], ["speech_probs"])
        self._after_input = node.output[0]
        arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
        params = weights.from_onnx("lstm", *(arrays[name] for name in node.input[1:4]))
        self.lstm = load(fastrnn.LSTM(128, 128, dtype=dtype), params)

    def run(self, _: Any, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Probabilities of speech and the states, as the graphs of both packages give them."""
        (x,) = self._before.run(None, {"input": given["input"]})
        x, h, c = (np.asarray(a, self.lstm.dtype) for a in (x, given["h"], given["c"]))
        y, (h, c) = self.lstm(x, (h, c))
        after = {self._after_input: y[:, None].astype(np.float32, copy=False)}
        (probabilities,) = self._after.run(None, after)
        return [probabilities, h, c]


def silero(folder: Path) -> Any:
    """The package, whose import sets torch's threads."""
    import torch

    threads = torch.get_num_threads()
    try:
        return imported(folder, "silero_vad")
    finally:
        torch.set_num_threads(threads)


def with_session(model: Any, call: Callable[[Any], np.ndarray], file: Path) -> Pair:
    """A pair of one model and its call, by its session and by ours."""
    sessions = {
        "own": model.session,
        "ours": Session(file),
        "exact": Session(file, "float64"),
    }

    def run(whose: str) -> Result:
        model.session = sessions[whose]
        return Result(call(model))

    return Pair(partial(run, "own"), partial(run, "ours"), lambda: (run("exact"), run("ours")))


def silero_sequence(folder: Path, seed: int) -> Pair:
    """silero-vad on whole recordings: its graph for blocks of 512 steps."""
    silero(folder)
    file = folder / "silero_vad" / "data" / "silero_vad_16k_sequence.onnx"
    model = imported(folder, "silero_vad.sequence_vad").SileroVADSequence(file)
    sound = speech(20, seed)
    return with_session(model, lambda model: model.audio_forward(sound), file)


def whisper_detector(folder: Path, seed: int) -> Pair:
    """The detector of faster-whisper: silero-vad's network in a graph of its own."""
    import onnxruntime  # noqa: F401  # the class would tell the want of it by another error

    file = folder / "faster_whisper" / "assets" / "silero_vad_v6.onnx"
    make = class_of(folder / "faster_whisper" / "vad.py", "SileroVADModel", np=np)
    sound = speech(20, seed)
    sound = np.pad(sound, (0, -len(sound) % FRAME))
    # It writes into the sound that it is given.
    return with_session(make(file), lambda model: model(sound.copy()), file)


def silero_stream(folder: Path, seed: int) -> Pair:
    """silero-vad on a stream, 32 ms a call: its graph for steps, and the weights of that graph.

    The graph has its network inside a condition, where nothing can be cut out, so all of it stands
    here anew: magnitudes of a Fourier transform, four convolutions, the cell, a linear layer. (The
    package's `silero_vad_16k.safetensors` holds other weights than its graphs.)
    """
    import onnx
    import torch
    from torch.nn.functional import conv1d, pad

    file = folder / "silero_vad" / "data" / "silero_vad_16k_op15.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is for 16 kHz alone
        model = silero(folder).utils_vad.OnnxWrapper(str(file), True)
    arrays = {
        each.name.removeprefix("model."): onnx.numpy_helper.to_array(each).copy()
        for each in onnx.load(file).graph.initializer
    }
    cell_names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell_params = {name: arrays[f"decoder.rnn.{name}"] for name in cell_names}
    cells = {
        dtype: load(fastrnn.LSTMCell(128, 128, dtype=dtype), cell_params)
        for dtype in ("float32", "float64")
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    frames = torch.from_numpy(speech(5, seed)).unfold(0, FRAME, FRAME)

    def convolve(x: Any, name: str, **options: int) -> Any:
        return conv1d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], **options)

    def features(sound: Any) -> np.ndarray:
        """What the cell reads of a step with its context, (1, 576) to (1, 128)."""
        padded = pad(sound, (0, CONTEXT), "reflect")[:, None]
        parts = conv1d(padded, tensors["stft.forward_basis_buffer"], stride=128).chunk(2, dim=1)
        x = torch.sqrt(parts[0] ** 2 + parts[1] ** 2)
        for k, stride in enumerate((1, 2, 2, 1)):
            x = convolve(x, f"encoder.{k}.reparam_conv", stride=stride, padding=1).relu()
        return x[:, :, 0].numpy()

    def own() -> Result:
        model.reset_states()
        return Result(np.array([float(model(frame, RATE)) for frame in frames], np.float32))

    @torch.inference_mode()
    def anew(dtype: str) -> Result:
        """By the cell of this dtype."""
        state, context, found = None, torch.zeros(CONTEXT), []
        for frame in frames:
            x = features(torch.cat([context, frame])[None]).astype(dtype)
            state = cells[dtype](x, state)
            h = torch.from_numpy(state[0].astype(np.float32))
            head = convolve(h[:, :, None].relu(), "decoder.decoder.2")
            found.append(float(head.sigmoid()))
            context = frame[-CONTEXT:]
        return Result(np.array(found, np.float32))

    ours = partial(anew, "float32")
    return Pair(own, ours, lambda: (anew("float64"), ours()))
