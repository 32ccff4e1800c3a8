"""Supernets over the cells of images, texts and tables."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from automl.darts.collapse import sharpness
from automl.darts.supernet import Supernet, every_candidate
from automl.methods.stages import Architecture, CellSpace, Shape
from automl.registry import family

SPACES = {
    "image_cells": Shape("image", (1, 8, 8), 10, "classes"),
    "text_cells": Shape("tokens", (12,), 7, "tokens", 7),
    "text_rnn_cells": Shape("tokens", (3,), 7, "tokens", 7),
    "table_cells": Shape("vector", (5,), 3, "classes"),
}
every_space = pytest.mark.parametrize("name", SPACES)


def architecture(name: str) -> tuple[Architecture, CellSpace]:
    method = family("architecture").get(name)
    assert isinstance(method, Architecture)
    assert method.cells is not None
    return method, method.cells


def hyper(method: Architecture, space: CellSpace) -> dict[str, Any]:
    found = {n: r.default for n, r in method.ranges.items() if n not in space.edges}
    return {**found, **({"cells": 2} if space.depth else {}), "width": 8}


def samples(shape: Shape) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    if shape.kind == "tokens":
        x = torch.randint(shape.vocabulary, (8, *shape.features), generator=generator)
        return x, x.roll(-1, 1)
    x = torch.randn(8, *shape.features, generator=generator)
    return x, torch.randint(shape.outputs, (8,), generator=generator)


def loss(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.flatten(0, -2), y.flatten())


def supernet(name: str, **given: Any) -> Supernet:
    method, space = architecture(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Supernet(
            SPACES[name],
            space,
            candidates=every_candidate(method),
            hyper=hyper(method, space),
            **given,
        )


@every_space
@pytest.mark.parametrize("parts", [1, 4])
def test_every_edge_of_a_supernet_is_learnt(name: str, parts: int) -> None:
    net = supernet(name, parts=parts, gated=parts > 1)
    x, y = samples(SPACES[name])
    output = net(x)
    slopes = torch.autograd.grad(loss(output, y), net.structure())
    assert all(torch.isfinite(s).all() for s in slopes)
    assert all(s.any() for s in slopes[: len(net.candidates)])
    assert set(net.alphas()) == set(architecture(name)[1].edges)


@every_space
def test_the_sharpness_of_a_supernet_can_be_measured(name: str) -> None:
    net, (x, y) = supernet(name), samples(SPACES[name])
    assert math.isfinite(sharpness(net.structure(), lambda: loss(net(x), y), products=2))


@every_space
def test_one_candidate_an_edge_is_the_architecture_itself(name: str) -> None:
    method, space = architecture(name)
    edges = {e: str(method.ranges[e].options[-1]) for e in space.edges}  # type: ignore[union-attr]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = Supernet(
            SPACES[name],
            space,
            candidates={e: (n,) for e, n in edges.items()},
            hyper=hyper(method, space),
            affine=True,
        )
        torch.manual_seed(3)
        plain = method.network(SPACES[name], {**edges, **hyper(method, space)})
    x, y = samples(SPACES[name])
    one, two = net(x), plain(x)
    assert torch.equal(one, two)
    ours = torch.autograd.grad(loss(one, y), net.weights())
    theirs = torch.autograd.grad(loss(two, y), list(plain.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@every_space
def test_training_a_supernet_lowers_the_loss(name: str) -> None:
    net = supernet(name)
    x, y = samples(SPACES[name])
    adam = torch.optim.Adam(net.parameters(), 1e-2)
    before = float(loss(net(x), y).detach())
    for _ in range({"image_cells": 4, "text_rnn_cells": 20}.get(name, 30)):
        adam.zero_grad()
        loss(net(x), y).backward()
        adam.step()
    assert float(loss(net(x), y).detach()) < 0.93 * before


def test_a_recurrent_cell_of_skips_is_one_highway_from_place_to_place() -> None:
    method, space = architecture("text_rnn_cells")
    edges = dict.fromkeys(space.edges, "skip")
    net = method.network(SPACES["text_rnn_cells"], {**edges, **hyper(method, space)})
    tokens = samples(SPACES["text_rnn_cells"])[0]
    w = dict(net.named_parameters())
    h = torch.zeros(len(tokens), 8)
    for place in range(tokens.shape[1]):
        both = torch.cat([w["token.weight"][tokens[:, place]], h], 1)
        c, u = (both @ w["cell.enter.weight"].T + w["cell.enter.bias"]).chunk(2, 1)
        h = h + c.sigmoid() * (u.tanh() - h)  # every node, and their mean, is this
    last = h @ w["head.weight"].T + w["head.bias"]
    torch.testing.assert_close(net(tokens)[:, -1], last)
