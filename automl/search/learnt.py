"""A portfolio learnt from finished studies: few points that are good together on all of them.

    believed     what a Gaussian process of each study expects of a full training at any point
    candidates   the points of each study of which its process expects most
    chosen       those that complement each other best (`automl.search.complementary`)

Studies try different points, and stop some early, so what a point would have given elsewhere is
believed, not known. Losses are compared on the processes' own scale, 0 at a study's median and -1
at its best tenth, so that a hard task counts as much as an easy one.
Source: the idea is that of Feurer et al. 2020, arXiv:2007.04074, with a model for the gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from automl.search.columns import Columns
from automl.search.complementary import complementary
from automl.search.gaussian_process import Process, condition, fit
from automl.search.samplers.gp import flattened, places
from automl.space.ranges import Value
from automl.space.tree import Point, Space

SIZE = 8
_CANDIDATES = 12  # of each study
_SHOWN = 150  # trials of a study that its process sees; bounds the cost of the fit


@dataclass(frozen=True, slots=True)
class Experience:
    """What a study knows of its points: their last losses (inf: failed or diverged), and the
    shares of a full training, in (0, 1], that these were measured at."""

    points: Sequence[Point]
    losses: Sequence[float]
    shares: Sequence[float]


def learnt(
    space: Space, studies: Sequence[Experience], *, size: int = SIZE
) -> list[dict[str, Value]]:
    """At most `size` points of `space`, the first the best bet; the default is not among them.

    Of points from elsewhere, names and values that `space` has not stand at their defaults.
    """
    columns = Columns(space)
    candidates: list[dict[str, Value]] = []
    processes = []
    for study in studies:
        points = [fitted(space, p) for p in study.points]
        process = _believed(_rows(space, columns, points), study)
        processes.append(process)
        expected, _ = process.predict(_rows(space, columns, points))
        for i in np.argsort(expected, kind="stable")[:_CANDIDATES].tolist():
            if points[i] not in candidates and points[i] != space.default():
                candidates.append(points[i])
    if not candidates:
        return []
    rows = _rows(space, columns, candidates)
    losses = np.stack([process.predict(rows)[0] for process in processes], axis=1)
    return [candidates[i] for i in complementary(losses - losses.min(axis=0), size)]


def fitted(space: Space, point: Point) -> dict[str, Value]:
    """`point` of any space as one of `space`: what it has and can hold is kept."""
    kept = {n: v for n, v in point.items() if n in space and space[n].range.contains(v)}
    return space.complete(kept)


def _believed(x: np.ndarray, study: Experience) -> Process:
    shares = np.asarray(study.shares, dtype=float)
    s = places(shares, float(shares.min()))
    y = flattened(np.asarray(study.losses, dtype=float), s)
    shown = np.lexsort((y, -s))[:_SHOWN]
    x, s, y = x[shown], s[shown], y[shown]
    return condition(fit(x, s, y), x, s, y)


def _rows(space: Space, columns: Columns, points: Sequence[Point]) -> np.ndarray:
    return columns.of(np.array([space.encode(p) for p in points]))
