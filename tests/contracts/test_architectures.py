"""Promises of every architecture: it builds all over its ranges, and trains on what it serves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl.methods.architectures._shortcut import Shortcut
from automl.methods.stages import Architecture, Shape
from automl.registry import family
from automl.space.ranges import Choice, Float, Value

SHAPES = {
    "a row of a table": Shape("vector", (5,), 3, "classes"),
    "one feature, two targets": Shape("vector", (1,), 2, "values"),
    "a digit": Shape("image", (1, 8, 8), 10, "classes"),
    "an odd colour picture": Shape("image", (3, 9, 9), 2, "classes"),
    "a large picture": Shape("image", (3, 64, 64), 4, "classes"),
    "text": Shape("tokens", (12,), 7, "tokens", 7),
}
NAMES = family("architecture").names()
CASES = [
    pytest.param(name, label, id=f"{name} on {label}")
    for name in NAMES
    for label in SHAPES
    if SHAPES[label].kind in family("architecture").get(name).kinds  # type: ignore[attr-defined]
]
every_case = pytest.mark.parametrize(("name", "label"), CASES)


def architecture(name: str) -> Architecture:
    method = family("architecture").get(name)
    assert isinstance(method, Architecture)
    return method


def default(name: str) -> dict[str, Value]:
    return {n: r.default for n, r in architecture(name).ranges.items()}


def corners(name: str) -> Iterator[dict[str, Value]]:
    """All options of choices, each with all numbers at their low and all at their high end.

    Where the choices are too many to be combined, their first options together, their second ...,
    each beginning anew when it ends.
    """
    ranges = architecture(name).ranges
    choices = {n: r.options for n, r in ranges.items() if isinstance(r, Choice)}
    combined: Iterator[tuple[Value, ...]] = itertools.product(*choices.values())
    if math.prod(map(len, choices.values())) > 100:
        turns = range(max(map(len, choices.values())))
        combined = (tuple(o[i % len(o)] for o in choices.values()) for i in turns)
    for options in combined:
        for end in ("low", "high"):
            numbers = {n: getattr(r, end) for n, r in ranges.items() if not isinstance(r, Choice)}
            yield {**dict(zip(choices, options, strict=True)), **numbers}


def samples(shape: Shape, count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    if shape.kind == "tokens":
        text = torch.randint(shape.vocabulary, (count, *shape.features), generator=generator)
        return text, text.roll(-1, 1)
    x = torch.randn(count, *shape.features, generator=generator)
    if shape.target == "values":
        return x, torch.randn(count, shape.outputs, generator=generator)
    return x, torch.randint(shape.outputs, (count,), generator=generator)


def built(name: str, shape: Shape, hyper: dict[str, Value], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return architecture(name).network(shape, hyper)


def loss_of(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    output = net(x)
    if y.is_floating_point():
        return F.mse_loss(output, y)
    return F.cross_entropy(output.flatten(0, -2), y.flatten())


def test_every_kind_of_input_has_an_architecture() -> None:
    served = {kind for name in NAMES for kind in architecture(name).kinds}
    assert served == {"vector", "image", "tokens"}


@every_case
def test_outputs_and_gradients_are_finite_at_the_corners(name: str, label: str) -> None:
    shape = SHAPES[label]
    large = shape.features[-1] > 32
    x, y = samples(shape, 2 if large else 4)
    # One corner of large pictures is enough: the others cost seconds each.
    for hyper in [default(name), *itertools.islice(corners(name), 1 if large else None)]:
        net = built(name, shape, hyper)
        wanted = (len(x), *y.shape[1:], shape.outputs) if y.ndim > 1 else (len(x), shape.outputs)
        assert net(x).shape == (y.shape if y.is_floating_point() else wanted), hyper
        loss_of(net, x, y).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters()), (
            hyper
        )


@every_case
def test_outputs_start_near_zero_so_that_the_first_loss_is_that_of_a_guess(
    name: str, label: str
) -> None:
    shape = SHAPES[label]
    x, y = samples(shape, 16)
    if y.is_floating_point():
        return
    first = loss_of(built(name, shape, default(name)).eval(), x, y).item()
    assert abs(first - math.log(shape.outputs)) < 0.5


@every_case
def test_the_same_seed_builds_the_same_weights(name: str, label: str) -> None:
    one, two, other = (built(name, SHAPES[label], default(name), seed=s) for s in (1, 1, 2))
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


@every_case
def test_thirty_steps_lower_the_loss(name: str, label: str) -> None:
    shape = SHAPES[label]
    x, y = samples(shape, 8)
    net = built(name, shape, default(name))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    before = loss_of(net, x, y).item()
    for _ in range(8 if shape.features[-1] > 32 else 30):
        optimizer.zero_grad()
        loss_of(net, x, y).backward()
        optimizer.step()
    assert loss_of(net, x, y).item() < 0.8 * before


@pytest.mark.parametrize("name", [n for n in NAMES if "tokens" in architecture(n).kinds])
def test_a_language_model_does_not_see_what_comes_next(name: str) -> None:
    shape = SHAPES["text"]
    net = built(name, shape, default(name)).eval()
    x, _ = samples(shape)
    changed = x.clone()
    changed[:, 6:] = (x[:, 6:] + 1) % shape.vocabulary
    seen, other = net(x), net(changed)
    torch.testing.assert_close(seen[:, :6], other[:, :6])
    assert not torch.allclose(seen[:, 6:], other[:, 6:])


@every_case
def test_samples_are_judged_one_by_one_in_evaluation(name: str, label: str) -> None:
    shape = SHAPES[label]
    x, _ = samples(shape)
    net = built(name, shape, default(name)).eval()
    torch.testing.assert_close(net(x)[:1], net(x[:1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_a_range_that_the_default_leaves_at_zero(name: str) -> None:
    dropout = architecture(name).ranges["dropout"]
    assert isinstance(dropout, Float)
    assert dropout.default == 0.0


@every_case
def test_dropout_acts_in_training_only(name: str, label: str) -> None:
    shape = SHAPES[label]
    x, _ = samples(shape)
    net = built(name, shape, {**default(name), "dropout": 0.4})
    net.eval()
    assert torch.equal(net(x), net(x))
    net.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(net(x), net(x))


def test_stochastic_depth_leaves_out_whole_branches_of_samples() -> None:
    block = Shortcut(4, residual="plain", branches=1, drop=0.25, trailing=2)
    x, branch = torch.randn(2, 200, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kept = ((block(x, branch) - x) / branch).flatten(1).median(1).values
    left_out = kept.abs() < 1e-3
    torch.testing.assert_close(kept[~left_out], torch.full_like(kept[~left_out], 4 / 3))
    assert 0.15 < left_out.float().mean() < 0.35
    assert torch.equal(block.eval()(x, branch), x + branch)
    # The first block is never left out, the last with the full rate.
    net = built("resnet", SHAPES["a digit"], {**default("resnet"), "depth": 2, "drop_path": 0.3})
    rates = [m.kept.p for m in net.modules() if isinstance(m, Shortcut)]
    assert rates == pytest.approx([0, 0.06, 0.12, 0.18, 0.24, 0.3])


def test_a_branch_is_scaled_by_depth_or_by_what_is_learned() -> None:
    h, branch = torch.zeros(1, 3, 4), torch.ones(1, 3, 4)
    deep = Shortcut(4, residual="depth", branches=4, drop=0.0)
    torch.testing.assert_close(deep(h, branch), branch / 2)
    learned = Shortcut(4, residual="layer_scale", branches=4, drop=0.0)
    torch.testing.assert_close(learned(h, branch), branch / 10)
    assert [p.shape for p in learned.parameters()] == [(4,)]


def test_each_choice_of_a_convnet_is_another_network() -> None:
    shape, base = SHAPES["a large picture"], default("convnet")

    def kinds(**hyper: Value) -> list[type[nn.Module]]:
        return [type(m) for m in built("convnet", shape, {**base, **hyper}).modules()]

    assert nn.MaxPool2d in kinds()
    assert nn.AvgPool2d in kinds(pooling="avg")
    assert {nn.MaxPool2d, nn.AvgPool2d}.isdisjoint(kinds(pooling="stride"))
    x = samples(shape, 1)[0]
    halved = set()
    for pooling in ("max", "avg", "stride"):
        layers = list(built("convnet", shape, {**base, "pooling": pooling}).children())
        halved.add(nn.Sequential(*layers[:-4])(x).shape)
    assert halved == {(1, 64, 8, 8)}
    large = built("convnet", shape, {**base, "kernel": 5}).modules()
    convolution = next(m for m in large if isinstance(m, nn.Conv2d))
    assert convolution.kernel_size == (5, 5)
