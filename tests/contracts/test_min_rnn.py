"""minGRU and minLSTM: the parallel scan is the recurrence, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from automl.methods.architectures._min_rnn import MinGruCell, MinLstmCell, min_rnn_log_g


def g(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


def sequential_gru(cell: MinGruCell, x: Tensor) -> Tensor:
    k, v = cell.both(x).chunk(2, -1)
    h, out = torch.zeros_like(v[:, 0]), []
    for t in range(x.shape[1]):
        z = torch.sigmoid(k[:, t])
        h = (1 - z) * h + z * g(v[:, t])
        out.append(h)
    return torch.stack(out, 1)


def sequential_lstm(cell: MinLstmCell, x: Tensor) -> Tensor:
    f, i, v = cell.all(x).chunk(3, -1)
    h, out = torch.zeros_like(v[:, 0]), []
    for t in range(x.shape[1]):
        forget, take = torch.sigmoid(f[:, t]), torch.sigmoid(i[:, t])
        h = (forget * h + take * g(v[:, t])) / (forget + take)
        out.append(h)
    return torch.stack(out, 1)


CELLS = [
    pytest.param(MinGruCell, sequential_gru, 1088, id="min_gru"),
    pytest.param(MinLstmCell, sequential_lstm, 1632, id="min_lstm"),
]


@pytest.mark.parametrize(("cell", "sequential", "count"), CELLS)
@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 2e-4)], ids=["double", "single"]
)
def test_the_scan_is_the_recurrence(cell, sequential, count, dtype, error) -> None:  # type: ignore[no-untyped-def]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = cell(16, 32).to(dtype)
        x = 2 * torch.randn(3, 200, 16, dtype=dtype)
    assert (made(x) - sequential(made, x)).abs().max() < error
    assert sum(p.numel() for p in made.parameters()) == count


@pytest.mark.parametrize(("cell", "sequential", "count"), CELLS)
def test_gradients_of_the_scan_are_those_of_the_recurrence(cell, sequential, count) -> None:  # type: ignore[no-untyped-def]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = cell(4, 5).double()
        x = torch.randn(2, 30, 4, dtype=torch.float64)
    parallel = torch.autograd.grad(made(x).square().sum(), list(made.parameters()))
    stepwise = torch.autograd.grad(sequential(made, x).square().sum(), list(made.parameters()))
    for a, b in zip(parallel, stepwise, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_the_state_stays_below_the_largest_candidate() -> None:
    cell = MinGruCell(8, 8).double()
    x = torch.randn(4, 50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    h = cell(x)
    most = g(cell.both(x).chunk(2, -1)[1]).cummax(1).values
    assert (h > 0).all()
    assert (h <= most + 1e-12).all()


def test_the_logarithm_of_g() -> None:
    x = torch.linspace(-30, 30, 99, dtype=torch.float64)
    torch.testing.assert_close(min_rnn_log_g(x), g(x).log(), rtol=1e-9, atol=1e-12)


def test_a_forget_bias_makes_the_memory_longer() -> None:
    x = torch.zeros(1, 20, 4)
    x[:, 0] = 1

    def left(bias: float) -> float:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            cell = MinLstmCell(4, 4, forget_bias=bias)
        return float((cell(x) - cell(torch.zeros_like(x)))[0, -1].detach().abs().max())

    assert left(3.0) > 10 * left(0.0)
