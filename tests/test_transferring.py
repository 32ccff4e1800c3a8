"""A transfer is planned from the task alone, and its one line says what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from automl.errors import TaskError
from automl.recipe import Recipe
from automl.records import TaskSpec
from automl.train.coordinates import slopes
from automl.transferring import best_of, check, contests, planned, trained

FILE = """
import torch
from torch import nn

x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
data = x, (x.norm(dim=1) > 1.2).long()
metric = "accuracy"


def model({arguments}):
    return nn.Sequential(nn.Linear(2, {first}), nn.ReLU(), nn.Linear({first}, {second}), nn.ReLU(),
                         nn.Linear({second}, 2))
"""


def user_file(
    folder: Path, arguments: str, first: str = "width", second: str = "width"
) -> TaskSpec:
    path = folder / "task.py"
    path.write_text(FILE.format(arguments=arguments, first=first, second=second))
    return TaskSpec(str(path), device="cpu", sets=("batch_size=16",))


def test_widths_come_from_the_range_and_both_ends_train(tmp_path: Path) -> None:
    spec = user_file(tmp_path, 'width: "log 16..256" = 64')
    plan, task, recipe = planned(spec, argument=None, small=None, large=None)
    assert (plan.argument, plan.small, plan.large) == ("model.width", 16, 256)
    assert plan.widths == [16, 32, 64, 128, 256]
    assert plan.sets == (
        "batch_size=16", "model.width=16", "parametrization=mup",
        "parametrization.mup.base=16", "parametrization.mup.argument=model.width",
    )  # fmt: skip
    moved = {name: slopes(found) for name, found in check(plan, task, recipe).items()}
    assert max(map(abs, moved["mup"].values())) < 0.3 < max(moved["standard"].values())
    assert task.card.steps == recipe.steps

    tuned = Recipe({**recipe.point, "optimizer.adamw.lr": 3e-2}, steps=4)
    first, second, third = contests(plan, tuned, Recipe(recipe.point, steps=4))
    assert first.recipe.point["parametrization.mup.base"] == 16
    assert "parametrization" not in second.recipe.point
    assert {c.recipe.point["model.width"] for c in (first, second, third)} == {256}
    assert len(contests(plan, tuned, tuned)) == 2  # nothing beats the baseline: it is the winner
    ends = trained(spec, [first, second], seeds=(1, 2), workers=1)
    assert [c.label for c in ends] == ["winner, mup", "winner, standard"]
    assert all(len(c.validation) == len(c.test) == 2 and not c.failed for c in ends)
    better, worse = (replace(ends[i], validation=v) for i, v in ((0, (0.9, 0.5)), (1, (0.6, 0.6))))
    assert best_of([worse, better], card=task.card) is better
    assert best_of([worse, better], card=replace(task.card, direction="minimize")) is worse
    assert best_of([first], card=task.card) is None  # not trained
    assert ends[0].validation != ends[1].validation or ends[0].test != ends[1].test


@pytest.mark.parametrize(
    ("arguments", "first", "second", "line"),
    [
        ('one: "8..64" = 8, two: "8..64" = 8', "one", "two",
         "several arguments .*: one, two; name one with --argument"),
        ("width=8", "width", "width", 'argument width has no range; write width: "16..256" = 8'),
        ('depth: "1..3" = 1', "7", "7", "has no whole-number argument that changes the sizes"),
    ],
)  # fmt: skip
def test_what_is_no_width_is_one_line(
    arguments: str, first: str, second: str, line: str, tmp_path: Path
) -> None:
    spec = user_file(tmp_path, arguments, first, second)
    with pytest.raises(TaskError, match=line):
        planned(spec, argument=None, small=None, large=None)
