"""Map-style datasets of the user's: torch's `TensorDataset`, or a class of their own.

One that gives the same samples at every reading, and fits in a gigabyte, is read once and kept as
tensors: packs and quick evaluations want that. Others are read again at every use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from automl.tasks.task import Split

_RESIDENT_BYTES = 2**30
_READINGS = 8  # of the first sample: a flip of every other image is missed once in 128 times


class UserPairs(Dataset[tuple[Tensor, Tensor]]):
    """Chosen samples of a user's dataset: x float32 or int64, y int64 or float32.

    With `column`, a single real number as target becomes a row of one, as our losses take it.
    """

    def __init__(self, source: Any, indices: Sequence[int], *, column: bool) -> None:
        self.source, self.indices, self.column = source, indices, column

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = (user_tensor(part) for part in self.source[self.indices[index]])
        x = x.float() if x.dtype in (torch.uint8, torch.bool) else x
        if y.is_floating_point():
            return x, y.reshape(-1) if self.column else y
        return x, y.to(torch.int64)


def is_dataset(data: object) -> bool:
    """Whether `data` has samples by number, as torch's map-style datasets do."""
    if isinstance(data, IterableDataset):
        return False
    named = isinstance(data, Dataset)
    return named and hasattr(data, "__len__") and hasattr(data, "__getitem__")


def read_dataset(source: Any, *, column: bool) -> Split:
    """All samples as tensors, or a split that reads them when asked for.

    Raises:
        ValueError: they differ in shape.
    """
    pairs = UserPairs(source, range(len(source)), column=column)
    if len(pairs) == 0:
        return Split(torch.zeros(0), torch.zeros(0))
    x, y = pairs[0]
    others = [pairs[0] for _ in range(_READINGS - 1)]
    same = all(torch.equal(x, a) and torch.equal(y, b) for a, b in others)
    if not same or x.numel() * 4 * len(pairs) > _RESIDENT_BYTES:
        return Split(dataset=pairs)
    xs, ys = zip(*(pairs[i] for i in range(len(pairs))), strict=True)
    for i, found in enumerate(xs):
        if found.shape != x.shape:
            raise ValueError(
                f"sample {i} has the shape {tuple(found.shape)}, sample 0 {tuple(x.shape)}; "
                "make them one size in the dataset: crop, resize or pad"
            )
    return Split(torch.stack(xs), torch.stack(ys))


def parts_of(split: Split, parts: Sequence[Tensor]) -> list[Split]:
    """The samples of a split at each of `parts`, indices [n]."""
    if split.x is not None and split.y is not None:
        return [Split(split.x[i], split.y[i]) for i in parts]
    assert isinstance(split.dataset, UserPairs)
    whole = split.dataset
    chosen = [[whole.indices[j] for j in part.tolist()] for part in parts]
    return [Split(dataset=UserPairs(whole.source, i, column=whole.column)) for i in chosen]


def first_samples(split: Split, count: int) -> tuple[Tensor, Tensor]:
    """x and y of the first `count` samples; of all of them when they are tensors anyway."""
    if split.x is not None and split.y is not None:
        return split.x, split.y
    assert split.dataset is not None
    pairs = [split.dataset[i] for i in range(min(count, len(split)))]
    xs, ys = zip(*pairs, strict=True)
    return torch.stack(xs), torch.stack(ys)


def user_tensor(part: Any) -> Tensor:
    """float32, or int64 where the values are whole numbers; bytes and truth values stay."""
    if hasattr(part, "to_numpy"):
        part = part.to_numpy()
    tensor = torch.as_tensor(part)
    if tensor.dtype in (torch.uint8, torch.bool):
        return tensor
    return tensor.float() if tensor.is_floating_point() else tensor.to(torch.int64)
