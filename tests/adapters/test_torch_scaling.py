"""fastrnn.torch in torch's ways of scaling out: processes, wrappers, checkpointing, workers."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

import tiers
from tolerances import FLOAT64

torch = pytest.importorskip("torch")

import fastrnn.torch as ft  # noqa: E402

# torch's warnings of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]

f64 = torch.float64
STEPS = 3


class Tagger(torch.nn.Module):
    """A small model around two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = ft.LSTM(4, 6, 2, bidirectional=True, batch_first=True, dtype=f64)
        self.gru = ft.GRU(12, 5, batch_first=True, dtype=f64)
        self.head = torch.nn.Linear(5, 3, dtype=f64)

    def forward(self, x: Any, lengths: Any) -> Any:
        y, _ = self.lstm(x, lengths=lengths)
        y, _ = self.gru(y, lengths=lengths)
        return self.head(y)


def data() -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(4, 7, 4, dtype=f64, generator=generator)
    return x, torch.tensor([7, 2, 0, 5])


def make() -> Any:
    torch.manual_seed(0)
    return Tagger()


def _loss(model: Any, x: Any, lengths: Any) -> Any:
    return model(x, lengths).square().mean()


def _train(model: Any, rows: Any) -> tuple[list[Any], list[Any]]:
    """Gradients of the first step, parameters after three."""
    x, lengths = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        optimizer.zero_grad()
        _loss(model, x[rows], lengths[rows]).backward()
        if step == 0:
            first = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
    return first, [p.detach().clone() for p in model.parameters()]


def _full(tensors: list[Any]) -> list[Any]:
    return [t.full_tensor() if hasattr(t, "full_tensor") else t for t in tensors]


def _worker(rank: int, port: int, wrapper: str, results: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    model = make()
    if wrapper == "ddp":
        model = torch.nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed._composable.fsdp import fully_shard

        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
        for part in (model.lstm, model.gru, model):
            fully_shard(part, mesh=mesh)
    first, last = _train(model, slice(2 * rank, 2 * rank + 2))
    # As lists: tensors would go through the file system of a process that is about to end.
    results.put((rank, *([t.tolist() for t in _full(ts)] for ts in (first, last))))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("wrapper", tiers.thin(["ddp", "fsdp2"], ["ddp"]))
def test_two_processes_are_one(wrapper: str) -> None:
    """Gradients of the whole batch, the same parameters on both ranks, bit for bit."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    workers = torch.multiprocessing.start_processes(
        _worker, (port, wrapper, results), nprocs=2, join=False, start_method="spawn"
    )
    found = {}
    for _ in range(2):
        rank, *both = results.get()
        found[rank] = both
    while not workers.join():
        pass
    first, last = _train(make(), slice(None))
    for own, shared in ((first, found[0][0]), (last, found[0][1])):
        for a, b in zip(own, shared, strict=True):
            torch.testing.assert_close(torch.tensor(b, dtype=f64), a, rtol=FLOAT64, atol=FLOAT64)
    assert found[0] == found[1]


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing(reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    x, lengths = data()
    gradients = []
    for use in (False, True):
        model = make()
        given = x.clone().requires_grad_(True)
        if use:
            y = checkpoint(model, given, lengths, use_reentrant=reentrant)
        else:
            y = model(given, lengths)
        y.square().mean().backward()
        gradients.append([given.grad, *(p.grad for p in model.parameters())])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


class Rows(torch.utils.data.Dataset):
    """A data set that runs a layer."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.layer = ft.GRU(3, 4)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        with torch.no_grad():
            return self.layer(torch.full((5, 3), float(index)))[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(method: str) -> None:
    rows = Rows()
    expected = torch.stack([rows[i] for i in range(4)])  # and the parent has a team of threads
    ft.GRU(64, 64)(torch.randn(50, 32, 64))
    loader = torch.utils.data.DataLoader(
        rows, batch_size=4, num_workers=1, multiprocessing_context=method
    )
    assert torch.equal(next(iter(loader)), expected)


def _child(layer: Any, x: Any, results: Any) -> None:
    results.put(layer(x)[0].tolist())


def test_multiprocessing_shares_parameters() -> None:
    layer = ft.LSTM(3, 4)
    layer.share_memory()
    x = torch.randn(5, 2, 3)
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    worker = context.Process(target=_child, args=(layer, x, results))
    worker.start()
    assert torch.equal(torch.tensor(results.get()), layer(x)[0].detach())
    worker.join()
    assert worker.exitcode == 0


def test_saved_tensors_can_be_packed_elsewhere() -> None:
    """Offloading hooks see everything that is kept for backward."""
    model, (x, lengths) = make(), data()
    packed = []

    def pack(tensor: Any) -> Any:
        packed.append(tensor.nbytes)
        return tensor.clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = _loss(model, x, lengths)
    loss.backward()
    expected = make()
    _loss(expected, x, lengths).backward()
    assert sum(packed) > 0
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
