"""Comparing two groups of runs that differ in their seeds: means, spread, Welch's interval.

    d  = mean(a) - mean(b)
    s2 = var(a)/n_a + var(b)/n_b                          squared standard error
    df = s2^2 / ((var(a)/n_a)^2/(n_a-1) + (var(b)/n_b)^2/(n_b-1))
    interval = d +- t(1 - alpha/2, df) * sqrt(s2)         p = 2 * P(T_df > |d| / sqrt(s2))

Welch's test and not Student's: recipes differ in how much their seeds scatter, and a careful
schedule against a lucky one is just that case. Not paired: equal seeds tie two recipes together
too loosely to pay for half of the degrees of freedom. What it speaks of is the luck of training
(seeds) on these very data; that the test split itself is a sample, it does not see.

A metric counted on N samples moves in steps of 1/N, so runs that agree exactly still hide up to
half a step: `resolution` = 1/N keeps each variance at 1/(12 N^2) or above (Sheppard 1897).

Source: Welch 1947, Biometrika 34:28; Satterthwaite 1946, Biometrics Bulletin 2:110.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Sample:
    """Mean and spread of one metric over seeds; sd is None below two values."""

    mean: float | None
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Sample:
        """The sample's own figures; values that are not finite must stay out.

        >>> Sample.of([1.0, 3.0])
        Sample(mean=2.0, sd=1.4142135623730951, n=2)
        """
        n = len(values)
        if n == 0:
            return cls(None, None, 0)
        mean = math.fsum(values) / n
        if n == 1:
            return cls(mean, None, 1)
        return cls(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)), n)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better a is than b, positive = better; no interval where it cannot be had."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def measured(self) -> bool:
        return self.p is not None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Difference:
        return cls(**data)


def welch(
    a: Sequence[float], b: Sequence[float], *, sign: int = 1, resolution: float = 0.0
) -> Difference | None:
    """Difference of the means of `a` and `b`, with its 95 % interval and two-sided p-value.

    Args:
        a: values of one group over seeds.
        b: values of the other.
        sign: 1 when larger is better, -1 when smaller is.
        resolution: smallest step of the metric; 0 for a continuous one.

    Returns:
        None when a group is empty; without interval when one has a single value, or neither any
        spread: seeds that change nothing tell nothing of luck.
    """
    left, right = Sample.of(a), Sample.of(b)
    if left.mean is None or right.mean is None:
        return None
    value = sign * (left.mean - right.mean)
    if left.sd is None or right.sd is None:
        return Difference(value)
    floor = resolution**2 / 12
    u, v = max(left.sd**2, floor) / left.n, max(right.sd**2, floor) / right.n
    error = math.sqrt(u + v)
    # A spread in the last bits of the floats is none: dividing by it would prove anything.
    if error <= 1e-12 * max(abs(left.mean), abs(right.mean)):
        return Difference(value)
    freedom = (u + v) ** 2 / (u**2 / (left.n - 1) + v**2 / (right.n - 1))
    half = quantile(freedom) * error
    return Difference(value, value - half, value + half, two_sided(value / error, freedom))


def noise(
    groups: Sequence[Sequence[float]], n: int, m: int, *, resolution: float = 0.0
) -> float | None:
    """Half width of the 95 % interval of a difference between means of n and m runs.

    The spread is pooled over `groups`, so that a single run can still be judged.

    Returns:
        None when no group has two values.
    """
    found = pooled(groups, resolution=resolution)
    if found is None:
        return None
    sd, freedom = found
    return quantile(freedom) * sd * math.sqrt(1 / n + 1 / m)


def pooled(
    groups: Sequence[Sequence[float]], *, resolution: float = 0.0
) -> tuple[float, int] | None:
    """Standard deviation between seeds, as all groups together tell it, and its freedom.

        s^2 = sum (n_g - 1) s_g^2 / sum (n_g - 1)

    Returns:
        None when no group has two values.
    """
    samples = [Sample.of(g) for g in groups]
    freedom = sum(s.n - 1 for s in samples if s.sd is not None)
    if freedom == 0:
        return None
    variance = sum((s.n - 1) * s.sd**2 for s in samples if s.sd is not None) / freedom
    return math.sqrt(max(variance, resolution**2 / 12)), freedom


def quantile(freedom: float) -> float:
    """t with LEVEL of Student's distribution between -t and t."""
    from scipy.special import stdtrit  # scipy costs a tenth of a second, its stats a whole one

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def two_sided(t: float, freedom: float) -> float:
    from scipy.special import stdtr  # see quantile

    return float(2 * stdtr(freedom, -abs(t)))
