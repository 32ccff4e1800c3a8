"""Parzen estimators of TPE: where points lie in a group of dimensions, as a mixture of kernels.

    p(x) = sum_k w_k prod_i kernel_i(x_i; point k)            one more kernel, the prior, is wide

    numbers   a normal at the point, cut off at the edges of the range; of whole numbers the mass
              of their interval. Its deviation is the larger distance to the next points on both
              sides, but between 1 / min(100, kernels + 1) of the range and all of it
    choices   the point's option 1 + 1 / kernels, any other 1 / kernels, over their sum
    weights   1 for the last 25 points, falling to 1 / points for the first; 1 for the prior

A draw takes a kernel, and draws from that one in each dimension: what good points have in common
stays together. Places are those of `Range.encode`, of choices, too.
n points, d dimensions: O(n d) for the density at a place; of real numbers one matrix product.
Source: Bergstra et al. 2011, NeurIPS 24; all constants are those of Optuna's multivariate TPE
(Watanabe 2023, arXiv:2304.11127), against which a test holds the densities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from automl.space.ranges import Choice, Int, Range

_RECENT = 25  # points that all weigh the same
_NARROWEST = 100.0
_LEAST = 1e-300  # of a mass, for its logarithm


class Axes:
    """The dimensions of a group by kind: columns `real`, `whole` and `choice`."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        at = list(enumerate(ranges))
        self.choice = [i for i, r in at if isinstance(r, Choice)]
        self.whole = [i for i, r in at if isinstance(r, Int)]
        self.real = [i for i in range(len(at)) if i not in (*self.choice, *self.whole)]
        self.options = np.array([len(r.options) for r in ranges if isinstance(r, Choice)])
        ints = [r for r in ranges if isinstance(r, Int)]
        self._log = np.array([r.log for r in ints], dtype=bool)
        self._low = np.array([r.low for r in ints], dtype=float)
        self._high = np.array([r.high for r in ints], dtype=float)
        self._bottom, top = self._bent(self._low - 0.5), self._bent(self._high + 0.5)
        self._span = top - self._bottom

    def snapped(self, places: np.ndarray) -> np.ndarray:
        """Whole numbers [n, whole] at `places`."""
        x = self._bottom + places * self._span
        x = np.round(np.where(self._log, np.exp(np.where(self._log, x, 0.0)), x))
        out: np.ndarray = np.clip(x, self._low, self._high)
        return out

    def places(self, x: np.ndarray) -> np.ndarray:
        """Where numbers [n, whole] stand, whole ones or the edges between them."""
        out: np.ndarray = (self._bent(x) - self._bottom) / self._span
        return out

    def _bent(self, x: np.ndarray) -> np.ndarray:
        out: np.ndarray = np.where(self._log, np.log(np.where(self._log, x, 1.0)), x)
        return out


class Parzen:
    """The estimator of rows `x` [n, d] of places, the earliest first."""

    def __init__(self, axes: Axes, x: np.ndarray) -> None:
        self._axes = axes
        n = len(x)
        weights = np.ones(n + 1)
        if n > _RECENT:
            weights[: n - _RECENT] = np.linspace(1 / n, 1.0, n - _RECENT)
        self._weights = weights / weights.sum()
        wide = np.full((1, x.shape[1]), 0.5)
        self._mu = np.concatenate([x, wide])
        self._sigma = np.concatenate([_deviations(x), np.ones_like(wide)])
        self._low, self._high = ndtr(-self._mu / self._sigma), ndtr((1 - self._mu) / self._sigma)
        c = axes.choice
        # The prior's kernel likes no option better.
        self._chosen = np.where(np.arange(n + 1)[:, None] < n, _index(self._mu[:, c], axes), -1)
        self._slight = 1 / (n + 1)

    def draw(self, rng: np.random.Generator, count: int, *, near_one: bool = False) -> np.ndarray:
        """Rows [count, d] of places; `near_one`: all from the kernel of one and the same point."""
        axes, points = self._axes, len(self._weights) - 1
        if near_one and points:
            k = np.full(count, rng.integers(points))
        else:
            k = rng.choice(points + 1, size=count, p=self._weights)
        u = rng.random((count, self._mu.shape[1]))
        low, high = self._low[k], self._high[k]
        x: np.ndarray = np.clip(
            self._mu[k] + self._sigma[k] * ndtri(low + u * (high - low)), 0.0, 1.0
        )
        if axes.whole:
            x[:, axes.whole] = axes.places(axes.snapped(x[:, axes.whole]))
        for j, (column, options) in enumerate(zip(axes.choice, axes.options, strict=True)):
            weights = np.full((count, options), self._slight)
            weights += np.arange(options) == self._chosen[k, j][:, None]
            reached = np.cumsum(weights, axis=1)
            index = (reached < u[:, column, None] * reached[:, -1:]).sum(axis=1)
            x[:, column] = (index + 0.5) / options
        return x

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Of rows [m, d] that were drawn, [m]."""
        axes, mu, sigma = self._axes, self._mu, self._sigma
        logs = np.log(self._weights) - np.log(self._mass(axes.real + axes.whole)).sum(axis=1)
        out = np.tile(logs, (len(x), 1))
        if axes.real:
            z, m, s = x[:, axes.real], mu[:, axes.real], 1 / sigma[:, axes.real]
            square = (z * z) @ (s * s).T - 2 * z @ (m * s * s).T + ((m * s) ** 2).sum(axis=1)
            out += np.log(s).sum(axis=1) - 0.5 * square - 0.5 * np.log(2 * np.pi) * len(axes.real)
        if axes.whole:
            value = axes.snapped(x[:, axes.whole])
            edges = axes.places(value - 0.5), axes.places(value + 0.5)
            m, s = mu[:, axes.whole], sigma[:, axes.whole]
            left, right = ((edge[:, None, :] - m) / s for edge in edges)
            beyond = left > 0  # there one minus the mass would be all that is left of it
            mass = ndtr(np.where(beyond, -left, right)) - ndtr(np.where(beyond, -right, left))
            out += np.log(np.maximum(mass, _LEAST)).sum(axis=2)
        if axes.choice:
            alike = _index(x[:, axes.choice], axes)[:, None, :] == self._chosen
            whole = np.where(self._chosen < 0, 0.0, 1.0) + self._slight * axes.options
            out += np.log((self._slight + alike) / whole).sum(axis=2)
        found: np.ndarray = logsumexp(out, axis=1)
        return found

    def _mass(self, columns: list[int]) -> np.ndarray:
        """Of each kernel between the edges."""
        out: np.ndarray = self._high[:, columns] - self._low[:, columns]
        return out


def _index(places: np.ndarray, axes: Axes) -> np.ndarray:
    out: np.ndarray = (places * axes.options).astype(int)
    return out


def _deviations(x: np.ndarray) -> np.ndarray:
    """Of the kernels at `x` [n, d]."""
    n, d = x.shape
    if not n:
        return np.empty((0, d))
    order = np.argsort(x, axis=0, kind="stable")
    ends = np.zeros((1, d)), np.ones((1, d))
    sorted_ = np.concatenate([ends[0], np.take_along_axis(x, order, axis=0), ends[1]])
    gaps = np.diff(sorted_, axis=0)
    wide = np.maximum(gaps[:-1], gaps[1:])
    if n > 1:  # the edges are no points
        wide[0], wide[-1] = gaps[1], gaps[-2]
    out = np.empty_like(x)
    np.put_along_axis(out, order, wide, axis=0)
    found: np.ndarray = np.clip(out, 1 / min(_NARROWEST, n + 2.0), 1.0)
    return found
