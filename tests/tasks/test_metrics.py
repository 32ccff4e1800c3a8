"""Metrics by hand, and against scikit-learn where the hand would take long."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from automl.errors import TaskError
from automl.tasks.metrics import METRICS, direction_of, metric_for


def test_rmse_mae_and_r2_by_hand() -> None:
    # errors 0, 0, 3; targets 1, 2, 3 have the mean 2 and the sum of squares 2
    outputs, targets = torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([[1.0], [2.0], [3.0]])
    assert METRICS["rmse"].value(outputs, targets) == pytest.approx(math.sqrt(3))
    assert METRICS["mae"].value(outputs, targets) == pytest.approx(1)
    assert METRICS["r2"].value(outputs, targets) == pytest.approx(1 - 9 / 2)
    assert METRICS["loss"].value(outputs, targets) == pytest.approx(3)


def test_a_uniform_guess_of_four_characters_costs_two_bits() -> None:
    assert METRICS["bits_per_char"].value(
        torch.zeros(5, 7, 4), torch.zeros(5, 7, dtype=torch.int64)
    ) == pytest.approx(2)


@pytest.mark.parametrize("classes", [2, 4])
def test_class_metrics_equal_scikit_learns(classes: int) -> None:
    rng = torch.Generator().manual_seed(classes)
    targets = torch.randint(classes, (300,), generator=rng)
    outputs = torch.randn(300, classes, generator=rng).round(decimals=1)  # with ties
    p = torch.softmax(outputs.double(), -1).numpy()
    expected = {
        "balanced_accuracy": balanced_accuracy_score(targets, p.argmax(1)),
        "f1": f1_score(targets, p.argmax(1), average="macro"),
        "auc": roc_auc_score(targets, p[:, 1] if classes == 2 else p, multi_class="ovr"),
    }
    for name, value in expected.items():
        assert METRICS[name].value(outputs, targets) == pytest.approx(float(value)), name


def test_auc_of_a_split_that_lacks_a_class_is_that_of_the_others() -> None:
    outputs = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])
    assert METRICS["auc"].value(outputs, torch.tensor([0, 1, 0])) == 1


def test_names_that_are_not_ours_tell_their_direction() -> None:
    assert [direction_of(n) for n in ("val_loss", "error", "my_score", "rmse")] == [
        "minimize", "minimize", "maximize", "minimize",
    ]  # fmt: skip
    assert direction_of("my_score", False) == "minimize"
    assert all(math.isfinite(m.value(*_sample(m.targets[0]))) for m in METRICS.values())


def _sample(target: str) -> tuple[torch.Tensor, torch.Tensor]:
    if target == "values":
        return torch.randn(8, 1), torch.randn(8, 1)
    classes = torch.from_numpy(np.arange(8) % 2)
    return (torch.randn(8, 2), classes) if target == "classes" else (
        torch.randn(2, 4, 2), classes.view(2, 4)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("acuracy", "classes", "nearest: 'accuracy'"),
        ("rmse", "classes", "does not fit classes"),
        ("auc", "values", "use one of: rmse, mae, r2"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(name: str, target: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        metric_for(name, target)
