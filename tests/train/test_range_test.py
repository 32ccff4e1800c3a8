"""The learning-rate range test on a problem of two features."""

from __future__ import annotations

import pytest

from automl.errors import RecipeError
from automl.train.range_test import range_test

from .small_problem import PLAIN, small_task


def test_rates_rise_by_equal_factors_until_the_loss_breaks() -> None:
    found = range_test(small_task(), PLAIN, low=1e-5, high=100.0, updates=120)
    assert found.rates[0] == pytest.approx(1e-5)
    factors = [b / a for a, b in zip(found.rates, found.rates[1:], strict=False)]
    assert factors == pytest.approx([1e7 ** (1 / 119)] * len(factors))
    assert len(found.rates) < 120  # it was stopped
    assert found.losses[-1] > 4 * min(found.losses)
    assert found.steepest < found.lowest
    low, high = found.bounds
    assert low == pytest.approx(found.steepest / 10, rel=0.05)
    assert high == pytest.approx(found.lowest, rel=0.05)


def test_the_same_test_says_the_same() -> None:
    first, second = (range_test(small_task(), PLAIN, updates=60) for _ in range(2))
    assert first == second


def test_rates_that_all_break_the_network_are_told() -> None:
    with pytest.raises(RecipeError, match="no learning rate from 1000 to 1e\\+06 lowers the loss"):
        range_test(small_task(), PLAIN, low=1e3, high=1e6, updates=60)
