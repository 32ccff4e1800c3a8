"""Masks that are hashed: their rates, and that no member's depend on its company."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from automl.train.keyed_dropout import Masks, Use, keyed
from automl.train.seeding import Bits, mix

CPU = torch.device("cpu")
SHAPES = ((4, 5), (3,), (64, 33))


def network(*rates: float) -> nn.Sequential:
    return nn.Sequential(*(nn.Dropout(rate) for rate in rates))


def alone(model: nn.Module, *keys: int, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    """The masks of each layer in the last of these passes."""
    passing = keyed(model, Bits(CPU))
    for key in keys:
        passing.begin(key)
        found = [layer(torch.ones(s)) for layer, s in zip(model.children(), shapes, strict=False)]
    return found


def test_masks_of_a_pack_are_those_of_each_member_alone() -> None:
    rates = [(0.5, 0.2, 0.1), (0.0, 0.3, 0.0), (0.9, 0.0, 1.0), (0.0, 0.0, 0.0)]
    models, keys = [network(*own) for own in rates], [3, 1 << 63, mix("third"), 4]
    expected = [alone(copy.deepcopy(m), key) for m, key in zip(models, keys, strict=True)]
    for order in ([0, 1, 2, 3], [2, 0], [3, 0]):
        uses = [Use(str(i), torch.ones(shape)) for i, shape in enumerate(SHAPES)]
        masks = Masks([models[k] for k in order], uses, Bits(CPU), [1] * len(order))
        for i, found in enumerate(masks.of(masks.words([keys[k] for k in order]))):
            for mask, k in zip(found, order, strict=True):
                assert torch.equal(mask, expected[k][i])


def test_a_pass_draws_the_same_whatever_went_before() -> None:
    model = network(0.5, 0.4, 0.3)
    first = alone(model, 7)
    longer, shorter = [(9, 9), (200,), (1,)], [(2,), (1,)]
    for shapes in (longer, shorter):
        passing = keyed(model, Bits(CPU))
        passing.begin(5)
        for layer, shape in zip(model.children(), shapes, strict=False):
            layer(torch.ones(shape))
        passing.begin(7)
        again = [layer(torch.ones(s)) for layer, s in zip(model.children(), SHAPES, strict=True)]
        assert all(map(torch.equal, first, again))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.85])
def test_rates_are_met_and_masks_are_independent(rate: float) -> None:
    n = 1 << 16
    keys = [mix(seed, update) for seed, update in ((0, 0), (0, 1), (1, 0))]
    masks = [alone(network(rate, rate), key, shapes=[(n,)] * 2) for key in keys]
    drawn = torch.stack([m.double() for each in masks for m in each])
    assert len(drawn.unique()) == 2
    share, sigma = (drawn == 0).double().mean(1), (rate * (1 - rate) / n) ** 0.5
    assert ((share - rate).abs() < 4 * sigma).all()
    # Layers, keys, and neighbours of one mask: two numbers of a word, and of different words.
    rows = torch.cat([drawn, drawn[:1].roll(1, 1), drawn[:1].roll(2, 1)])
    correlation = torch.corrcoef(rows).fill_diagonal_(0).abs()
    assert correlation.max() < 4.5 / n**0.5
    assert drawn.mean() == pytest.approx(1, abs=5 * sigma / (1 - rate))


def test_a_model_being_judged_drops_nothing() -> None:
    model = network(0.5)
    keyed(model, Bits(CPU))
    assert torch.equal(model.eval()(torch.ones(9)), torch.ones(9))
    assert isinstance(model[0], nn.Dropout) and not dict(model.named_buffers())
