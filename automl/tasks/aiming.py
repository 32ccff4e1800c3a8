"""What a task can be tuned for: --objective and --constraint, against what the task measures.

A model's task knows its metrics by name and can measure its networks. A loop of the user's own
reports what it likes: every name but its seconds and passes is one of its own, and whether it is
reported shows when the loop is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from automl.aims import (
    BY_DRIVER,
    COST,
    UNITS,
    Aims,
    Constraint,
    Objective,
    read_constraint,
    read_objective,
    unknown_name,
)
from automl.errors import TaskError
from automl.records import TaskSpec
from automl.tasks.metrics import METRICS, Metric, direction_of


def aims_of(
    spec: TaskSpec, *, metric: str, direction: str, target: str | None = None
) -> Aims | None:
    """The aims of a task that is judged by `metric`; None where nothing but that counts.

    Args:
        target: of a model's task, "classes", "values" or "tokens"; None: a loop of the user's.

    Raises:
        TaskError: an objective or constraint that the task does not measure, or whose direction
            contradicts the metric's.
    """
    if not spec.objectives and not spec.constraints:
        return None
    first = Objective(f"val/{metric}", direction)
    objectives = [_objective(text, first, target) for text in spec.objectives] or [first]
    names = [o.name for o in objectives]
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        raise TaskError(f"--objective {twice} is given twice")
    constraints = [_constraint(text, metric, target) for text in spec.constraints]
    aims = Aims(tuple(objectives), tuple(constraints))
    return None if aims.plain else aims


def maximized(spec: TaskSpec) -> bool | None:
    """Which way a loop's metric goes, where the first objective says so."""
    stated = read_objective(spec.objectives[0])[1] if spec.objectives else None
    return None if stated is None else stated == "maximize"


def further_metrics(spec: TaskSpec, metric: str, target: str) -> list[Metric]:
    """Metrics that are evaluated beside the first one because an aim names them."""
    asked = [("--objective", read_objective(text)[0]) for text in spec.objectives]
    asked += [("--constraint", read_constraint(text).name) for text in spec.constraints]
    names = [_place(option, name, metric, target) for option, name in asked]
    wanted = dict.fromkeys(n.removeprefix("val/") for n in names if n.startswith("val/"))
    return [METRICS[n] for n in wanted if n not in (metric, "loss")]


def _objective(text: str, first: Objective, target: str | None) -> Objective:
    name, stated = read_objective(text)
    place = _place("--objective", name, first.name.removeprefix("val/"), target)
    if place.startswith(COST):
        return Objective(place, stated or "minimize")
    if place == first.name:
        usual = first.direction
    elif place == "train/loss":
        usual = "minimize"
    elif target is not None:
        usual = METRICS[place.removeprefix("val/")].direction
    else:  # a cost that the loop reports itself is still one
        bare = place.removeprefix("val/")
        return Objective(place, stated or ("minimize" if bare in UNITS else direction_of(bare)))
    if stated is not None and stated != usual:
        raise TaskError(f"--objective {text}: the task {usual}s {name}; leave the direction out")
    return Objective(place, stated or usual)


def _constraint(text: str, metric: str, target: str | None) -> Constraint:
    found = read_constraint(text)
    return replace(found, name=_place("--constraint", found.name, metric, target))


def _place(option: str, name: str, metric: str, target: str | None) -> str:
    """The name as it stands in curves."""
    if name.startswith("test/"):
        raise TaskError(f"{option} {name}: the search never sees the test split")
    if name in (f"val/{metric}", metric):
        return f"val/{metric}"
    if name in UNITS and (target is not None or name in BY_DRIVER):
        return COST + name
    if name == "train/loss":
        return name
    bare = name.removeprefix("val/")
    if target is None:
        return name if "/" in name else f"val/{bare}"
    known = _known(metric, target)
    if bare not in known:
        raise unknown_name(option, name, known)
    return f"val/{bare}"


def _known(metric: str, target: str) -> Sequence[str]:
    return list(dict.fromkeys([metric, *(m.name for m in METRICS.values() if target in m.targets)]))
