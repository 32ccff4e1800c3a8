"""Values that change while a network trains: a line of forks and its one recipe are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from automl.checkpoints import Store
from automl.errors import RecipeError
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status
from automl.space.ranges import Value
from automl.train.segment import run

from .small_problem import PLAIN, RECIPES, in_float64, small_task

Line = dict[str, tuple[dict[str, Value], dict[str, Value], dict[str, Value]]]
LINES: Line = {
    "adamw, dropout, mixup, ema": (
        {"model.dropout": 0.2, "optimizer.adamw.b1": 0.9, "batch.mixup.alpha": 0.2},
        {"optimizer.adamw.lr": 0.03, "model.dropout": 0.05},
        {"batch.mixup.alpha": 1.0, "optimizer.adamw.b1": 0.8, "averaging.ema.forget": 0.3},
    ),
    "sgd, one cycle, sam, swa": (
        {"gradient.sam.rho": 0.05},
        {"gradient.sam.rho": 0.2},
        {"optimizer.sgd.lr": 0.02},
    ),
    "schedule-free, smaller batch": (
        {"optimizer.schedule_free_adamw.lr": 0.01},
        {"optimizer.schedule_free_adamw.lr": 0.03},
        {"optimizer.schedule_free_adamw.lr": 0.003},
    ),
}


def recipes(name: str) -> list[Recipe]:
    """The first trial's recipe, its child's from step 5 on, and the grandchild's from 15 on."""
    more, first, second = LINES[name]
    root = Recipe({**RECIPES[name], **more}, steps=20, seed=3)
    child = root.changed(5, first)
    return [root, child, child.changed(15, second)]


def trained(folder: Path, *found: Segment, size: int = 1) -> list[Report]:
    places = tuple(range(len(found)))
    reports = run(Pack(found, str(folder), True, size, places), small_task())
    assert [r.status for r in reports] == [Status.DONE] * len(found), reports[0].message
    return reports


def tensors(folder: Path, trial: int) -> dict[str, Tensor]:
    return Store(folder).load(trial, 20)[0]


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_forks_is_its_recipe_trained_from_the_start(tmp_path: Path, name: str) -> None:
    root, child, grandchild = recipes(name)
    trained(tmp_path, Segment(0, root, 0, 5))
    trained(tmp_path, Segment(1, child, 5, 10, (0, 5)))
    trained(tmp_path, Segment(1, child, 10, 15, (1, 10)))
    (last,) = trained(tmp_path, Segment(2, grandchild, 15, 20, (1, 15)))
    (whole,) = trained(tmp_path, Segment(9, grandchild, 0, 20))
    assert whole.curve[-1] == last.curve[-1]
    assert whole.test == last.test
    line, again = tensors(tmp_path, 2), tensors(tmp_path, 9)
    assert line.keys() == again.keys()
    assert all(torch.equal(line[n], again[n]) for n in line)
    (other,) = trained(tmp_path, Segment(10, root, 0, 20))
    assert other.curve[-1] != whole.curve[-1]


def test_changes_fall_where_they_should_in_a_pack_that_goes_on(tmp_path: Path) -> None:
    name = next(iter(LINES))
    found = []
    for recipe in recipes(name):
        point = in_float64(recipe.point)
        found.append(Recipe(point, steps=20, seed=3, changes=recipe.changes))
    trained(tmp_path / "p", *(Segment(k, r, 0, 10) for k, r in enumerate(found)), size=3)
    late = [Segment(k, r, 10, 20, (k, 10)) for k, r in enumerate(found)]
    packed = trained(tmp_path / "p", *late, size=3)
    for k, recipe in enumerate(found):
        (alone,) = trained(tmp_path / "a", Segment(k, recipe, 0, 20))
        (report,) = (r for r in packed if r.trial == k)
        assert report.curve[-1][1] == pytest.approx(dict(alone.curve[-1][1]), rel=1e-9)


def test_a_recipe_says_what_holds_when_and_survives_json() -> None:
    recipe = Recipe(PLAIN, steps=100).changed(10, {"optimizer.adamw.lr": 0.5})
    recipe = recipe.changed(40, {"optimizer.adamw.lr": 0.1, "optimizer.adamw.wd": 0.0})
    rates = [recipe.at(s).point["optimizer.adamw.lr"] for s in (0, 9, 10, 39, 40, 99)]
    assert rates == [1e-2, 1e-2, 0.5, 0.5, 0.1, 0.1]
    assert Recipe.from_json(recipe.to_json()) == recipe
    plain = Recipe(PLAIN, steps=100)
    assert recipe.structure == plain.structure
    assert recipe.key != plain.key and recipe.point_key != plain.point_key
    assert "changes" not in plain.to_json()
    assert recipe.changed(40, {}).at(50).point["optimizer.adamw.lr"] == 0.5


@pytest.mark.parametrize(
    ("step", "values", "words"),
    [
        (0, {"optimizer.adamw.lr": 0.1}, "steps must rise"),
        (100, {"optimizer.adamw.lr": 0.1}, "steps must rise"),
        (5, {"optimizer.sgd.lr": 0.1}, "no 'optimizer.sgd.lr'"),
        (5, {"optimizer": "sgd"}, "'optimizer' cannot change"),
        (5, {"batch_size": 32}, "'batch_size' cannot change"),
        (5, {"model.width": 8.0}, "'model.width' cannot change"),
    ],
)
def test_what_cannot_change_is_refused(step: int, values: dict[str, Value], words: str) -> None:
    point: dict[str, Value] = {**PLAIN, "batch_size": 16, "model.width": 4.0}
    with pytest.raises(RecipeError, match=words):
        Recipe(point, steps=100).changed(step, values)
