"""The journal: what happened in a study, in order, on disk before anyone acts on it.

    events(study, seq, at, kind, body)     body is the whole event as JSON text; seq is 1, 2, 3 ...
    journal_format(version)                one row; another version is refused

Each study has one writer. Its lock dies with the process (SQLite: flock on a file beside the
journal; PostgreSQL: a session's advisory lock), so a killed driver leaves nothing to clean up,
and the primary key (study, seq) refuses a second writer even if the lock were lost. Readers take
no lock: SQLite runs in WAL mode, where nobody blocks a reader nor is blocked by one.

NaN and infinities are values here (a diverged loss): bodies are Python's JSON with NaN and
Infinity, hence a text column and not PostgreSQL's json type, which refuses them and \\u0000.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from automl import alone
from automl.errors import JournalAway, JournalError
from automl.study import lone_writer

VERSION = 1

_TABLES = sa.MetaData()
_EVENTS = sa.Table(
    "events",
    _TABLES,
    sa.Column("study", sa.Text, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),  # seconds since the epoch
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
_FORMAT = sa.Table("journal_format", _TABLES, sa.Column("version", sa.Integer, nullable=False))

_INSERT = sa.insert(_EVENTS)
_LAST = sa.select(sa.func.coalesce(sa.func.max(_EVENTS.c.seq), 0)).where(
    _EVENTS.c.study == sa.bindparam("name")
)
_AFTER = (
    sa.select(_EVENTS.c.seq, _EVENTS.c.body)
    .where(_EVENTS.c.study == sa.bindparam("name"), _EVENTS.c.seq > sa.bindparam("after"))
    .order_by(_EVENTS.c.seq)
)


class Journal:
    """The events of one study in the journal at `url`.

    Args:
        url: a file (SQLite), or an SQLAlchemy URL: "sqlite:///...", "postgresql://user@host/db".
        study: the study's name.
        write: become the study's only writer; creates the journal where there is none.

    Raises:
        JournalError: nothing there to read, no journal of this version, not reachable, not
            writable, or (`write`) the study is being run by another process.
    """

    def __init__(self, url: str | Path, study: str, *, write: bool = False) -> None:
        self.study = study
        self._url = _parse(url)
        self._write = write
        self._lock: int | None = None  # file descriptor; SQLite
        self._connection: sa.Connection | None = None
        try:
            with _one_line(self._url):
                if write and _file(self._url):
                    self._lock = lone_writer.lock_file(_file(self._url), study)
                self._connection = _connect(self._url, write=write)
                if write and not _file(self._url):
                    lone_writer.lock_session(self._connection, study)
                if write:
                    _create(self._connection, self._url)
                _check_version(self._connection, self._url)
                self._last = int(self._open.scalar(_LAST, {"name": study}) or 0)
                self._open.rollback()
        except BaseException:
            self.close()
            raise

    @property
    def last(self) -> int:
        """Number of the last event written here or found at opening; 0 when there is none."""
        return self._last

    def append(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Write `events` in one transaction, on disk when this returns.

        Each needs "kind" and "at" (seconds since the epoch).

        Returns:
            Number of the last event.

        Raises:
            JournalError: not opened for writing, full disk, server gone; then none is written
                (a server lost during the commit itself may have kept all of them).
        """
        if not self._write:
            raise JournalError(f"the journal of study {self.study!r} is open for reading only")
        if not events:
            return self._last
        rows = [
            {
                "study": self.study,
                "seq": seq,
                "at": event["at"],
                "kind": event["kind"],
                "body": json.dumps(event, separators=(",", ":")),
            }
            for seq, event in enumerate(events, self._last + 1)
        ]
        connection = self._open
        try:
            with _one_line(self._url):
                connection.execute(_INSERT, rows)
                connection.commit()
        except BaseException:
            if connection.invalidated:
                self.close()  # SQLAlchemy would reconnect, and the lock went with the session
            else:
                with contextlib.suppress(sa.exc.SQLAlchemyError):
                    connection.rollback()
            raise
        self._last += len(rows)
        return self._last

    def events(self, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """(number, event) of every event after number `after`, in order."""
        with _one_line(self._url):
            rows = self._open.execute(_AFTER, {"name": self.study, "after": after}).all()
            self._open.rollback()
        return [(seq, json.loads(body)) for seq, body in rows]

    def close(self) -> None:
        """Let go of the lock and the connection; again is harmless."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                connection.close()
            connection.engine.dispose()
        lock, self._lock = self._lock, None
        if lock is not None:
            # Truncated, never removed: a process that waits on a removed file would hold a lock
            # that nobody else sees.
            with contextlib.suppress(OSError):
                os.ftruncate(lock, 0)
            os.close(lock)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _open(self) -> sa.Connection:
        if self._connection is None:
            raise JournalError(f"the journal of study {self.study!r} is closed")
        return self._connection


def studies(url: str | Path) -> list[str]:
    """Names of the studies in the journal at `url`, sorted.

    Raises:
        JournalError: as for a `Journal` that is read.
    """
    parsed = _parse(url)
    with _one_line(parsed):
        connection = _connect(parsed, write=False)
        try:
            _check_version(connection, parsed)
            names = sa.select(_EVENTS.c.study).where(_EVENTS.c.seq == 1)
            return sorted(connection.scalars(names))
        finally:
            connection.close()


def writer(url: str | Path, study: str) -> str:
    """Who is running `study` now, such as "process 4711"; "" when nobody is. Refuses it to nobody.

    Raises:
        JournalError: as for a `Journal` that is read.
    """
    parsed = _parse(url)
    if path := _file(parsed):
        pid = alone.holder(lone_writer.lock_path(path, study))
        return f"process {pid}" if pid else ""
    with _one_line(parsed):
        connection = _connect(parsed, write=False)
        try:
            return lone_writer.session_holder(connection, study)
        finally:
            connection.close()


def delete(url: str | Path, study: str) -> None:
    """Remove every event of `study` for good.

    Raises:
        JournalError: the study is being run, or as for a `Journal` that is written.
    """
    parsed = _parse(url)
    if (path := _file(parsed)) and not path.exists():
        raise JournalError(f"{path}: no journal there")
    with Journal(url, study, write=True) as journal, _one_line(parsed):
        journal._open.execute(sa.delete(_EVENTS).where(_EVENTS.c.study == study))
        journal._open.commit()


# Where it lies --------------------------------------------------------------------------------


def _parse(url: str | Path) -> URL:
    text = str(url)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        parsed = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise JournalError(f"journal {text!r} is neither a file nor a database URL") from None
    kind = parsed.drivername.partition("+")[0]
    if kind in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise JournalError(f"a journal is kept in sqlite or postgresql, not in {kind}")
    if parsed.database in (None, "", ":memory:"):
        raise JournalError("a journal needs a file: in memory nothing would survive")
    return parsed


def _file(url: URL) -> Path | None:
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def _name(url: URL) -> str:
    """The place in words, without the password."""
    return url.database or "" if _file(url) else url.render_as_string(hide_password=True)


def _connect(url: URL, *, write: bool) -> sa.Connection:
    path = _file(url)
    if path is None:
        try:
            engine = sa.create_engine(
                url,
                poolclass=NullPool,
                connect_args={
                    "application_name": f"automl process {os.getpid()} on {socket.gethostname()}",
                    "connect_timeout": 10,
                },
            )
        except ModuleNotFoundError:
            raise JournalError(
                "a journal in PostgreSQL needs psycopg: pip install 'automl-service[postgres]'"
            ) from None
    else:
        if not path.parent.is_dir():
            raise JournalError(f"{path}: no folder {path.parent} to keep the journal in")
        if not write and not path.exists():
            raise JournalError(f"{path}: no journal there")
        mode = "rwc" if write else "ro"
        engine = sa.create_engine(
            "sqlite://",
            creator=lambda: _open_file(path, mode),
            poolclass=NullPool,
        )
    if write:
        return engine.connect()
    # A reader that left a transaction open would hold back SQLite's checkpoints.
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def _open_file(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=10,  # seconds; another study of the same file may be committing
        check_same_thread=False,
    )
    if mode != "ro":
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")  # fsync at every commit
        except BaseException:
            connection.close()
            raise
    return connection


def _create(connection: sa.Connection, url: URL) -> None:
    """Lay the tables, unless they are there."""
    tables = set(sa.inspect(connection).get_table_names())
    connection.rollback()
    if _FORMAT.name in tables:
        return
    if _EVENTS.name in tables or (tables and _file(url)):
        raise JournalError(f"{_name(url)} is a database of something else, not a journal")
    if _file(url):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(
            sa.select(sa.func.pg_advisory_xact_lock(lone_writer.key("journal_format")))
        )
    for table in (_EVENTS, _FORMAT):
        connection.execute(CreateTable(table, if_not_exists=True))
    if connection.scalar(sa.select(sa.func.count()).select_from(_FORMAT)) == 0:
        connection.execute(sa.insert(_FORMAT), {"version": VERSION})
    connection.commit()


def _check_version(connection: sa.Connection, url: URL) -> None:
    if not sa.inspect(connection).has_table(_FORMAT.name):
        raise JournalError(f"{_name(url)} is not a journal of automl")
    version = connection.scalar(sa.select(_FORMAT.c.version))
    if version != VERSION:
        raise JournalError(
            f"{_name(url)} is a journal of version {version}; this automl reads {VERSION}"
        )


@contextlib.contextmanager
def _one_line(url: URL) -> Iterator[None]:
    """Turn what SQLAlchemy, the driver and the disk raise into one line that names the place."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise JournalError(
            f"{_name(url)}: another process wrote to this study meanwhile; "
            "this one stops, `automl resume` goes on from what is there"
        ) from None
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        first = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        if "not a database" in first:
            raise JournalError(f"{_name(url)} is not a journal of automl") from None
        away = isinstance(error, sa.exc.OperationalError | sqlite3.OperationalError)
        raise (JournalAway if away else JournalError)(f"{_name(url)}: {first}") from None
    except OSError as error:
        raise JournalError(f"{_name(url)}: {error.strerror or error}") from None
