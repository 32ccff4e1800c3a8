"""The examples run as they are: opened, trained at their defaults, better than at the start."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskSpec
from automl.space.tree import Space
from automl.tasks.opening import open_task
from automl.tasks.task import Task
from automl.train.segment import run

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def trained(task: Task, folder: Path) -> Report:
    """The baseline's full training."""
    steps = task.card.steps
    recipe = Recipe(Space.from_json(task.card.space).default(), steps=steps, seed=1)
    (report,) = run(Pack((Segment(0, recipe, 0, steps),), str(folder)), task)
    return report


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_trains_to_something_better(path: Path, tmp_path: Path) -> None:
    task = open_task(TaskSpec(str(path)))
    report = trained(task, tmp_path)
    assert report.status is Status.DONE, report.message
    name = f"val/{task.card.metric}"
    first, last = report.curve[0][1][name], report.curve[-1][1][name]
    assert last > first if task.card.direction == "maximize" else last < first


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_says_how_to_run_it_and_imports_nothing_of_ours(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert f"automl tune examples/{path.name}" in (ast.get_docstring(tree) or "")
    imported = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not any(name.startswith("automl") for name in imported)


def test_there_is_an_example_of_each_way_to_bring_a_task() -> None:
    kinds = {open_task(TaskSpec(str(path))).card.kind for path in EXAMPLES}
    assert {"image", "vector", "loop"} <= kinds
