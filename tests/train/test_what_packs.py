"""Which models train as packs, with the loop's own results, and which decline, by name."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, rnn
from torch.utils.checkpoint import checkpoint

from automl.recipe import Recipe
from automl.records import Pack, Segment, Status
from automl.space.ranges import Value
from automl.tasks.task import ModelTask
from automl.train.declining import reason_to_decline
from automl.train.segment import run

from .small_problem import PLAIN, picture_task, small_task
from .test_engines import assert_equal, task_for, trained

Make = Callable[[], nn.Module]
Apply = Callable[[Any, Tensor], Tensor]
SMALL: dict[str, Value] = {**PLAIN, "batch_size": 4}
W = 8  # width of all models here


class Body(nn.Module):
    """Layers by name, and what they make of an input."""

    def __init__(self, apply: Apply, layers: dict[str, Make]) -> None:
        super().__init__()
        for name, make in layers.items():
            setattr(self, name, make())
        self.apply_, self.calls = apply, 0

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_(self, x)


class Settings:
    """What a model is told about itself: equal for equal attributes."""

    def __init__(self) -> None:
        self.scale, self.sizes = 2.0, [W, W]


def dense(apply: Apply, **layers: Make) -> ModelTask:
    """apply(model, h) between two linear layers, on two features."""
    around: dict[str, Make] = {
        "one": lambda: nn.Linear(2, W),
        "two": lambda: nn.Linear(W, 2),
        **layers,
    }
    return small_task(lambda recipe: Body(lambda m, x: m.two(apply(m, m.one(x))), around))


def tokens(apply: Apply, **layers: Make) -> ModelTask:
    """apply(model, h [b, t, W]) between an embedding and a linear layer."""
    around: dict[str, Make] = {
        "e": lambda: nn.Embedding(7, W),
        "o": lambda: nn.Linear(W, 7),
        **layers,
    }
    base = task_for("tokens")
    return replace(base, build=lambda r: Body(lambda m, x: m.o(apply(m, m.e(x))), around))


def image(*layers: Make, out: int) -> ModelTask:
    """Layers behind a convolution to 4 channels of 6 x 6; `out` features are left."""
    first, last = partial(nn.Conv2d, 1, 4, 3), partial(nn.Linear, out, 2)
    made: list[Make] = [first, *layers, nn.ReLU, nn.Flatten, last]
    return replace(picture_task(), build=lambda r: nn.Sequential(*[make() for make in made]))


class Viewed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1)


def linear() -> nn.Module:
    return nn.Linear(W, W)


def attended(model: Any, h: Tensor, dropout: float = 0.0) -> Tensor:
    q, k, v = (layer(h).unsqueeze(1) for layer in (model.q, model.k, model.v))
    causal = not dropout
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal).squeeze(1)


def attending(dropout: float) -> ModelTask:
    def apply(model: Any, h: Tensor) -> Tensor:
        out: Tensor = model.a(h, h, h, need_weights=False)[0]
        return out

    return tokens(apply, a=lambda: nn.MultiheadAttention(W, 2, dropout, batch_first=True))


def encoding(dropout: float) -> ModelTask:
    return tokens(
        lambda m, h: m.a(h),
        a=lambda: nn.TransformerEncoderLayer(W, 2, 16, dropout, batch_first=True),
    )


def recurrent(kind: Any, **how: Any) -> ModelTask:
    return tokens(lambda m, h: m.a(h)[0], a=lambda: kind(W, W, batch_first=True, **how))


def cell_by_cell(model: Any, h: Tensor) -> Tensor:
    state, out = h.new_zeros(len(h), W), []
    for now in h.unbind(1)[:3]:
        state = model.a(now, state)
        out.append(state)
    return h + torch.stack([*out, *out], 1)


def tied() -> ModelTask:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.out = nn.Embedding(7, W), nn.Linear(W, 7, bias=False)
            self.out.weight = self.e.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.out(self.e(x).tanh())
            return out

    return replace(task_for("tokens"), build=lambda recipe: Tied())


def configured() -> ModelTask:
    class Configured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.settings = Settings()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.settings.scale * self.layer(x)
            return out

    return small_task(lambda recipe: Configured())


def noisy(model: Any, h: Tensor) -> Tensor:
    like = torch.rand_like(h) + torch.empty_like(h).uniform_(0.0, 0.1)
    return h.relu() + torch.randn(W, dtype=h.dtype) + like * torch.randint(1, 3, (W,))


TAKEN: dict[str, Callable[[], ModelTask]] = {
    "batch norm": lambda: image(lambda: nn.BatchNorm2d(4), out=144),
    "batch norm, bare": lambda: image(
        lambda: nn.BatchNorm2d(4, affine=False, track_running_stats=False), out=144
    ),
    "group norm": lambda: image(lambda: nn.GroupNorm(2, 4), out=144),
    "instance norm": lambda: image(
        lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True), out=144
    ),
    "grouped convolution": lambda: image(lambda: nn.Conv2d(4, 8, 3, groups=2), out=128),
    "depthwise, circular": lambda: image(
        lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode="circular"), out=144
    ),
    "convolution, strided and dilated": lambda: image(
        lambda: nn.Conv2d(4, 6, 3, 2, padding=2, dilation=2, groups=2, bias=False), out=54
    ),
    "poolings": lambda: image(
        lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), lambda: nn.AvgPool2d(2), out=16
    ),
    "group norm, bare": lambda: image(lambda: nn.GroupNorm(2, 4, affine=False), out=144),
    "a view, which wants one layout": lambda: image(Viewed, out=144),
    "transposed convolution": lambda: image(lambda: nn.ConvTranspose2d(4, 2, 3), out=128),
    "dropout2d": lambda: image(lambda: nn.Dropout2d(0.3), out=144),
    "F.dropout": lambda: dense(lambda m, h: F.dropout(h, 0.3, m.training)),
    "alpha dropout": lambda: dense(lambda m, h: m.a(h), a=lambda: nn.AlphaDropout(0.3)),
    "noise": lambda: dense(noisy),
    "gumbel": lambda: dense(lambda m, h: F.gumbel_softmax(h, hard=True)),
    "both dropouts": lambda: dense(
        lambda m, h: F.dropout(m.a(F.dropout(h, 0.2)), 0.3), a=lambda: nn.Dropout(0.1)
    ),
    "dropout in two places": lambda: dense(
        lambda m, h: m.a(h), a=lambda: (lambda d: nn.Sequential(d, linear(), d))(nn.Dropout(0.2))
    ),
    "attention": lambda: tokens(attended, q=linear, k=linear, v=linear),
    "attention, dropout": lambda: tokens(
        lambda m, h: attended(m, h, 0.2), q=linear, k=linear, v=linear
    ),
    "multi-head": lambda: attending(0.0),
    "multi-head, dropout": lambda: attending(0.2),
    "encoder layer": lambda: encoding(0.0),
    "encoder layer, dropout": lambda: encoding(0.1),
    "embedding, padding": lambda: tokens(
        lambda m, h: h, e=lambda: nn.Embedding(7, W, padding_idx=0)
    ),
    "tied weights": tied,
    "gru": lambda: recurrent(nn.GRU),
    "gru, dropout": lambda: recurrent(nn.GRU, num_layers=2, dropout=0.2),
    "lstm": lambda: recurrent(nn.LSTM),
    "rnn": lambda: recurrent(nn.RNN),
    "gru cell": lambda: tokens(cell_by_cell, a=lambda: nn.GRUCell(W, W)),
    "weight norm": lambda: dense(
        lambda m, h: m.a(h), a=lambda: parametrizations.weight_norm(nn.Linear(W, W))
    ),
    "in place": lambda: dense(lambda m, h: m.a(h), a=lambda: nn.ReLU(inplace=True)),
    "fourier": lambda: dense(lambda m, h: torch.fft.fft(h).real),
    "configuration": configured,
}


@pytest.mark.parametrize("name", TAKEN)
def test_these_models_pack_and_equal_the_loop(name: str) -> None:
    task, points = TAKEN[name](), [SMALL, {**SMALL, "optimizer.adamw.lr": 3e-3}]
    assert reason_to_decline(task, Recipe(SMALL, steps=20)) == ""
    losses, pack = trained(task, points, "traced", seeds=[1, 2], steps=8)
    expected, loop = trained(task, points, "loop", seeds=[1, 2], steps=8)
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)
    assert_equal(pack, loop)
    engine: Any = pack.update.engine
    plain = [trace for trace in engine._made.values() if not trace.images]
    assert bool(plain) == name.startswith("a view")


# What cannot be packed ------------------------------------------------------------------------


class Old(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return 2 * gradients[0]


class New(Old):
    @staticmethod
    def forward(x: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        return


def doubled(function: type[torch.autograd.Function]) -> Apply:
    def apply(model: Any, h: Tensor) -> Tensor:
        out: Tensor = function.apply(h)
        return out

    return apply


def counting(model: Any, h: Tensor) -> Tensor:
    model.calls += 1
    return h.relu().mul(1 + 0.1 * int(model.calls))


def packing_sequences(model: Any, h: Tensor) -> Tensor:
    given = rnn.pack_padded_sequence(h, torch.full((len(h),), 6), batch_first=True)
    out: Tensor = rnn.pad_packed_sequence(model.a(given)[0], batch_first=True)[0]
    return out


GENERATOR = torch.Generator()
DATA, SHAPES = "a number in it, depends on its data", "number of values that depends on its data"
NO_FORM = "has no vectorized form (aten::"
DECLINED: dict[str, tuple[Callable[[], ModelTask], str]] = {
    ".item()": (lambda: dense(lambda m, h: h / (1 + h.abs().max().item())), DATA),
    "if": (lambda: dense(lambda m, h: h.relu() if h.mean() > 0 else h.tanh()), DATA),
    "tolist": (lambda: dense(lambda m, h: h * sum(h.mean(0).tolist())), "by tolist or numpy"),
    "boolean mask": (lambda: dense(lambda m, h: h.relu() + 0 * h[h > 0].sum()), SHAPES),
    "nonzero": (lambda: dense(lambda m, h: h * h.nonzero().shape[0]), SHAPES),
    "packed sequence": (
        lambda: tokens(packing_sequences, a=lambda: nn.GRU(W, W, batch_first=True)),
        DATA,
    ),
    "batch norm, no momentum": (
        lambda: image(lambda: nn.BatchNorm2d(4, momentum=None), out=144),
        DATA,
    ),
    "fresh tensor": (
        lambda: dense(lambda m, h: torch.zeros(h.shape, dtype=h.dtype).add_(h)),
        "x.new_zeros packs",
    ),
    "checkpoint": (
        lambda: dense(lambda m, h: checkpoint(torch.relu, h, use_reentrant=False)),
        "checkpoints its activations",
    ),
    "old checkpoint": (
        lambda: dense(lambda m, h: checkpoint(torch.relu, h, use_reentrant=True)),
        "old in style, as old checkpoints",
    ),
    "old function": (lambda: dense(doubled(Old)), "is old in style"),
    "new function": (lambda: dense(doubled(New)), "has no vmap rule"),
    "sparse": (
        lambda: tokens(lambda m, h: h, e=lambda: nn.Embedding(7, W, sparse=True)),
        "has sparse gradients",
    ),
    "spectral norm": (
        lambda: dense(
            lambda m, h: m.a(h), a=lambda: parametrizations.spectral_norm(nn.Linear(W, W))
        ),
        NO_FORM,
    ),
    "rrelu": (lambda: dense(lambda m, h: F.rrelu(h, training=True)), NO_FORM),
    "multinomial": (
        lambda: dense(lambda m, h: h * torch.multinomial(h.softmax(1), 1)),
        "random numbers by multinomial",
    ),
    "own generator": (
        lambda: dense(lambda m, h: h + torch.rand(W, generator=GENERATOR)),
        "from a generator of its own",
    ),
    "python's random": (lambda: dense(lambda m, h: h * (1 + random.random())), "other results"),
    "counter": (lambda: dense(counting), "changes its own attributes"),
}


@pytest.mark.parametrize("name", DECLINED)
def test_what_cannot_be_packed_is_told_by_name(name: str) -> None:
    make, says = DECLINED[name]
    assert says in reason_to_decline(make(), Recipe(SMALL, steps=20))


def test_a_pack_that_cannot_be_trains_each_member_alone_and_says_why(tmp_path: Path) -> None:
    task = dense(counting)
    pair: Sequence[Segment] = [Segment(t, Recipe(PLAIN, steps=5, seed=t), 0, 5) for t in range(2)]
    reports = run(Pack(tuple(pair), str(tmp_path), True, 2, (0, 1)), task)
    assert [(r.status, r.packed) for r in reports] == [(Status.DONE, 1)] * 2
    found = reports[0].packing
    assert found is not None
    assert (found.size, found.reason) == (1, reason_to_decline(task, pair[0].recipe))
