"""The estimators of TPE against Optuna's, and what they draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters
from optuna.samplers._tpe.sampler import default_weights

from automl.search.parzen import Axes, Parzen
from automl.space.ranges import Choice, Float, Int, Range, Value

RANGES: tuple[Range, ...] = (
    Float(1e-4, 1.0, log=True), Float(-1.0, 3.0), Int(1, 10**6), Int(1, 900, log=True), Int(2, 9),
    Choice(["a", "b", "c"]), Choice([1, 2]),
)  # fmt: skip


def theirs(rows: Sequence[Sequence[Value]], at: Sequence[Sequence[Value]]) -> np.ndarray:
    """Optuna's log density of the places `at`, given points `rows`."""
    kinds: dict[str, BaseDistribution] = {}
    for i, r in enumerate(RANGES):
        if isinstance(r, Choice):
            kinds[str(i)] = CategoricalDistribution(r.options)
        else:
            kind = FloatDistribution if isinstance(r, Float) else IntDistribution
            kinds[str(i)] = kind(r.low, r.high, log=r.log)

    def columns(points: Sequence[Sequence[Value]]) -> dict[str, np.ndarray]:
        return {
            name: np.array([kind.to_internal_repr(p[int(name)]) for p in points], dtype=float)
            for name, kind in kinds.items()
        }

    settings = _ParzenEstimatorParameters(1.0, True, False, default_weights, True)
    found: np.ndarray = _ParzenEstimator(columns(rows), kinds, settings).log_pdf(columns(at))
    return found


def places(points: Sequence[Sequence[Value]]) -> np.ndarray:
    encoded = [[r.encode(v) for r, v in zip(RANGES, p, strict=True)] for p in points]
    return np.array(encoded).reshape(len(points), len(RANGES))


@pytest.mark.parametrize("n", [0, 1, 2, 60])
def test_densities_are_those_of_optuna(n: int) -> None:
    rng = np.random.default_rng(0)

    def drawn(count: int) -> list[list[Value]]:
        return [[r.decode(float(rng.random())) for r in RANGES] for _ in range(count)]

    points, at = drawn(n), drawn(50)
    for point in points[2:]:  # which of two equal numbers comes first Optuna leaves open
        point[3:5] = points[0][3:5]
    apart = Parzen(Axes(RANGES), places(points)).log_density(places(at)) - theirs(points, at)
    # Of real numbers theirs is a density over the range, ours over the unit interval.
    assert apart == pytest.approx(np.full(50, np.log(np.log(1e4) * 4.0)), abs=1e-9)


def test_draws_follow_the_density() -> None:
    ranges: tuple[Range, ...] = Choice(["a", "b", "c"]), Int(1, 4)
    axes = Axes(ranges)
    points = np.array([[1 / 6, 1 / 8], [1 / 6, 3 / 8], [5 / 6, 7 / 8]])  # (a, 1), (a, 2), (c, 4)
    estimator = Parzen(axes, points)
    cells = np.array([[(i + 0.5) / 3, (j + 0.5) / 4] for i in range(3) for j in range(4)])
    expected = np.exp(estimator.log_density(cells))
    assert expected.sum() == pytest.approx(1.0)
    drawn = estimator.draw(np.random.default_rng(0), 20000)
    counts = np.array([np.isclose(drawn, cell).all(axis=1).sum() for cell in cells])
    assert counts / 20000 == pytest.approx(expected, abs=0.01)


def test_draws_near_one_point_stay_there_and_each_point_has_its_turn() -> None:
    axes = Axes([Float(0.0, 1.0), Float(0.0, 1.0)])
    clusters = np.repeat([[0.1, 0.9], [0.9, 0.1]], 40, axis=0)
    estimator, rng = Parzen(axes, clusters), np.random.default_rng(0)
    for _ in range(5):
        drawn = estimator.draw(rng, 24, near_one=True)
        far = [float(np.abs(drawn - centre).max()) for centre in (clusters[0], clusters[-1])]
        assert min(far) < 0.1 < max(far)
    firsts = {round(float(estimator.draw(rng, 1, near_one=True)[0, 0])) for _ in range(20)}
    assert firsts == {0, 1}
    nothing = Parzen(axes, np.zeros((0, 2)))  # only the wide kernel is there
    assert np.ptp(nothing.draw(rng, 200, near_one=True), axis=0).min() > 0.9
