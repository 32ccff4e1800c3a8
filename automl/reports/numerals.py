"""Figures in words: shares in percent, their differences in points, times in minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from automl.space.ranges import Value
from automl.study.comparison import Difference, Sample
from automl.study.verdict import SHARES


@dataclass(frozen=True, slots=True)
class Scale:
    """How values of one metric are written.

    >>> Scale("accuracy").value(0.98765), Scale("accuracy").signed(0.0021)
    ('98.77 %', '+0.21')
    >>> Scale("rmse").value(0.98765), Scale("rmse").signed(-0.0021)
    ('0.9877', '-0.0021')
    """

    metric: str

    @property
    def share(self) -> bool:
        return self.metric in SHARES

    @property
    def factor(self) -> float:
        """What values are multiplied by to be shown."""
        return 100.0 if self.share else 1.0

    @property
    def axis(self) -> str:
        """Name of the metric on an axis."""
        return f"{self.words} (%)" if self.share else self.words

    @property
    def words(self) -> str:
        return self.metric.replace("_", " ")

    def value(self, value: float | None) -> str:
        if value is None:
            return "-"
        if not math.isfinite(value):
            return "diverged"
        return f"{100 * value:.2f} %" if self.share else f"{value:.4g}"

    def size(self, value: float | None) -> str:
        """A difference without its sign, in points where the metric is a share."""
        if value is None:
            return "-"
        return f"{100 * abs(value):.2f}" if self.share else f"{abs(value):.2g}"

    def signed(self, value: float | None) -> str:
        """A difference with its sign."""
        if value is None:
            return "-"
        return f"{100 * value:+.2f}" if self.share else f"{value:+.2g}"

    @property
    def unit(self) -> str:
        """What follows a difference: " points" for shares."""
        return " points" if self.share else ""

    def spread(self, sample: Sample) -> str:
        """Mean and standard deviation: "98.77 % ± 0.12"."""
        if sample.sd is None:
            return self.value(sample.mean)
        return f"{self.value(sample.mean)} ± {self.size(sample.sd)}"

    def interval(self, difference: Difference) -> str:
        """The interval: "+0.21 .. +0.89"."""
        return f"{self.signed(difference.low)} .. {self.signed(difference.high)}"


def chance(p: float) -> str:
    """A p-value: "p = 0.008"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def short(value: Value) -> str:
    """A hyperparameter's value, four significant digits."""
    if isinstance(value, bool) or not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.4g}"


def counted(n: int, noun: str) -> str:
    """ "1 trial", "1,797 trials"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def duration(seconds: float) -> str:
    """The two largest units.

    >>> duration(3.24), duration(200), duration(9000)
    ('3.2 s', '3 min 20 s', '2 h 30 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, part, below in ((3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"
