"""An order is committed once: by the holder of its lease, whatever else is tried."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from automl.errors import ExecutorError
from automl.executors import valkey
from automl.executors.holding import Holder, Lease, Renewed
from automl.executors.leases import Gone, Leases, connect
from automl.executors.valkey import Server

from ..workers.starting import until

ORDER = {"pack": [1, 2]}


@pytest.fixture
def leases(broker: Server) -> Iterator[Leases]:
    """Leases that no test outlasts, in a study of the test's own."""
    made = Leases(connect(broker.url), f"test-{uuid.uuid4().hex}", seconds=600)
    yield made
    made.clear()


@pytest.fixture
def brief(leases: Leases) -> Leases:
    """The same study with leases of 0.2 s."""
    return Leases(leases._client, leases.study, seconds=0.2)


@pytest.fixture
def holder(broker: Server) -> Holder:
    """The side of a worker, to whom all the leases of a test may be shown."""
    return Holder(connect(broker.url), "w")


def claim(leases: Leases, id: str, owner: str) -> Lease | None:
    """What a worker of this name gets."""
    return Holder(leases._client, owner).claim(leases.study, id)


def kinds(leases: Leases) -> list[tuple[str, str]]:
    return [(e.id, e.kind) for e in leases.read("0", "0", 0)[0]]


def test_one_claims_renews_and_commits(leases: Leases, holder: Holder) -> None:
    leases.put("a", ORDER)
    lease = claim(leases, "a", "w1")
    assert lease is not None and lease.order == ORDER
    assert claim(leases, "a", "w2") is None
    assert holder.renew(lease) == Renewed(frozenset())
    assert holder.commit(lease, [{"trial": 3}])[0]
    (entry,), _ = leases.read("0", "0", 0)
    assert (entry.id, entry.kind, entry.data) == ("a", "reports", '[{"trial": 3}]')
    assert not holder.commit(lease, [{"trial": 3}])[0]  # not twice
    assert claim(leases, "a", "w2") is None  # nor again
    assert holder.renew(lease) is None


def test_a_lease_that_ran_out_is_handed_on_and_its_holder_refused(
    leases: Leases, brief: Leases, holder: Holder
) -> None:
    brief.put("a", ORDER)
    stale = claim(leases, "a", "frozen")
    assert stale is not None
    time.sleep(0.25)
    assert leases.sweep() == 1
    assert leases.sweep() == 0
    assert kinds(leases) == [("a", "handed")]
    fresh = claim(leases, "a", "other")
    assert fresh is not None
    assert holder.renew(stale) is None
    assert not holder.commit(stale, [])[0]
    assert not holder.release(stale)
    assert holder.commit(fresh, [])[0]


def test_an_order_whose_lease_runs_out_three_times_is_lost(leases: Leases, brief: Leases) -> None:
    brief.put("a", ORDER)
    for _ in range(3):
        assert claim(leases, "a", "mortal") is not None
        time.sleep(0.21)
        assert leases.sweep() == 1
    assert kinds(leases) == [("a", "handed"), ("a", "handed"), ("a", "lost")]
    assert leases.missing(["a"]) == ["a"]
    brief.put("a", ORDER)  # the driver tries again, from the beginning of the count
    assert claim(leases, "a", "w") is not None
    time.sleep(0.21)
    assert leases.sweep() == 1
    assert kinds(leases)[3:] == [("a", "handed")]


def test_the_study_says_how_long_a_lease_is(leases: Leases, brief: Leases, holder: Holder) -> None:
    leases.announce({"deadline_seconds": float("inf")})
    leases.put("a", ORDER)
    brief.put("b", ORDER)
    long, short = claim(brief, "a", "w"), claim(leases, "b", "w")
    assert long is not None and short is not None
    assert long.task["deadline_seconds"] == float("inf")
    assert (long.seconds, short.seconds) == (600, 0.2)
    for _ in range(2):
        assert holder.renew(long) == holder.renew(short) == Renewed(frozenset())
        time.sleep(0.21)
    assert leases.sweep() == 1
    assert kinds(leases) == [("b", "handed")]


def test_a_late_holder_may_commit_what_nobody_else_has_taken(
    leases: Leases, brief: Leases, holder: Holder
) -> None:
    brief.put("a", ORDER)
    lease = claim(leases, "a", "slow")
    assert lease is not None
    time.sleep(0.25)
    assert holder.commit(lease, [])[0]
    assert leases.sweep() == 0


def test_an_order_given_back_waits_for_the_next(leases: Leases, holder: Holder) -> None:
    leases.put("a", ORDER)
    lease = claim(leases, "a", "leaving")
    assert lease is not None
    assert leases.waiting(["a", "b"]) == []
    assert holder.release(lease)
    assert kinds(leases) == [("a", "handed")]
    assert leases.waiting(["a", "b"]) == ["a"]
    assert leases.missing(["a", "b"]) == ["b"]
    assert claim(leases, "a", "next") is not None


def test_a_cancellation_is_heard_at_the_next_renewal(leases: Leases, holder: Holder) -> None:
    leases.put("a", ORDER)
    lease = claim(leases, "a", "w")
    assert lease is not None
    leases.cancel("a", [3, 5], whole=True)
    leases.cancel("gone", [1], whole=True)
    assert leases.missing(["gone"]) == ["gone"]
    assert holder.renew(lease) == Renewed(frozenset({3, 5}))
    leases.put("a", ORDER)  # the driver wants it after all
    assert holder.renew(lease) == Renewed(frozenset())


def test_progress_is_bounded_and_reports_are_forgotten_when_asked(
    leases: Leases, holder: Holder
) -> None:
    leases.put("a", ORDER)
    lease = claim(leases, "a", "w")
    assert lease is not None
    holder.tell(lease, [{"step": 1}])
    place = leases.last_progress()
    holder.tell(lease, [{"step": 2}, {"step": 3}])
    assert holder.commit(lease, [], [{"step": 4}])[0]
    holder.tell(lease, [{"step": 5}])  # it holds nothing any more
    (entry,), told = leases.read("0", place, 0)
    assert [p for _, p in told] == [{"step": 2}, {"step": 3}, {"step": 4}]
    leases.turn({}, (), [entry.at])
    assert leases.read("0", "0", 0)[0] == []
    assert leases.read(entry.at, "0", 0)[0] == []


def test_a_thousand_orders_and_eight_claimers_make_a_thousand_commits(
    broker: Server, leases: Leases
) -> None:
    for n in range(1000):
        leases.put(str(n), {})
    won: list[str] = []

    def work() -> None:
        mine = Holder(connect(broker.url), "w")
        for n in range(1000):
            lease = mine.claim(leases.study, str(n))
            if lease is not None and mine.commit(lease, [])[0]:
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
    assert claim(other, "a", "w") is not None
    assert claim(leases, "a", "w") is None
    other.clear()


def test_what_was_on_disk_is_there_after_a_crash_of_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path / "redis")
    try:
        leases = Leases(connect(server.url), "s", seconds=60)
        holder = Holder(connect(server.url), "w")
        leases.put("a", ORDER)
        lease = claim(leases, "a", "w")
        assert lease is not None
        until("a file that is whole", lambda: _written(server))
        server.process.kill()
        server.process.wait()
        with pytest.raises(Gone):
            holder.renew(lease)
        server.start()
        assert holder.renew(lease) == Renewed(frozenset())
        assert holder.commit(lease, [])[0]
    finally:
        server.stop()


def _written(server: Server) -> bool:
    """Whether everything is on the disk, where it is brought once a second."""
    told: Any = connect(server.url).info("persistence")
    return bool(told["aof_buffer_length"] == told["aof_pending_bio_fsync"] == 0)


def test_an_order_that_nobody_holds_is_withdrawn_and_can_be_laid_down_again(
    leases: Leases, holder: Holder
) -> None:
    leases.put("a", ORDER)
    leases.cancel("a", [1], whole=False)  # it has another trial
    assert kinds(leases) == []
    leases.cancel("a", [1, 2], whole=True)
    assert kinds(leases) == [("a", "withdrawn")]
    assert claim(leases, "a", "w") is None
    leases.put("a", ORDER)
    lease = claim(leases, "a", "w")
    assert lease is not None and holder.renew(lease) == Renewed(frozenset())


def test_a_server_whose_port_was_taken_is_not_mistaken_for_the_one_there(
    broker: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([broker.port, valkey.free_port()])
    monkeypatch.setattr(valkey, "free_port", lambda: next(ports))
    server = Server(tmp_path, password="secret")
    try:
        assert server.port != broker.port
        assert redis.Redis.from_url(server.url).info("server")["process_id"] == server.process.pid
        with pytest.raises(ExecutorError, match=f"no Redis on port {server.port}; it said: "):
            Server(tmp_path / "other", port=server.port)
    finally:
        server.stop()
