"""Makes `lstm.pt2`: a program that torch.export saved, which later versions must load.

    python tests/data/export_lstm.py

To be run again only where torch itself stops loading the file.
"""

from __future__ import annotations

from pathlib import Path

import torch

import fastrnn.torch as ft

torch.manual_seed(0)
layer = ft.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True).eval()
auto = torch.export.Dim.AUTO
program = torch.export.export(
    layer, (torch.randn(2, 5, 3),), dynamic_shapes={"input": {0: auto, 1: auto}}
)
for node in program.graph.nodes:
    node.meta.pop("stack_trace", None)  # which names folders of the machine
torch.export.save(program, Path(__file__).with_name("lstm.pt2"))
