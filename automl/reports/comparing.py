"""Two or more studies of one task beside each other: results, cost, and what their winners share.

    value at equal cost   the best so far once so many full trainings had been spent
    final                 mean and spread over the fresh seeds of the verdict, on its split
    difference            Welch's interval between the winners' fresh seeds

Studies compare when their metric, its direction and their data are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from automl.errors import StudyError
from automl.reports.numerals import Scale, chance, counted, duration, short
from automl.reports.tables import recipe_title, verdict_of, winner_recipe
from automl.study.comparison import Difference, Sample, welch
from automl.study.state import State
from automl.study.verdict import SHARES

_SHARES = (0.25, 0.5, 1.0)  # of the smallest search, at which studies are compared
_CHANGES = 12


def compare_lines(states: Sequence[State]) -> list[str]:
    """Plain text; the first study is what the others are compared with.

    Raises:
        StudyError: they measure different things.
    """
    _check(states)
    config = states[0].config
    assert config is not None
    scale = Scale(config.card.metric)
    better = "higher" if config.card.direction == "maximize" else "lower"
    return [
        f"{config.card.about}; {scale.words}, {better} is better",
        "",
        *_table(states, scale),
        "",
        *(line for other in states[1:] for line in _pair(states[0], other, scale)),
    ]


def best_after(state: State, fulls: float) -> float | None:
    """The best value of a trial that had ended when `fulls` full trainings were spent."""
    assert state.config is not None
    spent, best = 0.0, None
    for trial in sorted(state.search_trials(), key=lambda t: (t.ended or math.inf, t.number)):
        spent += trial.passes / state.config.card.steps
        if spent > fulls + 1e-9:
            break
        allowed = trial.status == "done" and state.violation(trial) == 0
        value = trial.last(state.metric) if allowed else None
        if value is not None and math.isfinite(value):
            best = value if best is None or state.better(value, best) else best
    return best


def difference(one: State, other: State) -> Difference | None:
    """How much better the winner of `one` is than that of `other`, on fresh seeds."""
    assert one.config is not None
    card = one.config.card
    a, b = _finals(one), _finals(other)
    samples = card.sizes.get(verdict_of(one).split, 0)
    resolution = 1 / samples if card.metric in SHARES and samples else 0.0
    return welch(a, b, sign=1 if card.direction == "maximize" else -1, resolution=resolution)


def _check(states: Sequence[State]) -> None:
    first = states[0].config
    assert first is not None
    for state in states[1:]:
        config = state.config
        assert config is not None
        for what, a, b in (
            ("the metric", first.card.metric, config.card.metric),
            ("the direction", first.card.direction, config.card.direction),
            ("the data", first.card.data_fingerprint, config.card.data_fingerprint),
        ):
            if a != b:
                raise StudyError(
                    f"'{first.name}' and '{config.name}' do not compare: {what} differs "
                    f"({a[:12]} and {b[:12]})"
                )


def _table(states: Sequence[State], scale: Scale) -> list[str]:
    searched = [sum(t.passes for t in s.search_trials()) / _steps(s) for s in states]
    marks = [share * min(searched) for share in _SHARES]
    head = ["STUDY", "STRATEGY", "TRIALS", "FULL", "TIME"]
    head += [f"AT {mark:.1f}" for mark in marks] + ["FRESH SEEDS"]
    rows = [head]
    for state, fulls in zip(states, searched, strict=True):
        config = state.config
        assert config is not None
        finals = _finals(state)
        final = scale.spread(Sample.of(finals)) if finals else "-"
        row = [config.name, config.strategy, str(len(state.search_trials())), f"{fulls:.1f}"]
        row += [duration(state.wall_seconds)]
        row += [scale.value(best_after(state, mark)) for mark in marks]
        rows.append([*row, final])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    note = "AT n: best validation value once n full trainings were spent; FULL: all of the search."
    return [*lines, note]


def _pair(one: State, other: State, scale: Scale) -> list[str]:
    a, b = one.config, other.config
    assert a is not None and b is not None
    found = difference(other, one)
    if found is None:
        said = "cannot be compared: one of them has no fresh seeds"
    elif not found.measured:
        said = f"{scale.signed(found.value)}{scale.unit}, one seed: no interval"
    else:
        told = "better" if (found.low or 0) > 0 else "worse" if (found.high or 0) < 0 else "level"
        said = f"{told}: {scale.signed(found.value)}{scale.unit}, 95 % interval "
        said += f"{scale.interval(found)}, {chance(found.p or 0.0)}"
    lines = [f"{b.name} against {a.name}: {said}"]
    mine, theirs = winner_recipe(one), winner_recipe(other)
    if mine is None or theirs is None:
        return lines
    lines.append(f"  {a.name} keeps {recipe_title(mine)}; {b.name} keeps {recipe_title(theirs)}")
    names = [*theirs.point, *(n for n in mine.point if n not in theirs.point)]
    changed = [n for n in names if mine.point.get(n) != theirs.point.get(n)]
    for name in changed[:_CHANGES]:
        was, now = (short(r.point[name]) if name in r.point else "-" for r in (mine, theirs))
        lines.append(f"    {name}  {was} -> {now}")
    if len(changed) > _CHANGES:
        lines.append(f"    and {counted(len(changed) - _CHANGES, 'more difference')}")
    return lines


def _finals(state: State) -> list[float]:
    """The values of the kept recipe's fresh seeds, on the split of its verdict."""
    verdict = verdict_of(state)
    winner = verdict.standing(verdict.keep)
    if winner is None:
        return []
    found = []
    for number in winner.trials:
        trial = state.trials[number]
        if trial.phase == "search":
            continue  # chosen by this very value
        name = f"test/{verdict.metric}"
        value = (
            (trial.test or {}).get(name) if verdict.split == "test" else trial.last(state.metric)
        )
        if value is not None and math.isfinite(value):
            found.append(value)
    return found


def _steps(state: State) -> int:
    assert state.config is not None
    return state.config.card.steps
