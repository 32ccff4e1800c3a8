"""A loop of the user's own: what it is handed, what it may do, what it must not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch

from automl.checkpoints import Store
from automl.recipe import Recipe
from automl.records import Progress, Report, Segment, Status, TaskCard
from automl.tasks.task import Handle, LoopTask
from automl.train.segment import run

from .small_problem import pack

Train = Callable[[Handle], object]


def loop_task(train: Train) -> LoopTask:
    card = TaskCard(
        name="loop",
        kind="loop",
        metric="score",
        direction="maximize",
        space=[],
        steps=10,
        eval_steps=1,
        batch_size=1,
    )
    return LoopTask(card, train)


def part(start: int = 0, stop: int = 10, *, trial: int = 0, lr: float = 0.5) -> Segment:
    parent = (trial, start) if start else None
    return Segment(trial, Recipe({"lr": lr}, steps=10, seed=3), start, stop, parent)


def done(folder: Path, train: Train, one: Segment) -> Report:
    (report,) = run(pack(folder, one), loop_task(train))
    return report


def counting(trial: Handle) -> None:
    """Adds lr at every step, to what its checkpoint holds."""
    file, total = trial.checkpoint / "total", 0.0
    if trial.start:
        total = float(file.read_text())
    for step in range(trial.start + 1, trial.stop + 1):
        total += float(str(trial.recipe["lr"]))
        trial.report(step, {"score": total, "train/loss": 1 / total})
    file.write_text(str(total))


def test_a_loop_reports_its_curve_and_progress(tmp_path: Path) -> None:
    heard: list[Progress] = []
    (report,) = run(pack(tmp_path, part()), loop_task(counting), progress=heard.append)
    assert (report.status, report.reached, report.passes) == (Status.DONE, 10, 10)
    assert [step for step, _ in report.curve] == list(range(1, 11))
    assert report.curve[-1][1] == {"val/score": 5.0, "train/loss": 0.2}
    assert [(p.step, p.metrics) for p in heard] == list(report.curve)


def test_its_checkpoint_carries_it_across_segments(tmp_path: Path) -> None:
    whole = done(tmp_path / "whole", counting, part())
    first = done(tmp_path / "parts", counting, part(stop=4))
    rest = done(tmp_path / "parts", counting, part(4, 10))
    assert first.curve + rest.curve == whole.curve
    assert Store(tmp_path / "parts").steps(0) == [4, 10]


def test_a_fork_goes_on_from_its_parents_folder_and_leaves_it(tmp_path: Path) -> None:
    done(tmp_path, counting, part(stop=4))
    fork = Segment(1, Recipe({"lr": 2.0}, steps=10), 4, 6, parent=(0, 4))
    assert done(tmp_path, counting, fork).curve[-1][1]["val/score"] == 6.0
    assert (Store(tmp_path).folder(0, 4) / "loop" / "total").read_text() == "2.0"


def test_a_segment_handed_out_again_is_not_run_again(tmp_path: Path) -> None:
    def never(trial: Handle) -> None:
        raise AssertionError("is not to run")

    first = done(tmp_path, counting, part())
    assert done(tmp_path, never, part()) == first
    other = part(lr=0.25)
    assert done(tmp_path, counting, other).curve[-1][1]["val/score"] == 2.5


def test_a_plain_number_is_the_searched_metric(tmp_path: Path) -> None:
    report = done(tmp_path, lambda trial: trial.report(10, 0.7), part())
    assert report.curve == ((10, {"val/score": 0.7}),)


def test_a_loop_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    starts = []

    def forgetful(trial: Handle) -> None:
        starts.append(trial.start)
        for step in range(trial.start + 1, trial.stop + 1):
            trial.report(step, step)

    done(tmp_path, forgetful, part(stop=4))
    report = done(tmp_path, forgetful, part(4, 10))
    assert starts == [0, 0]
    assert [step for step, _ in report.curve] == [5, 6, 7, 8, 9, 10]


def test_a_report_past_the_stop_ends_the_loop_even_through_except_exception(
    tmp_path: Path,
) -> None:
    went = []

    def eager(trial: Handle) -> None:
        for step in range(1, 100):
            went.append(step)
            try:
                trial.report(step, step)
            except Exception:
                continue

    report = done(tmp_path, eager, part(stop=6))
    assert (report.status, report.reached) == (Status.DONE, 6)
    assert went[-1] == 7
    assert report.curve[-1] == (6, {"val/score": 6.0})


def test_a_loop_that_returns_early_is_done_at_its_last_value(tmp_path: Path) -> None:
    report = done(tmp_path, lambda trial: trial.report(3, 0.4), part())
    assert (report.status, report.reached) == (Status.DONE, 10)
    assert report.curve == ((3, {"val/score": 0.4}), (10, {"val/score": 0.4}))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            lambda trial: None,
            "the loop reported nothing; call trial.report(step, {'score': value})",
        ),
        (
            lambda trial: trial.report(10, {"accuracy": 1.0}),
            "the loop reported accuracy, not score; call trial.report(step, {'score': value})",
        ),
    ],
)
def test_a_loop_that_never_tells_the_metric_is_told_how(
    tmp_path: Path, train: Train, message: str
) -> None:
    report = done(tmp_path, train, part())
    assert (report.status, report.message) == (Status.USER_CODE, message)
    assert Store(tmp_path).steps(0) == []


def test_a_request_to_stop_ends_the_loop_and_the_segment_runs_anew(tmp_path: Path) -> None:
    polls = iter(range(100))
    (stopped,) = run(
        pack(tmp_path, part()),
        loop_task(counting),
        stop=lambda: {0} if next(polls) == 4 else (),
    )
    assert (stopped.status, stopped.reached, stopped.curve) == (Status.STOPPED, 0, ())
    assert Store(tmp_path).steps(0) == []
    whole = done(tmp_path / "whole", counting, part())
    assert done(tmp_path, counting, part()).curve == whole.curve


def test_a_metric_that_is_not_finite_is_a_divergence(tmp_path: Path) -> None:
    def diverging(trial: Handle) -> None:
        for step in range(1, 11):
            trial.report(step, {"score": math.inf if step == 5 else step})

    report = done(tmp_path, diverging, part())
    assert (report.status, report.reached) == (Status.DIVERGED, 5)
    assert [step for step, _ in report.curve] == [1, 2, 3, 4]


def test_a_loop_that_raises_is_the_users_line(tmp_path: Path) -> None:
    def wrong(trial: Handle) -> None:
        trial.report(1, 1.0)
        raise KeyError("momentum")

    report = done(tmp_path, wrong, part())
    line = wrong.__code__.co_firstlineno + 2
    assert report.status is Status.USER_CODE
    assert report.message == f"KeyError: 'momentum' (test_own_loop.py:{line})"
    assert Store(tmp_path).steps(0) == []


def test_the_global_generators_are_seeded_by_the_recipe(tmp_path: Path) -> None:
    drawn = []

    def drawing(trial: Handle) -> None:
        drawn.append((random.random(), float(numpy.random.rand()), float(torch.rand(()))))
        trial.report(10, 1.0)

    for folder in ("a", "b"):
        done(tmp_path / folder, drawing, part())
        torch.rand(3)
        random.random()
    assert drawn[0] == drawn[1]


def test_the_recipe_cannot_be_changed(tmp_path: Path) -> None:
    def meddling(trial: Handle) -> None:
        trial.recipe["lr"] = 1.0  # type: ignore[index]

    report = done(tmp_path, meddling, part())
    assert report.status is Status.USER_CODE
    assert "does not support item assignment" in report.message
