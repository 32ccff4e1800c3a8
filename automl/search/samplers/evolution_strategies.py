"""MA-ES and LM-MA-ES: evolution strategies without a covariance matrix.

    MA-ES      d_i = M z_i                                       z_i ~ N(0, I), x_i = m + sigma d_i
               M <- M (I + c1/2 (p p' - I) + c_mu/2 (sum v z z' - sum v I))
    LM-MA-ES   d_i = z_i; for j < min(t, k): d_i = (1 - cd_j) d_i + cd_j M_j (M_j' d_i)
               M_j <- (1 - cc_j) M_j + sqrt(mu_eff cc_j (2 - cc_j)) sum w z
    both       m += sigma sum w d,   p = (1 - cs) p + sqrt(cs (2 - cs) mu_eff) sum w z,
               sigma *= exp(step of |p|)                         z, d of the better half, by rank

MA-ES keeps n x n numbers. Its v are w for the better half and negative for the worse one, those
times n / |z|^2, as in CMA-ES today; its paper, like CMA-ES then, has none, and needs up to a third
more evaluations where axes are badly scaled (measured). LM-MA-ES keeps k = 4 + floor(3 ln n) paths
of n numbers and costs O(k n) a sample. It adapts fast along few directions: right for a hundred
dimensions and more, wrong for few that are badly scaled. cs <= 1 and cc_j <= 1 are enforced: the
published constants exceed 1 for n < 2 lambda, where the method then fails.
Sources: Beyer and Sendhoff 2017, IEEE TEC 21; Hansen 2016, arXiv:1604.00772 (negative weights);
Loshchilov, Glasmachers and Beyer 2017, arXiv:1705.06693.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

_STILL = 1e-12  # a step size below, or losses of a generation closer than this, end the search
_WILD = 1e12
_REDRAWS = 100  # before a point beyond the edges is taken


class _Strategy(ABC):
    """What both share: weights, the path of the step size, and asking."""

    _draws = 1  # of a point, until one lies in the unit cube

    def __init__(
        self, mean: np.ndarray, sigma: float, *, seed: int, population_size: int | None = None
    ) -> None:
        n = len(mean)
        self.mean = np.array(mean, dtype=float)
        self.sigma = sigma
        self.population_size = population_size or 4 + math.floor(3 * math.log(n))
        self._rng = np.random.default_rng(seed)
        mu = self.population_size // 2
        raw = math.log((self.population_size + 1) / 2) - np.log(np.arange(1, mu + 1))
        self._w = raw / raw.sum()
        self._mu_eff = 1 / float((self._w**2).sum())
        self._path = np.zeros(n)
        self._t = 0
        self._range = math.inf  # of the last generation's losses
        self._drawn: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}  # x -> (z, d)

    def ask(self) -> np.ndarray:
        """One point [n] of the present generation."""
        for _ in range(self._draws):
            z = self._rng.standard_normal(len(self.mean))
            d = self._turned(z)
            x: np.ndarray = self.mean + self.sigma * d
            if x.min() >= 0 and x.max() <= 1:
                break
        self._drawn[x.tobytes()] = z, d
        return x

    def tell(self, solutions: Sequence[tuple[np.ndarray, float]]) -> None:
        """Losses of `population_size` points that were asked, of this generation or earlier."""
        ranked = sorted(solutions, key=lambda s: s[1])
        self._range = ranked[-1][1] - ranked[0][1]
        drawn = [self._drawn.pop(x.tobytes()) for x, _ in ranked]
        z = np.array([a for a, _ in drawn])
        d = np.array([b for _, b in drawn])
        mu = len(self._w)
        zw = self._w @ z[:mu]
        self.mean = self.mean + self.sigma * (self._w @ d[:mu])
        cs = self._cs
        self._path = (1 - cs) * self._path + math.sqrt(cs * (2 - cs) * self._mu_eff) * zw
        self._learn(z, zw)
        self.sigma *= math.exp(self._growth())
        self._t += 1

    def should_stop(self) -> bool:
        """Whether the search has come to rest, or run away."""
        return self._range < _STILL or not _STILL < self.sigma < _WILD

    _cs: float

    @abstractmethod
    def _turned(self, z: np.ndarray) -> np.ndarray:
        """The step [n] that a draw z [n] becomes."""

    @abstractmethod
    def _learn(self, z: np.ndarray, zw: np.ndarray) -> None:
        """Learn from draws z [lambda, n], best first, and the weighted sum zw [n] of the better."""

    @abstractmethod
    def _growth(self) -> float:
        """Log of the factor on sigma."""


class MaEs(_Strategy):
    """MA-ES in n dimensions, O(n^2) a sample.

    `cube`: a point beyond the edges of the unit cube is drawn again, up to a hundred times.
    """

    def __init__(
        self,
        mean: np.ndarray,
        sigma: float,
        *,
        seed: int,
        population_size: int | None = None,
        cube: bool = False,
    ) -> None:
        super().__init__(mean, sigma, seed=seed, population_size=population_size)
        self._draws = _REDRAWS if cube else 1
        n, mu_eff = len(mean), self._mu_eff
        self._m = np.eye(n)
        self._cs = (mu_eff + 2) / (n + mu_eff + 5)
        self._damping = 1 + self._cs + 2 * max(0.0, math.sqrt((mu_eff - 1) / (n + 1)) - 1)
        self._c1 = 2 / ((n + 1.3) ** 2 + mu_eff)
        self._cmu = min(1 - self._c1, 2 * (mu_eff - 2 + 1 / mu_eff) / ((n + 2) ** 2 + mu_eff))
        self._v = np.concatenate([self._w, self._negative(n)])
        self._expected = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))  # |N(0, I)|

    def _turned(self, z: np.ndarray) -> np.ndarray:
        d: np.ndarray = self._m @ z
        return d

    def _negative(self, n: int) -> np.ndarray:
        """Weights of the worse half; their sum keeps M M' positive definite (eq. 49 to 53)."""
        size, mu = self.population_size, len(self._w)
        raw = np.log(np.arange(mu + 1, size + 1)) - math.log((size + 1) / 2)
        effective = raw.sum() ** 2 / (raw**2).sum()
        total = min(
            1 + self._c1 / self._cmu,
            1 + 2 * effective / (self._mu_eff + 2),
            (1 - self._c1 - self._cmu) / (n * self._cmu),
        )
        found: np.ndarray = -total * raw / raw.sum()
        return found

    def _learn(self, z: np.ndarray, zw: np.ndarray) -> None:
        n = len(zw)
        one = np.eye(n)
        along = np.outer(self._path, self._path) - one
        v = np.where(self._v < 0, self._v * n / (z * z).sum(axis=1), self._v)
        across = (z.T * v) @ z - self._v.sum() * one
        self._m = self._m @ (one + 0.5 * self._c1 * along + 0.5 * self._cmu * across)

    def _growth(self) -> float:
        return self._cs / self._damping * (float(np.linalg.norm(self._path)) / self._expected - 1)


class LmMaEs(_Strategy):
    """LM-MA-ES in n dimensions, O(n log n) a sample and of memory."""

    def __init__(
        self, mean: np.ndarray, sigma: float, *, seed: int, population_size: int | None = None
    ) -> None:
        super().__init__(mean, sigma, seed=seed, population_size=population_size)
        n, size = len(mean), self.population_size
        j = np.arange(4 + math.floor(3 * math.log(n)))
        self._cs = min(1.0, 2 * size / n)
        self._cd = 1 / (1.5**j * n)
        self._cc = np.minimum(1.0, size / (4.0**j * n))
        self._paths = np.zeros((len(j), n))

    def _turned(self, z: np.ndarray) -> np.ndarray:
        d = z
        for c, path in zip(self._cd[: self._t], self._paths, strict=False):
            d = (1 - c) * d + c * path * float(path @ d)
        return d

    def _learn(self, z: np.ndarray, zw: np.ndarray) -> None:
        kept = 1 - self._cc[:, None]
        fresh = np.sqrt(self._mu_eff * self._cc * (2 - self._cc))[:, None]
        self._paths = kept * self._paths + fresh * zw

    def _growth(self) -> float:
        return self._cs / 2 * (float(self._path @ self._path) / len(self._path) - 1)
