"""train_best.py: it runs where automl is not, whatever the recipe is made of."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from automl.recipe import Recipe
from automl.records import TaskCard, TaskSpec
from automl.registry import FAMILIES
from automl.reports.recipe_file import RecipeFile
from automl.reports.sources import bundle
from automl.reports.train_script import write_text
from automl.tasks.opening import open_task

# Runs each script given, in one process, with automl nowhere to be found.
ALONE = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("automl", "optuna", "mlflow"):
            raise ImportError(f"{name} is hidden")
sys.meta_path.insert(0, Absent())
for path in sys.argv[1:]:
    sys.argv = [path]
    print("##", path)
    runpy.run_path(path, run_name="__main__")
"""


@pytest.fixture(scope="module")
def card() -> TaskCard:
    return open_task(TaskSpec("digits")).card


def script(card: TaskCard, point: Mapping[str, object], *, updates: int | None = None) -> str:
    whole = {"architecture": "mlp", "loss": "cross_entropy", "optimizer": "adamw", **point}
    recipe = Recipe(whole, steps=card.steps, seed=3)  # type: ignore[arg-type]
    score = {"validation": 0.98, "validation_sd": 0.001, "validation_seeds": 3}
    text = write_text(RecipeFile(TaskSpec("digits"), recipe, score), card)
    return text if updates is None else re.sub(r"UPDATES = \d+", f"UPDATES = {updates}", text)


def run(folder: Path, texts: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """What each script printed at its end: {"validation": percent, "test": percent}."""
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    paths = [str(folder / f"{name}.py") for name in texts]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *paths], capture_output=True, text=True, cwd=folder,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    parts = dict(zip(texts, done.stdout.split("## ")[1:], strict=True))
    figure = re.compile(r"^(validation|test) accuracy ([\d.]+) %$", re.M)
    return {name: {k: float(v) for k, v in figure.findall(out)} for name, out in parts.items()}


def every_method(kind: str = "image") -> list[tuple[str, str]]:
    """Each method of each family that can serve digits."""
    found = []
    for key, family in FAMILIES.items():
        for name in family.names():
            method = family.get(name)
            kinds, targets = (
                getattr(method, "kinds", (kind,)),
                getattr(method, "targets", ("classes",)),
            )
            if kind in kinds and "classes" in targets:
                found.append((key, name))
    return found


def test_every_method_runs_in_a_script_of_its_own(card: TaskCard, tmp_path: Path) -> None:
    texts = {f"{key}_{name}": script(card, {key: name}, updates=2) for key, name in every_method()}
    figures = run(tmp_path, texts)
    assert all(set(f) == {"validation", "test"} for f in figures.values())
    # and a linter finds no name that is missing or imported in vain
    lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F,E9", str(tmp_path)]
    checked = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout[-2000:]


def test_a_rich_recipe_learns_digits(card: TaskCard, tmp_path: Path) -> None:
    rich = {"optimizer": "muon", "batch": "flip_crop+mixup", "batch.flip_crop.flip": 0.0,
            "averaging": "ema", "gradient": "sam", "schedule": "wsd", "transform": "clip_norm",
            "architecture.mlp.norm": "batch", "batch_size": 32}  # fmt: skip
    (figures,) = run(tmp_path, {"rich": script(card, rich, updates=150)}).values()
    assert figures["validation"] > 93
    assert figures["test"] > 93


def test_the_script_reads_as_one_file(card: TaskCard) -> None:
    text = script(card, {"optimizer": "muon", "schedule": "cosine"})
    assert text.startswith('"""Muon + cosine, for digits: a recipe that automl found.')
    assert "validation accuracy 98.00 % ± 0.10   over 3 seeds" in text
    assert "NS(u)" in text  # the method's formulae
    assert not re.search(r"^\s*(from|import) automl", text, re.M)
    assert "METHOD" not in text
    assert "type: ignore" not in text
    assert max(len(line) for line in text.splitlines()) <= 110
    compile(text, "train_best.py", "exec")


def test_a_recipe_that_no_file_can_hold_says_so(card: TaskCard) -> None:
    recipe = Recipe({"optimizer": "adamw", "loss": "cross_entropy"}, steps=9)
    text = write_text(RecipeFile(TaskSpec("nowhere.xyz"), recipe), card)
    assert "raise SystemExit('this recipe cannot be written as one file: " in text


LOOP = """
def train(trial):
    value = trial.recipe["lr"] * trial.seed
    for step in range(trial.start, trial.stop):
        trial.report(step + 1, {"score": value})
    (trial.checkpoint / "weights.txt").write_text(str(value))
"""


def test_a_loop_of_the_users_own_is_called_by_its_file(card: TaskCard, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(LOOP)
    recipe = Recipe({"lr": 0.5}, steps=3, seed=4)
    loop = replace(card, kind="loop", metric="score", steps=3)
    text = write_text(RecipeFile(TaskSpec(str(tmp_path / "mine.py")), recipe), loop)
    run(tmp_path, {"train_best": text})
    assert (tmp_path / "train_best_files" / "weights.txt").read_text() == "2.0"


def test_a_command_is_run_with_its_values_filled_in(card: TaskCard, tmp_path: Path) -> None:
    code = "import sys; open('said', 'w').write(' '.join(sys.argv[1:]))"
    (tmp_path / "mine.py").write_text(code)
    command = f"{sys.executable} mine.py --lr {{lr}} --act {{act}}"
    recipe = Recipe({"lr": 0.25, "act": "relu"}, steps=1, seed=4)
    text = write_text(RecipeFile(TaskSpec(command, command=True), recipe),
                      replace(card, kind="command"))  # fmt: skip
    run(tmp_path, {"train_best": text})
    assert (tmp_path / "said").read_text() == "--lr 0.25 --act relu"


def test_only_what_is_used_is_taken() -> None:
    found = bundle([("automl.methods.optimizers.lion", "lion_step")])
    assert "METHOD" not in found.text("automl.methods.optimizers.lion")
    assert not any(m.startswith("automl.space") for m in found.modules)
