"""What matters so far, cheaply: for the screen while a study runs, not for its report.

Each name is scored by the share of the variance of the values that it explains: for a choice
the share between its options, for a number the squared rank correlation. Below sixteen values
the numbers stay out: chance would lead.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from automl.reports.numerals import Scale
from automl.space.ranges import Value
from automl.study.state import State, Trial

_ENOUGH = 16  # values before a number's trend is shown
_ENDED = 4  # trials trained to the end before these alone are compared
_WEAK = 0.2  # correlation below which a trend is left out


@dataclass(frozen=True)
class Matter:
    """One name, what is seen of it, and the share of the variance it explains."""

    name: str
    text: str
    share: float


def matters(state: State, *, top: int = 4) -> list[Matter]:
    """The names that explain most, the strongest first; none before three trials compare."""
    rows = _rows(state)
    if len(rows) < 3:
        return []
    values = [value for _, value in rows]
    spread = _variance(values)
    if spread == 0:
        return []
    found = []
    names = dict.fromkeys(name for trial, _ in rows for name in trial.recipe.point)
    for name in names:
        here = [(t.recipe.point[name], v) for t, v in rows if name in t.recipe.point]
        if len({x for x, _ in here}) < 2:
            continue
        if all(_is_number(x) for x, _ in here):
            matter = _trend(name, here, state) if len(here) >= _ENOUGH else None
        else:
            matter = _groups(name, here, state, spread, len(values))
        if matter:
            found.append(matter)
    return sorted(found, key=lambda m: -m.share)[:top]


def seen_at(state: State) -> int | None:
    """The step at which trials are compared: the first rung while few have ended, then the end."""
    ended = [t for t in state.finished() if not t.recipe.changes]
    return state.config.fidelity[0] if len(ended) < _ENDED and state.config else None


def _rows(state: State) -> list[tuple[Trial, float]]:
    """Trials with values that compare."""
    rung = seen_at(state)
    if rung is None:
        rows = [(t, t.last(state.metric)) for t in state.finished() if not t.recipe.changes]
    else:
        rows = [(t, dict(t.values(state.metric)).get(rung)) for t in state.search_trials()]
    return [(t, v) for t, v in rows if v is not None and math.isfinite(v)]


def _groups(
    name: str, here: Sequence[tuple[Value, float]], state: State, spread: float, total: int
) -> Matter:
    groups: dict[Value, list[float]] = defaultdict(list)
    for option, value in here:
        groups[option].append(value)
    mean = sum(v for _, v in here) / len(here)
    between = sum(len(g) * (sum(g) / len(g) - mean) ** 2 for g in groups.values()) / total
    best = {o: max(g) if state.better(1, 0) else min(g) for o, g in groups.items()}
    order = sorted(best, key=lambda o: best[o], reverse=state.better(1, 0))
    assert state.config is not None
    scale = Scale(state.config.card.metric)
    text = ", ".join(f"{o} {scale.value(best[o])}" for o in order)
    return Matter(name, text, min(between / spread, 1.0))


def _trend(name: str, here: Sequence[tuple[Value, float]], state: State) -> Matter | None:
    xs, ys = _ranks([float(x) for x, _ in here]), _ranks([y for _, y in here])  # type: ignore[arg-type]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    scale = math.sqrt(sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys))
    r = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / scale if scale else 0.0
    if abs(r) < _WEAK:
        return None
    word = "higher" if (r > 0) == state.better(1, 0) else "lower"
    return Matter(name, f"{word} is better (rank correlation {abs(r):.2f})", r * r)


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(values)
    place: dict[float, list[int]] = defaultdict(list)
    for i, value in enumerate(order):
        place[value].append(i)
    return [sum(place[v]) / len(place[v]) for v in values]


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / len(values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
