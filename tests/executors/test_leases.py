"""An order is committed once: by the holder of its lease, whatever else is tried."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from automl.executors.leases import Gone, Leases, connect
from automl.executors.valkey import Server

ORDER = {"pack": [1, 2]}


@pytest.fixture
def leases(broker: Server) -> Iterator[Leases]:
    """Leases of 0.2 s in a study of the test's own."""
    made = Leases(connect(broker.url), f"test-{uuid.uuid4().hex}", seconds=0.2)
    yield made
    made.clear()


def kinds(leases: Leases) -> list[tuple[str, str]]:
    return [(e.id, e.kind) for e in leases.read("0", "0", 0)[0]]


def test_one_claims_renews_and_commits(leases: Leases) -> None:
    leases.put("a", ORDER)
    lease = leases.claim("a", "w1")
    assert lease is not None and lease.order == ORDER
    assert leases.claim("a", "w2") is None
    assert leases.renew(lease) == set()
    assert leases.commit(lease, [{"trial": 3}])
    (entry,), _ = leases.read("0", "0", 0)
    assert (entry.id, entry.kind, entry.data) == ("a", "reports", '[{"trial": 3}]')
    assert not leases.commit(lease, [{"trial": 3}])  # not twice
    assert leases.claim("a", "w2") is None  # nor again
    assert leases.renew(lease) is None


def test_a_lease_that_ran_out_is_handed_on_and_its_holder_refused(leases: Leases) -> None:
    leases.put("a", ORDER)
    stale = leases.claim("a", "frozen")
    assert stale is not None
    assert leases.sweep() == 0
    time.sleep(0.25)
    assert leases.sweep() == 1
    assert leases.sweep() == 0
    assert kinds(leases) == [("a", "handed")]
    fresh = leases.claim("a", "other")
    assert fresh is not None
    assert leases.renew(stale) is None
    assert not leases.commit(stale, [])
    assert not leases.release(stale)
    assert leases.commit(fresh, [])


def test_an_order_whose_lease_runs_out_three_times_is_lost(leases: Leases) -> None:
    leases.put("a", ORDER)
    for _ in range(3):
        assert leases.claim("a", "mortal") is not None
        time.sleep(0.21)
        assert leases.sweep() == 1
    assert kinds(leases) == [("a", "handed"), ("a", "handed"), ("a", "lost")]
    assert leases.missing(["a"]) == ["a"]
    leases.put("a", ORDER)  # the driver tries again, from the beginning of the count
    assert leases.claim("a", "w") is not None
    time.sleep(0.21)
    assert leases.sweep() == 1
    assert kinds(leases)[3:] == [("a", "handed")]


def test_the_study_says_how_long_a_lease_is(leases: Leases) -> None:
    leases.announce({"lease_seconds": 60, "deadline_seconds": float("inf")})
    leases.put("a", ORDER)
    lease = leases.claim("a", "w")
    assert lease is not None
    assert lease.task["lease_seconds"] == 60
    time.sleep(0.21)
    assert leases.sweep() == 0
    assert leases.renew(lease) == set()
    time.sleep(0.21)
    assert leases.sweep() == 0


def test_a_late_holder_may_commit_what_nobody_else_has_taken(leases: Leases) -> None:
    leases.put("a", ORDER)
    lease = leases.claim("a", "slow")
    assert lease is not None
    time.sleep(0.25)
    assert leases.commit(lease, [])
    assert leases.sweep() == 0


def test_an_order_given_back_waits_for_the_next(leases: Leases) -> None:
    leases.put("a", ORDER)
    lease = leases.claim("a", "leaving")
    assert lease is not None
    assert leases.waiting(["a", "b"]) == []
    assert leases.release(lease)
    assert kinds(leases) == [("a", "handed")]
    assert leases.waiting(["a", "b"]) == ["a"]
    assert leases.missing(["a", "b"]) == ["b"]
    assert leases.claim("a", "next") is not None


def test_a_cancellation_is_heard_at_the_next_renewal(leases: Leases) -> None:
    leases.put("a", ORDER)
    lease = leases.claim("a", "w")
    assert lease is not None
    leases.cancel("a", [3, 5], whole=True)
    leases.cancel("gone", [1], whole=True)
    assert leases.missing(["gone"]) == ["gone"]
    assert leases.renew(lease) == {3, 5}
    leases.put("a", ORDER)  # the driver wants it after all
    assert leases.renew(lease) == set()


def test_progress_is_bounded_and_reports_are_forgotten_when_asked(leases: Leases) -> None:
    leases.tell([{"step": 1}])
    place = leases.last_progress()
    leases.tell([{"step": 2}, {"step": 3}])
    leases.put("a", ORDER)
    lease = leases.claim("a", "w")
    assert lease is not None and leases.commit(lease, [], [{"step": 4}])
    (entry,), told = leases.read("0", place, 0)
    assert [p for _, p in told] == [{"step": 2}, {"step": 3}, {"step": 4}]
    leases.forget([entry.at])
    assert leases.read("0", "0", 0)[0] == []
    assert leases.read(entry.at, "0", 0)[0] == []


def test_a_thousand_orders_and_eight_claimers_make_a_thousand_commits(
    broker: Server, leases: Leases
) -> None:
    for n in range(1000):
        leases.put(str(n), {})
    won: list[str] = []

    def work() -> None:
        mine = Leases(connect(broker.url), leases.study, seconds=60)
        for n in range(1000):
            lease = mine.claim(str(n), "w")
            if lease is not None and mine.commit(lease, []):
                won.append(lease.id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(won, key=int) == [str(n) for n in range(1000)]
    assert sorted(id for id, _ in kinds(leases)) == sorted(won)


def test_clearing_a_study_leaves_no_key_and_no_other_study_without_its_own(
    broker: Server, leases: Leases
) -> None:
    other = Leases(connect(broker.url), leases.study + "b")
    for one in (leases, other):
        one.put("a", ORDER)
    leases.clear()
    client = redis.Redis.from_url(broker.url, decode_responses=True)
    assert list(client.scan_iter(match=f"automl:{leases.study}:*")) == []
    assert other.claim("a", "w") is not None
    assert leases.claim("a", "w") is None
    other.clear()


def test_what_was_on_disk_is_there_after_a_crash_of_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path / "redis")
    try:
        leases = Leases(connect(server.url), "s", seconds=60)
        leases.put("a", ORDER)
        lease = leases.claim("a", "w")
        assert lease is not None
        time.sleep(1.2)  # appendfsync everysec
        server.process.kill()
        server.process.wait()
        with pytest.raises(Gone):
            leases.renew(lease)
        server.start()
        assert leases.renew(lease) == set()
        assert leases.commit(lease, [])
    finally:
        server.stop()


def test_an_order_that_nobody_holds_is_withdrawn_and_can_be_laid_down_again(
    leases: Leases,
) -> None:
    leases.put("a", ORDER)
    leases.cancel("a", [1], whole=False)  # it has another trial
    assert kinds(leases) == []
    leases.cancel("a", [1, 2], whole=True)
    assert kinds(leases) == [("a", "withdrawn")]
    assert leases.claim("a", "w") is None
    leases.put("a", ORDER)
    lease = leases.claim("a", "w")
    assert lease is not None and leases.renew(lease) == set()
