"""PB2: what a copy in a population tries is chosen by a bandit that knows the time.

    gain    by which an interval lowered the loss, given the values x in [0, 1]^d and its time t
    k       exp(-|x - x'|^2 / l) (1 - omega)^(|t - t'| / 2), and noise on the diagonal
    next x  the largest  mean(x) + sqrt(beta) deviation(x),   beta = 0.2 log(0.4 n), at least 0.2

What was best early need not be best late: the second factor of k forgets. Values that others try
at this very time count for the deviation, so that copies spread. Gains are standardized at each
time, for they shrink as training goes on, whatever the values. l, omega and the noise are those of
a grid under which the gains are likeliest. Until `_ENOUGH` gains are known for the same numbers,
and where choices of numbers are concerned, copies are perturbed as in population based training.

Of several losses each has its gain, and so has what constraints are broken by. Each is standardized
by itself; then the process is shown one sum of them, under weights drawn anew for each copy, so
copies differ in what they go for. What no copy has changed, such as params, weighs nothing.

n gains, the last `_SHOWN`; O(n^3) for each point of the grid.
Source: Parker-Holder et al. 2020, arXiv:2002.02518; beta as in Ray Tune's PB2, there without its
least value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from automl.search.fidelity.exploring import Perturbing, movable
from automl.search.pareto import Loss
from automl.search.scalarizing import draw_weights
from automl.space.ranges import Choice, Value
from automl.space.tree import Dimension, Point, Space

_ENOUGH = 4
_SHOWN = 60
_CANDIDATES = 400  # half of them near the values that are copied
_NEAR = 0.1  # standard deviation of those, in unit cubes
_LENGTHS, _OMEGAS, _NOISES = (0.1, 0.4, 1.6), (0.0, 0.1, 0.4), (0.03, 0.2, 1.0)

Gain = tuple[np.ndarray, float, np.ndarray]  # x [d], time, gain of each loss


class Bandit:
    """The explorer of PB2."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._perturbing = Perturbing(space, seed=seed)
        self._rng = np.random.default_rng([seed, 13])
        self._gains: dict[tuple[str, ...], list[Gain]] = {}  # by the names of the numbers
        self._first: int | None = None  # step of the first interval: the unit of time

    def learn(self, point: Point, step: int, before: float, loss: float) -> None:
        self._first = min(self._first or step, step)
        dimensions = self._numbers(point)
        known = self._gains.setdefault(_names(dimensions), [])
        gains = np.subtract(_parts(before), _parts(loss))
        known.append((_units(dimensions, point), step / self._first, gains))

    def explore(self, point: Point, step: int, others: Sequence[Point]) -> dict[str, Value]:
        dimensions = self._numbers(point)
        known = self._gains.get(_names(dimensions), [])[-_SHOWN:]
        rest = self._perturbing.explore(point, step, others)
        if not dimensions or len(known) < _ENOUGH:
            return rest
        time = step / (self._first or step)
        beside = [_units(dimensions, o) for o in others if self._numbers(o) == dimensions]
        x = self._best(known, beside, time, _units(dimensions, point))
        found = {d.name: d.range.decode(u) for d, u in zip(dimensions, x.tolist(), strict=True)}
        changed = {n: v for n, v in {**rest, **found}.items() if v != point[n]}
        return changed or rest

    def _numbers(self, point: Point) -> list[Dimension]:
        return [d for d in movable(self._space, point) if not isinstance(d.range, Choice)]

    def _best(
        self, known: Sequence[Gain], beside: Sequence[np.ndarray], time: float, here: np.ndarray
    ) -> np.ndarray:
        x, t = np.array([k[0] for k in known]), np.array([k[1] for k in known])
        gains = np.array([k[2] for k in known])
        differ = gains[:, np.ptp(gains, axis=0) > 0] if gains.shape[1] > 1 else gains
        weights = draw_weights(self._rng, differ.shape[1]) if differ.shape[1] > 1 else np.ones(1)
        each = [_standardized(t, gain) for gain in differ.T] or [np.zeros(len(t))]
        y = weights @ np.array(each)
        theta = _likeliest(x, t, y)
        seen_x = np.array([*x, *beside])
        seen_t = np.array([*t, *[time] * len(beside)])
        half = _CANDIDATES // 2
        near = here + _NEAR * self._rng.standard_normal((half, len(here)))
        wide = self._rng.random((half, len(here)))
        asked = np.clip(np.concatenate([near, wide]), 0.0, 1.0)
        when = np.full(len(asked), time)
        mean = _mean(theta, x, t, y, asked, when)
        deviation = _deviation(theta, seen_x, seen_t, asked, when)
        beta = max(0.2, 0.2 * math.log(0.4 * len(y)))
        found: np.ndarray = asked[int(np.argmax(mean + math.sqrt(beta) * deviation))]
        return found


def _parts(loss: float) -> tuple[float, ...]:
    """What is to be lowered: of several losses each, and how far constraints are broken."""
    return (*loss.losses, loss.violation) if isinstance(loss, Loss) else (loss,)


def _names(dimensions: Sequence[Dimension]) -> tuple[str, ...]:
    return tuple(d.name for d in dimensions)


def _units(dimensions: Sequence[Dimension], point: Point) -> np.ndarray:
    return np.array([d.range.encode(point[d.name]) for d in dimensions])


def _standardized(t: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gains less their time's mean, over their time's spread; at most two of it, as in Ray."""
    out = np.zeros_like(y)
    for time in np.unique(t):
        at = t == time
        out[at] = (y[at] - y[at].mean()) / (y[at].std() + 1e-12)
    return np.clip(out, -2.0, 2.0)


def _kernel(
    theta: tuple[float, float, float], x: np.ndarray, t: np.ndarray, z: np.ndarray, s: np.ndarray
) -> np.ndarray:
    length, omega, _ = theta
    far = ((x[:, None, :] - z[None, :, :]) ** 2).sum(axis=2)
    apart = np.abs(t[:, None] - s[None, :])
    out: np.ndarray = np.exp(-far / length) * (1 - omega) ** (apart / 2)
    return out


def _root(theta: tuple[float, float, float], x: np.ndarray, t: np.ndarray) -> np.ndarray:
    covariance = _kernel(theta, x, t, x, t) + (theta[2] + 1e-8) * np.eye(len(x))
    root: np.ndarray = cholesky(covariance, lower=True, check_finite=False)
    return root


def _likeliest(x: np.ndarray, t: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    best, chosen = -math.inf, (_LENGTHS[0], _OMEGAS[0], _NOISES[0])
    for length, omega in itertools.product(_LENGTHS, _OMEGAS):
        known = _kernel((length, omega, 0.0), x, t, x, t)
        for noise in _NOISES:
            root = cholesky(known + noise * np.eye(len(y)), lower=True, check_finite=False)
            half = solve_triangular(root, y, lower=True, check_finite=False)
            likely = -0.5 * float(half @ half) - float(np.log(np.diag(root)).sum())
            if likely > best:
                best, chosen = likely, (length, omega, noise)
    return chosen


def _mean(
    theta: tuple[float, float, float],
    x: np.ndarray,
    t: np.ndarray,
    y: np.ndarray,
    asked: np.ndarray,
    when: np.ndarray,
) -> np.ndarray:
    weights = cho_solve((_root(theta, x, t), True), y, check_finite=False)
    out: np.ndarray = _kernel(theta, asked, when, x, t) @ weights
    return out


def _deviation(
    theta: tuple[float, float, float],
    x: np.ndarray,
    t: np.ndarray,
    asked: np.ndarray,
    when: np.ndarray,
) -> np.ndarray:
    cross = _kernel(theta, x, t, asked, when)
    half = solve_triangular(_root(theta, x, t), cross, lower=True, check_finite=False)
    out: np.ndarray = np.sqrt(np.maximum(1.0 - (half * half).sum(axis=0), 1e-12))
    return out
