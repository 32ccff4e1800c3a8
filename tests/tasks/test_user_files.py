"""Task files of the user's: models, data in all its forms, loops; and what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from automl.errors import SpaceError, TaskError
from automl.recipe import Recipe
from automl.records import Pack, Segment, Status, TaskSpec
from automl.space.tree import Space
from automl.tasks.opening import open_task
from automl.tasks.task import LoopTask, ModelTask
from automl.train.segment import run

CLASSES = """
import torch
from torch import nn

x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
data = (x, (x[:, 0] > 0).long())
metric = "accuracy"
epochs = 2


def model(width: "8|16" = 8, act="relu"):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
"""
VALUES = (
    CLASSES.replace("(x[:, 0] > 0).long()", "x[:, 0] * 3 + 1")
    .replace('"accuracy"', '"rmse"')
    .replace("width, 2", "width, 1")
)
LOOP = """
space = {"lr": "log 1e-4..1e-1 = 1e-2", "act": ["relu", "gelu"], "decay": 0.5}
metric = "accuracy"
steps = 3


def train(trial):
    for step in range(trial.start + 1, trial.stop + 1):
        trial.report(step, {"accuracy": 0.5})
"""


def opened(folder: Path, text: str, **options: object) -> ModelTask:
    (folder / "task.py").write_text(text)
    task = open_task(TaskSpec(str(folder / "task.py"), **options))  # type: ignore[arg-type]
    assert isinstance(task, ModelTask)
    return task


def test_annotated_arguments_are_searched_and_the_others_stay(tmp_path: Path) -> None:
    task = opened(tmp_path, CLASSES, sets=("model.width=16", "optimizer=sgd"))
    space = Space.from_json(task.card.space)
    assert [n for n in space.names() if n.startswith("model.")] == ["model.width"]
    point = space.default()
    assert (point["model.width"], point["optimizer"]) == (16, "sgd")
    net = task.build(Recipe(point, steps=1))
    assert net[0].out_features == 16  # type: ignore[index]
    assert (task.card.steps, task.card.metric, task.card.direction) == (4, "accuracy", "maximize")


def test_another_text_or_another_sample_changes_its_fingerprint(tmp_path: Path) -> None:
    first = opened(tmp_path, CLASSES).card
    code = opened(tmp_path, CLASSES + "# a word\n").card
    data = opened(tmp_path, CLASSES.replace("manual_seed(0)", "manual_seed(1)")).card
    assert code.data_fingerprint == first.data_fingerprint
    assert code.code_fingerprint != first.code_fingerprint
    assert data.data_fingerprint != first.data_fingerprint


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("data = (x, y)", (120, 40, 40)),
        ("data = (x.numpy(), y.numpy())", (120, 40, 40)),
        ("def data():\n    return x, y", (120, 40, 40)),
        ("data = ((x, y), (x[:50], y[:50]))", (200, 50)),
        ("data = ((x, y), (x[:50], y[:50]), (x[:30], y[:30]))", (200, 50, 30)),
        ("data = {'train': (x, y), 'val': (x[:50], y[:50])}", (200, 50)),
        ("data = (x, y)\ntest_data = (x[:30], y[:30])", (160, 40, 30)),
    ],
)
def test_data_is_taken_in_every_form(data: str, expected: tuple[int, ...], tmp_path: Path) -> None:
    text = CLASSES.replace("data = (x, (x[:, 0] > 0).long())", f"y = (x[:, 0] > 0).long()\n{data}")
    found = opened(tmp_path, text).card.sizes
    assert tuple(found[n] for n in ("train", "valid", "test") if n in found) == expected


def test_bytes_are_pixels_and_truth_values_classes(tmp_path: Path) -> None:
    text = CLASSES.replace("data = (x, (x[:, 0] > 0).long())", "data = (x.byte(), x[:, 0] > 0)")
    task = opened(tmp_path, text)
    assert task.train.x is not None
    assert task.train.y is not None
    assert (task.train.x.dtype, task.train.y.dtype) == (torch.float32, torch.int64)
    assert (task.shape.kind, task.shape.target) == ("vector", "classes")


def test_a_metric_function_and_its_direction(tmp_path: Path) -> None:
    own = "def spread(outputs, targets):\n    return (outputs - targets).abs().max().numpy()\n"
    task = opened(tmp_path, VALUES.replace('"rmse"', "spread").replace("x = ", own + "x = "))
    assert (task.card.metric, task.card.direction) == ("spread", "maximize")
    lower = opened(
        tmp_path,
        VALUES.replace('"rmse"', "spread\nmaximize = False").replace("x = ", own + "x = "),
    )
    assert lower.card.direction == "minimize"
    assert lower.evaluate(torch.tensor([[1.0], [5.0]]), torch.tensor([[1.0], [2.0]])) == {
        "spread": 3.0
    }


def test_a_loss_of_ones_own_sees_targets_as_they_were_given(tmp_path: Path) -> None:
    loss = "\n\ndef loss(output, target):\n    return (output.squeeze(-1) - target).abs()\n"
    task = opened(tmp_path, VALUES + loss, metric="loss")
    assert task.train.y is not None
    assert task.train.y.ndim == 1
    assert "loss" not in Space.from_json(task.card.space)
    assert task.evaluate(torch.tensor([[1.0], [5.0]]), torch.tensor([1.0, 2.0])) == {"loss": 1.5}
    single_logit = CLASSES.replace("width, 2", "width, 1").replace(
        'metric = "accuracy"', "def metric(o, t):\n    return ((o[:, 0] > 0) == t).float().mean()"
    )
    logits = "nn.functional.binary_cross_entropy_with_logits(o[:, 0], t.float())"
    assert opened(tmp_path, f"{single_logit}\n\ndef loss(o, t):\n    return {logits}\n").loss


def test_a_neighbour_can_be_imported_and_nothing_of_ours_need_be(tmp_path: Path) -> None:
    (tmp_path / "my_layers_beside.py").write_text("from torch import nn\n\nNET = nn.Linear\n")
    text = CLASSES.replace("import torch\n", "import torch\nfrom my_layers_beside import NET\n", 1)
    opened(tmp_path, text.replace("nn.Linear(4", "NET(4"))


# Loops --------------------------------------------------------------------------------------


def loop(folder: Path, text: str, **options: object) -> LoopTask:
    (folder / "loop.py").write_text(text)
    task = open_task(TaskSpec(str(folder / "loop.py"), **options))  # type: ignore[arg-type]
    assert isinstance(task, LoopTask)
    return task


def test_a_loop_brings_its_space_metric_and_length(tmp_path: Path) -> None:
    task = loop(tmp_path, LOOP, sets=("act=gelu",))
    card = task.card
    assert (card.kind, card.metric, card.steps, card.batch_size) == ("loop", "accuracy", 3, 1)
    point = Space.from_json(card.space).default()
    assert point == {"lr": 1e-2, "act": "gelu", "decay": 0.5}
    recipe = Recipe(point, steps=3)
    (report,) = run(Pack((Segment(0, recipe, 0, 3),), str(tmp_path / "store")), task)
    assert report.status is Status.DONE
    assert [(step, m["val/accuracy"]) for step, m in report.curve] == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert loop(tmp_path, LOOP, epochs=7.0).card.steps == 7
    assert loop(tmp_path, LOOP.replace('"accuracy"', '"val_loss"')).card.direction == "minimize"


# What is wrong ------------------------------------------------------------------------------

PAIRS = "def metric(o, t):\n    return ((o.squeeze(-1) - t) ** 2).mean()"
WRONG: dict[str, tuple[str, str, str, str]] = {
    "raises": (CLASSES, "epochs = 2", "1 / 0", r"^task.py:8: ZeroDivisionError: division by zero$"),
    "no Python": (CLASSES, "epochs = 2", "epochs = =", r"^task.py:8: SyntaxError"),
    "exits": (CLASSES, "epochs = 2", "raise SystemExit(3)", r"^task.py:8: SystemExit"),
    "no model": (CLASSES, "def model", "def modle", r"no name 'model'"),
    "no data": (CLASSES, "data =", "dta =", r"no name 'data'"),
    "no metric": (CLASSES, "metric =", "metrc =", r"no name 'metric'"),
    "unknown metric": (CLASSES, '"accuracy"', '"acuracy"', r"task.py: metric: .*'accuracy'"),
    "metric of numbers": (CLASSES, '"accuracy"', '"rmse"', r"'rmse' does not fit classes"),
    "metric is a number": (CLASSES, '"accuracy"', "3", r"metric is a int"),
    "wrong input": (CLASSES, "nn.Linear(4", "nn.Linear(5", r"^task.py:11: the model fails on x"),
    "few outputs": (
        CLASSES, "width, 2", "width, 1", r"^task.py:11: .*\(2, 1\).*2 classes; make the last",
    ),
    "many outputs": (VALUES, "width, 1", "width, 2", r"^task.py:11: .*\(2, 2\).*\(2, 1\)"),
    "no return": (CLASSES, "return nn.S", "nn.S", r"^task.py:11: model\(...\) returned None"),
    "range upside down": (CLASSES, '"8|16"', '"16..8"', r"^task.py:11: .*width: low 16 is above"),
    "no default": (CLASSES, 'act="relu"', "*, act", r"argument act has neither a range nor"),
    "raises in model": (CLASSES, "return nn.S", "1 / 0; nn.S", r"^task.py:12: ZeroDivisionError"),
    "lengths differ": (CLASSES, "(x[:, 0] > 0)", "(x[1:, 0] > 0)", r"200 x, but 199 y"),
    "negative class": (CLASSES, ".long()", ".long() - 1", r"the class -1; number classes from 0"),
    "not finite": (VALUES, "* 3", "/ 0", r"not finite"),
    "three parts": (CLASSES, "data = (x,", "data = (x, x,", r"data has 3 parts"),
    "a number as data": (CLASSES, "data = (x, (x[:, 0] > 0).long())", "data = 3", r"data is a int"),
    "a loader as data": (
        CLASSES, "data = (x, (x[:, 0] > 0).long())", "data = torch.utils.data.DataLoader(x)",
        r"data is a DataLoader; the search makes the batches: .* \(data = loader.dataset\)",
    ),
    "a loader a split": (
        CLASSES, "data = (x, (x[:, 0] > 0).long())", "data = [torch.utils.data.DataLoader(x)] * 2",
        r"data holds a DataLoader",
    ),
    "several sizes": (
        CLASSES, "data = (x, (x[:, 0] > 0).long())",
        "data = torch.utils.data.StackDataset([torch.ones(4 + i % 2) for i in range(20)], x[:20])",
        r"sample 1 has the shape \(5,\), sample 0 \(4,\); make them one size",
    ),
    "all with all": (VALUES, 'metric = "rmse"', PAIRS, r"^task.py:7: metric pairs .* all with all"),
    "all with all in the loss": (
        VALUES, "epochs = 2", "def loss(o, t):\n    return (o - t) ** 2",
        r"^task.py:8: loss pairs .*\(2, 1\).*\(2,\)",
    ),
    "metric raises": (
        VALUES, 'metric = "rmse"', "def metric(o, t):\n    return o.nothing", r"^task.py:8: Attrib",
    ),
    "loop without a space": (LOOP, "space =", "spaces =", r"train\(trial\) needs a space"),
    "loop with a wrong range": (LOOP, "1e-4..1e-1 =", "1e-1..1e-4 =", r"space, lr: low 0.1 is abo"),
    "loop without a metric": (LOOP, "metric =", "metrics =", r"no metric; say which"),
    "loop of no steps": (LOOP, "steps = 3", "steps = 0", r"steps = 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_a_task_file_is_one_line_with_its_place(case: str, tmp_path: Path) -> None:
    text, old, new, message = WRONG[case]
    assert old in text
    (tmp_path / "task.py").write_text(text.replace(old, new))
    with pytest.raises(TaskError, match=message) as error:
        open_task(TaskSpec(str(tmp_path / "task.py")))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("task.py")


def test_a_space_that_a_loop_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="--space quick"):
        loop(tmp_path, LOOP, space="quick")
    with pytest.raises(SpaceError, match="nearest: 'lr'"):
        loop(tmp_path, LOOP, sets=("lrr=1",))
