"""Prescreening: proxies rank sampled networks before they are trained, for as long as they earn it.

    pool        networks drawn at random from the space, each scored before training
    new trials  in turn the best-scored of the next 4 of the pool, and the next as it comes (blind);
                once the proxy is trusted, in turn the best of 4 and the sampler's own choice;
                once it is not, the sampler's own alone
    trusted     rank correlation of score and result over the pool's trained networks, at least 12,
                is above that of the parameter count, and above 0 at the 5 % level

Blind trials keep the correlation honest: among the best-scored alone, scores hardly differ. Results
are compared at the deepest step that at least 12, and half, of the trials have reached. All but
the network is the sampler's to choose, with the network given. The pool and its scores stand in the
study's configuration, so the same journal gives the same asks.
Source: Abdelfattah et al. 2021, arXiv:2101.08134 (proxies before a search); the rule is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from automl.search.paired import Alike, Sampler, Suggestion
from automl.search.wrapping import Wrapping, innermost
from automl.space.ranges import Value
from automl.space.tree import Point, Space

FACTOR = 4  # candidates for one trial that is ranked
FEWEST = 12  # trained networks before a proxy is judged
YARDSTICK = "params"
_NETWORK = ("architecture", "model")  # stages that make the network
_Z = 1.645  # one-sided 5 %


@dataclass(frozen=True)
class Candidate:
    """A network: the names that make it, and its scores by proxy."""

    point: Mapping[str, Value]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Pool:
    """Scored networks in the order in which they were drawn."""

    proxy: str
    candidates: tuple[Candidate, ...]
    seconds: float = 0.0  # that scoring took

    def to_json(self) -> dict[str, Any]:
        rows = [[dict(c.point), dict(c.scores)] for c in self.candidates]
        return {"proxy": self.proxy, "candidates": rows, "seconds": self.seconds}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pool:
        rows = tuple(Candidate(p, s) for p, s in data["candidates"])
        return cls(data["proxy"], rows, data["seconds"])

    def scores_of(self, point: Point) -> Mapping[str, float] | None:
        """Those of the network of `point`; None where it is not of the pool."""
        return self._scores.get(network_key(point))

    @cached_property
    def _scores(self) -> dict[frozenset[tuple[str, Value]], Mapping[str, float]]:
        return {network_key(c.point): c.scores for c in self.candidates}


def network_key(point: Point) -> frozenset[tuple[str, Value]]:
    """The part of a point that makes the network."""
    return frozenset((n, v) for n, v in point.items() if n.split(".")[0] in _NETWORK)


def drawn(space: Space, count: int, *, seed: int) -> list[dict[str, Value]]:
    """Up to `count` different networks of the space, uniformly; fewer where there are fewer."""
    rng = np.random.default_rng([seed, 0x5CE])
    found: dict[Any, dict[str, Value]] = {}
    for _ in range(4 * count):
        point = space.sample(rng)
        key = network_key(point)
        found.setdefault(key, {n: point[n] for n in point if n.split(".")[0] in _NETWORK})
        if len(found) == count:
            break
    return list(found.values())


# Trust ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trust:
    """How far a proxy can be believed.

    `share` is that of a full training at which results were compared, 0 where too few are known.
    """

    proxy: str
    trained: int
    share: float = 0.0
    correlation: float = math.nan
    yardstick: float = math.nan  # the parameter count's

    @property
    def judged(self) -> bool:
        return self.trained >= FEWEST

    @property
    def significant(self) -> bool:
        """Whether the correlation is above 0 at the 5 % level (Fisher's transform)."""
        r = min(max(self.correlation, 1e-9 - 1), 1 - 1e-9)
        return self.judged and math.atanh(r) * math.sqrt((self.trained - 3) / 1.06) > _Z

    @property
    def trusted(self) -> bool:
        """True also while too little is known to say."""
        beats = self.proxy == YARDSTICK or self.correlation > self.yardstick
        return not self.judged or (self.significant and beats)


def trust(
    proxy: str, results: Sequence[tuple[Mapping[str, float], Mapping[float, float]]]
) -> Trust:
    """Judge by (scores by proxy, value by share of a full training) of each trained network.

    Values: higher is better; a trial that failed has -inf at its last share, which holds for all.
    """
    known = [(s, v) for s, v in results if v]
    shares = sorted({share for _, values in known for share in values}, reverse=True)
    for share in shares:
        at = [(s, _at(v, share)) for s, v in known]
        there = [(s, v) for s, v in at if v is not None]
        if len(there) >= max(FEWEST, len(known) / 2):
            values = [v for _, v in there]
            of = {
                name: spearman([s[name] for s, _ in there], values) for name in (proxy, YARDSTICK)
            }
            return Trust(proxy, len(there), share, of[proxy], of[YARDSTICK])
    return Trust(proxy, min(len(known), FEWEST - 1))


def _at(values: Mapping[float, float], share: float) -> float | None:
    if -math.inf in values.values():
        return -math.inf
    return values.get(share)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation, ties sharing their mean rank; nan counts as the lowest; 0 without spread.

    >>> round(spearman([1, 2, 3, 4], [1, 3, 2, 4]), 3)
    0.8
    """
    x, y = _ranks(a), _ranks(b)
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    found = np.array([-math.inf if math.isnan(v) else v for v in values], dtype=float)
    ranks: np.ndarray = np.array([(found < v).sum() + ((found == v).sum() - 1) / 2 for v in found])
    return ranks


# The sampler ----------------------------------------------------------------------------------


class Prescreened(Wrapping):
    """A sampler whose networks come, in turn, from the pool."""

    def __init__(self, sampler: Sampler, pool: Pool) -> None:
        super().__init__(sampler)
        self._pool = pool
        self._picks = isinstance(innermost(sampler), Alike)  # a point for a given network
        self._used = 0  # candidates
        self._turn = 0
        self._scores: dict[int, Mapping[str, float]] = {}  # by trial
        self._values: dict[int, dict[float, float]] = {}

    def suggest(self, trial: int) -> Suggestion:
        now = self._trust()
        own = self._turn % 2 == 1 and now.judged
        left = len(self._pool.candidates) - self._used
        if own or not now.trusted or left < FACTOR or not self._picks:
            found = self._next(trial, None)
            self._turn += not found.label
            return found
        ranked = self._turn % 2 == 0
        taken = self._pool.candidates[self._used : self._used + (FACTOR if ranked else 1)]
        best = max(taken, key=lambda c: _sortable(c.scores[self._pool.proxy]))
        found = self._next(trial, best.point)
        if not found.label:  # else a plan of the inner sampler's own: the network waits
            self._turn += 1
            self._used += len(taken)
            label = "prescreened" if ranked else "drawn blind"
            found = Suggestion(found.point, label, found.full)
        return found

    def adopt(self, trial: int, point: Point) -> None:
        self._scored(trial, point)
        super().adopt(trial, point)

    def _next(self, trial: int, fixed: Point | None) -> Suggestion:
        found = super()._next(trial, fixed)
        self._scored(trial, found.point)
        return found

    def _note(self, trial: int, loss: float, curve: Mapping[float, float] | None) -> None:
        if trial in self._scores:
            values = self._values.setdefault(trial, {})
            values |= {share: -value for share, value in (curve or {1.0: loss}).items()}

    def _scored(self, trial: int, point: Point) -> None:
        scores = self._pool.scores_of(point)
        if scores is not None:
            self._scores[trial] = scores

    def _trust(self) -> Trust:
        results = [(s, self._values.get(t, {})) for t, s in self._scores.items()]
        return trust(self._pool.proxy, results)


def _sortable(score: float) -> float:
    return -math.inf if math.isnan(score) else score
