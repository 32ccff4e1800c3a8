"""An optimizer that ends in an ensemble is judged, kept and taken up again as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from automl.checkpoints import Store
from automl.methods.stages import Layout, Optimizer, hyper_tensors
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status
from automl.registry import family
from automl.space.ranges import Value
from automl.tasks.task import ModelTask, Split
from automl.train.segment import run

from .small_problem import small_task

STEPS = 40
POINT: dict[str, Value] = {
    "optimizer": "simmering",
    "optimizer.simmering.lr": 0.02,
    "optimizer.simmering.temperature": 1e-3,
    "optimizer.simmering.every": 3.0,
}


def trained(task: ModelTask, folder: Path, *segments: Segment, test: bool = False) -> list[Report]:
    reports = []
    for segment in segments:
        reports += run(Pack((segment,), str(folder), test), task)
    assert all(r.status is Status.DONE for r in reports), reports[-1].message
    return reports


def networks(task: ModelTask, tensors: dict[str, Tensor], recipe: Recipe) -> list[nn.Module]:
    """The eight plain networks of a checkpoint."""
    found = []
    for i in range(8):
        start = f"model/members.{i}."
        state = {n.removeprefix(start): x for n, x in tensors.items() if n.startswith(start)}
        module = task.build(recipe)
        module.load_state_dict(state)
        found.append(module.eval())
    assert len([n for n in tensors if n.startswith("model/")]) == 8 * len(state)
    return found


def test_the_mean_of_the_networks_predictions_is_what_counts(tmp_path: Path) -> None:
    task, recipe = small_task(), Recipe(POINT, steps=STEPS, seed=3)
    (report,) = trained(task, tmp_path, Segment(0, recipe, 0, STEPS), test=True)
    modules = networks(task, Store(tmp_path).load(0, STEPS)[0], recipe)

    def value(split: Split) -> tuple[float, float]:
        assert split.x is not None
        assert split.y is not None
        with torch.no_grad():
            p = torch.stack([m(split.x).softmax(1) for m in modules]).mean(0)
        loss = -p.gather(1, split.y[:, None]).log().mean()
        return float(task.evaluate(p, split.y)[task.card.metric]), float(loss)

    accuracy, loss = value(task.valid)
    assert report.curve[-1][1][f"val/{task.card.metric}"] == accuracy
    assert report.curve[-1][1]["val/loss"] == pytest.approx(loss, rel=1e-5)
    assert task.test is not None
    assert report.test is not None
    assert report.test[f"test/{task.card.metric}"] == value(task.test)[0]
    with torch.no_grad():
        outputs = [m(task.valid.x) for m in modules]
    assert all(not torch.equal(a, outputs[0]) for a in outputs[1:])  # eight different networks


def test_segments_and_packs_change_nothing(tmp_path: Path) -> None:
    task, recipe = small_task(), Recipe(POINT, steps=STEPS, seed=3)
    (whole,) = trained(task, tmp_path / "whole", Segment(0, recipe, 0, STEPS))
    parts = trained(
        task, tmp_path / "parts", Segment(0, recipe, 0, 20), Segment(0, recipe, 20, STEPS, (0, 20))
    )
    assert [*parts[0].curve, *parts[1].curve] == list(whole.curve)
    # Beside a member that is one network.
    other = replace(recipe, point={"optimizer": "adamw"})
    exact = [Segment(k, r, 0, STEPS) for k, r in enumerate((recipe, other))]
    pack = run(Pack(tuple(exact), str(tmp_path / "pack"), size=2), task)
    metric = f"val/{task.card.metric}"
    assert pack[0].curve[-1][1][metric] == pytest.approx(whole.curve[-1][1][metric], abs=0.03)
    kept = Store(tmp_path / "pack").load(1, STEPS)[0]
    assert not any("members" in n for n in kept)


def test_an_average_of_weights_takes_the_ensembles_place(tmp_path: Path) -> None:
    recipe = Recipe({**POINT, "averaging": "ema"}, steps=STEPS, seed=3)
    trained(small_task(), tmp_path, Segment(0, recipe, 0, STEPS))
    assert not any("members" in n for n in Store(tmp_path).load(0, STEPS)[0])


def test_patience_and_an_ensemble_do_not_go_together(tmp_path: Path) -> None:
    recipe = Recipe({**POINT, "patience": 2}, steps=STEPS, seed=3)
    (report,) = run(Pack((Segment(0, recipe, 0, STEPS),), str(tmp_path)), small_task())
    assert report.status is Status.INVALID
    assert "an ensemble's" in report.message


def test_weights_are_kept_at_equal_distances_of_time() -> None:
    method, w = family("optimizer").get("simmering"), torch.zeros(1, 3, dtype=torch.float64)
    assert isinstance(method, Optimizer)
    assert method.samples is not None
    layout = Layout((), 3, 3)
    state = method.init(w, layout)
    values = {"lr": 1e-4, "temperature": 1e-5, "tau": 0.03, "every": 4.0, "factor": 0.25}
    hyper = hyper_tensors([values], dtype=w.dtype)
    path = []
    for t in range(1, 41):
        time = torch.full((1, 1), float(t), dtype=w.dtype)
        method.step(w, torch.ones_like(w), state, hyper, time, layout)
        path.append(w.clone())
    # A quarter of the rate is half the time a step: every eighth step, five of them by now.
    found = method.samples(w, state, hyper)[0]
    torch.testing.assert_close(found[:5], torch.cat([path[t - 1] for t in (40, 32, 24, 16, 8)]))
    torch.testing.assert_close(found[5:], w.expand(3, 3))
