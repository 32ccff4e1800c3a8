"""train_best.py: it runs where automl is not, whatever the recipe is made of."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from automl.recipe import Changes, Recipe
from automl.records import Pack, Segment, TaskCard, TaskSpec
from automl.registry import FAMILIES
from automl.reports import loading
from automl.reports.recipe_file import RecipeFile
from automl.reports.sources import bundle
from automl.reports.train_script import write_text
from automl.space.tree import Space
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask
from automl.train.segment import run as train

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


def script(
    card: TaskCard,
    point: Mapping[str, object],
    *,
    updates: int | None = None,
    changes: Changes = (),
) -> str:
    whole = {"architecture": "mlp", "loss": "cross_entropy", "optimizer": "adamw", **point}
    recipe = Recipe(whole, card.steps, 3, changes)  # type: ignore[arg-type]
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
    assert done.stderr == ""
    parts = dict(zip(texts, done.stdout.split("## ")[1:], strict=True))
    figure = re.compile(r"^(validation|test) \w.*? ([\d.]+)(?: %)?$", re.M)
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
            alone = "teacher" not in getattr(method, "needs", ())
            if kind in kinds and "classes" in targets and alone:
                found.append((key, name))
    return found


def test_every_method_runs_in_a_script_of_its_own(card: TaskCard, tmp_path: Path) -> None:
    methods = [*every_method(), ("optimizer", "pytorch_optimizer:ADOPT")]
    texts = {f"{key}_{name}": script(card, {key: name}, updates=2) for key, name in methods}
    texts |= {
        f"mlp_{name}": script(card, {"architecture.mlp.activation": name}, updates=2)
        for name in ("swiglu", "weierstrass_tanh")
    }
    figures = run(tmp_path, texts)
    assert all(set(f) == {"validation", "test"} for f in figures.values())
    # and a linter finds no name that is missing or imported in vain
    lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F,E9", str(tmp_path)]
    checked = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout[-2000:]


def test_a_rich_recipe_learns_digits(card: TaskCard, tmp_path: Path) -> None:
    rich = {"optimizer": "muon", "batch": "flip_crop+mixup", "batch.flip_crop.flip": 0.0,
            "averaging": "ema", "gradient": "sam", "schedule": "wsd", "transform": "clip_norm",
            "optimizer.muon.lr": 2e-2, "batch.mixup.alpha": 0.2, "schedule.wsd.cooldown": 0.2,
            "architecture.mlp.dropout": 0.1,
            "architecture.mlp.norm": "batch", "batch_size": 32}  # fmt: skip
    changes: Changes = (
        (30, {"optimizer.muon.lr": 1e-2, "batch.mixup.alpha": 0.1}),
        (40, {"architecture.mlp.dropout": 0.05, "schedule.wsd.cooldown": 0.25}),
    )
    text = script(card, rich, updates=150, changes=changes)
    assert '60: {"optimizer": {"lr": 0.01}, "batch.1": {"alpha": 0.1}},' in text
    assert "80: lambda: mlp(" in text
    halted = {"optimizer.adamw.lr": 1e-3}
    texts = {
        "rich": text,
        "halted": script(card, halted, changes=((1, {"optimizer.adamw.lr": 0.0}),)),
    }
    figures = run(tmp_path, texts)
    assert figures["rich"]["validation"] > 93
    assert figures["rich"]["test"] > 93
    assert figures["halted"]["validation"] < 60


def test_a_script_trains_as_exactly_as_the_search_did(card: TaskCard, tmp_path: Path) -> None:
    gpu = replace(card, device="cuda")
    own = 'DEVICE.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)'
    for where, point, weights, half in (
        (card, {}, "float32", "False"),
        (gpu, {}, "float32", own),
        (gpu, {"precision": "float32"}, "float32", "False"),
        (gpu, {"precision": "float64"}, "float64", "False"),
        (card, {"precision": "bfloat16"}, "float32", "True"),
    ):
        text = script(where, point)
        assert f"\nDTYPE = torch.{weights}  #" in text and f"\nHALF = {half}  #" in text
    mixed = {"batch": "mixup", "optimizer": "sophia_g", "architecture.mlp.norm": "batch"}
    texts = {}
    for name in ("float64", "bfloat16"):
        whole = script(card, {**mixed, "precision": name}, updates=20)
        check = "with trainer.precision():\n        dtype = model(trainer.next_batch().x[0]).dtype"
        check += f"\n    assert dtype == torch.{name}\n    trainer.finish()"
        texts[name] = whole.replace("trainer.finish()", check)
    assert set(run(tmp_path, texts)) == {"float64", "bfloat16"}


def test_a_wide_network_under_mup_brings_its_table_along(card: TaskCard, tmp_path: Path) -> None:
    wide = {"architecture.mlp.width": 256, "parametrization": "mup", "averaging": "none",
            "parametrization.mup.base": 64, "optimizer": "schedule_free_adamw"}  # fmt: skip
    text = script(card, wide, updates=150)
    # The output layer: torch's 1/sqrt(256) halved, a quarter of the rate, gradients halved.
    assert '    "7.weight": (0.5, 0.25, 0.5),' in text
    (figures,) = run(tmp_path, {"wide": text}).values()
    assert figures["validation"] > 93


def test_a_patient_recipe_ends_early_with_its_best_weights(card: TaskCard, tmp_path: Path) -> None:
    patient = {"optimizer.adamw.lr": 0.02, "patience": 2, "averaging": "ema",
               "architecture.mlp.norm": "batch"}  # fmt: skip
    text = re.sub(r"EVERY = \d+", "EVERY = 10", script(card, patient, updates=400))
    (tmp_path / "patient.py").write_text(text)
    command = [sys.executable, str(tmp_path / "patient.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "of 400" in done.stdout
    assert "update    400 of 400" not in done.stdout
    found = re.search(r"^validation accuracy ([\d.]+) %$", done.stdout, re.M)
    assert found is not None
    assert float(found[1]) > 93


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


def _table(folder: Path) -> None:
    rng = np.random.default_rng(0)
    n = 300
    frame = pd.DataFrame({"a": rng.normal(size=n), "b": rng.choice(["x", "y", "z"], n)})
    frame["a"] = frame["a"].where(rng.random(n) > 0.1)
    signal = frame["a"].fillna(0) + (frame["b"] == "x")
    frame["class"] = np.where(signal > 0.5, "high", "low")
    frame["value"] = 100 + 20 * signal + rng.normal(size=n)
    frame.to_csv(folder / "table.csv", index=False)


def _images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for place in ("images", "held/train", "held/test"):
        for name, light in (("dark", 60), ("light", 190)):
            (folder / place / name).mkdir(parents=True)
            for i in range(30):
                pixels = rng.normal(light, 30, (8, 8)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / place / name / f"{i}.png")


MINE = """
from torch import nn
import numpy as np
import torch

def model(width: "4..64" = 16, act: "relu|tanh" = "relu"):
    acts = {"relu": nn.ReLU, "tanh": nn.Tanh}
    return nn.Sequential(nn.Linear(3, width), acts[act](), nn.Linear(width, 2))

def data():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()

def metric(outputs, targets):
    assert np.finfo(np.float32).eps > 0  # as many a metric asks
    return (outputs.argmax(1) == targets).float().mean()

def loss(output, target):
    return nn.functional.cross_entropy(output, target)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, images, a text and a task file."""
    folder = tmp_path_factory.mktemp("tasks")
    _table(folder)
    _images(folder)
    (folder / "corpus.txt").write_text("the quick brown fox jumps over the lazy dog. " * 120)
    (folder / "mine.py").write_text(MINE)
    return folder


TASKS = {
    "classes": ("table.csv", "class"),
    "values": ("table.csv", "value"),
    "images": ("images", None),
    "held": ("held", None),
    "text": ("corpus.txt", None),
    "mine": ("mine.py", None),
}


@pytest.fixture(scope="module")
def opened(place: Path) -> dict[str, tuple[TaskSpec, ModelTask]]:
    specs = {n: TaskSpec(str(place / s), target=t) for n, (s, t) in TASKS.items()}
    tasks = {n: (spec, open_task(spec)) for n, spec in specs.items()}
    return {n: (spec, task) for n, (spec, task) in tasks.items() if isinstance(task, ModelTask)}


def test_each_kind_of_task_trains_in_its_script(
    opened: dict[str, tuple[TaskSpec, ModelTask]], tmp_path: Path
) -> None:
    texts = {}
    for name, (spec, task) in opened.items():
        point = Space.from_json(task.card.space).complete({"optimizer.adamw.lr": 0.01})
        recipe = Recipe(point, steps=task.card.steps, seed=3)
        text = write_text(RecipeFile(spec, recipe), task.card)
        texts[name] = re.sub(r"UPDATES = \d+", "UPDATES = 150", text)
    figures = run(tmp_path, texts)
    assert list(figures) == list(TASKS)
    assert figures["classes"]["test"] > 80
    assert figures["values"]["test"] < 8  # in the target's own unit, whose deviation is 21
    assert figures["images"]["test"] > 90
    assert figures["held"]["test"] > 90
    assert figures["text"]["test"] < 4
    assert figures["mine"]["test"] > 0.85
    lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F,E9", str(tmp_path)]
    checked = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout[-2000:]


def test_the_scripts_splits_are_the_tasks_own(
    opened: dict[str, tuple[TaskSpec, ModelTask]], place: Path
) -> None:
    loaded = {
        "images": loading.image_splits(place / "images"),
        "held": loading.image_splits(place / "held"),
        "text": loading.text_splits(place / "corpus.txt"),
    }
    for name, splits in loaded.items():
        task = opened[name][1]
        for key, own in (("train", task.train), ("valid", task.valid), ("test", task.test)):
            assert own is not None
            assert own.x is not None
            assert own.y is not None
            assert torch.equal(splits[key].x, own.x)  # type: ignore[arg-type]
            assert torch.equal(splits[key].y, own.y)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_script_scores_as_the_trainer_does(card: TaskCard, tmp_path: Path) -> None:
    """Three seeds each; one seed scatters by .3 points, other random numbers are used."""
    task = open_task(TaskSpec("digits"))
    point = Space.from_json(card.space).complete(
        {
            "optimizer": "muon",
            "averaging": "ema",
            "batch": "mixup",
            "architecture.mlp.norm": "batch",
        }
    )
    ours, texts = [], {}
    for seed in (1, 2, 3):
        recipe = Recipe(point, steps=card.steps, seed=seed)
        pack = Pack((Segment(seed, recipe, 0, recipe.steps),), str(tmp_path / "store"), test=True)
        (report,) = train(pack, task)
        assert report.test is not None
        ours.append(100 * report.test["test/accuracy"])
        texts[str(seed)] = write_text(RecipeFile(TaskSpec("digits"), recipe), card)
    theirs = [figures["test"] for figures in run(tmp_path, texts).values()]
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.8


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
