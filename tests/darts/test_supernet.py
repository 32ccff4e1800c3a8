"""The supernet is the derived network with mixtures on its edges; a search goes on bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from automl.darts.bilevel import second_order
from automl.darts.collapse import collapsed_at, sharpness
from automl.darts.derive import argmax, perturbation
from automl.darts.paths import best_path
from automl.darts.recalibrate import outputs_of, recalibrate
from automl.darts.search import Search, Settings
from automl.darts.supernet import Supernet
from automl.methods.architectures.cells import CELLS_EDGES, CELLS_OPERATIONS
from automl.methods.architectures.cells import METHOD as CELLS
from automl.methods.architectures.cells import cells as network
from automl.methods.architectures.table_cells import METHOD as TABLE_CELLS
from automl.methods.stages import Shape
from automl.tasks.digits import load_digits_tensors
from automl.train.seeding import mix

DIGIT = Shape("image", (1, 8, 8), 10, "classes")
EDGES = dict(zip(CELLS_EDGES, ("conv3", "skip", "conv1", "avgpool", "none", "conv3"), strict=True))


def digits(count: int = 128) -> tuple[Tensor, Tensor]:
    x, y = load_digits_tensors()
    return x[:count], y[:count]


def made(candidates: Mapping[str, tuple[str, ...]], **rest: Any) -> Supernet:
    hyper = {"width": 4, "cells": 1, "dropout": 0.0}
    assert CELLS.cells is not None
    return Supernet(DIGIT, CELLS.cells, candidates=candidates, hyper=hyper, **rest)


def supernet(names: tuple[str, ...] = CELLS_OPERATIONS, *, seed: int = 0) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return made(dict.fromkeys(CELLS_EDGES, names), seed=seed)


def test_one_candidate_an_edge_is_ordinary_training_bit_for_bit() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        one = {edge: (name,) for edge, name in EDGES.items()}
        net = made(one, affine=True)
        torch.manual_seed(1)
        plain = network(DIGIT, width=4, cells=1, dropout=0.0, **EDGES)
    settings = Settings(epochs=3, batch_size=32)
    search = Search(net, *digits(), settings)
    batches = [search._feeds[0].batch(u) for u in range(3 * search.per_epoch)]
    search.run()
    sgd = torch.optim.SGD(plain.parameters(), momentum=0.9, weight_decay=settings.wd)
    for update, batch in enumerate(batches):
        for group in sgd.param_groups:
            group["lr"] = 0.001 + (0.1 - 0.001) * (1 + math.cos(math.pi * (update / 6))) / 2
        sgd.zero_grad()
        F.cross_entropy(plain(batch.x[0]), batch.y[0]).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), settings.clip)
        sgd.step()
    for ours, theirs in zip(net.weights(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    x = digits(8)[0]
    assert torch.equal(net.eval()(x), plain.eval()(x))  # running statistics, too


@pytest.mark.parametrize(
    ("smooth", "radius"),
    [pytest.param(True, 0.01, id="softplus"), pytest.param(False, 1e-5, id="relu")],
)
def test_second_order_gradient_is_that_of_the_unrolled_step(smooth: bool, radius: float) -> None:
    net = supernet().double()
    if smooth:  # the kinks of ReLU lie inside the published radius
        for module in list(net.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.ReLU):
                    setattr(module, name, nn.Softplus())
    x, y = digits(48)
    x = x.double()
    alphas, weights = list(net.alphas().values()), net.weights()
    eta, momentum, wd = 0.05, 0.9, 3e-3
    buffers = [torch.full_like(w, 0.01) for w in weights]

    def train() -> Tensor:
        return F.cross_entropy(net(x[:24]), y[:24])

    def valid() -> Tensor:
        return F.cross_entropy(net(x[24:]), y[24:])

    before = [w.detach().clone() for w in weights]
    found = second_order(
        weights,
        alphas,
        train,
        valid,
        eta=eta,
        momentum=momentum,
        wd=wd,
        buffers=buffers,
        radius=radius,
    )
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))
    slopes = torch.autograd.grad(train(), weights, create_graph=True, materialize_grads=True)
    names = {id(p): n for n, p in net.named_parameters()}
    ahead = {
        names[id(w)]: w - eta * (momentum * b + g + wd * w)
        for w, b, g in zip(weights, buffers, slopes, strict=True)
    }
    loss = F.cross_entropy(functional_call(net, ahead, (x[24:],)), y[24:])
    exact = torch.cat(torch.autograd.grad(loss, alphas, materialize_grads=True))
    first = torch.cat(torch.autograd.grad(valid(), alphas, materialize_grads=True))
    error = torch.linalg.norm(torch.cat(found) - exact) / torch.linalg.norm(exact)
    assert error < 1e-2
    # First order is far from it, or the check above would say nothing.
    assert torch.linalg.norm(first - exact) / torch.linalg.norm(exact) > 0.03


def test_a_dead_edge_has_a_finite_gradient() -> None:
    net = supernet(("none",))
    x, y = digits(16)
    (slope, *_) = torch.autograd.grad(
        F.cross_entropy(net(x), y), list(net.alphas().values()), materialize_grads=True
    )
    assert torch.equal(slope, torch.zeros(1))


def test_a_resumed_search_equals_the_unbroken_one_bit_for_bit() -> None:
    settings = Settings(epochs=3, batch_size=32, order=2)
    whole = Search(supernet(), *digits(), settings)
    whole.run()
    part = Search(supernet(), *digits(), settings)
    part.run(1)
    part.update()  # in the midst of an epoch
    again = Search(supernet(seed=5), *digits(), settings)
    again.load(part.state(), updates=part.updates, history=part.history)
    again.run()
    assert again.history == whole.history
    one, two = whole.state(), again.state()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_halves_of_the_training_set_share_no_sample() -> None:
    x = torch.arange(101.0).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    search = Search(supernet(), x, torch.zeros(101, dtype=torch.int64), Settings())
    one, two = (set(half[0][:, 0, 0, 0].tolist()) for half in (search.train, search.valid))
    assert not one & two
    assert len(one | two) == 101


def test_argmax_keeps_the_strongest_skips_and_no_none() -> None:
    net = supernet(("none", "skip", "conv3"))
    with torch.no_grad():
        for strength, alpha in enumerate(net.alphas().values()):
            alpha.copy_(torch.tensor([9.0, 1.0 + strength, 0.0]))
    assert list(argmax(net, max_skips=2).values()) == ["conv3"] * 4 + ["skip"] * 2
    assert list(argmax(net, max_skips=6).values()) == ["skip"] * 6


def test_perturbation_decides_every_edge_within_the_skips_allowed() -> None:
    search = Search(supernet(), *digits(), Settings(epochs=1))
    search.run()
    chosen = perturbation(search, max_skips=1, fine_tune=1)
    assert set(chosen) == set(CELLS_EDGES)
    assert "none" not in chosen.values()
    assert sum(name == "skip" for name in chosen.values()) <= 1
    assert all(search.net.open_names(edge) == (name,) for edge, name in chosen.items())


def test_a_removed_candidate_leaves_the_others_their_weights() -> None:
    search = Search(supernet(("none", "skip", "conv1")), *digits(), Settings())
    x, y = search.valid
    whole = F.cross_entropy(outputs_of(search.net, x, measure=search.train[0]), y)
    loss = search.loss_without("e01", "none")  # zeros are not missed
    assert loss == pytest.approx(float(whole.detach()), rel=1e-5)
    assert search.loss_without("e01", "conv1") != pytest.approx(loss, rel=1e-5)
    assert search.loss_without("e01", "none") == loss


@pytest.mark.parametrize("sampler", ["regularized_evolution", "tpe", "random"])
def test_paths_are_asked_of_a_sampler_of_recipes(sampler: str) -> None:
    search = Search(supernet(("none", "skip", "conv1")), *digits(), Settings())
    chosen, score = best_path(search, evaluations=6, sampler=sampler, max_skips=3)
    assert set(chosen.values()) <= {"skip", "conv1"}
    assert sum(name == "skip" for name in chosen.values()) <= 3
    assert search.passes == pytest.approx(6 * 128 / 3)  # forward only
    for edge, name in chosen.items():
        assert search.net.open_names(edge) == ("none", "skip", "conv1")
        search.net.restrict(edge, [name])
    assert search.supernet_accuracy() == score


def test_sharpness_is_the_largest_eigenvalue() -> None:
    a, b = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    value = sharpness([a, b], lambda: a[0] ** 2 - 3 * a[1] ** 2 + 2 * a[0] * b[0] + b[0] ** 2)
    # [[2, 0, 2], [0, -6, 0], [2, 0, 2]]
    assert abs(value - 4) < 1e-6


def test_few_products_are_near_the_largest_eigenvalue_of_a_supernet() -> None:
    net = supernet(("skip", "conv1"))
    x, y = digits(64)
    few, all_ = (
        sharpness(net.structure(), lambda: F.cross_entropy(net(x), y), products=n) for n in (5, 12)
    )
    assert 0.9 * all_ < few <= all_ * (1 + 1e-4)


def test_the_rule_looks_for_a_rise_while_skips_lead_and_points_before_it() -> None:
    lead = [0.6] * 9
    assert collapsed_at([1.0] * 9, lead) is None
    assert collapsed_at([1.0, 1.0, 1.0, 1.0, 1.0, 2.0], lead) == 2  # the last three: mean 4/3
    assert collapsed_at([1.0, 1.0, 1.0, 1.0, 1.0, 2.0], [0.5] * 6) is None


def noisy_search(**given: Any) -> Search:
    """Skips are strong here: of 300 rows 30 % have a wrong label, which only layers can learn."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 6, generator=generator)
    y = (x[:, 0] * x[:, 1] > 0).long()
    y = torch.where(torch.rand(300, generator=generator) < 0.3, 1 - y, y)
    assert TABLE_CELLS.cells is not None
    with torch.random.fork_rng():
        torch.manual_seed(mix(0, "supernet", 0) % 2**63)
        net = Supernet(
            Shape("vector", (6,), 2, "classes"),
            TABLE_CELLS.cells,
            candidates=dict.fromkeys(TABLE_CELLS.cells.edges, ("skip", "dense_relu")),
            hyper={"width": 16, "cells": 2, "dropout": 0.0},
            seed=mix(0, "alphas") % 2**63,
        )
    search = Search(net, x, y, Settings(epochs=30, alpha_lr=0.01, **given))
    search.run()
    return search


def test_plain_darts_ends_in_skips_where_ours_stops_at_the_sign() -> None:
    plain = argmax(noisy_search().net, max_skips=6)
    assert list(plain.values()) == ["skip"] * 6
    ours = noisy_search(watch=True)
    assert ours.collapsed is not None
    assert len(ours.history) < 30
    kept = ours.history[ours.collapsed].alphas
    assert {e: tuple(a.tolist()) for e, a in ours.net.alphas().items()} == kept
    assert kept != ours.history[-1].alphas
    assert list(perturbation(ours).values()).count("skip") <= 2


def test_recalibrated_statistics_are_those_of_the_inputs() -> None:
    norm = nn.BatchNorm2d(1)
    x = digits(200)[0]
    norm(x[:10])
    recalibrate(norm, [x])
    torch.testing.assert_close(norm.running_mean, x.mean().view(1))
    assert norm.momentum == 0.1


def test_an_evaluation_leaves_the_statistics_as_they_were() -> None:
    net = supernet()
    x = digits(64)[0]
    before = [b.clone() for b in net.buffers()]
    outputs_of(net, x, measure=x)
    assert all(torch.equal(b, old) for b, old in zip(net.buffers(), before, strict=True))


def test_a_part_of_the_channels_is_mixed_and_all_are_shuffled() -> None:
    net = made(dict.fromkeys(CELLS_EDGES, ("skip", "none")), parts=2, gated=True)
    mixture = next(iter(net.mixtures()))
    with torch.no_grad():
        mixture.alpha.copy_(torch.tensor([math.log(3), 0.0]))  # weights 3/4 and 1/4
    x = torch.arange(1.0, 5.0).view(1, 4, 1, 1)
    # The first half times 3/4, then one channel of each half in turn.
    assert mixture(x).flatten().tolist() == pytest.approx([0.75, 3.0, 1.5, 4.0])
    gates = [p.detach().softmax(0).tolist() for p in net.betas.values()]
    assert gates == [[0.5, 0.5], pytest.approx([1 / 3] * 3)]
    assert len(net.structure()) == 8
