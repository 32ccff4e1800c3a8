"""Tune at a small width, train at a large one: what `automl transfer` does, in three steps.

planned    which argument is the width, from where to where, and the entries that fix the search
contests   the winner at the large width under muP and under the standard parametrization, and the
           task's baseline there
trained    each on the same fresh seeds

At the small width, which is muP's base, both parametrizations are one and the same training: one
search serves both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from automl.errors import RecipeError, TaskError
from automl.executors.processes import Processes
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskCard, TaskSpec
from automl.space.files import names_of
from automl.space.ranges import Choice, Range
from automl.space.tree import Space
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask
from automl.train.coordinates import Moved, coordinates
from automl.train.growth import growths, width_of

_STALL_SECONDS = 3600.0
_PARAMETRIZATION = "parametrization"


@dataclass(frozen=True)
class Plan:
    """A transfer: the width's full name, both values of it, and what the search adds to --set."""

    name: str  # of the task
    argument: str
    small: int
    large: int
    sets: tuple[str, ...]
    updates: int = 5  # of the coordinate check

    @property
    def short(self) -> str:
        """The argument as the model calls it."""
        return self.argument.rpartition(".")[2]

    @property
    def widths(self) -> list[int]:
        """From small to large, doubling."""
        steps = [self.small]
        while steps[-1] * 2 < self.large:
            steps.append(steps[-1] * 2)
        return [*steps, self.large]


@dataclass(frozen=True)
class Contest:
    """What one way of training came to at the large width, a value a seed."""

    label: str
    recipe: Recipe
    validation: tuple[float, ...] = ()
    test: tuple[float, ...] = ()
    failed: tuple[str, ...] = ()


def planned(
    spec: TaskSpec, *, argument: str | None, small: int | None, large: int | None
) -> tuple[Plan, ModelTask, Recipe]:
    """The transfer, the opened task and its default recipe at the small width.

    Raises:
        AutomlError: one line, in the words of the command line.
    """
    if _PARAMETRIZATION in {n.partition(".")[0] for n in names_of(spec.sets)}:
        raise TaskError(f"--set {_PARAMETRIZATION}: a transfer sets it itself")
    task = open_task(spec)
    if not isinstance(task, ModelTask):
        raise TaskError(f"{spec.source} trains itself: its model cannot be made wider from here")
    space = Space.from_json(task.card.space)
    recipe = Recipe(space.default(), steps=task.card.steps)
    try:
        width = width_of(task, recipe, argument or "auto")
    except RecipeError as error:
        text = str(error).replace("; name one", "; name one with --argument")
        raise TaskError(f"{task.card.name}: {text}") from None
    if width.name not in space:
        short = width.name.rpartition(".")[2]
        raise TaskError(
            f"{task.card.name}: the model's argument {short} has no range; "
            f'write {short}: "16..256" = {width.value}'
        )
    if width.name in names_of(spec.sets) and (small is None or large is None):
        raise TaskError(f"--set {width.name}: a transfer takes --small and --large instead")
    ends = _ends(space[width.name].range)
    small, large = small or ends[0], large or ends[1]
    if not small < large:
        raise TaskError(
            f"--small {small} and --large {large}: give a larger width than the small one"
        )
    sets = [f"{width.name}={small}", f"{_PARAMETRIZATION}=mup",
            f"{_PARAMETRIZATION}.mup.base={small}",
            f"{_PARAMETRIZATION}.mup.argument={width.name}"]  # fmt: skip
    if (chosen := recipe.point.get("architecture")) is not None:
        sets.insert(0, f"architecture={chosen}")
    plan = Plan(task.card.name, width.name, small, large, (*spec.sets, *sets))
    point = {**recipe.point, **_mup(plan), width.name: large}
    growths(
        task, replace(recipe, point=point), argument=width.name, base=small
    )  # or a line why not
    return plan, task, replace(recipe, point={**point, width.name: small})


def check(plan: Plan, task: ModelTask, recipe: Recipe) -> dict[str, dict[int, dict[str, Moved]]]:
    """How far outputs move at each width, by parametrization; see `train/coordinates.py`."""
    return {
        name: {
            w: coordinates(
                task, _under(plan, recipe, name), width=plan.argument, at=w, updates=plan.updates
            )
            for w in plan.widths
        }
        for name in ("mup", "standard")
    }


def contests(plan: Plan, winner: Recipe, baseline: Recipe) -> list[Contest]:
    """What is trained at the large width."""
    at = {plan.argument: plan.large}
    tuned, default = (replace(r, point={**r.point, **at}) for r in (winner, baseline))
    out = [
        Contest("winner, mup", _under(plan, tuned, "mup")),
        Contest("winner, standard", _under(plan, tuned, "standard")),
    ]
    if dict(winner.point) != dict(baseline.point):
        out.append(Contest("baseline, standard", _under(plan, default, "standard")))
    return out


def trained(
    spec: TaskSpec,
    contests: Sequence[Contest],
    *,
    seeds: Sequence[int],
    workers: int,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Contest]:
    """The contests with their values, each seed of each a full training.

    Raises:
        TaskError: the task can no longer be opened.
    """
    jobs = [replace(c.recipe, seed=s) for c in contests for s in seeds]
    reports: dict[int, Report] = {}
    with tempfile.TemporaryDirectory(prefix="automl-transfer-") as place:
        folder = Path(place)
        executor = Processes(
            spec, workers=workers, logs=folder / "logs", stall_seconds=_STALL_SECONDS
        )
        try:
            metric, waiting = executor.card.metric, list(enumerate(jobs))
            while len(reports) < len(jobs):
                while waiting and executor.capacity:
                    number, job = waiting.pop(0)
                    segment = Segment(number, job, 0, job.steps)
                    executor.submit(Pack((segment,), str(folder / "checkpoints"), test=True))
                for news in executor.reports(1.0):
                    if isinstance(news, Report):
                        reports[news.trial] = news
                        tell(f"{len(reports)} of {len(jobs)} trainings at the large width")
        finally:
            executor.close()
    return [
        _with_values(c, [reports[i * len(seeds) + j] for j in range(len(seeds))], metric)
        for i, c in enumerate(contests)
    ]


def best_of(contests: Sequence[Contest], *, card: TaskCard) -> Contest | None:
    """The contest of the best mean on validation; None where none has trained to its end."""
    sign = 1 if card.direction == "maximize" else -1
    done = [c for c in contests if c.validation]
    return max(done, key=lambda c: sign * sum(c.validation) / len(c.validation), default=None)


def _with_values(contest: Contest, reports: Sequence[Report], metric: str) -> Contest:
    done = [r for r in reports if r.status is Status.DONE and r.curve]
    return replace(
        contest,
        validation=tuple(float(r.curve[-1][1][f"val/{metric}"]) for r in done),
        test=tuple(float(r.test[f"test/{metric}"]) for r in done if r.test),
        failed=tuple(f"{r.status}: {r.message}" for r in reports if r not in done),
    )


def _under(plan: Plan, recipe: Recipe, name: str) -> Recipe:
    point = {n: v for n, v in recipe.point.items() if n.partition(".")[0] != _PARAMETRIZATION}
    return replace(recipe, point=point | (_mup(plan) if name == "mup" else {}))


def _mup(plan: Plan) -> dict[str, str | int]:
    return {
        _PARAMETRIZATION: "mup",
        f"{_PARAMETRIZATION}.mup.base": plan.small,
        f"{_PARAMETRIZATION}.mup.argument": plan.argument,
    }


def _ends(range_: Range) -> tuple[int, int]:
    """The least and the largest width of a range."""
    if isinstance(range_, Choice):
        numbers = [int(str(o)) for o in range_.options]
        return min(numbers), max(numbers)
    return int(range_.low), int(range_.high)
