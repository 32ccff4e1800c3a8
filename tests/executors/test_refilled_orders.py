"""An order that is refilled while its holder trains: one lease, and each segment reported once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from automl.executors import crew
from automl.executors.celery import Queue
from automl.executors.holding import Holder, Lease
from automl.executors.leases import connect
from automl.executors.valkey import Server
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskSpec

from ..train.small_problem import PLAIN, small_task

OWNER = "w@here"


@pytest.fixture
def study() -> str:
    """Its name, and that of its queue."""
    return uuid.uuid4().hex


@pytest.fixture
def client(broker: Server) -> Iterator[redis.Redis]:
    made = connect(broker.url)
    yield made
    made.delete(crew.KEYS + OWNER)
    made.close()


@pytest.fixture
def driver(broker: Server, study: str) -> Iterator[Queue]:
    made = opened(broker, study)
    yield made
    made.close()


def opened(broker: Server, study: str, *, asked: int = 2) -> Queue:
    card = small_task().card
    return Queue(
        broker.url, study=study, spec=TaskSpec("t"), card=card, stall_seconds=60, queues=[study],
        workers=asked,
    )  # fmt: skip


def segment(trial: int, start: int = 0) -> Segment:
    parent = (trial, start) if start else None
    return Segment(trial, Recipe(PLAIN, steps=20, seed=trial), start, start + 5, parent)


def pack(folder: Path, *segments: Segment, name: str = "0@0 7.5") -> Pack:
    places = tuple(range(len(segments)))
    return Pack(segments, str(folder), size=3, places=places, refill=True, name=name)


def ended(*segments: Segment) -> list[dict[str, object]]:
    return [Report(s.trial, s.start, s.stop, Status.DONE).to_json() for s in segments]


def taken(holder: Holder, study: str) -> Lease:
    lease = holder.next(study)
    assert lease is not None
    return lease


def told(driver: Queue) -> list[tuple[int, int]]:
    return [(n.trial, n.start) for n in driver.reports(0) if isinstance(n, Report)]


def members(order: object) -> list[tuple[int, int]]:
    assert isinstance(order, dict)
    found = Pack.from_json(order)
    return [(s.trial, place) for s, place in zip(found.segments, found.places, strict=True)]


def test_members_are_reported_at_once_and_others_join_under_the_same_lease(
    driver: Queue, client: redis.Redis, study: str, tmp_path: Path
) -> None:
    a, b, c = (segment(n) for n in range(3))
    driver.submit(pack(tmp_path, a, b, c))
    assert told(driver) == [] and driver.vacancies() == []
    holder = Holder(client, OWNER)
    lease = taken(holder, study)
    assert holder.part(lease, ended(b)) and holder.part(lease, ended(b))  # an answer was lost
    assert told(driver) == [(1, 0)]
    (vacancy,) = driver.vacancies()
    assert (vacancy.segments, vacancy.places) == ((a, c), (1,))
    driver.join(vacancy, {1: segment(1, 5)})  # it goes on from its rung, in its own place
    assert driver.vacancies() == [] and told(driver) == []
    heard = holder.renew(lease)
    assert heard is not None and members(heard.order) == [(0, 0), (2, 2), (1, 1)]
    again = holder.renew(lease, heard.laid)
    assert again is not None and again.order is None
    assert client.hget(crew.KEYS + OWNER, "trials") == "0 2 1"
    driver.cancel(1)
    cancelled = holder.renew(lease, heard.laid)
    assert cancelled is not None and cancelled.cancelled == {1}
    assert holder.commit(lease, ended(a, segment(1, 5), c))[0]
    assert told(driver) == [(0, 0), (1, 5), (2, 0)]
    assert told(driver) == [] and driver.capacity == 2


def test_whoever_takes_it_over_trains_what_has_no_report_yet(
    driver: Queue, client: redis.Redis, study: str, broker: Server, tmp_path: Path
) -> None:
    a, b, late = segment(0), segment(1), segment(7)
    driver.submit(pack(tmp_path, a, b))
    told(driver)
    lease = taken(Holder(client, "killed"), study)
    assert Holder(client, "killed").part(lease, ended(a))
    assert told(driver) == [(0, 0)]
    driver.join(driver.vacancies()[0], {2: late})
    assert told(driver) == []
    assert Holder(client, "killed").release(lease)
    assert told(driver) == []
    holder = Holder(client, OWNER)
    second = taken(holder, study)
    assert second.id == lease.id and members(second.order) == [(1, 1), (7, 2)]
    assert not Holder(client, "killed").part(lease, ended(b))

    # Its driver comes back, and has journaled somebody of whom nobody else knows.
    other = opened(broker, study)
    try:
        newest = segment(8)
        back = pack(tmp_path, b, late, newest)
        other.submit(back)
        assert told(other) == []
        heard = holder.renew(second, 1)
        assert heard is not None and members(heard.order)[-1] == (8, 2)
        assert holder.commit(second, ended(b, late))[0]
        assert told(other) == [(1, 0), (7, 0)]
        assert told(other) == []  # it is laid down anew
        third = taken(holder, study)
        assert members(third.order) == [(8, 2)]
        assert holder.commit(third, ended(newest))[0]
        assert told(other) == [(8, 0)]
    finally:
        other.close()


def test_nobody_joins_where_a_worker_leaves_or_others_have_a_right_to_it(
    driver: Queue, client: redis.Redis, study: str, tmp_path: Path
) -> None:
    first, second = (pack(tmp_path, segment(n), segment(n + 1), name=f"{n}@0") for n in (0, 2))
    client.hset(crew.KEYS + OWNER, "pid", "1")
    holder = Holder(client, OWNER)
    for one in (first, second):
        driver.submit(one)
    told(driver)
    lease, other = taken(holder, study), taken(holder, study)
    assert holder.part(lease, ended(segment(0))) and told(driver) == [(0, 0)]
    assert driver.vacancies()
    driver.submit(pack(tmp_path, segment(9), name="9@0"))  # more than its part
    assert driver.capacity == -1 and driver.vacancies() == []
    crew.close(client, [OWNER])
    assert holder.part(other, ended(segment(2))) and told(driver) == [(2, 0)]
    assert holder.commit(lease, ended(segment(1)))[0] and told(driver) == [(1, 0)]
    assert driver.capacity == 0 and driver.vacancies() == []
