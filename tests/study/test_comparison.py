"""The statistics of a comparison."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from automl.study.comparison import Difference, noise, welch

values = st.lists(st.floats(-10, 10), min_size=2, max_size=5).filter(lambda v: np.ptp(v) > 1e-3)


@given(a=values, b=values)
def test_welch_equals_scipy(a: list[float], b: list[float]) -> None:
    ours = welch(a, b)
    theirs = stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours is not None
    assert ours.low == pytest.approx(interval.low, rel=1e-6, abs=1e-9)
    assert ours.high == pytest.approx(interval.high, rel=1e-6, abs=1e-9)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


@given(a=values, b=values)
def test_swapping_sides_mirrors_the_difference(a: list[float], b: list[float]) -> None:
    one, other = welch(a, b), welch(b, a)
    turned = welch(a, b, sign=-1)
    assert one is not None
    assert other is not None
    assert turned == other
    assert one.p == other.p
    assert one.low is not None
    assert other.high is not None
    assert one.low == pytest.approx(-other.high)


def test_seeds_that_change_nothing_prove_nothing() -> None:
    assert welch([0.5, 0.5], [0.5, 0.5]) == Difference(0.0)
    assert welch([0.75, 0.75], [0.5, 0.5, 0.5]) == Difference(0.25)


def test_noise_pools_the_spread_of_all_groups() -> None:
    # variances 1 and 4 with 1 and 2 degrees of freedom: pooled 3; t(3) = 3.182
    groups = [[0.0, math.sqrt(2)], [-2.0, 0.0, 2.0], [7.0]]
    assert noise(groups, 1, 3) == pytest.approx(3.182 * math.sqrt(3 * (1 + 1 / 3)), rel=1e-3)
    assert noise([[1.0], [2.0]], 1, 1) is None


@pytest.mark.parametrize(("correlation", "ceiling"), [(0.0, 0.02), (1.0, 0.05)])
def test_without_a_difference_better_is_rarely_said(correlation: float, ceiling: float) -> None:
    # The winner is chosen on validation among three equals; its test luck is tied to that.
    rng = np.random.default_rng(3)
    draws, said = 3000, 0
    valid = rng.normal(size=(draws, 4, 3))
    test = correlation * valid + math.sqrt(1 - correlation**2) * rng.normal(size=valid.shape)
    for v, t in zip(valid, test, strict=True):
        best = int(v.mean(axis=1).argmax())
        found = welch(list(t[best]), list(t[0])) if best else None
        said += found is not None and found.low is not None and found.low > 0
    assert said / draws < ceiling
