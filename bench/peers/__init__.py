"""Peers of the suite, and what it calls them by; others are in `fastrnn._bench.peers`."""

from __future__ import annotations

from fastrnn._bench.peers import IN_FLOAT32

PEERS = ("fastrnn", "torch", "torch_compile", "onnxruntime", "openvino", "jax", "tensorflow")
# Those of a run in a dtype that is narrower than float32: some in float32 too.
PEERS_OF_NARROW = (*PEERS, IN_FLOAT32, "onnxruntime_float32")
# fastrnn through another library's face, which can run in fastrnn's place.
ADAPTERS = {"torch": "fastrnn_torch", "onnx": "fastrnn_onnx", "jax": "fastrnn_jax"}
