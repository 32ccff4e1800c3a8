"""The greedy choice of points that complement each other, and a strategy that is given them."""

from __future__ import annotations

import numpy as np

from automl.search.complementary import complementary
from automl.search.strategy import make_strategy

from .search_problems import ETA, FIRST, SPACE, STEPS


def test_each_choice_helps_where_the_earlier_ones_fail() -> None:
    regrets = np.array([[0.2, 0.2, 0.9], [0.1, 0.3, 0.9], [0.8, 0.8, 0.0], [0.9, 0.1, 0.9]])
    assert complementary(regrets, 2) == [2, 0] or complementary(regrets, 2) == [0, 2]
    assert complementary(regrets, 1) == [0]


def test_a_point_that_gains_nothing_is_left_out() -> None:
    regrets = np.array([[0.1, 0.1], [0.1, 0.1], [0.5, 0.1]])
    assert complementary(regrets, 3) == [0]


def test_auto_tries_the_portfolio_it_is_given() -> None:
    rng = np.random.default_rng(0)
    points = [SPACE.sample(rng) for _ in range(3)]
    strategy = make_strategy(
        "auto",
        SPACE,
        fidelity=(FIRST, STEPS, ETA),
        direction="maximize",
        seed=0,
        budget=20.0,
        portfolio=points,
    )
    asked = strategy.ask(4)
    assert [dict(s.recipe.point) for s in asked[1:]] == points
    assert [strategy.label(s.trial) for s in asked[1:]] == ["portfolio"] * 3
