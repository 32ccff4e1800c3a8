"""The order of samples, and batches from tensors and from datasets."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from automl.records import Status
from automl.tasks.task import Split
from automl.train.data import Feed, Order
from automl.train.segment import run

from .small_problem import PLAIN, pack, samples, segment, small_task

CPU = torch.device("cpu")


def walked(order: Order, size: int, batch: int, updates: int) -> Tensor:
    """[k, updates*batch]: the line of samples as a training meets it."""
    return torch.cat([order.indices(u * batch, batch) for u in range(updates)], dim=1)


@pytest.mark.parametrize("batch", [1, 7, 10, 25])
def test_each_sample_comes_once_an_epoch_whatever_the_batch(batch: int) -> None:
    line = walked(Order([1, 2], 10, CPU), 10, batch, -(-60 // batch))[:, :60]
    for member in line:
        for epoch in member.split(10):
            assert torch.equal(epoch.sort().values, torch.arange(10))


def test_epochs_and_members_have_their_own_order() -> None:
    first, second = (o.view(2, 50) for o in walked(Order([1, 2], 50, CPU), 50, 50, 2))
    orders = [*first, *second]
    assert not any(torch.equal(a, b) for i, a in enumerate(orders) for b in orders[:i])


def test_the_order_does_not_depend_on_where_a_training_begins() -> None:
    whole = walked(Order([4], 11, CPU), 11, 4, 12)
    late = Order([4], 11, CPU)
    assert torch.equal(late.indices(9 * 4, 4), whole[:, 36:40])


class Drawing(Dataset[tuple[Tensor, Tensor]]):
    """A user's dataset that augments as users do: from the global generators."""

    def __init__(self) -> None:
        self.x, self.y = samples(40, 0)

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.x[i] + 0.01 * torch.randn(2) + 0.01 * random.random(), self.y[i]


def test_a_dataset_gives_the_samples_that_tensors_would() -> None:
    x, y = samples(40, 0)

    class Plain(Drawing):
        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            return self.x[i], self.y[i]

    feeds = [
        Feed(split, seeds=[3, 4], sizes=[16, 16], device=CPU, dtype=torch.float32)
        for split in (Split(x, y), Split(dataset=Plain()))
    ]
    for feed in feeds:
        feed.begin(range(5))
    for update in range(5):
        one, two = (feed.batch(update) for feed in feeds)
        assert torch.equal(one.x, two.x)
        assert torch.equal(one.y, two.y)


def test_what_a_dataset_draws_is_resumed_and_is_the_same_in_a_pack(tmp_path: Path) -> None:
    task = small_task(train=Split(dataset=Drawing()))
    (whole,) = run(pack(tmp_path / "whole", segment(seed=5)), task)
    run(pack(tmp_path / "parts", segment(seed=5, stop=7)), task)
    (rest,) = run(pack(tmp_path / "parts", segment(PLAIN, 7, 20, seed=5)), task)
    assert rest.curve == whole.curve[1:]
    packed = run(pack(tmp_path / "p", segment(trial=1, seed=9), segment(seed=5)), task)
    assert packed[1].curve[-1][1] == pytest.approx(whole.curve[-1][1], rel=1e-4)


@pytest.mark.parametrize("size", [2, 3, 15])
def test_fewer_samples_than_a_batch_still_train(tmp_path: Path, size: int) -> None:
    (report,) = run(pack(tmp_path, segment()), small_task(train=Split(*samples(size, 0))))
    assert report.status is Status.DONE, report.message
