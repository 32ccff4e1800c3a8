"""The Gaussian process and the sampler that asks it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy.stats import norm

from automl.search.columns import Columns
from automl.search.gaussian_process import _objective, _prior, condition, fit, log_improvement
from automl.search.samplers.gp import GpSampler
from automl.search.samplers.random import RandomSampler
from automl.space.ranges import Choice, Float, Int
from automl.space.tree import Space

from .search_problems import SPACE, error

LINE = Space({"x": Float(0.0, 1.0)})


def test_the_gradient_is_that_of_the_posterior() -> None:
    rng = np.random.default_rng(0)
    x, s, y = rng.random((15, 3)), rng.choice([0.0, 0.5, 1.0], 15), rng.normal(size=15)
    theta = _prior(3) + 0.3 * rng.normal(size=6)
    _, gradient = _objective(theta, x, s, y)
    for i, step in enumerate(1e-5 * np.eye(6)):
        up, down = _objective(theta + step, x, s, y)[0], _objective(theta - step, x, s, y)[0]
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-6)


def test_expected_improvement_is_exact_near_and_finite_far_away() -> None:
    mean, deviation = np.array([-1.0, 0.3, 2.0]), np.array([0.5, 1.0, 0.7])
    z = -mean / deviation
    by_definition = np.log(deviation * (z * norm.cdf(z) + norm.pdf(z)))
    assert log_improvement(mean, deviation, 0.0) == pytest.approx(by_definition)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = log_improvement(np.array([10.0, 100.0, 1e4, -1e4]), np.ones(4), 0.0)
    assert far[0] > far[1] > far[2]
    assert far[3] == pytest.approx(math.log(1e4))


def test_the_process_goes_through_what_it_has_seen_and_doubts_the_rest() -> None:
    x = np.linspace(0, 0.6, 7)[:, None]
    y, s = np.sin(6 * x[:, 0]), np.ones(7)
    process = condition(fit(x, s, y), x, s, y)
    mean, deviation = process.predict(np.array([[0.3], [0.35], [1.0]]))
    assert mean[:2] == pytest.approx(np.sin([1.8, 2.1]), abs=0.1)
    assert deviation[2] > 3 * deviation[1]


def test_noise_is_seen_even_by_a_process_that_went_through_all_it_had_seen() -> None:
    rng = np.random.default_rng(2)
    x, s = rng.random((60, 3)), np.ones(60)
    y = np.sin(6 * x[:, 0]) + rng.normal(0, 0.3, 60)
    through = _prior(3)
    through[:3] -= 3
    through[-1] -= 4
    process = condition(fit(x, s, y, through), x, s, y)
    mean, _ = process.predict(x)
    assert math.exp(process.theta[-1]) == pytest.approx(0.3**2, rel=0.4)
    assert np.abs(mean - y).mean() > 0.15


def test_losses_at_a_rung_tell_where_to_look_at_the_end() -> None:
    x = np.linspace(0, 1, 9)[:, None]
    early = np.zeros(9)
    process = condition(
        fit(x, early, (x[:, 0] - 0.25) ** 2 * 8), x, early, (x[:, 0] - 0.25) ** 2 * 8
    )
    mean, _ = process.predict(x)
    assert int(np.argmin(mean)) == 2


def test_options_are_equally_far_apart_and_closed_dimensions_do_not_differ() -> None:
    columns = Columns(SPACE)
    names = list(SPACE.names())
    unit = np.tile(SPACE.encode(SPACE.default()), (2, 1))  # adamw
    unit[1, names.index("optimizer.sgd.lr")] = 0.9
    assert np.array_equal(*columns.of(unit))
    unit[1, names.index("optimizer")] = 0.9  # sgd: its lr now counts
    assert np.linalg.norm(np.subtract(*columns.of(unit))) > 1.0


def test_gp_looks_where_losses_are_low() -> None:
    gp, random = GpSampler(SPACE, seed=0), RandomSampler(SPACE, seed=0)
    late = {"gp": 0.0, "random": 0.0}
    for trial in range(40):
        for name, sampler in (("gp", gp), ("random", random)):
            point = sampler.suggest(trial).point
            sampler.observe(trial, error(point))
            if trial >= 25:
                late[name] += error(point) / 15
    assert late["gp"] < 0.5 * late["random"]


def test_gp_avoids_trials_that_run() -> None:
    gp = GpSampler(LINE, seed=0)
    for trial in range(10):
        x = float(gp.suggest(trial).point["x"])  # type: ignore[arg-type]
        gp.observe(trial, (x - 0.5) ** 2)
    pending = {gp.suggest(trial).point["x"] for trial in range(10, 16)}
    assert len(pending) == 6


def test_gp_tries_all_points_of_a_small_grid_before_one_comes_again() -> None:
    space = Space({"a": Choice(["x", "y", "z"]), "b": Int(0, 5)})
    gp = GpSampler(space, seed=0, startup=3)
    for trial in range(18):
        gp.observe(trial, float(gp.suggest(trial).point["b"]))  # type: ignore[arg-type]
    assert len(gp._seen) == 18


def test_gp_shows_its_model_the_best_of_a_long_history() -> None:
    gp = GpSampler(LINE, seed=0)
    for trial in range(300):
        gp.adopt(trial, {"x": trial / 300})
        gp.observe(trial, abs(trial - 7))
    shown = gp._shown()
    assert set(range(20)) <= set(shown)
    assert len(shown) < 100
    gp.suggest(300)
