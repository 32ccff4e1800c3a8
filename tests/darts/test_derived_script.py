"""A derived cell is plain torch: its train_best.py runs where automl is not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import torch

from automl.recipe import Recipe
from automl.records import Pack, Segment, Status, TaskSpec
from automl.reports.recipe_file import RecipeFile
from automl.reports.train_script import write_text
from automl.space.tree import Space
from automl.tasks.digits import open_digits
from automl.train.segment import run

ALONE = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "automl":
            raise ImportError(f"{name} is hidden")
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CANDIDATES = {"e01": "conv3", "e12": "skip", "e02": "conv1,conv3", "e03": "none", "e13": "none",
              "e23": "skip,conv3"}  # fmt: skip


def test_a_derived_cell_learns_digits_without_automl(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    narrow = [f"architecture.cells.{edge}={names}" for edge, names in CANDIDATES.items()]
    sets = ("nas.darts.epochs=1", "nas.darts.fine_tune=0", "architecture=mlp,cells", *narrow)
    spec = TaskSpec("digits", nas="darts", sets=sets)
    task = open_digits(spec)
    plan = task.card.supernet
    assert plan is not None
    segment = Segment(1, Recipe(plan["point"], steps=plan["steps"]), 0, plan["steps"])
    (report,) = run(Pack((segment,), str(tmp_path / "store")), task)
    assert report.status is Status.DONE, report.message
    assert report.found is not None
    (found,) = report.found["points"]
    space = Space.from_json(task.card.space)
    point = space.complete({**found, "optimizer.adamw.lr": 0.01})
    text = write_text(RecipeFile(spec, Recipe(point, steps=task.card.steps)), task.card)
    script = tmp_path / "train_best.py"
    script.write_text(re.sub(r"UPDATES = \d+", "UPDATES = 80", text))
    command = [sys.executable, "-I", "-c", ALONE, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    score = re.search(r"^test accuracy ([\d.]+) %$", done.stdout, re.M)
    assert score is not None
    assert float(score[1]) > 50  # of ten classes
    for edge, name in report.found["edges"][0].items():
        assert f'{edge}="{name}"' in text
    assert not re.search(r"^\s*(from|import) automl", text, re.M)
