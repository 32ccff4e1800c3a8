"""Two studies on real workers: neither starves, and a segment goes only where its needs are met."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from automl.executors.celery import Queue, living
from automl.executors.valkey import Server
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskSpec
from automl.space.ranges import Value
from automl.tasks.opening import open_task

from ..executors.troubled_task import TASK
from .starting import worker

Make = Callable[..., Queue]


@pytest.fixture
def make(broker: Server, tmp_path: Path) -> Iterator[Make]:
    """Executors of studies on the queue "shared", where two workers listen."""
    (tmp_path / "task.py").write_text(TASK)
    spec = TaskSpec(str(tmp_path / "task.py"), device="cpu")
    card = open_task(spec).card
    with contextlib.ExitStack() as stack:
        for n in range(2):
            stack.enter_context(worker(broker.url, "shared", tmp_path / "logs", name=f"w{n}"))
        until(lambda: sum(w["queue"] == "shared" for w in living(broker.url).values()) == 2)

        def one(study: str, **more: Any) -> Queue:
            queue = Queue(
                broker.url, study=study, spec=spec, card=card, stall_seconds=60,
                queues=["shared"], **more,
            )  # fmt: skip
            stack.callback(queue.close)
            return queue

        yield one


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 180
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def drive(queue: Queue, folder: Path, numbers: Iterator[int]) -> int:
    """One turn of a driver with endless work; how many segments were done meanwhile."""
    point: dict[str, Value] = {
        "optimizer": "adamw",
        "optimizer.adamw.lr": 0.01,
        "model.do": "learn",
    }
    while queue.capacity > 0:
        segment = Segment(next(numbers), Recipe(point, steps=20), 0, 20)
        queue.submit(Pack((segment,), str(folder)))
    reports = [n for n in queue.reports(0.05) if isinstance(n, Report)]
    assert all(r.status is Status.DONE for r in reports), reports
    return len(reports)


@pytest.mark.slow
def test_studies_share_and_needs_choose(make: Make, tmp_path: Path) -> None:
    heard: list[Mapping[str, Any]] = []
    large, vain = make("large"), make("vain", needs=["gpu"], listen=heard.append)
    numbers = iter(range(10_000))

    # Alone, the large study has both workers; the study that nobody fits waits, and says so.
    until(lambda: drive(large, tmp_path, numbers))
    assert large.workers == 2
    assert drive(vain, tmp_path, numbers) == 0
    assert (heard[-1]["unfit"], heard[-1]["workers"], heard[-1]["needs"]) == (2, [], ["gpu"])

    # A small one comes: both are trained from then on, though the large one never rests.
    small = make("small", needs=["memory=1m"])  # every worker has that

    def turn() -> tuple[int, int]:
        return drive(small, tmp_path, numbers), drive(large, tmp_path, numbers)

    until(lambda: turn() and large.workers == small.workers == 1)
    done = Counter[str]()

    def both() -> bool:
        done.update(dict(zip(("small", "large"), turn(), strict=True)))
        assert large.workers == small.workers == 1  # none has more out than its half
        return min(done["small"], done["large"]) >= 10

    until(both)

    # It ends: the large one has both workers again.
    small.close()
    until(lambda: drive(large, tmp_path, numbers) and large.workers == 2)
    assert drive(vain, tmp_path, numbers) == 0
