"""GP: a Gaussian process over points and rungs proposes where improvement is to be expected.

    model        losses at every rung that a trial has come to (`automl.search.gaussian_process`)
    losses       centred at the median; those above it are compressed, z -> log(1 + z): how bad a
                 bad point is matters little. Failed trials count as the worst that was seen
    proposal     the largest log expected improvement after a full training: among scattered
                 points and neighbours of the best ones, refined in a few rounds of small changes
    running      trials count with the mean that the process expects of them, and so do those
                 that were stopped before the first of its rungs

Until `startup` trials have been drawn they are scattered (scrambled Sobol). A dimension that is
not active stands at its default, see `automl.search.columns`. Of long histories the model is
shown the best trials and an even selection of the others, which bounds the time of an ask.
Source: Jones et al. 1998; the rungs as an input follow Klein et al. 2020, arXiv:2003.10865.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from automl.search.columns import Columns
from automl.search.gaussian_process import Process, condition, fit, log_improvement
from automl.search.paired import Suggestion
from automl.search.standings import Standings
from automl.space.ranges import Value
from automl.space.tree import Point, Space

if TYPE_CHECKING:
    from scipy.stats.qmc import Sobol

_KEPT = 80  # trials that the model is shown
_BEST = 30  # of these are the best ones
_SCATTERED = 400
_NEAR = 200
_ROUNDS = 3
_PARENTS = 10
_WORTHLESS = 0.01  # expected improvement, where 1 is from the median trial to the best tenth
_IN_A_ROW = 5  # proposals
_LEAST_TRIALS = 20
_CANDIDATES = 50  # places that no trial has, before a point is taken that was tried already


class GpSampler:
    """Bayesian optimization with rungs.

    `rungs`: shares of a full training at which trials are compared, the last one 1.
    """

    def __init__(
        self, space: Space, *, seed: int, rungs: Sequence[float] = (1.0,), startup: int = 8
    ) -> None:
        self._space = space
        self._columns = Columns(space)
        self._rng = np.random.default_rng([seed, 2])
        self._seed = seed
        self._low = min(rungs)
        self._rungs = tuple(rungs)
        self._startup = startup
        self._drawn = 0
        self._seen: set[tuple[tuple[str, Value], ...]] = set()
        self._tried: set[bytes] = set()  # rows: a look at them is cheaper than decoding a place
        self._units: dict[int, np.ndarray] = {}
        self._rows: dict[int, np.ndarray] = {}
        self._running: dict[int, np.ndarray] = {}  # rows of which nothing has been heard
        self._losses: dict[int, dict[float, float]] = {}  # trial -> share -> loss
        self._heard = 0  # losses in all
        self._standings = Standings()
        self._worthless = 0  # proposals in a row of which next to nothing was expected
        self._theta: np.ndarray | None = None
        self._fitted = 0  # observations at the last fit

    @cached_property
    def _sobol(self) -> Sobol:
        from scipy.stats.qmc import Sobol  # most of a second, and a short study never scatters

        return Sobol(len(self._space), rng=np.random.default_rng([self._seed, 3]))

    def suggest(self, trial: int) -> Suggestion:
        return self.suggest_like(trial, {})

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        if self._drawn < self._startup or not self._finite():
            return self.scatter(trial, fixed)
        return self._begun(trial, self._untried(self._propose(fixed), fixed))

    def scatter(self, trial: int, fixed: Point) -> Suggestion:
        """The next scattered point, whatever the model would propose."""
        return self._begun(trial, self._space.decode(self._sobol.random(1)[0], fixed))

    def _begun(self, trial: int, point: Point) -> Suggestion:
        self._drawn += 1
        self.adopt(trial, point)
        return Suggestion(point)

    def adopt(self, trial: int, point: Point) -> None:
        self._seen.add(tuple(point.items()))
        self._units[trial] = self._space.encode(point)
        self._rows[trial] = self._columns.of(self._units[trial][None])[0]
        self._running[trial] = self._rows[trial]
        self._tried.add(self._rows[trial].tobytes())

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        seen = {1.0: loss} if loss == math.inf or not curve else curve
        if max(seen) < self._low:
            return
        known = self._losses.setdefault(trial, {})
        self._running.pop(trial, None)
        self._heard -= len(known)
        known.update((share, seen[share]) for share in self._rungs if share in seen)
        known[max(seen)] = loss
        self._heard += len(known)
        self._standings.put(trial, known[max(known)])

    def sated(self) -> bool:
        """Whether the last few proposals promised next to nothing; see `_WORTHLESS`."""
        ended = sum(max(known) >= 1 for known in self._losses.values())
        return ended >= _LEAST_TRIALS and self._worthless >= _IN_A_ROW

    def _finite(self) -> bool:
        return any(min(known.values()) < math.inf for known in self._losses.values())

    def _untried(self, units: np.ndarray, fixed: Point) -> dict[str, Value]:
        """The first of `units` that no trial has; the very first when all are known."""
        fresh = [row.tobytes() not in self._tried for row in self._columns.of(units)]
        for unit in units[fresh][:_CANDIDATES]:
            point = self._space.decode(unit, fixed)
            if tuple(point.items()) not in self._seen:
                return point
        return self._space.decode(units[0], fixed)

    def _propose(self, fixed: Point) -> np.ndarray:
        """Places in the unit cube [n, d], the most promising first."""
        process, trials = self._model()
        held = {i: d.range.encode(fixed[d.name])
                for i, d in enumerate(self._space) if d.name in fixed}  # fmt: skip
        units = np.array([self._units[t] for t in trials])
        means, _ = process.predict(np.array([self._rows[t] for t in trials]))
        best = float(means.min())
        order = np.argsort(means, kind="stable")[:_PARENTS]
        pool = np.concatenate(
            [
                self._rng.random((_SCATTERED, len(self._space))),
                self._changed(units[order], _NEAR, 0.2),
            ]
        )
        value = np.empty(0)
        for round_ in range(_ROUNDS + 1):
            fresh = pool[len(value) :]
            for i, unit in held.items():
                fresh[:, i] = unit
            mean, deviation = process.predict(self._columns.of(fresh))
            value = np.concatenate([value, log_improvement(mean, deviation, best)])
            if round_ < _ROUNDS:
                top = np.argsort(-value, kind="stable")[:_PARENTS]
                pool = np.concatenate([pool, self._changed(pool[top], _NEAR, 0.1 / 2**round_)])
        if not held:  # within a pack's choices less may be left than in the whole space
            small = math.exp(float(value.max())) < _WORTHLESS
            self._worthless = self._worthless + 1 if small else 0
        chosen: np.ndarray = pool[np.argsort(-value, kind="stable")]
        return chosen

    def _changed(self, parents: np.ndarray, count: int, size: float) -> np.ndarray:
        """Children [count, d] that differ from a parent in some dimensions, by about `size`."""
        d = parents.shape[1]
        children = parents[np.arange(count) % len(parents)]
        share = min(1.0, max(0.3, 2 / d)) if d < 20 else 4 / d
        touched = self._rng.random(children.shape) < share
        touched[np.arange(count), self._rng.integers(0, d, count)] = True
        step = (
            size
            * np.exp(self._rng.normal(0, 0.7, (count, 1)))
            * self._rng.normal(size=children.shape)
        )
        moved = np.where(
            self._columns.nominal, self._rng.random(children.shape), np.clip(children + step, 0, 1)
        )
        out: np.ndarray = np.where(touched, moved, children)
        return out

    def _model(self) -> tuple[Process, list[int]]:
        trials = self._shown()
        losses = [(t, share, loss) for t in trials for share, loss in self._losses[t].items()]
        x = np.array([self._rows[t] for t, _, _ in losses])
        s = places(np.array([share for _, share, _ in losses]), self._low)
        y = flattened(np.array([loss for _, _, loss in losses]), s)
        seen = self._heard
        if self._theta is None or seen >= self._fitted + max(4, self._fitted // 8):
            self._theta, self._fitted = fit(x, s, y, self._theta), seen
        process = condition(self._theta, x, s, y)
        if self._running:
            rows = np.array(list(self._running.values()))
            believed, _ = process.predict(rows)
            process = condition(
                self._theta,
                np.concatenate([x, rows]),
                np.concatenate([s, np.ones(len(rows))]),
                np.concatenate([y, believed]),
            )
        return process, trials

    def _shown(self) -> list[int]:
        trials = list(self._losses)
        if len(trials) <= _KEPT:
            return trials
        best = self._standings.best(_BEST)
        there = set(best)
        rest = sorted(t for t in trials if t not in there)
        picks = np.linspace(0, len(rest) - 1, _KEPT - _BEST).round().astype(int)
        return best + [rest[i] for i in picks.tolist()]


def places(shares: np.ndarray, low: float) -> np.ndarray:
    """Shares of a full training on a log scale: 0 at the first rung, `low`, and 1 at the end."""
    out: np.ndarray = np.ones(len(shares)) if low >= 1 else 1 - np.log(shares) / math.log(low)
    return out


def flattened(y: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Losses at places `s`, about 0 with a spread about 1; bad ones on a log scale.

    Infinity counts as the worst that was seen.
    """
    finite = np.isfinite(y)
    if not finite.any():
        return np.zeros(len(y))
    y = np.where(finite, y, y[finite].max())
    late = y[finite & (s == s.max())]
    middle = float(np.median(late if len(late) > 4 else y))
    low = float(np.quantile(y, 0.1))
    scale = middle - low if middle > low else float(y.std()) or 1.0
    z = (y - middle) / scale
    out: np.ndarray = np.where(z > 0, np.log1p(np.maximum(z, 0)), z)
    return out
