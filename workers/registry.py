"""Which workers live: one key each, which expires when its beats stop."""

from __future__ import annotations

import contextlib
import mmap
import socket
import threading
import time
from typing import Any

from automl.executors.leases import Gone, connect

_BEAT_SECONDS = 2.0
_EXPIRE_SECONDS = 12  # six beats


class Flag:
    """One bit that a process shares with those it forks."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 1)

    def set(self) -> None:
        self._page[0] = 1

    def __bool__(self) -> bool:
        return self._page[0] == 1


class Here:
    """This worker's name, "cpu-0@host"."""

    name = f"worker@{socket.gethostname()}"


here = Here()


def live(url: str, **fields: Any) -> None:
    """Say every few seconds, from a thread of its own, that this worker lives."""

    def beat() -> None:
        while True:
            _write(url, here.name, {**fields, "beat": time.time()})
            time.sleep(_BEAT_SECONDS)

    threading.Thread(target=beat, daemon=True).start()


def leave(url: str) -> None:
    with contextlib.suppress(*Gone), contextlib.closing(connect(url)) as client:
        client.delete(f"automl:worker:{here.name}")


def note(url: str, name: str, **fields: Any) -> None:
    """Say what this worker does now."""
    _write(url, name, fields)


def _write(url: str, name: str, fields: dict[Any, Any]) -> None:
    with contextlib.suppress(*Gone), contextlib.closing(connect(url)) as client:
        key = f"automl:worker:{name}"
        client.hset(key, mapping=fields)
        client.expire(key, _EXPIRE_SECONDS)
