"""Variations of the best trials: near them, valid, and better than chance."""

from __future__ import annotations

from automl.search.samplers.neighbours import NeighbourSampler
from automl.search.samplers.random import RandomSampler
from automl.space.ranges import Value

from .search_problems import SPACE, error

GOOD: dict[str, Value] = {
    "optimizer": "sgd",
    "optimizer.sgd.lr": 0.3,
    "optimizer.sgd.nesterov": True,
}


def test_variations_keep_most_of_the_parent() -> None:
    near = NeighbourSampler(SPACE, seed=0)
    parent = SPACE.complete(GOOD)
    near.adopt(0, parent)
    near.observe(0, 0.0)
    changed = []
    for trial in range(1, 60):
        child = near.suggest(trial).point
        SPACE.validate(child)
        assert child != parent
        near.observe(trial, 1.0)  # the parent stays the best by far
        changed.append(sum(child.get(n) != parent[n] for n in parent) / len(parent))
    assert 0 < sum(changed) / len(changed) < 0.75


def test_variations_close_in_on_the_best() -> None:
    near, random = NeighbourSampler(SPACE, seed=0), RandomSampler(SPACE, seed=0)
    late = {"near": 0.0, "random": 0.0}
    for trial in range(60):
        for name, sampler in (("near", near), ("random", random)):
            point = sampler.suggest(trial).point
            sampler.observe(trial, error(point))
            if trial >= 40:
                late[name] += error(point) / 20
    assert late["near"] < 0.75 * late["random"]


def test_an_option_that_comes_back_brings_its_best_settings() -> None:
    near = NeighbourSampler(SPACE, seed=0)
    near.adopt(0, SPACE.default())
    near.observe(0, 0.1)
    near.adopt(1, SPACE.complete(GOOD))
    near.observe(1, 0.2)
    rates = {near.suggest(n).point.get("optimizer.sgd.lr") for n in range(2, 60)}
    assert 0.3 in rates
