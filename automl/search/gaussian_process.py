"""A Gaussian process over points and shares of a full training, fitted by its posterior mode.

    k((x, s), (x', s')) = v M(x, x') (c + (1 - c) e^(-|s-s'| / H)) + T e^(-|s-s'|) + noise [same]
    M   Matern 5/2 of r,   r^2 = sum_d (x_d - x'_d)^2 / l_d^2
    s   share of a full training on a log scale: 0 at the first rung, 1 at the end

The first term says that good points stay good points, as far as c goes; the second that all losses
fall together. Length-scales l, variance v, persistence c and noise have log-normal (c: logit-
normal) priors, so that few observations do no harm; the mode is found by L-BFGS with the exact
gradient, at O(n^3 + d n^2) a step. n observations, d columns; everything is float64.
Sources: Rasmussen and Williams 2006, ch. 5; Hvarfner et al. 2024, arXiv:2402.02229 (length-scales
that grow with the root of the dimension).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr

_ROOT5 = math.sqrt(5.0)
_ROOT2PI = math.sqrt(2 * math.pi)
_H = 0.7  # a third of the rungs' range away, what differs between points is half forgotten
_TREND = 1.0  # T
_LENGTH = 0.5  # of the prior's median length-scale, in unit cubes, times sqrt(d)
_SPREADS = (1.0, 1.0, 1.0, 1.5)  # of the priors: lengths, variance, persistence, noise
_MEDIANS = (0.0, 1.0, math.log(1e-3))  # log variance, logit persistence, log noise
_NOISY = 0.3  # where the second start of a fit stands
_STEPS = 30  # of L-BFGS


@dataclass(frozen=True, slots=True)
class Process:
    """A fitted process: `theta` = (log l [d], log v, logit c, log noise), and its posterior."""

    theta: np.ndarray
    x: np.ndarray  # [n, d]
    s: np.ndarray  # [n]
    root: np.ndarray  # lower Cholesky factor of the covariance [n, n]
    weights: np.ndarray  # inverse covariance times observations [n]

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation [m] of the loss after a full training at `x` [m, d]."""
        d = self.x.shape[1]
        variance = math.exp(self.theta[d])
        s = np.ones(len(x))
        cross = _covariance(self.theta, x, s, self.x, self.s)
        left = solve_triangular(self.root, cross.T, lower=True, check_finite=False)
        rest = np.maximum(variance + _TREND - np.einsum("nm,nm->m", left, left), 1e-10)
        return cross @ self.weights, np.sqrt(rest)


def fit(x: np.ndarray, s: np.ndarray, y: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """The mode of theta given losses `y` [n] at points `x` [n, d] and shares `s` [n].

    `start` is the mode for less data, if there is one. There may be two modes: one that goes
    through every loss, and one that takes most of their spread for noise. So the climb begins
    twice, and the higher one counts.
    """
    prior = _prior(x.shape[1])
    noisy = prior.copy()
    noisy[-1] = math.log(_NOISY)
    found = [
        minimize(
            _objective,
            begin,
            args=(x, s, y),
            jac=True,
            method="L-BFGS-B",
            bounds=[(m - 6, m + 7) for m in prior],
            options={"maxiter": _STEPS},
        )
        for begin in (prior if start is None else start, noisy)
    ]
    theta: np.ndarray = min(found, key=lambda each: each.fun).x
    return theta


def condition(theta: np.ndarray, x: np.ndarray, s: np.ndarray, y: np.ndarray) -> Process:
    """The posterior of the process at `theta` once `y` has been seen."""
    root = _factor(_covariance(theta, x, s, x, s), math.exp(theta[-1]))
    return Process(theta, x, s, root, cho_solve((root, True), y, check_finite=False))


def log_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """Log of the expected improvement on `best`, accurate where it is tiny.

    With z = (best - mean) / deviation: log(deviation) + log(phi(z) + z Phi(z)). Far below, the
    bracket is phi(z) / z^2. Source: Ament et al. 2023, arXiv:2310.20708.
    """
    z = (best - mean) / deviation
    near = np.maximum(z, -8.0)
    inside = np.log(np.exp(-0.5 * near * near) / _ROOT2PI + near * ndtr(near))
    outside = -0.5 * z * z - math.log(_ROOT2PI) - 2 * np.log(np.maximum(-z, 1.0))
    out: np.ndarray = np.log(deviation) + np.where(z > -8, inside, outside)
    return out


def _prior(d: int) -> np.ndarray:
    return np.array([math.log(_LENGTH * math.sqrt(d))] * d + list(_MEDIANS))


def _objective(
    theta: np.ndarray, x: np.ndarray, s: np.ndarray, y: np.ndarray
) -> tuple[float, np.ndarray]:
    """Negative log posterior and its gradient."""
    n, d = x.shape
    lengths, variance = np.exp(theta[:d]), math.exp(theta[d])
    keeps, noise = 1 / (1 + math.exp(-theta[d + 1])), math.exp(theta[d + 2])
    scaled = x / lengths
    r2 = _distances(scaled, scaled)
    r = np.sqrt(r2)
    decay = np.exp(-_ROOT5 * r)
    matern = (1 + _ROOT5 * r + (5 / 3) * r2) * decay
    apart = np.abs(s[:, None] - s[None, :])
    forget = np.exp(-apart / _H)
    over = keeps + (1 - keeps) * forget
    root = _factor(variance * matern * over + _TREND * np.exp(-apart), noise)
    inverse = cho_solve((root, True), np.eye(n), check_finite=False)
    weights = inverse @ y
    pull = 0.5 * (inverse - np.outer(weights, weights))  # d(loss) / d(covariance)
    gradient = np.empty(d + 3)
    m = pull * over * variance * (5 / 3) * (1 + _ROOT5 * r) * decay  # times squared distances
    gradient[:d] = 2 * m.sum(1) @ scaled**2 - 2 * np.einsum("nd,nd->d", scaled, m @ scaled)
    gradient[d] = (pull * matern * over).sum() * variance
    gradient[d + 1] = (pull * matern * (1 - forget)).sum() * variance * keeps * (1 - keeps)
    gradient[d + 2] = np.trace(pull) * noise
    spread = np.array([_SPREADS[0]] * d + list(_SPREADS[1:]))
    off = (theta - _prior(d)) / spread
    value = 0.5 * float(y @ weights) + float(np.log(np.diag(root)).sum()) + 0.5 * float(off @ off)
    return value, gradient + off / spread


def _covariance(
    theta: np.ndarray, x: np.ndarray, s: np.ndarray, z: np.ndarray, t: np.ndarray
) -> np.ndarray:
    """Without noise, [len(x), len(z)]."""
    d = x.shape[1]
    lengths, keeps = np.exp(theta[:d]), 1 / (1 + math.exp(-theta[d + 1]))
    r = np.sqrt(_distances(x / lengths, z / lengths))
    matern = (1 + _ROOT5 * r + (5 / 3) * r * r) * np.exp(-_ROOT5 * r)
    apart = np.abs(s[:, None] - t[None, :])
    over = keeps + (1 - keeps) * np.exp(-apart / _H)
    out: np.ndarray = math.exp(theta[d]) * matern * over + _TREND * np.exp(-apart)
    return out


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances [len(a), len(b)]."""
    out: np.ndarray = np.maximum(
        (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T), 0.0
    )
    return out


def _factor(covariance: np.ndarray, noise: float) -> np.ndarray:
    n = len(covariance)
    covariance[np.arange(n), np.arange(n)] += noise + 1e-6
    root: np.ndarray = cholesky(covariance, lower=True, check_finite=False)
    return root
