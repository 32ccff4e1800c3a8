"""What every proxy promises, and what each is known to see."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.proxies.jacob_cov import jacob_cov_score
from automl.methods.proxies.naswot import naswot_score
from automl.methods.proxies.params import params_score
from automl.methods.proxies.synflow import synflow_score
from automl.methods.stages import Architecture, Proxy, Shape
from automl.registry import family
from automl.search.prescreen import spearman
from automl.tasks.digits import load_digits_tensors

NAMES = family("proxy").names()
SHAPES = {
    "mlp": Shape("vector", (5,), 3, "classes"),
    "convnet": Shape("image", (1, 8, 8), 10, "classes"),
    "resnet": Shape("image", (3, 9, 9), 2, "classes"),
    "transformer": Shape("tokens", (12,), 7, "tokens", 7),
}


def score(name: str, net: nn.Module, x: Tensor) -> float:
    method = family("proxy").get(name)
    assert isinstance(method, Proxy)
    return method.score(net, x)


def built(name: str, shape: Shape, seed: int = 0, **hyper: object) -> nn.Module:
    method = family("architecture").get(name)
    assert isinstance(method, Architecture)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return method.network(shape, hyper)  # type: ignore[arg-type]


def batch(shape: Shape, count: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if shape.kind == "tokens":
        return torch.randint(shape.vocabulary, (count, *shape.features), generator=generator)
    return torch.randn(count, *shape.features, generator=generator)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_score_is_finite_repeats_and_leaves_the_weights(name: str, kind: str) -> None:
    net, x = built(kind, SHAPES[kind]), batch(SHAPES[kind])
    before = [p.detach().clone() for p in net.parameters()]
    first = score(name, net, x)
    assert math.isfinite(first)
    assert score(name, net, x) == first
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))


def test_duplicated_samples_make_naswot_singular() -> None:
    net, x = built("mlp", SHAPES["mlp"]), batch(SHAPES["mlp"])
    x[1] = x[0]
    assert naswot_score(net, x) < naswot_score(net, batch(SHAPES["mlp"])) - 20
    assert math.isnan(naswot_score(nn.Linear(5, 3), x))


def test_naswot_is_the_determinant_of_equal_bits() -> None:
    net, x = nn.Sequential(nn.Linear(5, 40), nn.ReLU()), batch(SHAPES["mlp"], 6)
    bits = net[0](x) > 0
    kernel = torch.tensor([[float((a == b).sum()) for a in bits] for b in bits])
    assert naswot_score(net, x) == pytest.approx(float(kernel.double().logdet()), rel=1e-6)


def test_synflow_does_not_see_the_order_of_hidden_units() -> None:
    first, last = nn.Linear(5, 9), nn.Linear(9, 3)
    net, x = nn.Sequential(first, nn.ReLU(), last), batch(SHAPES["mlp"])
    before = synflow_score(net, x)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first.weight.copy_(first.weight[order])
        first.bias.copy_(first.bias[order])
        last.weight.copy_(last.weight[:, order])
    assert synflow_score(net, x) == pytest.approx(before, rel=1e-12)


def test_synflow_of_one_layer_counts_its_weights() -> None:
    net = nn.Linear(5, 3)
    size = float(net.weight.detach().abs().sum() + net.bias.detach().abs().sum())
    assert synflow_score(net, batch(SHAPES["mlp"])) == pytest.approx(math.log(size), rel=1e-6)


def test_jacob_cov_is_low_where_all_samples_have_one_slope() -> None:
    x = batch(SHAPES["mlp"])
    linear, bent = nn.Linear(5, 3), built("mlp", SHAPES["mlp"])
    assert jacob_cov_score(linear, x) < jacob_cov_score(bent, x) - 1000


def test_params_counts() -> None:
    assert params_score(nn.Linear(5, 3), torch.zeros(1)) == pytest.approx(math.log(18))


def test_proxies_rank_small_convnets_as_a_short_training_does() -> None:
    x, y = load_digits_tensors()
    shape = SHAPES["convnet"]
    accuracy, scores = [], []
    for seed in range(14):
        hyper = {
            "width": (4, 8, 16)[seed % 3],
            "depth": 1 + seed % 4,
            "norm": ("batch", "none")[seed // 2 % 2],
            "activation": ("relu", "silu", "gelu")[seed // 3 % 3],
        }
        net = built("convnet", shape, seed, **hyper)
        scores.append(naswot_score(net, x[:64]))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            adam = torch.optim.AdamW(net.parameters(), 3e-3)
            for _ in range(2):
                for index in torch.randperm(1200).split(64):
                    adam.zero_grad()
                    F.cross_entropy(net(x[index]), y[index]).backward()
                    adam.step()
        with torch.no_grad():
            right = net.eval()(x[1200:]).argmax(1) == y[1200:]
        accuracy.append(float(right.double().mean()))
    assert spearman(scores, accuracy) > 0.5
