"""A worker takes what has waited longest, and is rung for only when nobody looks anyway."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from automl.executors import holding
from automl.executors.holding import Holder, Lease
from automl.executors.leases import Leases, connect
from automl.executors.valkey import Server

ORDER = {"segments": [{"trial": 3}, {"trial": 5}]}


@pytest.fixture
def client(broker: Server) -> Iterator[redis.Redis]:
    made = connect(broker.url)
    yield made
    made.close()


@pytest.fixture
def route() -> str:
    return f"route-{uuid.uuid4().hex}"


@pytest.fixture
def studies(client: redis.Redis) -> Iterator[list[Leases]]:
    made = [Leases(client, f"{name}-{uuid.uuid4().hex}", seconds=5) for name in "ab"]
    yield made
    for one in made:
        one.clear()


def names(lease: Lease | None) -> tuple[str, str]:
    assert lease is not None
    return lease.study[0], lease.id


def test_orders_of_all_studies_are_taken_as_they_came_whoever_holds_the_bell(
    client: redis.Redis, studies: list[Leases], route: str
) -> None:
    a, b = studies
    assert a.put("1", ORDER, [route]) == [route]
    client.rpush(route, "a bell")
    assert a.put("1", ORDER, [route]) == [route]  # twice in the list, once to be had
    client.rpush(route, "a bell")
    assert b.put("1", ORDER, [route]) == [route]
    client.rpush(route, "a bell", "another")
    assert a.put("2", ORDER, [route]) == []  # four bells for four entries
    worker = Holder(client, "w")
    first = worker.next(route)
    assert names(first) == ("a", "1")
    assert first is not None and first.order == ORDER
    done, second = worker.commit(first, [{}], settled=(1, 0, 99), route=route)
    assert (done, names(second)) == (True, ("b", "1"))
    found: Any = client.hgetall("automl:worker:w")
    assert (found["study"], found["trials"]) == (b.study, "3 5")
    assert (found["done"], found["failed"], found["resident"]) == ("1", "0", "99")
    assert second is not None
    done, third = worker.commit(second, [{}], route=route)
    assert (done, names(third)) == (True, ("a", "2"))
    assert third is not None and worker.release(third)
    assert a.again("2", [route]) == []  # three bells are left
    client.delete(route)
    assert names(worker.next(route)) == ("a", "2")
    assert worker.next(route) is None
    client.delete(route)


def test_one_that_lingers_is_handed_what_comes_without_a_bell(
    client: redis.Redis,
    studies: list[Leases],
    route: str,
    broker: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, _ = studies
    a.put("1", ORDER, [route])
    # For as long as we take; such a client waits as long.
    worker = Holder(redis.Redis.from_url(broker.url, decode_responses=True), "w")
    monkeypatch.setattr(holding, "_LINGER_MS", 600_000)
    monkeypatch.setattr(holding, "LINGER_SECONDS", 600.0)
    lease = worker.next(route)
    assert lease is not None
    assert worker.commit(lease, [{}], route=route) == (True, None)
    got: list[Lease | None] = []
    waiting = threading.Thread(target=lambda: got.append(worker.linger(route)))
    waiting.start()
    assert a.put("2", ORDER, [route]) == []
    assert a.put("3", ORDER, [route]) == [route]  # it has its hands full
    waiting.join()
    assert names(got[0]) == ("a", "2")
    assert got[0] is not None
    done, third = worker.commit(got[0], [{}], route=route)
    assert (done, names(third)) == (True, ("a", "3"))
    assert third is not None and worker.commit(third, [{}], route=route) == (True, None)
    monkeypatch.setattr(holding, "LINGER_SECONDS", 0.1)
    assert worker.linger(route) is None
    assert a.put("4", ORDER, [route]) == [route]  # it has gone
    assert list(client.scan_iter(match="automl:hand:*")) == []


def test_one_that_died_lingering_is_handed_nothing_for_long(
    client: redis.Redis, studies: list[Leases], route: str
) -> None:
    a, _ = studies
    a.put("1", ORDER, [route])
    dead = Holder(client, "dead")
    lease = dead.next(route)
    assert lease is not None
    assert dead.commit(lease, [{}], route=route) == (True, None)
    time.sleep(holding.LINGER_SECONDS + 0.05)
    assert a.put("2", ORDER, [route]) == [route]
    assert names(Holder(client, "w").next(route)) == ("a", "2")


def test_a_turn_that_is_sent_twice_is_the_same_turn(
    client: redis.Redis, studies: list[Leases], route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client itself sends a command again whose answer was lost."""
    a, _ = studies
    for id in "123":
        a.put(id, ORDER, [route])
    worker = Holder(client, "w")
    lease = worker.next(route)
    assert lease is not None
    word = uuid.uuid4()
    monkeypatch.setattr(uuid, "uuid4", lambda: word)
    answers = [worker.commit(lease, [{}], route=route) for _ in range(2)]
    assert [done for done, _ in answers] == [True, False]
    assert answers[0][1] == answers[1][1]
    assert names(answers[0][1]) == ("a", "2")
    assert [e.id for e in a.read("0", "0", 0)[0]] == ["1"]


def test_a_worker_that_refused_a_study_leaves_it_to_others_and_serves_the_rest(
    client: redis.Redis, studies: list[Leases], route: str
) -> None:
    a, b = studies
    for study in (a, b):
        study.put("1", ORDER, [route])
    poor, rich = Holder(client, "poor"), Holder(client, "rich")
    lease = poor.next(route)
    assert lease is not None and names(lease) == ("a", "1")
    assert poor.release(lease, "it has other data")
    (entry,), _ = a.read("0", "0", 0)
    assert (entry.kind, entry.data) == ("refused", "it has other data")
    assert client.hget("automl:worker:poor", "study") == ""
    a.again("1", [route])
    assert poor.claim(a.study, "1") is None
    other = poor.next(route)
    assert names(other) == ("b", "1")
    assert other is not None and poor.commit(other, [{}], route=route) == (True, None)
    a.put("2", ORDER, [route])  # not into the hand of one that lingers and has refused
    assert names(rich.next(route)) == ("a", "1")
    assert names(rich.next(route)) == ("a", "2")
    assert client.hget(f"automl:{a.study}:order:1", "lapses") is None
    reborn = Holder(client, "poor")  # started again, perhaps with the right data
    a.put("3", ORDER, [route])
    assert names(reborn.next(route)) == ("a", "3")


def test_a_route_that_nobody_listens_on_keeps_no_entry_of_what_is_gone(
    client: redis.Redis, studies: list[Leases], route: str
) -> None:
    a, _ = studies
    for n in range(5):
        a.put(str(n), ORDER, [route])
        a.cancel(str(n), [3, 5], whole=True)
    assert client.lrange(f"automl:waiting:{route}", 0, -1) == [f"{a.study} 4"]
    a.clear()
    assert not client.exists(f"automl:waiting:{route}")
