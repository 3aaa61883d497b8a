"""Peers of the suite, and what it calls them by; others are in `fastrnn._bench.peers`."""

from __future__ import annotations

PEERS = ("fastrnn", "torch", "torch_compile", "onnxruntime", "openvino", "jax", "tensorflow")
# fastrnn through another library's face, which can run in fastrnn's place.
ADAPTERS = {"torch": "fastrnn_torch", "onnx": "fastrnn_onnx", "jax": "fastrnn_jax"}
