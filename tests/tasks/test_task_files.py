"""Task files further: datasets, classes, settings; each trained, not only opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl.errors import TaskError
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskSpec
from automl.space.tree import Space
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask
from automl.train.segment import run

GOOD = """\
import torch
from torch import nn

x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
data = (x, (x[:, 0] > 0).long())
metric = "accuracy"
epochs = 2


def model(width: "log 8..32" = 16, act: "relu|gelu" = "relu", bias=True):
    activation = {"relu": nn.ReLU, "gelu": nn.GELU}[act]
    return nn.Sequential(nn.Linear(4, width, bias=bias), activation(), nn.Linear(width, 2))
"""


def written(text: str, folder: Path, name: str = "task.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def opened(text: str, folder: Path) -> ModelTask:
    task = open_task(TaskSpec(written(text, folder)))
    assert isinstance(task, ModelTask)
    return task


def space_of(task: ModelTask) -> Space:
    return Space.from_json(task.card.space)


def trained(task: ModelTask, folder: Path, point: dict[str, object] | None = None) -> Report:
    chosen = {**space_of(task).default(), **(point or {})}
    recipe = Recipe(chosen, steps=task.card.steps, seed=1)  # type: ignore[arg-type]
    segment = Segment(0, recipe, 0, task.card.steps)
    (report,) = run(Pack((segment,), str(folder / "checkpoints"), test=True), task)
    return report


def changed(old: str, new: str) -> str:
    assert old in GOOD, old
    return GOOD.replace(old, new)


def test_annotations_may_be_postponed(tmp_path: Path) -> None:
    task = opened("from __future__ import annotations\n" + GOOD, tmp_path)
    assert space_of(task).default()["model.width"] == 16


def test_a_model_may_be_a_class(tmp_path: Path) -> None:
    start = GOOD.index("def model")
    text = GOOD[:start] + (
        "class model(nn.Module):\n"
        '    def __init__(self, width: "8..32" = 8):\n'
        "        super().__init__()\n"
        "        self.one, self.two = nn.Linear(4, width), nn.Linear(width, 2)\n\n"
        "    def forward(self, x):\n"
        "        return self.two(self.one(x).relu())\n"
    )
    assert space_of(opened(text, tmp_path)).default()["model.width"] == 8


@pytest.mark.parametrize(
    ("data", "sizes"),
    [
        ("(x.tolist(), y.tolist())", {"train": 120, "valid": 40, "test": 40}),
        ("Pairs(x, y)", {"train": 120, "valid": 40, "test": 40}),
        ("(Pairs(x[:150], y[:150]), Pairs(x[150:], y[150:]))", {"train": 150, "valid": 50}),
        ('{"train": Pairs(x, y), "val": (x, y)}', {"train": 200, "valid": 200}),
        ('{"train": Pairs(x, y), "test": Pairs(x, y)}', {"train": 160, "valid": 40, "test": 200}),
    ],
    ids=["lists", "a dataset", "two datasets", "a dataset and a pair", "no validation"],
)
def test_lists_and_datasets_are_data(data: str, sizes: dict[str, int], tmp_path: Path) -> None:
    text = changed(
        "data = (x, (x[:, 0] > 0).long())",
        "from torch.utils.data import TensorDataset as Pairs\n"
        f"y = (x[:, 0] > 0).long()\ndata = {data}",
    )
    task = opened(text, tmp_path)
    assert task.card.sizes == sizes
    assert task.train.dataset is None  # it fits, so it is read once
    assert trained(task, tmp_path).status is Status.DONE


def test_a_dataset_that_draws_at_random_is_read_again_in_every_epoch(tmp_path: Path) -> None:
    text = changed(
        "data = (x, (x[:, 0] > 0).long())",
        """
class Noisy(torch.utils.data.Dataset):
    def __len__(self):
        return 200

    def __getitem__(self, i):
        return x[i] + 0.1 * torch.randn(4), int(x[i, 0] > 0)


data = Noisy()
""",
    )
    task = opened(text, tmp_path)
    assert task.train.dataset is not None
    assert task.card.sizes == {"train": 120, "valid": 40, "test": 40}
    assert trained(task, tmp_path).status is Status.DONE


def test_a_metric_and_a_loss_of_ones_own_are_used(tmp_path: Path) -> None:
    text = changed(
        'metric = "accuracy"',
        "def hits(outputs, targets):\n"
        "    return (outputs.argmax(1) == targets).float().mean()\n\n"
        "def loss(output, target):\n"
        "    return nn.functional.cross_entropy(output, target, reduction='none')\n\n"
        "metric = hits",
    )
    task = opened(text, tmp_path)
    assert (task.card.metric, task.card.direction) == ("hits", "maximize")
    assert "loss" not in space_of(task)
    report = trained(task, tmp_path)
    assert report.status is Status.DONE
    assert 0 <= report.curve[-1][1]["val/hits"] <= 1


def test_float_targets_make_a_regression(tmp_path: Path) -> None:
    text = changed("(x[:, 0] > 0).long()", "x[:, 0] * 2").replace('"accuracy"', '"rmse"')
    task = opened(text.replace("width, 2)", "width, 1)"), tmp_path)
    assert (task.card.metric, task.card.direction) == ("rmse", "minimize")
    assert space_of(task).default()["loss"] == "mse"
    assert trained(task, tmp_path).status is Status.DONE


def test_batch_size_and_epochs_of_the_file_are_the_defaults(tmp_path: Path) -> None:
    task = opened(GOOD + "\nbatch_size = 24\n", tmp_path)
    assert task.card.batch_size == 24
    assert task.card.steps == 10  # 2 epochs of 120 samples
    assert space_of(task).default()["batch_size"] == 24


WRONG: dict[str, tuple[str, str, str]] = {  # old text, new text, what is told
    "data has four parts": ("(x, (x[:, 0] > 0).long())", "(x, x, x, x)", "data has 4 parts"),
    "data has unknown keys": ("(x, (x[:, 0] > 0).long())", '{"learn": (x, x)}', "keys learn"),
    "data is too small": ("(x, (x[:, 0] > 0).long())", "(x[:5], x[:5] > 0)", "5 samples"),
    "only one class": ("(x[:, 0] > 0).long()", "(x[:, 0] > 99).long()", "only one class, 0"),
    "dataset without a length": (
        "data = (x, (x[:, 0] > 0).long())",
        "class D(torch.utils.data.IterableDataset):\n    __iter__ = iter\ndata = D()",
        "data is a D",
    ),
    "dataset that raises": (
        "data = (x, (x[:, 0] > 0).long())",
        "class D(torch.utils.data.Dataset):\n    __len__ = lambda s: 20\n"
        "    def __getitem__(s, i):\n        return x[i + 500], 0\ndata = D()",
        "task.py:8: IndexError",
    ),
    "epochs is no number": ("epochs = 2", "epochs = 'many'", "epochs = 'many'; give a number"),
    "batch size is nothing": ("epochs = 2", "batch_size = 0", "batch_size = 0; give a number"),
    "wants augment": ("epochs = 2", "def augment(x):\n    return x", "task.py:7: augment is not"),
    "default outside its range": ("= 16", "= 64", "default 64 lies outside 8..32"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_one_line_with_its_place(case: str, tmp_path: Path) -> None:
    old, new, message = WRONG[case]
    with pytest.raises(TaskError) as told:
        opened(changed(old, new), tmp_path)
    assert message in str(told.value)
    assert str(told.value).startswith("task.py")
    assert "\n" not in str(told.value)


def test_two_files_of_one_name_do_not_mix(tmp_path: Path) -> None:
    for folder, width in (("a", 8), ("b", 12)):
        (tmp_path / folder).mkdir()
        text = changed('"log 8..32" = 16', f'"8..32" = {width}')
        assert space_of(opened(text, tmp_path / folder)).default()["model.width"] == width


def test_steps_that_are_no_number_are_told(tmp_path: Path) -> None:
    text = "space = {'lr': '0.1..1'}\nmetric = 'a'\nsteps = 'three'\n\n\ndef train(trial): ...\n"
    with pytest.raises(TaskError, match=r"^task\.py: steps = 'three'; give a number"):
        opened(text, tmp_path)


def test_a_space_with_networks_of_ours_is_refused_for_a_model_of_the_users(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"^--space digits: task\.py brings its own model"):
        open_task(TaskSpec(written(GOOD, tmp_path), space="digits"))
