"""The journal: order, durability, one writer, many readers; on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from automl.errors import JournalAway, JournalError
from automl.study.journal import Journal, delete, studies, writer
from automl.study.lone_writer import lock_path

ROOT = Path(__file__).parents[2]


def event(n: int, kind: str = "ask") -> dict[str, Any]:
    return {"kind": kind, "at": 1000.0 + n, "n": n}


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    """URL of an own PostgreSQL, started for this module and thrown away."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra 'postgres')")
    found = [p.parent for p in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    initdb = shutil.which("initdb") or (found and str(found[-1] / "initdb"))
    if not initdb:
        pytest.skip("no PostgreSQL here: initdb is neither on PATH nor in /usr/lib/postgresql")
    user = "nobody" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="automl-postgres-", dir="/tmp"))  # where nobody may look
    if user:
        shutil.chown(folder, user)
    data = folder / "data"
    try:
        subprocess.run(
            [initdb, "-D", data, "-U", "automl", "-A", "trust", "-E", "UTF8", "--locale=C"],
            user=user,
            cwd=folder,
            check=True,
            capture_output=True,
        )
        server, url = _served(Path(initdb).with_name("postgres"), data, user)
        try:
            yield url
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(120)
    finally:
        shutil.rmtree(folder)


def _served(binary: Path, data: Path, user: str | None) -> tuple[subprocess.Popen[bytes], str]:
    """A server on a port of its own, and its URL."""
    import psycopg

    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        where = f"-p {port} -k {data.parent} -c listen_addresses=127.0.0.1"
        server = subprocess.Popen(
            [str(binary), "-D", str(data), *where.split()], user=user, cwd=data.parent,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        url = f"postgresql://automl@127.0.0.1:{port}/postgres"
        while server.poll() is None and time.monotonic() < deadline:  # ends if the port was taken
            try:
                psycopg.connect(url, connect_timeout=10).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return server, url
        server.kill()
        server.wait()
    raise TimeoutError(str(data))


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """The server's URL; a test leaves no journal there."""
    yield postgres_server
    import psycopg

    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS events, journal_format")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "journal.db")
    return str(request.getfixturevalue("postgres"))


def child(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


HOLD = """
    import sys, time
    from automl.study.journal import Journal
    journal = Journal(sys.argv[1], sys.argv[2], write=True)
    print("ready", flush=True)
    time.sleep(600)
"""

WRITE = """
    import sys
    from automl.study.journal import Journal
    journal = Journal(sys.argv[1], "s", write=True)
    n = journal.last
    while True:
        batch = [{"kind": "ask", "at": 1.0, "n": n + i, "text": "x" * 500} for i in (1, 2, 3)]
        n = journal.append(batch)
        print(n, flush=True)
"""


def test_events_come_back_in_order_and_numbered_from_one(url: str) -> None:
    with Journal(url, "s", write=True) as journal:
        assert journal.append([event(1), event(2)]) == 2
        assert journal.append([event(3)]) == 3
        assert journal.append([]) == 3
        assert journal.events() == [(1, event(1)), (2, event(2)), (3, event(3))]
        assert journal.events(after=2) == [(3, event(3))]
    with Journal(url, "s", write=True) as journal:
        assert journal.last == 3
        assert journal.append([event(4)]) == 4


def test_diverged_values_and_odd_texts_survive(url: str) -> None:
    odd = {
        "kind": "report",
        "at": 1.5,
        "loss": [math.nan, math.inf, -math.inf, 1e-320],
        "message": "null \x00, half a surrogate \ud800, ümlaut, 'quotes\" :bind %s ?",
    }
    with Journal(url, "s", write=True) as journal:
        journal.append([odd])
        ((_, back),) = journal.events()
    assert json.dumps(back) == json.dumps(odd)


def test_a_reader_sees_an_event_as_soon_as_it_is_acknowledged(url: str) -> None:
    with Journal(url, "s", write=True) as writer:
        writer.append([event(1)])
        with Journal(url, "s") as reader:
            for n in range(2, 20):
                writer.append([event(n)])
                assert reader.events(after=n - 1) == [(n, event(n))]


def test_readers_neither_block_the_writer_nor_are_blocked(url: str) -> None:
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not stop.is_set():
            with Journal(url, "s") as reader:
                seen.append(len(reader.events()))

    with Journal(url, "s", write=True) as writer, Journal(url, "s") as reader:
        writer.append([event(1)])
        with _in_the_midst_of(url, "SELECT count(*) FROM events"):
            writer.append([event(2)])  # or the lock would not come
        with _in_the_midst_of(url, "INSERT INTO events VALUES ('x', 1, 1.0, 'ask', '{}')"):
            assert len(reader.events()) == 2
        readers = [threading.Thread(target=read) for _ in range(3)]
        for thread in readers:
            thread.start()
        for n in range(3, 200):
            writer.append([event(n)])
        stop.set()
        for thread in readers:
            thread.join()
    assert len(seen) >= 3 and max(seen) <= 199


@contextlib.contextmanager
def _in_the_midst_of(url: str, statement: str) -> Iterator[None]:
    """Somebody has begun a transaction there, and will not end it before the block does."""
    if "://" in url:
        import psycopg

        with psycopg.connect(url) as server:
            server.execute(statement)
            yield
            server.rollback()
        return
    file = sqlite3.connect(url, isolation_level=None)
    file.execute("BEGIN")
    file.execute(statement).fetchall()
    yield
    file.close()


def test_a_reader_cannot_write(url: str) -> None:
    Journal(url, "s", write=True).close()
    with Journal(url, "s") as reader, pytest.raises(JournalError, match="for reading only"):
        reader.append([event(1)])


def test_a_second_writer_is_told_who_runs_the_study(url: str) -> None:
    holder = child(HOLD, url, "digits")
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(
            JournalError, match=rf"study 'digits' is being run by process {holder.pid}.*; wait"
        ):
            Journal(url, "digits", write=True)
        with pytest.raises(JournalError, match="is being run by"):
            delete(url, "digits")
        Journal(url, "digits").close()
        Journal(url, "other", write=True).close()
        holder.kill()
        holder.wait()
        _eventually_writable(url, "digits")
    finally:
        holder.kill()
        holder.communicate()


def _eventually_writable(url: str, study: str) -> None:
    """At once on SQLite; a server needs a moment to see that a session is gone."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return Journal(url, study, write=True).close()
        except JournalError:
            time.sleep(0.05)
    raise AssertionError("the lock outlived its process")


def test_a_closed_writer_lets_the_next_one_in_within_a_process(url: str) -> None:
    first = Journal(url, "s", write=True)
    with pytest.raises(JournalError, match=f"process {os.getpid()}"):
        Journal(url, "s", write=True)
    first.close()
    first.close()
    with pytest.raises(JournalError, match="is closed"):
        first.append([event(1)])
    Journal(url, "s", write=True).close()


def test_a_process_of_a_killed_writers_number_is_not_taken_for_it(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    Journal(file, "s", write=True).close()
    lock = lock_path(file, "s")
    lock.write_text(f"{os.getpid()}\n")  # as a writer of this number leaves it that was killed
    assert writer(file, "s") == ""
    with Journal(file, "s", write=True):
        assert writer(file, "s") == f"process {os.getpid()}"
    assert writer(file, "s") == ""


def test_a_writer_that_lost_its_lock_cannot_write_over_another(url: str) -> None:
    with Journal(url, "s", write=True) as journal:
        journal.append([event(1)])
        _foreign_insert(url, seq=2)
        with pytest.raises(JournalError, match="another process wrote to this study meanwhile"):
            journal.append([event(2), event(3)])
        assert [seq for seq, _ in journal.events()] == [1, 2]


def _foreign_insert(url: str, *, seq: int) -> None:
    row = f"INSERT INTO events VALUES ('s', {seq}, 1.0, 'ask', '{{}}')"
    if "://" in url:
        import psycopg

        with psycopg.connect(url, autocommit=True) as server:
            server.execute(row)
        return
    file = sqlite3.connect(url)
    file.execute(row)
    file.commit()
    file.close()


def test_killed_writers_lose_no_acknowledged_event_and_leave_no_half_one(url: str) -> None:
    rng = random.Random(7)
    acknowledged = 0
    for _ in range(6):
        writer = child(WRITE, url)
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        time.sleep(rng.uniform(0, 0.12))
        writer.kill()
        for line in writer.stdout:
            if line.endswith("\n"):
                acknowledged = int(line)
        writer.communicate()
        _eventually_writable(url, "s")
        with Journal(url, "s") as reader:
            events = reader.events()
        assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
        assert [e["n"] for _, e in events] == list(range(1, len(events) + 1))
        assert acknowledged <= len(events) <= acknowledged + 3
        assert len(events) % 3 == 0


def test_several_studies_share_a_journal_and_one_can_be_deleted(url: str) -> None:
    for name in ("b", "a"):
        with Journal(url, name, write=True) as journal:
            journal.append([event(1)])
    assert studies(url) == ["a", "b"]
    delete(url, "b")
    assert studies(url) == ["a"]
    with Journal(url, "a") as journal:
        assert journal.events() == [(1, event(1))]


def test_another_version_is_refused(url: str) -> None:
    Journal(url, "s", write=True).close()
    change = "UPDATE journal_format SET version = 99"
    if "://" in url:
        import psycopg

        with psycopg.connect(url, autocommit=True) as server:
            server.execute(change)
    else:
        file = sqlite3.connect(url)
        file.execute(change)
        file.commit()
        file.close()
    for write in (True, False):
        with pytest.raises(JournalError, match="a journal of version 99; this automl reads 1"):
            Journal(url, "s", write=write)


@pytest.mark.postgres
def test_a_server_without_a_journal_is_not_one(postgres: str) -> None:
    with pytest.raises(JournalError, match="is not a journal"):
        studies(postgres)


@pytest.mark.postgres
def test_a_session_that_the_server_ended_is_over_for_good(postgres: str) -> None:
    import psycopg

    with Journal(postgres, "s", write=True) as journal:
        journal.append([event(1)])
        with psycopg.connect(postgres, autocommit=True) as server:
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'automl process%'"
            )
        for message in (r"postgresql.*: ", "is closed"):
            with pytest.raises(JournalError, match=message):
                journal.append([event(2)])


@pytest.mark.postgres
def test_a_server_that_is_away_is_one_line_without_the_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(JournalAway) as caught:
        Journal("postgresql://me:secret@127.0.0.1:1/db", "s")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)


def test_what_is_no_journal_is_refused_in_one_line_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are notes, " * 100)
    other = tmp_path / "other.db"
    file = sqlite3.connect(other)
    file.execute("CREATE TABLE runs (id INTEGER)")
    file.commit()
    file.close()
    before = other.read_bytes()
    for write in (True, False):
        with pytest.raises(JournalError, match=r"notes\.txt is not a journal"):
            Journal(text, "s", write=write)
    with pytest.raises(JournalError, match=r"other\.db is not a journal"):
        Journal(other, "s")
    with pytest.raises(JournalError, match=r"other\.db is a database of something else"):
        Journal(other, "s", write=True)
    assert text.read_text() == "these are notes, " * 100
    assert other.read_bytes()[100:] == before[100:]  # past the header: pages as they were


def test_reading_where_nothing_is_creates_nothing(tmp_path: Path) -> None:
    for read in (lambda p: Journal(p, "s"), studies, lambda p: delete(p, "s")):
        with pytest.raises(JournalError, match="no journal there"):
            read(tmp_path / "journal.db")
    with pytest.raises(JournalError, match="no folder"):
        Journal(tmp_path / "absent" / "journal.db", "s", write=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/db", "sqlite or postgresql, not in mysql"),
        ("sqlite://", "needs a file"),
        ("://", "neither a file nor a database URL"),
    ],
)
def test_urls_that_cannot_be_are_refused(url: str, message: str) -> None:
    with pytest.raises(JournalError, match=message):
        Journal(url, "s", write=True)


def test_a_full_disk_is_one_line_and_what_was_acknowledged_stays(tmp_path: Path) -> None:
    # A limit on the size of files stands in for the disk: the write fails inside SQLite.
    code = """
        import resource, signal, sys
        from automl.errors import JournalAway, JournalError
        from automl.study.journal import Journal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        journal = Journal(sys.argv[1], "s", write=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            while True:
                journal.append([{"kind": "ask", "at": 1.0, "text": "x" * 5000}])
        except JournalError as error:
            print(journal.last, error)
    """
    path = tmp_path / "journal.db"
    output = child(code, str(path)).communicate(timeout=300)[0]
    last, _, message = output.partition(" ")
    assert message.count("\n") == 1
    assert "journal.db: " in message
    assert int(last) > 10
    with Journal(path, "s", write=True) as journal:
        assert journal.last == int(last)
        journal.append([event(1)])


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    # /proc refuses new files to everybody, root included.
    with pytest.raises(JournalError, match=r"^/proc/1/journal\.db: \w+"):
        Journal("/proc/1/journal.db", "s", write=True)


@pytest.mark.parametrize("name", ["über / stück", "a'b", "..", "日本"])
def test_odd_study_names_are_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a # folder" / "journal.db"
    path.parent.mkdir()
    with Journal(path, name, write=True) as journal:
        journal.append([event(1)])
    assert studies(path) == [name]
    with Journal(f"sqlite:///{path}", name) as journal:
        assert journal.last == 1


def test_an_append_costs_little_and_no_more_after_thirty_thousand_events(tmp_path: Path) -> None:
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1

    def cost(appends: int) -> tuple[float, float]:
        """CPU milliseconds and instructions of SQLite's machine, each."""
        before, begun = counted, time.process_time()
        for n in range(appends):
            journal.append([event(n), event(n)])
        return (time.process_time() - begun) / appends * 1e3, (counted - before) / appends

    with Journal(tmp_path / "journal.db", "s", write=True) as journal:
        assert journal._connection is not None
        file: Any = journal._connection.connection.dbapi_connection
        file.set_progress_handler(count, 1)
        cost(50)  # the statement is compiled at first use
        early = [cost(200) for _ in range(3)]
        journal.append([event(n) for n in range(30_000)])
        late = [cost(200) for _ in range(3)]
    assert min(early)[0] < 2  # measured 0.17 on a quiet core
    # An append that walks through what is there takes tens of thousands.
    assert max(n for _, n in late) <= max(n for _, n in early) + 5 < 200
