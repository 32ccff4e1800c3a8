"""Early stopping: when it ends a training, what it keeps and costs, in segments and packs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from automl.checkpoints import Store
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status
from automl.space.ranges import Value
from automl.tasks.task import ModelTask
from automl.train.patience import Patience
from automl.train.segment import run

from .small_problem import PLAIN, small_task

STEPS = 60
# Nothing learns any more after a while: the rate falls to 0 at once, by a step.
FAST: dict[str, Value] = {
    **PLAIN,
    "optimizer.adamw.lr": 0.05,
    "schedule": "step",
    "schedule.step.warmup": 0.0,
    "schedule.step.gamma": 0.0,
    "schedule.step.every": 0.2,
    "patience": 2,
}


def trained(
    task: ModelTask, folder: Path, *stops: int, test: bool = False, **values: Value
) -> list[Report]:
    """Reports of one trial in segments."""
    recipe = Recipe(FAST | values, steps=STEPS, seed=1)
    reports, start = [], 0
    for stop in stops or (STEPS,):
        parent = (0, start) if start else None
        (report,) = run(Pack((Segment(0, recipe, start, stop, parent),), str(folder), test), task)
        assert report.status is Status.DONE, report.message
        reports.append(report)
        start = stop
    return reports


def value(report: Report, metric: str) -> float:
    return report.curve[-1][1][metric]


def test_training_ends_without_a_gain_and_only_its_passes_are_paid(tmp_path: Path) -> None:
    task = small_task()
    (report,) = trained(task, tmp_path)
    metric = f"val/{task.card.metric}"
    *points, (end, best) = report.curve
    assert report.reached == end == STEPS
    stopped = points[-1][0]
    assert stopped < STEPS
    assert report.passes == stopped
    values = [m[metric] for _, m in points]
    sign = 1 if task.card.direction == "maximize" else -1
    assert best[metric] == max(values, key=lambda v: sign * v)
    assert len(values) - 1 - values.index(best[metric]) >= 2
    whole = trained(task, tmp_path / "whole", patience=100)
    assert whole[0].passes == STEPS


def test_the_best_weights_are_kept_and_tested(tmp_path: Path) -> None:
    task = small_task()
    (report,) = trained(task, tmp_path, test=True)
    tensors, meta = Store(tmp_path).load(0, STEPS)
    recipe = Recipe(FAST, steps=STEPS, seed=1)
    model = task.build(recipe)
    model.load_state_dict({n[6:]: x for n, x in tensors.items() if n.startswith("model/")})
    model.eval()
    assert task.valid.x is not None and task.valid.y is not None
    assert task.test is not None and task.test.x is not None and task.test.y is not None
    with torch.no_grad():
        found = task.evaluate(model(task.valid.x), task.valid.y)
        tested = task.evaluate(model(task.test.x), task.test.y)
    name = task.card.metric
    assert found[name] == pytest.approx(value(report, f"val/{name}"))
    assert report.test is not None
    assert tested[name] == pytest.approx(report.test[f"test/{name}"])
    assert meta["test"] == report.test


@pytest.mark.parametrize("cut", [20, 35, 50])
def test_segments_change_nothing(cut: int, tmp_path: Path) -> None:
    task = small_task()
    (whole,) = trained(task, tmp_path / "whole")
    first, second = trained(task, tmp_path / "parts", cut, STEPS)
    assert second.reached == STEPS
    metric = f"val/{task.card.metric}"
    assert value(second, metric) == value(whole, metric)
    assert first.passes + second.passes == whole.passes
    kept = [Store(tmp_path / f).load(0, STEPS)[0] for f in ("whole", "parts")]
    for name in (n for n in kept[0] if n.startswith("model/")):
        assert torch.equal(kept[0][name], kept[1][name])


def test_an_average_is_stopped_by_its_own_metric(tmp_path: Path) -> None:
    task = small_task()
    metric, averaged = f"val/{task.card.metric}", dict[str, list[float]]()
    for average in ("none", "ema"):
        (whole,) = trained(task, tmp_path / f"whole {average}", averaging=average, patience=100)
        (short,) = trained(task, tmp_path / average, averaging=average)
        best, vain, last = float("-inf"), 0, STEPS
        for step, metrics in whole.curve[:-1]:  # of the weights that would be kept
            vain = 0 if metrics[metric] > best * (1 + 1e-4) else vain + 1
            best = max(best, metrics[metric])
            if vain == 2:
                last = step
                break
        assert short.passes == last
        averaged[average] = [m[metric] for _, m in whole.curve]
    assert averaged["none"] != averaged["ema"]


def test_members_of_a_pack_end_one_by_one_and_as_alone(tmp_path: Path) -> None:
    task = small_task()
    recipes = [
        Recipe(FAST | {"patience": n, "optimizer.adamw.lr": lr}, steps=STEPS, seed=s)
        for s, (n, lr) in enumerate([(1, 0.05), (3, 0.01), (100, 0.02)])
    ]
    segments = tuple(Segment(k, r, 0, STEPS) for k, r in enumerate(recipes))
    together = {r.trial: r for r in run(Pack(segments, str(tmp_path / "pack"), size=3), task)}
    metric = f"val/{task.card.metric}"
    for segment in segments:
        (alone,) = run(Pack((segment,), str(tmp_path / "alone")), task)
        assert together[segment.trial].passes == alone.passes
        assert together[segment.trial].reached == STEPS
        assert value(together[segment.trial], metric) == pytest.approx(value(alone, metric))


def test_a_fork_has_patience_of_its_own(tmp_path: Path) -> None:
    task = small_task()
    trained(task, tmp_path, 40)
    recipe = Recipe(FAST, steps=STEPS, seed=1)
    (fork,) = run(Pack((Segment(1, recipe, 40, STEPS, (0, 40)),), str(tmp_path)), task)
    assert fork.status is Status.DONE
    assert fork.passes > 0


def test_gains_smaller_than_a_ten_thousandth_do_not_count() -> None:
    rule = Patience(2, -1)
    for loss in (1.0, 0.99995, 0.9999):
        assert rule.better(loss)
        if rule.value is None or loss < rule.value:
            rule.keep(loss, {}, {})
    assert rule.over


def test_a_patience_of_nothing_is_refused(tmp_path: Path) -> None:
    recipe = replace(Recipe(FAST, steps=STEPS), point=FAST | {"patience": 0})
    (report,) = run(Pack((Segment(0, recipe, 0, STEPS),), str(tmp_path)), small_task())
    assert report.status is Status.INVALID
    assert "patience 0" in report.message
