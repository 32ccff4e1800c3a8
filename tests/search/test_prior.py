"""What a prior gives when it is right, and what it costs when it is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from automl.errors import StrategyError
from automl.search.prior import strength
from automl.search.strategy import make_strategy
from automl.space.ranges import Choice, Float, Int
from automl.space.tree import Point, Space

TRIALS, SEEDS = 30, 4
RIGHT, WRONG = 1e-3, 1e-6


def space(lr: float) -> Space:
    """The optimum is at lr 2e-3, wd 0.02, batch 64, gelu; defaults say how far off it is."""
    near = lr == RIGHT
    return Space(
        {
            "lr": Float(1e-6, 1.0, log=True, default=lr),
            "wd": Float(1e-5, 1.0, log=True, default=0.01 if near else 1e-5),
            "batch": Int(8, 1024, log=True, default=64 if near else 1024),
            "act": Choice(["relu", "gelu", "tanh"], default="gelu" if near else "tanh"),
        }
    )


def loss(point: Point) -> float:
    lr, wd, batch = (float(point[n]) for n in ("lr", "wd", "batch"))  # type: ignore[arg-type]
    off = (math.log10(lr / 2e-3) / 6) ** 2 + (math.log10(wd / 0.02) / 5) ** 2
    return off + (math.log2(batch / 64) / 7) ** 2 + 0.1 * (point["act"] != "gelu")


def regret(name: str, prior: float, default: float, *, trials: int = TRIALS) -> float:
    """Mean of the best loss after `trials`, the baseline's left out: a prior knows that already."""
    found = []
    for seed in range(SEEDS):
        strategy = make_strategy(
            name, space(default), fidelity=(1, 1, 3), direction="minimize", seed=seed, prior=prior
        )
        seen = []
        for _ in range(trials):
            (segment,) = strategy.ask(1)
            seen.append(loss(segment.recipe.point))
            strategy.tell(segment, {1: seen[-1]})
        found.append(min(seen[1:]))
    return float(np.mean(found))


@pytest.mark.parametrize("name", ["random", "tpe", "gp", "cma_es"])
def test_a_right_prior_helps_and_a_wrong_one_is_soon_left(name: str) -> None:
    assert regret(name, 0.8, RIGHT, trials=8) < regret(name, 0.0, RIGHT, trials=8)
    assert regret(name, 0.8, WRONG) < regret(name, 0.0, WRONG) + 0.1


def test_of_what_a_wrong_prior_draws_there_is_little() -> None:
    labels = []
    for default in (RIGHT, WRONG):
        strategy = make_strategy(
            "random", space(default), fidelity=(1, 1, 3), direction="minimize", seed=0, prior=1.0
        )
        for _ in range(60):
            (segment,) = strategy.ask(1)
            strategy.tell(segment, {1: loss(segment.recipe.point)})
        labels.append([strategy.label(n) for n in range(60)].count("prior"))
    right, wrong = labels
    assert right > 30
    assert wrong < 8


def test_a_strength_is_a_level_or_a_share() -> None:
    assert [strength(t) for t in ("off", "weak", "strong", "1")] == [0.0, 0.3, 0.8, 1.0]
    for text in ("stronk", "-1", "2", "nan"):
        with pytest.raises(StrategyError, match=f"--prior {text}: give off, weak, strong"):
            strength(text)


def test_a_population_of_its_own_takes_no_prior() -> None:
    with pytest.raises(StrategyError, match="--prior is not for pbt"):
        make_strategy(
            "pbt", space(RIGHT), fidelity=(1, 9, 3), direction="minimize", seed=0, prior=0.5
        )
