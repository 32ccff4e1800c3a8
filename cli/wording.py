"""Estimates and small curves in text; figures are written by `automl.reports.numerals`."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Sequence

from automl.study.budget import LEAST

TOO_LITTLE = (
    "too small a budget to prove anything: two fresh seeds of the best recipe and the baseline "
    f"take {LEAST:.0f}full or more"
)
_BARS = "▁▂▃▄▅▆▇█"


def about(seconds: float) -> str:
    """A duration that is only an estimate: one unit, rounded.

    >>> about(3), about(200), about(9000), about(200000)
    ('5 s', '3 min', '2.5 h', '2 d')
    """
    if seconds < 55:
        return f"{max(5 * round(seconds / 5), 5)} s"
    if seconds < 55 * 60:
        return f"{max(round(seconds / 60), 1)} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.2g} h"
    return f"{round(seconds / 86400)} d"


def curve(values: Sequence[float], width: int) -> str:
    """The last `width` values as small bars, from their lowest to their highest."""
    tail = list(values)[-width:]
    finite = [v for v in tail if math.isfinite(v)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0
    top = len(_BARS) - 1
    return "".join(_BARS[round((v - low) / span * top)] if math.isfinite(v) else "·" for v in tail)


def wrapped(lines: Sequence[str]) -> list[str]:
    """Paragraphs broken between words where a terminal would break them anywhere.

    Indented lines (tables) stay, and so does everything in a pipe.
    """
    if not sys.stdout.isatty():
        return list(lines)
    width = min(shutil.get_terminal_size().columns, 100)
    out: list[str] = []
    for line in lines:
        out += [line] if line.startswith(" ") else textwrap.wrap(line, width) or [""]
    return out
