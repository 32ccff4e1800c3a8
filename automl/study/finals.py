"""What is still to be trained once the search is over: finals on fresh seeds, then ablations.

Finals     the best points of the search, raced on fresh seeds (`race.py`), and the baseline
Ablations  the winner with one change at a time taken back to the baseline's value

A search picks its best value partly for its luck, so that value proves nothing; the finals are
trained again on seeds that the search never used. When the allowance is short, proof goes first:
the best point and the baseline on all seeds, then the runner-up, then three ablations, then a
race that begins with four finalists, then all other ablations. Where the allowance is too short for
one ablation a change, the last of them takes all remaining changes back together: of four changes
and two trainings the first alone, then the other three. So each change is measured, if not alone.
Everything here is a function of the State: asked again after more events, it goes on.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from automl.recipe import Recipe
from automl.records import Status
from automl.registry import FAMILIES
from automl.space.ranges import Value
from automl.space.tree import Space
from automl.study.contenders import (
    BASELINE,
    FINALISTS,
    Contender,
    baseline_recipe,
    contenders,
    of_phase,
    ranking,
    resolution,
    runs_of,
    same_point,
)
from automl.study.race import going_on, rounds
from automl.study.state import State, Trial

_KEPT = 3  # ablations that are worth more than a third finalist, or a race of four
_PAIR = 2  # finalists that race no more
_SLACK = 0.25  # full trainings: what the last search trials overspent must not cost a whole final
_ORDER = ("architecture", "optimizer", "schedule", "batch", "loss", "averaging", "gradient",
          "transform", "batch_size")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned:
    """A training that the verdict wants."""

    phase: str  # "verdict" | "ablation"
    label: str
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Change:
    """Differences between the winner and the baseline, and the point without them."""

    group: str  # "optimizer", "batch_size", "model.width"; "" for several, taken back together
    label: str  # "without mixup"
    names: tuple[str, ...]  # the point's names that differ
    without: Recipe


def next_trials(state: State, *, allowance_fulls: float | None = None) -> list[Planned]:
    """Trainings that the verdict still wants, in the order of their worth.

    Finals first; ablations only when every final has ended. Nothing that is open or there is
    asked for again.

    Args:
        state: the search is over.
        allowance_fulls: full trainings that the whole verdict may cost, finals and ablations
            together, spent ones included; None: `state.allowance`, and without it no limit.

    Returns:
        [] while finals run that ablations wait for, and when nothing is left.
    """
    if state.config is None:
        return []
    allowance = state.allowance if allowance_fulls is None else allowance_fulls
    limit = spending(allowance)
    wanted = _finals(state, limit)
    missing = _missing(state, wanted)
    if missing or any(t.status in ("running", "waiting") for t in of_phase(state, "verdict")):
        return missing
    return _missing(state, _ablations(state, limit))


def fresh_seeds(state: State, count: int) -> list[int]:
    """Seeds of the finals: a function of the study's seed, none of them used in the search."""
    assert state.config is not None
    used = {t.recipe.seed for t in state.search_trials()}
    seeds: list[int] = []
    turn = 0
    while len(seeds) < count:
        text = f"verdict/{state.config.seed}/{turn}"
        seed = 100_000 + int(hashlib.sha256(text.encode()).hexdigest(), 16) % 900_000
        if seed not in used and seed not in seeds:
            seeds.append(seed)
        turn += 1
    return seeds


def changes(state: State, winner: Recipe, trainings: float = math.inf) -> list[Change]:
    """The winner's differences to the baseline by stage, each with a valid recipe without it.

    With fewer `trainings` than stages that differ, the last ones are one Change, as far as two
    trainings at least are there to tell it from the first.
    """
    assert state.config is not None
    space = Space.from_json(state.config.card.space)
    base = baseline_recipe(state).point
    point = winner.point
    different = [n for n in dict.fromkeys((*point, *base)) if point.get(n) != base.get(n)]
    groups: dict[str, list[str]] = {}
    for name in different:
        groups.setdefault(_group(name), []).append(name)

    def change(*taken: str) -> Change:
        kept = {n: v for n, v in point.items() if _group(n) not in taken}
        # Names that only now open (a schedule that the winner's optimizer had pinned) are the
        # baseline's too; `complete` drops those that stay closed.
        without = _still_changing(winner, space.complete({**base, **kept}), taken)
        words = [_label(g, tuple(groups[g]), point.get(g), base.get(g)) for g in taken]
        group, names = taken[0] if len(taken) == 1 else "", [n for g in taken for n in groups[g]]
        return Change(group, ", ".join(words), tuple(names), without)

    found = []
    if winner.changes:
        label = "without changes while training"
        found.append(Change("changes", label, (), replace(winner, changes=())))
    # Another method tells more than another number: it is taken back first.
    for group in sorted(groups, key=lambda g: (point.get(g) == base.get(g), _place(g))):
        one = change(group)
        if same_point(one.without) != same_point(winner):
            found.append(one)
    alone = int(min(trainings, len(found))) - 1
    if not 1 <= alone < len(found) - 1:
        return found
    return [*found[:alone], change(*(one.group for one in found[alone:]))]


def affordable(state: State, winner: Recipe, limit: float) -> float:
    """Ablations that `limit` full trainings pay for, once the finals have had theirs."""
    spent = sum(_cost(state, t.recipe) for t in of_phase(state, "verdict"))
    return max(0.0, (limit - spent) / _cost(state, winner))  # none of them has been trained yet


def spending(allowance: float | None) -> float:
    """Full trainings that the verdict may spend on `allowance`."""
    return math.inf if allowance is None else allowance + _SLACK


def _still_changing(winner: Recipe, point: Mapping[str, Value], groups: Sequence[str]) -> Recipe:
    """The winner at another point: what changes while it trains does so still, but for groups."""
    changes = []
    for at, values in winner.changes:
        kept = {n: v for n, v in values.items() if n in point and _group(n) not in groups}
        if kept:
            changes.append((at, kept))
    return replace(winner, point=point, changes=tuple(changes))


def _finals(state: State, limit: float) -> list[Planned]:
    """All finals that fit into `limit` full trainings and whose turn has come.

    The baseline's come on all seeds at once, and so do those of a finalist that is alone; in a race
    a later seed comes when the earlier ones are known. Two that are left after the first run on all
    others at once: as one pack, which is worth more than the run that a race of two may spare.
    """
    baseline, *finalists = contenders(state)
    if not finalists and _done(state.baseline()) is None:
        return []
    widths = _widths(state, baseline, finalists, limit)
    seeds = fresh_seeds(state, len(widths))
    runs = [Planned("verdict", BASELINE, replace(baseline.recipe, seed=s)) for s in seeds]
    racing = finalists[: widths[0]] if widths else []
    raced: list[Planned] = []
    for turn, (seed, width) in enumerate(zip(seeds, widths, strict=True)):
        if len(racing) > (_PAIR if turn > 1 else 1) and turn:
            known = seeds[:turn]
            if not all(_ran(baseline, s) for s in seeds) or not all(
                _ran(c, s) for c in racing for s in known
            ):
                break
            heard = {c.label: runs_of(state, c, known) for c in finalists[: widths[0]]}
            heard[BASELINE] = runs_of(state, baseline, seeds)
            labels = going_on(
                heard, [c.label for c in racing], width, resolution=resolution(state, "validation")
            )
            racing = [c for label in labels for c in racing if c.label == label]
        raced += [Planned("verdict", c.label, replace(c.recipe, seed=seed)) for c in racing]
    else:
        if all(_ran(c, s) for c in racing for s in seeds):
            raced += _recalled(state, seeds)
    return [*raced[:1], *runs, *raced[1:]]


def _recalled(state: State, seeds: Sequence[int]) -> list[Planned]:
    """All seeds of a finalist that was out and leads, now that the others have shown less.

    What is set aside for the first ablations pays for it.
    """
    leader = next(iter(ranking(state)), None)
    if leader is None or leader.label == BASELINE:
        return []
    return [Planned("verdict", leader.label, replace(leader.recipe, seed=s)) for s in seeds]


def _widths(
    state: State, baseline: Contender, finalists: Sequence[Contender], limit: float
) -> list[int]:
    """How many finalists run on each seed, as far as `limit` full trainings go; [] for none."""
    assert state.config is not None
    count, most = max(state.config.seeds, 1), len(finalists)
    costs = [_cost(state, c.recipe) for c in finalists]
    base = _cost(state, baseline.recipe)
    while True:
        widths = rounds(most, count, most=FINALISTS - 1)
        kept = _KEPT * costs[0] if most > 2 else 0.0
        total = count * base + sum(sum(costs[:width]) for width in widths)
        if total + kept <= limit:
            return widths
        if most > 1:
            most -= 1
        elif count > 1:
            count -= 1
        else:
            return []


def _ran(contender: Contender, seed: int) -> bool:
    """Whether its final on this seed has come to an end, good or bad."""
    return any(t.recipe.seed == seed and t.status in tuple(Status) for t in contender.trials)


def _ablations(state: State, limit: float) -> list[Planned]:
    """One seed of each change, then the next seed, as far as `limit` full trainings go."""
    assert state.config is not None
    order = ranking(state)
    if not order or order[0].label == BASELINE:
        return []
    winner = order[0].recipe
    finals = {t.recipe.seed for c in order[:1] for t in c.trials if t.status == Status.DONE}
    seeds = [s for s in fresh_seeds(state, max(state.config.seeds, 1)) if s in finals]
    known = {(same_point(t.recipe), t.recipe.seed) for t in of_phase(state, "verdict")}
    trainings = affordable(state, winner, limit)
    taken_back = changes(state, winner, trainings)
    found: list[Planned] = []
    for seed in seeds:
        for change in taken_back:
            recipe = replace(change.without, seed=seed)
            if (same_point(recipe), seed) in known:
                continue
            trainings -= 1
            if trainings < 0:
                return found
            found.append(Planned("ablation", change.label, recipe))
    return found


def _missing(state: State, wanted: Iterable[Planned]) -> list[Planned]:
    others = state.late_trials()
    there = {(same_point(t.recipe), t.recipe.seed) for t in others}
    return [p for p in wanted if (same_point(p.recipe), p.recipe.seed) not in there]


def _done(trial: Trial | None) -> Trial | None:
    return trial if trial is not None and trial.status == Status.DONE else None


def _cost(state: State, recipe: Recipe) -> float:
    """Full trainings that one run of `recipe` costs, as the search has measured."""
    assert state.config is not None
    point = same_point(recipe)
    for trial in state.finished():
        trained = trial.reached - trial.start  # a fork has paid for its own steps alone
        if trial.passes > 0 and trained > 0 and same_point(trial.recipe) == point:
            return trial.passes / trained * recipe.steps / state.config.card.steps
    return state.pace(recipe) * recipe.steps / state.config.card.steps


def _group(name: str) -> str:
    root = name.split(".", 1)[0]
    return root if root in FAMILIES else name


def _place(group: str) -> tuple[int, str]:
    return (_ORDER.index(group), "") if group in _ORDER else (len(_ORDER), group)


def _label(group: str, names: tuple[str, ...], now: Value, then: Value) -> str:
    """What is taken back, in words: "without mixup", "optimizer back to adamw"."""
    if now == then and group in FAMILIES:
        if len(names) == 1:
            stage, method, name = (*names[0].split(".", 2), "", "")[:3]
            return f"{method} {name} as in the baseline" if name else f"{stage} as in the baseline"
        return f"{now} settings as in the baseline"
    if group not in FAMILIES:
        return f"{group.removeprefix('model.')} back to {_text(then)}"
    added = [m for m in _methods(now) if m not in _methods(then)]
    if added and set(_methods(then)) <= set(_methods(now)):
        return f"without {'+'.join(added)}"
    if not _methods(now):
        return f"with {then}"
    return f"{group} back to {then or 'none'}"


def _methods(chosen: Value) -> list[str]:
    return [] if chosen in (None, "none", "plain") else str(chosen).split("+")


def _text(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
