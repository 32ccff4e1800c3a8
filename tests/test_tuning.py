"""The library's own door: `import automl; automl.tune(...)`."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import automl

TASK = """
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(200, 4)
data = (x, (x[:, 0] > 0).long())
metric = "accuracy"
epochs = 2


def model(width: "4|8|16" = 8):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
"""
SETS = ("batch=none", "gradient=plain", "averaging=none", "optimizer=adamw,sgd")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    file = tmp_path / "task.py"
    file.write_text(TASK)
    return file


@pytest.mark.slow
def test_a_study_begun_in_python_stops_goes_on_and_ends_with_its_files(
    task: Path, tmp_path: Path
) -> None:
    heard: list[str] = []

    def listen(event: Mapping[str, Any]) -> None:
        heard.append(event["kind"])

    def once_reported() -> int:
        return int("report" in heard)

    runs = tmp_path / "runs"
    stopped = automl.tune(
        task,
        budget="3trials",
        sets=SETS,
        seeds=2,
        name="first",
        workers=1,
        runs=runs,
        mlflow="off",
        listen=listen,
        stop=once_reported,
    )
    assert stopped.ended == "interrupted"
    assert heard[0] == "smoke"
    assert not (runs / "first" / "best.toml").exists()

    state = automl.resume("first", runs=runs, mlflow="off")
    assert state.ended == "done"
    assert len(state.search_trials()) == 3
    assert {"best.toml", "report.html", "trials.csv"} <= {
        f.name for f in (runs / "first").iterdir()
    }
    assert automl.winner_recipe(state) is not None
    assert automl.verdict_lines(automl.saved_state("first", runs=runs)) == automl.verdict_lines(
        state
    )

    again = automl.tune(
        task, budget="3trials", sets=SETS, seeds=2, name="first", workers=1, runs=runs, mlflow="off"
    )
    assert again.trials.keys() == state.trials.keys(), "a study that has ended is returned as it is"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give a task"),
        ({"task": "digits", "cmd": "python t.py"}, "give one of them"),
        ({"task": "digits", "epochs": -1}, "needs a length above 0"),
        ({"task": "digits", "seeds": 0}, "--seeds 0: give 1 or more"),
        ({"task": "digits", "seed": -1}, "--seed -1: give 0 or more"),
        ({"task": "digits", "strategy": "atuo"}, "nearest: 'auto'"),
        ({"task": "digits", "budget": ("1h", "2h")}, "given twice"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(automl.AutomlError, match=words):
        automl.tune(**options, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", automl.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(automl, name).__name__ == name
    assert name in dir(automl)


def test_type_checkers_see_the_names_where_they_are_loaded_from() -> None:
    tree = ast.parse(Path(automl.__file__).read_text())
    (seen,) = (n for n in tree.body if isinstance(n, ast.If))
    imports = {
        n.module: tuple(a.name for a in n.names) for n in seen.body if isinstance(n, ast.ImportFrom)
    }
    assert imports == automl._PLACES
    assert sorted(automl.__all__) == sorted(n for names in imports.values() for n in names)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    assert not hasattr(automl, "tunes")


def test_asking_for_a_search_strategy_loads_no_torch() -> None:
    code = (
        "import automl, sys\n"
        "space = automl.Space({'lr': automl.Float(1e-4, 1e-1, log=True)})\n"
        "rungs = {'fidelity': (1, 9, 3), 'direction': 'minimize', 'seed': 0}\n"
        "s = automl.make_strategy('random', space, **rungs)\n"
        "(segment,) = s.ask(1)\n"
        "s.tell(segment, {segment.stop: 0.5})\n"
        "print(s.incumbent().recipe.point['lr'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"
