"""Made-up trainings of many kinds, to see what breaks a search: no proof, unlike recorded ones.

    loss        D(x) = (sum_d w_d g_d^2 + sum_k (a_k g)^2) (1 + r sin(b g)), 0 at a place drawn at
                random; g_d is the distance from it along dimension d, warped, or a number drawn for
                each option of a choice; few of the weights w are large, the a_k tilt the valleys
    end         1 / (1 + D / median D), and 0 in regions that diverge
    curve       a saturating rise to the end; its speed depends on the point, and may mislead
    noise       of a trial (0.8) and of an epoch (0.6), in units of best minus median; the same
                point has the same noise, as in recorded trainings

What a search finds counts with its noise-free score. Two halves with other sizes, seeds and steps:
what is chosen on the one is reported on the other.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from recorded import Problem

from automl.space.ranges import Choice, Float, Int, Range
from automl.space.tree import Point, Space

_DIVERGED = 0.4  # of the places in a space with a cliff


class Kind(NamedTuple):
    family: str
    sizes: tuple[int, ...]
    noise: float
    steps: int
    misleads: float = 0.3  # spread of the log speeds
    rough: float = 0.0  # r
    cliff: bool = False


HALVES: dict[str, tuple[Kind, ...]] = {
    "a": (
        Kind("numbers", (2,), 0.0, 27),
        Kind("numbers", (6,), 0.25, 27),
        Kind("numbers", (6,), 0.6, 27),
        Kind("numbers", (6,), 0.0, 50, misleads=1.2, rough=0.5),
        Kind("numbers", (18,), 0.1, 27),
        Kind("numbers", (40,), 0.0, 27),
        Kind("numbers", (40,), 0.25, 9),
        Kind("numbers", (4,), 0.1, 100, cliff=True),
        Kind("grid", (5,), 0.25, 27),
        Kind("grid", (9,), 0.0, 1),
        Kind("choices", (6,), 0.25, 27),
        Kind("choices", (14,), 0.0, 27, misleads=1.0),
        Kind("branches", (3, 2, 2), 0.0, 27),
        Kind("branches", (12, 1, 2), 0.1, 27),
        Kind("branches", (4, 5, 5), 0.0, 27),
        Kind("mixed", (9,), 0.25, 27, cliff=True),
        Kind("mixed", (24,), 0.1, 50, misleads=0.8),
    ),
    "b": (
        Kind("numbers", (3,), 0.1, 50),
        Kind("numbers", (8,), 0.25, 9),
        Kind("numbers", (5,), 0.5, 50),
        Kind("numbers", (7,), 0.0, 27, misleads=1.0, rough=0.4),
        Kind("numbers", (15,), 0.25, 27),
        Kind("numbers", (30,), 0.1, 27),
        Kind("numbers", (60,), 0.0, 27),
        Kind("numbers", (6,), 0.0, 27, cliff=True),
        Kind("grid", (4,), 0.0, 27),
        Kind("grid", (8,), 0.25, 12),
        Kind("choices", (8,), 0.0, 1),
        Kind("choices", (20,), 0.25, 27),
        Kind("branches", (5, 2, 1), 0.25, 27),
        Kind("branches", (8, 1, 3), 0.0, 27),
        Kind("branches", (3, 8, 4), 0.1, 27),
        Kind("mixed", (12,), 0.0, 27, misleads=0.8),
        Kind("mixed", (35,), 0.25, 27, cliff=True),
    ),
}


HALF_A, HALF_B = (tuple(f"{h}{i}" for i in range(len(HALVES[h]))) for h in "ab")


class MadeUp:
    """The trainings of one task; `truth` has the noise-free score of each that was looked at."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self._kind, self._seed = kind, seed
        rng = np.random.default_rng([seed, 0])
        self.space = _space(kind.family, kind.sizes, rng)
        d = len(self.space)
        self._best = rng.uniform(0.05, 0.95, d)
        self._power = np.exp(rng.normal(0, 0.4, d))
        self._weights = rng.permutation(np.exp(-np.arange(d) / 3) + 0.02)
        forks = {name for each in self.space for name, _ in each.when}
        self._tables: dict[int, np.ndarray] = {}
        for i, each in enumerate(self.space):
            if isinstance(each.range, Choice):
                table = rng.uniform(0.1, 0.6, len(each.range.options))
                table[rng.integers(len(table))] = 0.0
                self._tables[i] = table
                if each.name in forks:
                    self._weights[i] = self._weights.max()
        self._tilts = np.where(rng.random((3, d)) < 2 / d, rng.normal(size=(3, d)), 0.0)
        self._waves, self._speeds = rng.normal(0, 3, d), rng.normal(0, 1, d)
        self._downhill = rng.normal(size=d)
        self._pace = rng.normal(0, 0.5, d) / math.sqrt(d)
        draws = [self._distances(self.space.sample(rng)) for _ in range(400)]
        self._scale = float(np.median([self._loss(g) for g in draws]))
        slopes = [float(g @ self._downhill) for g in draws]
        self._edge = max(0.0, float(np.quantile(slopes, 1 - _DIVERGED))) if kind.cliff else math.inf
        self._spread = float(np.std([g @ self._speeds for g in draws])) or 1.0
        self.median = float(np.median([self._end(g) for g in draws]))
        self._known: dict[tuple[object, ...], tuple[np.ndarray, np.ndarray]] = {}
        self.truth: dict[float, float] = {}

    def curve(self, point: Point) -> tuple[np.ndarray, np.ndarray]:
        point = self.space.complete(point)  # peers name dimensions that are closed, too
        key = tuple(point.items())
        if key not in self._known:
            self._known[key] = self._train(point)
        return self._known[key]

    def _train(self, point: Point) -> tuple[np.ndarray, np.ndarray]:
        kind, g = self._kind, self._distances(point)
        shares = np.arange(1, kind.steps + 1) / kind.steps
        k = 3 * math.exp(kind.misleads * float(np.clip(g @ self._speeds / self._spread, -2, 2)))
        clean = self._end(g) * np.expm1(-k * shares) / math.expm1(-k)
        key = zlib.crc32(repr(sorted(point.items())).encode())
        draws = np.random.default_rng([self._seed, key]).normal(size=kind.steps + 1)
        size = kind.noise * (1 - self.median) * (clean > 0)
        scores = clean + size * (0.8 * draws[0] + 0.6 * draws[1:])
        self.truth.update(zip(scores.tolist(), clean.tolist(), strict=True))
        return scores, shares * math.exp(float(g @ self._pace))

    def _distances(self, point: Point) -> np.ndarray:
        """How far `point` is from the best along each dimension that it has, else 0."""
        units, g = self.space.encode(point), np.zeros(len(self.space))
        for i, each in enumerate(self.space):
            if each.name in point:
                table = self._tables.get(i)
                p = self._power[i]
                g[i] = units[i] ** p - self._best[i] ** p
                if table is not None:
                    g[i] = table[min(int(units[i] * len(table)), len(table) - 1)]
                elif isinstance(each.range, Int):  # the best place is one of the grid's
                    g[i] = units[i] - each.range.encode(each.range.decode(self._best[i]))
        return g

    def _loss(self, g: np.ndarray) -> float:
        valley = float(self._weights @ g**2) + float(((self._tilts @ g) ** 2).sum())
        return valley * (1 + self._kind.rough * math.sin(float(self._waves @ g)))

    def _end(self, g: np.ndarray) -> float:
        if float(g @ self._downhill) > self._edge:
            return 0.0
        return 1 / (1 + self._loss(g) / self._scale)


def made_up(name: str) -> Problem:
    task = MadeUp(HALVES[name[0]][int(name[1:])], zlib.crc32(name.encode()))
    kind = HALVES[name[0]][int(name[1:])]
    return Problem(name, task.space, kind.steps, task.curve, 1.0, task.median, truth=task.truth)


def _space(family: str, sizes: tuple[int, ...], rng: np.random.Generator) -> Space:
    def number(i: int) -> Range:
        return Float(1e-4, 1.0, log=True) if i % 2 else Float(0.0, 1.0)

    def choice() -> Range:
        return Choice([f"o{j}" for j in range(int(rng.integers(2, 6)))])

    def level() -> Range:
        return Int(0, int(rng.integers(3, 9)))

    if family == "branches":
        count, inside, shared = sizes
        tree: Mapping[str, Mapping[str, Range]] = {
            f"b{j}": {f"x{i}": number(i) for i in range(inside)} for j in range(count)
        }
        return Space({"kind": Choice(tree), **{f"s{i}": number(i) for i in range(shared)}})
    kinds = {"numbers": (number,), "grid": (lambda _: level(),), "choices": (lambda _: choice(),)}
    every = kinds.get(family, (number, number, lambda _: choice(), lambda _: level()))
    return Space({f"x{i}": every[i % len(every)](i) for i in range(sizes[0])})
