"""digits: scikit-learn's 1,797 handwritten digits, 8x8 pixels, 10 classes.

Small enough that a search takes a minute or two, and shipped with scikit-learn: no download.
Source: Alpaydin and Kaynak 1998, UCI; sklearn.datasets.load_digits.
"""

from __future__ import annotations

from importlib.metadata import distribution

import numpy as np
import torch
from torch import Tensor

from automl.methods.stages import Shape
from automl.records import TaskSpec
from automl.tasks.fitting import Found, model_task, three_splits
from automl.tasks.task import ModelTask


def load_digits_tensors() -> tuple[Tensor, Tensor]:
    """Images x [1797, 1, 8, 8] float32 in [-1, 1], classes y [1797] int64."""
    # The file itself: importing scikit-learn costs as much as importing torch, in every worker.
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = torch.from_numpy(np.loadtxt(str(file), dtype=np.float32, delimiter=","))
    return rows[:, :-1].reshape(-1, 1, 8, 8) / 8 - 1, rows[:, -1].long()


def open_digits(spec: TaskSpec) -> ModelTask:
    """The task "digits", split 60/20/20."""
    x, y = load_digits_tensors()
    found = Found(
        name="digits",
        shape=Shape("image", (1, 8, 8), 10, "classes"),
        splits=three_splits(x, y),
        about="1,797 handwritten digits, 8x8 pixels, 10 classes",
        space="digits",
        epochs=30,
        classes=tuple("0123456789"),
    )
    return model_task(spec, found)
