"""The layers in a DataLoader's workers, and in several processes that train one model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import distributed, multiprocessing, nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

import bilstm.torch  # noqa: E402
from bilstm.torch import openmp  # noqa: E402

Tensor = Any


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = bilstm.torch.Bidirectional(bilstm.torch.LSTM(3, 8, batch_first=True))
        self.deep = bilstm.torch.GRU(16, 4, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 3)
        self.crf = bilstm.torch.CRF(3, batch_first=True)

    def forward(self, x: Tensor, tags: Tensor) -> Tensor:
        """The loss of each sequence."""
        return -self.crf(self.head(self.deep(self.rnn(x))[0]), tags, reduction="none")


def data(count: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 6, 3, generator=generator), torch.randint(3, (count, 6), generator=generator)


def model() -> Model:
    torch.manual_seed(0)
    return Model()


class Encoded(Dataset[Any]):
    """Features that a network of ours makes, in whatever process reads them."""

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder
        self.x = data()[0]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return self.encoder(self.x[index])[0]


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_data_loader(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{method} is not here")
    encoder = bilstm.torch.LSTM(3, 8, batch_first=True)
    dataset = Encoded(encoder)
    expected = torch.stack([dataset[i] for i in range(len(dataset))])  # the engine's threads are there before a fork
    loader = DataLoader(dataset, batch_size=4, num_workers=2 if method == "fork" else 1, multiprocessing_context=method)
    assert torch.equal(torch.cat(list(loader)), expected)


def trained(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    wrapped = nn.parallel.DistributedDataParallel(model())
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.1)
    x, tags = data()
    for _ in range(3):
        optimizer.zero_grad()
        wrapped(x[rank::2], tags[rank::2]).mean().backward()
        optimizer.step()
    torch.save(wrapped.module.state_dict(), f"{folder}/{rank}.pt")
    distributed.barrier()
    os._exit(0)  # to destroy a group of which a reducer is left may wait forever: for a thread that waits for Python


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn").Process
    processes = [spawn(target=trained, args=(rank, port, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    alone = model()
    optimizer = torch.optim.SGD(alone.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        alone(*data()).mean().backward()
        optimizer.step()
    for name, expected in alone.state_dict().items():
        assert torch.equal(states[0][name], states[1][name])
        torch.testing.assert_close(states[0][name], expected, rtol=1e-4, atol=1e-5)


IDLE_THREADS = """
import os, torch, bilstm.torch
from bilstm import utils

def threads() -> int:
    return len(os.listdir("/proc/self/task"))

def step(steps: int) -> torch.Tensor:
    output = layer(torch.ones(steps, 4, 16))[0]
    output.sum().backward()
    return output

def with_pytorchs_threads(steps: int) -> int:
    torch.mm(x, x)
    before = threads()
    step(steps)
    return before - threads()

utils.set_threads(2)
torch.set_num_threads(2)
x = torch.ones(500, 500)
layer = bilstm.torch.LSTM(16, 32, bidirectional=True)
step(500)  # the engine's threads start
print(with_pytorchs_threads(2), with_pytorchs_threads(500))
torch.set_num_threads(1)
print(with_pytorchs_threads(500))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted as Linux does")
def test_a_large_call_ends_pytorchs_idle_threads_and_a_small_one_does_not() -> None:
    if "OpenMP" not in torch.__config__.parallel_info():
        pytest.skip("PyTorch uses another library than OpenMP")
    assert openmp._pause() is not None
    printed = subprocess.run([sys.executable, "-c", IDLE_THREADS], check=True, capture_output=True, text=True).stdout
    assert printed.split() == ["0", "1", "0"]
