"""fANOVA on functions whose shares are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from automl.reports.importance import fanova, importances, ranks
from automl.study.state import State


def test_an_additive_function_has_the_shares_of_its_slopes() -> None:
    # variance of 3a + b over the square: 9/12 and 1/12
    x = np.random.default_rng(0).random((400, 3))
    shares = fanova(x, 3 * x[:, 0] + x[:, 1])
    assert shares == pytest.approx([0.9, 0.1, 0.0], abs=0.04)


def test_a_dominant_square_comes_first_in_biased_samples() -> None:
    # x^2 + y, x in [-5, 5], y in [-1, 1], most points near the optimum as a good sampler leaves
    # them: x carries 99 % of the variance
    rng = np.random.default_rng(1)
    x = np.clip(np.concatenate([rng.normal(0.5, 0.05, (150, 2)), rng.random((50, 2))]), 0, 1)
    shares = fanova(x, (10 * x[:, 0] - 5) ** 2 + (2 * x[:, 1] - 1))
    assert shares[0] > 0.8 > 0.1 > shares[1]


def test_a_pure_interaction_is_in_no_single_share() -> None:
    x = np.random.default_rng(2).random((600, 2))
    shares = fanova(x, np.sign(x[:, 0] - 0.5) * np.sign(x[:, 1] - 0.5))
    assert max(shares) < 0.15


def test_constants_have_no_share() -> None:
    x = np.full((20, 2), 0.5)
    x[:, 0] = np.linspace(0, 1, 20)
    assert fanova(x, np.ones(20)) == [0.0, 0.0]
    assert fanova(x, x[:, 0])[1] == 0.0


def test_the_learning_rate_leads_the_made_up_study(made_up: Callable[..., State]) -> None:
    found = importances(made_up(400))
    assert found[0].name in ("optimizer", "optimizer.adamw.lr", "optimizer.muon.lr", "batch")
    by_name = {i.name: i.share for i in found}
    assert by_name["optimizer.muon.lr"] > 3 * by_name["averaging"]
    assert "loss" not in by_name  # one option: nothing to vary
    assert all(0 <= i.share <= 1 for i in found)


def test_few_trials_have_no_importance(made_up: Callable[..., State]) -> None:
    assert importances(made_up(3)) == []


def test_ranks_put_the_rung_before_the_value(made_up: Callable[..., State]) -> None:
    state = made_up(40)
    found = ranks(state)
    best = max(found, key=lambda n: found[n])
    incumbent = state.incumbent()
    assert incumbent is not None
    assert best == incumbent.number
    stopped = [n for n in found if state.trials[n].reached < 540]
    ended = [n for n in found if state.trials[n].reached == 540]
    assert max(found[n] for n in stopped) < min(found[n] for n in ended)
