"""Which workers live: one key each, which expires when its beats stop."""

from __future__ import annotations

import contextlib
import mmap
import socket
import threading
import time
from typing import Any, cast

import redis

from automl.executors.crew import KEYS
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

    client = connect(url)

    def beat() -> None:
        while True:
            note(client, here.name, **fields, beat=time.time())
            time.sleep(_BEAT_SECONDS)

    threading.Thread(target=beat, daemon=True).start()


def leave(url: str) -> None:
    with contextlib.suppress(*Gone), contextlib.closing(connect(url)) as client:
        client.delete(f"{KEYS}{here.name}")


def note(client: redis.Redis, name: str, **fields: Any) -> None:
    """Say what this worker does; while the server is away nobody needs to know."""
    with contextlib.suppress(*Gone):
        key = f"{KEYS}{name}"
        pipe = client.pipeline(transaction=False)
        pipe.hset(key, mapping=cast(dict[Any, Any], fields))
        pipe.expire(key, _EXPIRE_SECONDS)
        pipe.execute()
