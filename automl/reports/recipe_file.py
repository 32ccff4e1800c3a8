"""best.toml: a recipe in a file that people can read, change and train again.

[task]                          what it is for, as `automl tune` was told
source = "digits"

[recipe]
steps = 540                     length of the training in study steps
seed = 424242

[recipe.point]
optimizer = "muon"              a method a stage, then its hyperparameters
"optimizer.muon.lr" = 0.0065

[[recipe.changes]]              values that take over while it trains; none in most recipes
from = 180                      from this study step on
"optimizer.muon.lr" = 0.0021

[score]                         what was measured; not read back into a training
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl.errors import RecipeError
from automl.recipe import Recipe
from automl.records import TaskSpec
from automl.registry import nearest
from automl.reports.tables import verdict_of, winner_recipe
from automl.space.ranges import Value
from automl.study.comparison import Sample
from automl.study.state import State


@dataclass(frozen=True)
class RecipeFile:
    """A recipe, the task it was found for, and how it scored there."""

    spec: TaskSpec
    recipe: Recipe
    score: Mapping[str, Any] = field(default_factory=dict)


def of_trial(state: State, number: int) -> RecipeFile:
    """One trial's recipe, with its values in the search."""
    assert state.config is not None
    trial = state.trials[number]
    last = trial.curve[-1][1] if trial.curve else {}
    score: dict[str, Any] = {"study": state.config.name, "trial": number}
    score |= {n: _rounded(last[n]) for n in state.aims.names if n in last}
    return RecipeFile(state.config.spec, trial.recipe, score)


def of_state(state: State) -> RecipeFile | None:
    """What best.toml of a study holds; None while nothing was trained to the end."""
    recipe = winner_recipe(state)
    if state.config is None or recipe is None:
        return None
    verdict = verdict_of(state)
    kept, base = verdict.standing(verdict.keep), verdict.standing("baseline")
    score: dict[str, Any] = {
        "study": state.config.name,
        "metric": verdict.metric,
        "direction": verdict.direction,
        "outcome": verdict.outcome,
    }
    for who, standing in (("", kept), ("baseline_", base if base is not kept else None)):
        if standing is not None:
            score |= _figures(f"{who}validation", standing.validation)
            score |= _figures(f"{who}test", standing.test)
    for f in verdict.further:
        score |= _figures(f.name.replace("/", "_"), f.kept)
    d = verdict.difference
    if d is not None and d.low is not None and d.high is not None and d.p is not None:
        score["difference"] = _rounded(d.value)
        score["interval"] = [_rounded(d.low), _rounded(d.high)]
        score["p"] = _rounded(d.p)
    return RecipeFile(state.config.spec, recipe, score)


def write_text(file: RecipeFile) -> str:
    """The file's text."""
    import tomlkit  # late: only whoever writes a recipe needs it

    document = tomlkit.document()
    document.add(tomlkit.comment("A training recipe; `automl train best.toml` trains it again."))
    task = tomlkit.table()
    default = TaskSpec("").to_json()
    for name, value in file.spec.to_json().items():
        if name == "source" or value != default[name]:
            task[name] = list(value) if isinstance(value, tuple) else value
    document["task"] = task
    recipe = tomlkit.table()
    recipe["steps"], recipe["seed"] = file.recipe.steps, file.recipe.seed
    recipe["steps"].comment("study steps: optimizer steps at the task's own batch size")
    point = tomlkit.table()
    for name, value in file.recipe.point.items():
        # TOML has no null; an empty list is the value that no range holds.
        point[name] = [] if value is None else value
    recipe["point"] = point
    if file.recipe.changes:
        recipe["changes"] = tomlkit.aot()
    for step, values in file.recipe.changes:
        change = tomlkit.table()
        change["from"] = step
        change.update(values)
        recipe["changes"].append(change)
    document["recipe"] = recipe
    if file.score:
        score = tomlkit.table()
        for name, value in file.score.items():
            score[name] = value
        document["score"] = score
    return tomlkit.dumps(document)


def read_recipe(path: str | Path) -> RecipeFile:
    """Read a recipe file; whether its point fits a task's space is for that space to say.

    Raises:
        RecipeError: no such file, not TOML, or something missing or of the wrong kind.
    """
    place = Path(path)
    try:
        data = tomllib.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}; give a recipe file, e.g. best.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{place.name}: not TOML: {error}") from None
    task, recipe = _table(data, "task", place), _table(data, "recipe", place)
    point = _table(recipe, "point", place, within="recipe.")
    known = tuple(TaskSpec.__dataclass_fields__)
    for name in task:
        if name not in known:
            raise RecipeError(f"{place.name}, task.{name}: unknown{nearest(name, known)}")
    if not isinstance(task.get("source"), str):
        raise RecipeError(f"{place.name}, task.source is missing; write e.g. source = 'digits'")
    steps, seed = _whole(recipe, "steps", place, low=1), _whole(recipe, "seed", place, low=0)
    values = {name: _value(name, value, place) for name, value in point.items()}
    changes = tuple(_change(change, place) for change in _changes(recipe, place))
    spec = TaskSpec(**{**task, "sets": tuple(task.get("sets", ()))})
    score = data.get("score")
    try:
        found = Recipe(values, steps, seed, changes)
    except RecipeError as error:
        raise RecipeError(f"{place.name}, recipe.changes: {error}") from None
    return RecipeFile(spec, found, score if isinstance(score, dict) else {})


def _table(data: Mapping[str, Any], name: str, place: Path, *, within: str = "") -> dict[str, Any]:
    found = data.get(name)
    if not isinstance(found, dict):
        raise RecipeError(f"{place.name}: no [{within}{name}] table; is it a recipe file?")
    return found


def _changes(recipe: Mapping[str, Any], place: Path) -> list[dict[str, Any]]:
    found = recipe.get("changes", [])
    if not isinstance(found, list) or not all(isinstance(change, dict) for change in found):
        raise RecipeError(f"{place.name}, recipe.changes: write [[recipe.changes]] for each change")
    return found


def _change(change: Mapping[str, Any], place: Path) -> tuple[int, dict[str, Value]]:
    step = _whole(change, "from", place, low=1, within="changes.")
    return step, {n: _value(n, v, place) for n, v in change.items() if n != "from"}


def _whole(data: Mapping[str, Any], name: str, place: Path, *, low: int, within: str = "") -> int:
    value = data.get(name, 0 if name == "seed" else None)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        found = "is missing" if value is None else f"= {value}"
        raise RecipeError(
            f"{place.name}, recipe.{within}{name} {found}; a whole number from {low} on"
        )
    return value


def _value(name: str, value: Any, place: Path) -> Value:
    if value == []:
        return None
    if isinstance(value, dict):
        raise RecipeError(
            f"{place.name}, recipe.point.{name} is a table; quote dotted names: "
            f'"{name}.{next(iter(value), "lr")}" = ...'
        )
    if not isinstance(value, str | int | float):
        raise RecipeError(f"{place.name}, recipe.point.{name} = {value}; one number or one word")
    return value


def _figures(name: str, sample: Sample) -> dict[str, Any]:
    if sample.mean is None:
        return {}
    found: dict[str, Any] = {name: _rounded(sample.mean), f"{name}_seeds": sample.n}
    if sample.sd is not None:
        found[f"{name}_sd"] = _rounded(sample.sd)
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.5g}") if math.isfinite(value) else value
