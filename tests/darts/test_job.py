"""A supernet is a segment like any other: every method trains, stops, goes on and derives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from automl.checkpoints import Store
from automl.errors import TaskError
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskSpec
from automl.registry import family
from automl.tasks.digits import open_digits
from automl.tasks.searching import BATCH, SupernetJob
from automl.tasks.task import ModelTask, Split
from automl.train.segment import run

EDGES = ("e01", "e02", "e12", "e03", "e13", "e23")
SHORT = {
    "epochs": "2", "fine_tune": "1", "evaluations": "6", "stages": "2", "parts": "2", "warmup": "1",
    "cells": "3",
}  # fmt: skip


def open_with(nas: str, *sets: str) -> ModelTask:
    """digits, few of them, with a small supernet."""
    named = family("nas").get(nas).ranges
    short = [f"nas.{nas}.{name}={value}" for name, value in SHORT.items() if name in named]
    small = ["architecture.cells.width=4", "architecture.cells.cells=1"]
    small += [f"architecture.cells.{edge}=none,skip,conv1" for edge in EDGES]
    task = open_digits(TaskSpec(source="digits", nas=nas, sets=(*short, *small, *sets)))
    assert task.train.x is not None and task.train.y is not None
    few = Split(task.train.x[: 3 * BATCH], task.train.y[: 3 * BATCH])
    return replace(task, train=few)


def segment_of(task: ModelTask) -> Segment:
    plan = task.card.supernet
    assert plan is not None and task.train.x is not None
    steps = SupernetJob.of(plan["point"]).steps(len(task.train.x))
    return Segment(1, Recipe(plan["point"], steps=steps, seed=3), 0, steps)


def trained(task: ModelTask, folder: Path) -> Report:
    (report,) = run(Pack((segment_of(task),), str(folder)), task)
    return report


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("nas", family("nas").names())
def test_every_method_derives_from_digits(nas: str, tmp_path: Path) -> None:
    task = open_with(nas)
    report = trained(task, tmp_path)
    assert report.status is Status.DONE, report.message
    assert report.found is not None
    for edges in report.found["edges"]:
        assert set(edges) == set(EDGES)
        assert set(edges.values()) <= {"skip", "conv1"}
    for point in report.found["points"]:
        assert point["architecture"] == "cells" and point["architecture.cells.width"] == 4
        task.build(Recipe(point, steps=1))  # it is a network
    if nas != "random":
        assert report.found["after"] is not None
        assert len(report.found["weights"]) == 2
        plan = SupernetJob.of(segment_of(task).recipe.point)
        expected = plan.passes(3 * BATCH) / task.card.batch_size
        assert 0.5 < report.passes / expected < 2  # the budget was told the truth


@pytest.mark.parametrize("nas", ["darts", "p_darts", "gdas"])
def test_stopped_anywhere_it_goes_on_bit_for_bit(nas: str, tmp_path: Path) -> None:
    task = open_with(nas)
    whole = trained(task, tmp_path / "whole")
    one, asked = segment_of(task), 0
    pack = Pack((one,), str(tmp_path / "parts"))

    def stop() -> set[int]:
        nonlocal asked
        asked += 1
        return {1} if asked % 3 == 0 else set()

    report = run(pack, task, stop=stop)[0]
    parts = 1
    while report.status is Status.STOPPED:
        assert report.passes == report.seconds == 0  # counted once, at the end
        report, parts = run(pack, task, stop=stop)[0], parts + 1
    assert parts > 1
    assert report.found == whole.found
    assert report.passes == whole.passes and report.curve == whole.curve
    ours, theirs = (Store(tmp_path / n).load(1, one.stop)[0] for n in ("parts", "whole"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_a_job_done_before_says_the_same_again(tmp_path: Path) -> None:
    task = open_with("gdas")
    assert trained(task, tmp_path) == trained(task, tmp_path)


def test_neither_validation_nor_test_is_seen(tmp_path: Path) -> None:
    task = open_with("gdas")
    blind = replace(task, valid=Split(torch.zeros(1), torch.zeros(1)), test=None)
    assert trained(task, tmp_path / "a").found == trained(blind, tmp_path / "b").found


def test_too_few_samples_are_refused(tmp_path: Path) -> None:
    task = open_with("darts")
    assert task.train.x is not None and task.train.y is not None
    tiny = replace(task, train=Split(task.train.x[:50], task.train.y[:50]))
    report = trained(tiny, tmp_path)
    assert report.status is Status.INVALID
    assert "50 are too few" in report.message


def test_a_space_without_cells_is_refused() -> None:
    with pytest.raises(TaskError, match="architecture=mlp holds no cells to find; add one of"):
        open_with("darts", "architecture=mlp")
