"""The data of a user's file: pairs, torch datasets, or one of these a split, made into splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.utils.data import DataLoader

from automl.errors import TaskError
from automl.tasks.fitting import split_indices
from automl.tasks.task import Split
from automl.tasks.user_code import blame, line_of
from automl.tasks.user_dataset import is_dataset, parts_of, read_dataset, user_tensor


def read_splits(path: Path, module: ModuleType) -> dict[str, Split]:
    """Train, valid and test; what the user did not split, we do."""
    data = module.data
    line = line_of(data)
    if callable(data):
        with blame(path, line, "data() fails"):
            data = data()
    with blame(path, line, "data cannot be read"):
        parts = _parts(path, data)
        if hasattr(module, "test_data"):
            parts["test"] = module.test_data
        flat = hasattr(module, "loss")
        splits = {name: _split(path, name, pair, flat=flat) for name, pair in parts.items()}
    train = splits["train"]
    if len(train) < 10:
        raise TaskError(f"{path.name}: data holds {len(train)} samples; at least 10")
    # Classes that are read only when asked for cannot be shared out alike.
    labels = torch.zeros(len(train)) if train.y is None else train.y
    if set(splits) == {"train"}:
        cut = parts_of(train, split_indices(labels))
        return dict(zip(("train", "valid", "test"), cut, strict=True))
    if "valid" not in splits:
        splits["train"], splits["valid"] = parts_of(train, split_indices(labels, (0.8, 0.2)))
    return splits


def _parts(path: Path, data: Any) -> dict[str, Any]:
    names = ("train", "valid", "test")
    if isinstance(data, Mapping):
        usual = {"val": "valid", "validation": "valid"}
        renamed: dict[str, Any] = {usual.get(str(k), str(k)): v for k, v in data.items()}
        if "train" not in renamed or not set(renamed) <= set(names):
            raise TaskError(
                f"{path.name}: data has the keys {', '.join(renamed)}; use train, valid, test"
            )
        return renamed
    if is_dataset(data):
        return {"train": data}
    if not isinstance(data, tuple | list):
        raise TaskError(f"{path.name}: data is a {type(data).__name__}; {_wanted(data)}")
    if odd := next((part for part in data if isinstance(part, DataLoader)), None):
        raise TaskError(f"{path.name}: data holds a DataLoader; {_wanted(odd)}")
    if len(data) <= 3 and all(
        is_dataset(part) or (isinstance(part, tuple | list) and len(part) == 2) for part in data
    ):
        return dict(zip(names, data, strict=False))
    if len(data) == 2:
        return {"train": data}
    raise TaskError(f"{path.name}: data has {len(data)} parts; {_wanted(data)}")


def _wanted(data: object) -> str:
    if isinstance(data, DataLoader):
        return "the search makes the batches: give the loader's dataset (data = loader.dataset)"
    return "give (x, y) or a torch dataset of such pairs, or one of these a split"


def _split(path: Path, name: str, pair: Any, *, flat: bool) -> Split:
    """One split; `flat`: real targets stay as they were given, for a loss of the user's."""
    if isinstance(pair, DataLoader):
        raise TaskError(f"{path.name}: data ({name}) is a DataLoader; {_wanted(pair)}")
    if is_dataset(pair):
        read = read_dataset(pair, column=not flat)
        if read.x is None or read.y is None:
            return read
        x, y = read.x, read.y
    else:
        x, y = (user_tensor(part) for part in pair)
    if len(x) != len(y):
        raise TaskError(f"{path.name}: data ({name}) has {len(x)} x, but {len(y)} y")
    if not torch.isfinite(x).all() or not torch.isfinite(y).all():
        raise TaskError(f"{path.name}: data ({name}) holds values that are not finite")
    if not y.is_floating_point() and y.numel() and int(y.min()) < 0:
        raise TaskError(
            f"{path.name}: data ({name}) holds the class {int(y.min())}; number classes from 0, "
            "or give y as floats for regression"
        )
    if x.dtype in (torch.uint8, torch.bool):
        x = x.float()  # pixels and marks; tokens come as int64
    return _targets(Split(x, y), flat=flat)


def _targets(split: Split, *, flat: bool) -> Split:
    """Targets as the loss takes them: one column for ours, as they were given for the user's."""
    assert split.y is not None
    y = split.y.to(torch.int64) if split.y.dtype in (torch.uint8, torch.bool) else split.y
    if y.is_floating_point() and y.ndim == 1 and not flat:
        y = y.unsqueeze(1)
    return Split(split.x, y)
