"""Where a learning curve leads: the loss at the end of training, as a mixture of normals.

    loss(s) = f + a phi(s) + noise         s: share of the training, phi(1) = 0, so f is the answer
    phi     s^-p - 1,  -log s,  e^(-q s) - e^-q      for a few p and q
    prior   f ~ N(m, E),  a phi(first share) ~ N(0, C),  in units of the spread of losses; m is what
            is told

f and a have a normal posterior in closed form; each phi, with each size of noise, counts as much as
the curve is likely under it. So a curve seen once tells little, one that is flat a lot. Ten shapes,
four noises, at most `_SEEN` points: a tenth of a millisecond each.
Source: the idea of freezing and thawing by such forecasts is that of Swersky et al. 2014,
arXiv:1406.3896, whose model is a Gaussian process with an exponential mixture for a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_POWERS, _RATES = (0.25, 0.5, 1.0, 2.0), (1.0, 3.0, 6.0, 12.0, 25.0)
_END, _CURVE = 1.0, 1.0  # E and C, as deviations
_NOISES = (0.01, 0.03, 0.1, 0.3)
_SEEN = 12  # evaluations of a curve that are looked at, evenly spaced on a log scale


@dataclass(frozen=True, slots=True)
class Forecast:
    """A mixture of normals: weights, means and deviations [shapes]."""

    weights: np.ndarray
    means: np.ndarray
    deviations: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.weights @ self.means)

    def improvement(self, best: float, *, stretched: float = 1.0) -> float:
        """What the end is expected to lie below `best`; deviations count `stretched` times."""
        from scipy.special import ndtr  # a fifth of a second, for this strategy alone

        d = np.maximum(self.deviations * stretched, 1e-12)
        z = (best - self.means) / d
        each = (best - self.means) * ndtr(z) + d * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        return float(self.weights @ each)


def forecast(losses: Mapping[float, float], *, expected: float, spread: float) -> Forecast:
    """The loss at share 1.

    Args:
        losses: by share of the training, in (0, 1]; finite, at least one.
        expected: of a curve that nothing is known of.
        spread: of losses between trials, more than 0.
    """
    shares = np.array(sorted(losses))
    shares = shares[_spaced(shares)]
    y = (np.array([losses[s] for s in shares.tolist()]) - expected) / spread
    rows = []
    for phi in _shapes(shares):
        for noise in _NOISES:
            rows.append(_posterior(phi / max(abs(phi[0]), 1e-9), y, noise))
    likely, means, variances = np.array(rows).T
    weights = np.exp(likely - likely.max())
    return Forecast(weights / weights.sum(), expected + spread * means, spread * np.sqrt(variances))


def _shapes(s: np.ndarray) -> list[np.ndarray]:
    powers = [s**-p - 1 for p in _POWERS]
    return [*powers, -np.log(s), *(np.exp(-q * s) - math.exp(-q) for q in _RATES)]


def _spaced(shares: np.ndarray) -> np.ndarray:
    """Which shares to look at: the last, and others before it."""
    n = len(shares)
    if n <= _SEEN:
        return np.arange(n)
    places = np.geomspace(1, n, _SEEN)
    return np.unique(np.round(places).astype(int)) - 1


def _posterior(phi: np.ndarray, y: np.ndarray, noise: float) -> tuple[float, float, float]:
    """Log evidence of the curve, mean and variance of f."""
    x = np.stack([_END * np.ones_like(phi), _CURVE * phi], axis=1)
    precision = np.eye(2) + x.T @ x / noise**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ (x.T @ y) / noise**2
    rest = y - x @ mean
    fit = float(rest @ rest) / noise**2 + float(mean @ mean)
    _, volume = np.linalg.slogdet(precision)
    likely = -0.5 * (fit + volume) - len(y) * math.log(noise)
    return likely, _END * float(mean[0]), _END**2 * float(covariance[0, 0])
