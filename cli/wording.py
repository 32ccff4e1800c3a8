"""Figures as people read them: four significant digits, minutes, small curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from automl.recipe import Recipe
from automl.space.ranges import Value

_BARS = "▁▂▃▄▅▆▇█"


def number(value: float | None) -> str:
    """Four significant digits; "-" for none at all.

    >>> number(0.98333), number(1e-5), number(None), number(12345)
    ('0.9833', '1e-05', '-', '12345')
    """
    if value is None:
        return "-"
    if isinstance(value, int) or (value == int(value) if math.isfinite(value) else False):
        return str(int(value)) if abs(value) < 1e6 else f"{value:.4g}"
    return f"{value:.4g}"


def signed(value: float) -> str:
    return f"{value:+.3g}"


def shown(value: Value) -> str:
    """A hyperparameter's value."""
    return number(value) if isinstance(value, float) else str(value)


def counted(n: int, noun: str) -> str:
    """A number with its noun: "1 trial", "1,797 images"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def duration(seconds: float) -> str:
    """The largest unit and the next: "3 min 20 s".

    >>> duration(0.34), duration(45.2), duration(200), duration(9000), duration(200000)
    ('0.3 s', '45 s', '3 min 20 s', '2 h 30 min', '2 d 7 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small, below in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def about(seconds: float) -> str:
    """A duration that is only an estimate: one unit, rounded."""
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


def title(recipe: Recipe | Mapping[str, Value]) -> str:
    """What a recipe is, in a few words: its optimizer and rate, its schedule, what is added."""
    point = recipe.point if isinstance(recipe, Recipe) else recipe
    optimizer = str(point.get("optimizer", ""))
    words = [optimizer] if optimizer else []
    rate = point.get(f"optimizer.{optimizer}.lr")
    if isinstance(rate, float):
        words.append(f"lr {number(rate)}")
    for stage in ("schedule", "gradient", "transform", "averaging", "batch"):
        value = point.get(stage)
        if value not in (None, "none", "plain", "constant"):
            words.append(str(value))
    if not words:
        words = [f"{name} {shown(value)}" for name, value in list(point.items())[:4]]
    return ", ".join(words)
