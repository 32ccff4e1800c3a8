"""What travels between the towers survives JSON, also when training did not."""

from __future__ import annotations

import json
import math

import pytest

from automl.errors import RecipeError
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskCard, TaskSpec

RECIPE = Recipe(
    {
        "batch": "flip_crop+mixup",
        "batch.mixup.alpha": 0.2,
        "optimizer": "sgd",
        "optimizer.sgd.lr": 0.1,
    },
    steps=100,
    seed=7,
)


def through_json(data: object) -> object:
    return json.loads(json.dumps(data))


def test_a_chain_gives_each_method_its_own_hyperparameters() -> None:
    assert RECIPE.stage("batch") == [("flip_crop", {}), ("mixup", {"alpha": 0.2})]
    assert RECIPE.stage("loss") == []


def test_the_content_key_ignores_order_and_the_point_key_the_seed() -> None:
    turned = Recipe(dict(reversed(list(RECIPE.point.items()))), steps=100, seed=7)
    other_seed = Recipe(RECIPE.point, steps=100, seed=8)
    assert turned.key == RECIPE.key
    assert other_seed.key != RECIPE.key
    assert other_seed.point_key == RECIPE.point_key


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(TypeError):
        RECIPE.point["optimizer"] = "adam"  # type: ignore[index]


def test_a_recipe_of_another_version_is_refused() -> None:
    with pytest.raises(RecipeError, match="version 99"):
        Recipe.from_json({**RECIPE.to_json(), "version": 99})


def test_records_survive_json() -> None:
    segment = Segment(3, RECIPE, 10, 30, parent=(3, 10))
    pack = Pack((segment,), "runs/x/checkpoints", test=True)
    spec = TaskSpec("table.csv", target="y", sets=("a=1", "b=2"))
    card = TaskCard(
        name="t", kind="vector", metric="accuracy", direction="maximize", space=[], steps=10,
        eval_steps=1, batch_size=64, sizes={"train": 5}, classes=("a", "b"),
    )  # fmt: skip
    assert Segment.from_json(through_json(segment.to_json())) == segment  # type: ignore[arg-type]
    assert Pack.from_json(through_json(pack.to_json())) == pack  # type: ignore[arg-type]
    assert TaskSpec.from_json(through_json(spec.to_json())) == spec  # type: ignore[arg-type]
    assert TaskCard.from_json(through_json(card.to_json())) == card  # type: ignore[arg-type]


def test_a_diverged_report_keeps_its_infinities() -> None:
    curve = ((10, {"train/loss": math.inf}), (20, {"train/loss": math.nan}))
    report = Report(trial=1, start=0, reached=20, status=Status.DIVERGED, curve=curve)
    again = Report.from_json(through_json(report.to_json()))  # type: ignore[arg-type]
    assert again.status is Status.DIVERGED
    assert again.curve[0][1]["train/loss"] == math.inf
    assert math.isnan(again.curve[1][1]["train/loss"])
