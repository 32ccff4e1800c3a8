"""Which workers live: one key each, which expires when its beats stop."""

from __future__ import annotations

import contextlib
import mmap
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import redis

from automl.executors.crew import EXPIRE_SECONDS, KEYS
from automl.executors.leases import Gone, connect
from automl.executors.needs import met, routes
from automl.executors.sharing import claims

_BEAT_SECONDS = 2.0


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
    left = False


_beating = threading.Lock()  # held while it is said that this worker lives


here = Here()


def live(url: str, *, listen: Callable[[str], None], **fields: Any) -> None:
    """Say every few seconds, from a thread of its own, that this worker lives.

    `listen` hears, once, of each queue of studies whose needs this worker meets.
    """
    client = connect(url)
    known: set[str] = set()
    with contextlib.suppress(*Gone):  # one of this name may have been asked to leave
        client.hdel(f"{KEYS}{here.name}", "draining")

    def beat() -> None:
        while True:
            with _beating:
                if here.left:
                    return
                note(client, here.name, **fields, beat=time.time())
            with contextlib.suppress(*Gone):
                for route in _wanted(client, fields) - known:
                    listen(route)
                    known.add(route)
            time.sleep(_BEAT_SECONDS)

    threading.Thread(target=beat, daemon=True).start()


def _wanted(client: redis.Redis, fields: Mapping[str, Any]) -> set[str]:
    """Queues of studies with needs that a worker with these fields meets."""
    own = {key: str(value) for key, value in fields.items()}
    queues = own["queue"].split(",")
    return {
        route
        for claim in claims(client)
        if claim.needs and met(claim.needs, own)
        for route in routes([q for q in claim.queues if q in queues], claim.needs)
    }


def leave(url: str) -> None:
    """Say that it lives no more; no beat comes after this."""
    with _beating:
        here.left = True
    with contextlib.suppress(*Gone), contextlib.closing(connect(url)) as client:
        client.delete(f"{KEYS}{here.name}")


def note(client: redis.Redis, name: str, **fields: Any) -> None:
    """Say what this worker does; while the server is away nobody needs to know."""
    with contextlib.suppress(*Gone):
        key = f"{KEYS}{name}"
        pipe = client.pipeline(transaction=False)
        pipe.hset(key, mapping=cast(dict[Any, Any], fields))
        pipe.expire(key, EXPIRE_SECONDS)
        pipe.execute()
