"""Who writes a study's journal: one process, whose lock dies with it.

a file        flock on a file beside it, which tells the process
PostgreSQL    an advisory lock of the writer's session, which is named after its process
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from automl import alone
from automl.errors import JournalAway, JournalError


def busy(study: str, holder: str) -> JournalAway:
    return JournalAway(
        f"study {study!r} is being run by {holder}; wait for it, or type `automl stop {study}`"
    )


def lock_path(path: Path, study: str) -> Path:
    return path.with_name(f"{path.name}.{quote(study, safe='')}.lock")


def lock_file(path: Path | None, study: str) -> int:
    """Lock the study, for as long as this process keeps the descriptor that is returned."""
    assert path is not None
    if not path.parent.is_dir():
        raise JournalError(f"{path}: no folder {path.parent} to keep the journal in")
    descriptor = os.open(lock_path(path, study), os.O_RDWR | os.O_CREAT, 0o666)
    if not alone.taken(descriptor):
        pid = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise busy(study, f"process {pid}" if pid else "another process")
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def lock_session(connection: sa.Connection, study: str) -> None:
    """Lock the study, for as long as this session of the server lives."""
    number = key(study)
    got = connection.scalar(sa.select(sa.func.pg_try_advisory_lock(number)))
    connection.commit()
    if got:
        return
    raise busy(study, session_holder(connection, study) or "another process")


def session_holder(connection: sa.Connection, study: str) -> str:
    """The session that holds the study's lock: "process 4711 on host", or "" for none."""
    number = key(study)
    holder = connection.scalar(
        sa.text(
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
            "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 "
            "AND l.classid::bigint = :high AND l.objid::bigint = :low "
            "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ),
        {"high": (number >> 32) & 0xFFFFFFFF, "low": number & 0xFFFFFFFF},
    )
    return str(holder).removeprefix("automl ") if holder else ""


def key(name: str) -> int:
    """A signed 64-bit key for PostgreSQL's advisory locks, the same in every process."""
    digest = hashlib.sha256(f"automl journal {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
