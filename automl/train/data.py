"""Batches in keyed order: which samples an update sees depends on (seed, update) alone.

The training set is walked in one endless line of epochs, each in its own permutation, and update
u takes the samples [u*b, (u + 1)*b) of that line. A batch may thus reach over the end of an epoch:
nothing is dropped, each sample is seen once an epoch, and a set smaller than a batch works.

Tensors are kept on the device and gathered by index. A map-style dataset is read batch by batch,
by worker processes when this process owns more than one core.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from automl.errors import RecipeError
from automl.methods.stages import Batch
from automl.tasks.task import Split
from automl.train.seeding import KeyedDraws, mix

_SAMPLES_PER_CHUNK = 4096  # of an evaluation, at most
_VALUES_PER_CHUNK = 1 << 21  # of a chunk's input: the activations of a wide convolution still fit


class Order:
    """Indices of samples for k members, each with its own permutations."""

    def __init__(self, seeds: Sequence[int], size: int, device: torch.device) -> None:
        self._seeds = [mix(seed, "order") for seed in seeds]
        self._size = size
        self._device = device
        self._epochs: dict[int, Tensor] = {}
        self._plain_seeds = seeds
        self._each: list[Order] = []  # of one member, for members at different places

    def indices(self, first: int | Sequence[int], count: int) -> Tensor:
        """[k, count]: samples first .. first + count - 1 of the line; each member's own `first`."""
        if isinstance(first, int):
            return self._slice(first, count)
        if all(f == first[0] for f in first):
            return self._slice(first[0], count)
        if not self._each:
            self._each = [Order([seed], self._size, self._device) for seed in self._plain_seeds]
        return torch.cat([own._slice(f, count) for own, f in zip(self._each, first, strict=True)])

    def _slice(self, first: int, count: int) -> Tensor:
        epoch, offset = divmod(first, self._size)
        if offset + count <= self._size:
            return self._epoch(epoch)[:, offset : offset + count]
        parts = []
        while count > 0:
            taken = min(count, self._size - offset)
            parts.append(self._epoch(epoch)[:, offset : offset + taken])
            epoch, offset, count = epoch + 1, 0, count - taken
        return torch.cat(parts, dim=1)

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            drawn = KeyedDraws(self._seeds, self._device).at(epoch).permutation(self._size)
            last = {e: p for e, p in self._epochs.items() if e == epoch - 1}
            self._epochs = {**last, epoch: drawn}
        return self._epochs[epoch]


class Feed:
    """Training batches of k members: x [k, b, ...], y [k, b, ...] on the device.

    b is the largest of their batch sizes; those of smaller ones go on with samples that come next.
    Data that is read sample by sample has batches of one size.

    `batch` is called with rising updates once `begin` has said which are to come.
    """

    def __init__(
        self,
        split: Split,
        *,
        seeds: Sequence[int],
        sizes: Sequence[int],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._split = split
        self._seeds = seeds
        self._sizes = sizes
        self._device = device
        self._dtype = dtype
        where = device if split.dataset is None else torch.device("cpu")
        self._order = Order(seeds, len(split), where)
        self._tensors = resident(split, device, dtype) if split.dataset is None else None
        self._loaded: Iterator[tuple[Tensor, Tensor]] = iter(())
        self._ranks: dict[Callable[[Tensor, Tensor], Tensor], Tensor] = {}

    def begin(self, updates: range | Sequence[range]) -> None:
        """Prepare for the updates to come: the same for all, or as many of each member's own."""
        if self._split.dataset is None:
            return
        each = [updates] * len(self._seeds) if isinstance(updates, range) else updates
        wanted = [(u, k) for turn in zip(*each, strict=True) for k, u in enumerate(turn)]
        loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            _Keyed(self._split.dataset),
            batch_size=None,
            sampler=self._requests(wanted),
            num_workers=_reading_processes(len(wanted)),
            pin_memory=self._device.type == "cuda",
        )
        self._loaded = iter(loader)

    def ranked(self, score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The samples' numbers [n], those of the lowest score first."""
        if score not in self._ranks:
            assert self._tensors is not None
            self._ranks[score] = score(*self._tensors).argsort(stable=True)
        return self._ranks[score]

    def batch(
        self,
        update: int | Sequence[int],
        choose: Callable[[Tensor], Tensor] = lambda x: x,
        *,
        given: Callable[[Callable[[], list[Tensor]]], Sequence[Tensor]] = lambda make: make(),
    ) -> Batch:
        """The batch of one update: of the same for all members, or of each one's own.

        Args:
            update: a list of the members' may change after the call, for what `given` makes later.
            choose: which samples [k, b] to take for the ones drawn; of tensors only.
            given: hands on what is found on the host, as it is made.
        """
        if self._tensors is None:
            return Batch(*given(self._read))
        x, y = self._tensors
        (index,) = given(lambda: [self._places(update)])
        index = choose(index)
        flat = index.reshape(-1)
        return Batch(
            x.index_select(0, flat).view(*index.shape, *x.shape[1:]),
            y.index_select(0, flat).view(*index.shape, *y.shape[1:]),
        )

    def _places(self, update: int | Sequence[int]) -> Tensor:
        updates = [update] * len(self._sizes) if isinstance(update, int) else update
        first = [u * size for u, size in zip(updates, self._sizes, strict=True)]
        return self._order.indices(first, max(self._sizes))

    def _read(self) -> list[Tensor]:
        pairs = [next(self._loaded) for _ in self._seeds]
        x, y = (torch.stack(column) for column in zip(*pairs, strict=True))
        return [_placed(x, self._device, self._dtype), _placed(y, self._device, None)]

    def _requests(self, wanted: list[tuple[int, int]]) -> Iterable[tuple[int, list[int]]]:
        return _Requests(self._order, self._sizes[0], self._seeds, wanted)


class _Requests:
    """(key, indices) of each batch to read, made as the loader asks."""

    def __init__(
        self, order: Order, size: int, seeds: Sequence[int], wanted: list[tuple[int, int]]
    ) -> None:
        self._order, self._size, self._seeds, self._wanted = order, size, seeds, wanted

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        for update, member in self._wanted:
            index = self._order.indices(update * self._size, self._size)[member]
            yield mix(self._seeds[member], "read", update), index.tolist()

    def __len__(self) -> int:
        return len(self._wanted)


class _Keyed(Dataset[tuple[Tensor, Tensor]]):
    """A dataset of whole batches; what the user's dataset draws is keyed by the request."""

    def __init__(self, dataset: Dataset[tuple[Tensor, Tensor]]) -> None:
        self._dataset = dataset

    def __getitem__(self, request: tuple[int, list[int]]) -> tuple[Tensor, Tensor]:
        key, indices = request
        torch.default_generator.manual_seed(key)
        random.seed(key)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(key & 0xFFFFFFFF)
        x, y = default_collate([self._dataset[i] for i in indices])
        return x, y


def chunks(
    split: Split, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor]]:
    """The whole split in its own order, in parts that fit: x [n, ...], y [n, ...]."""
    if split.dataset is None:
        x, y = resident(split, device, dtype)
        size = _chunk_size(x)
        yield from zip(x.split(size), y.split(size), strict=True)
        return
    size, n = 256, len(split)
    requests = [
        (mix("evaluation", first), list(range(first, min(first + size, n))))
        for first in range(0, n, size)
    ]
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        _Keyed(split.dataset),
        batch_size=None,
        sampler=requests,
        num_workers=_reading_processes(len(requests)),
    )
    for x, y in loader:
        yield _placed(x, device, dtype), _placed(y, device, None)


def class_shares(split: Split) -> Tensor:
    """Share [c] of each class, or token, among the targets of a split; float64.

    Raises:
        RecipeError: the split is a dataset that would have to be read as a whole for it.
    """
    if split.y is None:
        raise RecipeError("this loss needs the classes' shares, and the data is no tensor")
    return split.y.flatten().bincount().double() / split.y.numel()


_RESIDENT: dict[tuple[int, torch.device, torch.dtype], tuple[Split, Tensor, Tensor]] = {}


def resident(split: Split, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x and y of a split on the device; copied there once a process, not once a trial."""
    assert split.x is not None and split.y is not None
    key = (id(split), device, dtype)
    if key not in _RESIDENT:
        if len(_RESIDENT) >= 8:  # train, valid and test of another task, in tests
            _RESIDENT.clear()
        y = _placed(split.y, device, dtype if split.y.is_floating_point() else None)
        _RESIDENT[key] = split, _placed(split.x, device, dtype), y
    _, x, y = _RESIDENT[key]
    return x, y


def _placed(x: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    wanted = dtype if dtype is not None and x.is_floating_point() else x.dtype
    return x.to(device=device, dtype=wanted, non_blocking=True)


def _chunk_size(x: Tensor) -> int:
    return max(1, min(_SAMPLES_PER_CHUNK, _VALUES_PER_CHUNK // max(1, x[0].numel())))


def _reading_processes(batches: int) -> int:
    """Processes beside this one that read data: this worker's cores, less the one that trains."""
    return min(torch.get_num_threads() - 1, 8) if batches >= 16 else 0
