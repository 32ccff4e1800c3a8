"""Scores of networks before training come through the door of training."""

from __future__ import annotations

import math

from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskSpec
from automl.space.tree import Space
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask
from automl.train.segment import run


def scored(task: ModelTask, widths: list[int]) -> list[Report]:
    space = Space.from_json(task.card.space)
    network = {"architecture": "mlp", "architecture.mlp.norm": "none"}
    segments = tuple(
        Segment(-2 - i, Recipe(space.complete({**network, "architecture.mlp.width": w}), 9), 0, 0)
        for i, w in enumerate(widths)
    )
    pack = Pack(segments, "nowhere", proxies=("naswot", "params"))
    assert Pack.from_json(pack.to_json()) == pack
    return run(pack, task)


def test_each_network_is_scored_and_nothing_is_trained() -> None:
    task = open_task(TaskSpec("digits"))
    assert isinstance(task, ModelTask)
    reports = scored(task, [32, 64, 32])
    assert all((r.status, r.reached, r.curve) == (Status.DONE, 0, ()) for r in reports)
    assert Report.from_json(reports[0].to_json()) == reports[0]
    small, large, again = (dict(r.scores or {}) for r in reports)
    weights = 64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10
    assert small["params"] == math.log(weights)
    assert small == again
    assert small["params"] < large["params"]
    assert math.isfinite(large["naswot"])


def test_a_network_that_cannot_be_built_fails_alone() -> None:
    task = open_task(TaskSpec("digits"))
    assert isinstance(task, ModelTask)
    wrong, right = scored(task, [-1, 32])
    assert wrong.status is not Status.DONE
    assert wrong.scores is None
    assert right.status is Status.DONE
