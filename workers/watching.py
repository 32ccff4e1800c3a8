"""Ends a worker that takes no message though some wait, so that whoever started it starts another.

After its connection was lost and found again, a Celery worker has been seen to live on without
ever consuming. `automl worker start`, systemd and containers start what ended with a code.
"""

from __future__ import annotations

import logging
import mmap
import os
import threading
import time
from collections.abc import Sequence
from typing import cast

import redis

from automl.errors import ExecutorError
from automl.executors.leases import Gone, connect

from .registry import Flag

_SECONDS = "AUTOML_DEAF_SECONDS"
_LOOK_SECONDS = 1.0
_EXIT_CODE = 75  # EX_TEMPFAIL: try again
_PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")  # of Celery's lists in Redis


class Pulse:
    """Messages taken up so far, modulo 256, and whether one is in hand; survives a fork."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 2)

    def __enter__(self) -> None:
        self._page[0], self._page[1] = 1, (self._page[1] + 1) % 256

    def __exit__(self, *_: object) -> None:
        self._page[0] = 0

    @property
    def busy(self) -> bool:
        return self._page[0] == 1

    @property
    def count(self) -> int:
        return self._page[1]


def deaf_seconds() -> float:
    """How long a worker may take no message while some wait: 30 s, or as is said there.

    Raises:
        ExecutorError: AUTOML_DEAF_SECONDS is no length of time.
    """
    text = os.environ.get(_SECONDS, "30")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ExecutorError(f"{_SECONDS} {text}: give seconds, more than 0")
    return seconds


def watch(url: str, queues: Sequence[str], pulse: Pulse, leaving: Flag) -> None:
    """Look every second, from a thread of its own, whether this worker still consumes."""
    client, limit = connect(url), deaf_seconds()

    def look() -> None:
        # Looks are counted, not seconds: a process that was frozen has not been deaf meanwhile.
        quiet, seen = 0, pulse.count
        while quiet * _LOOK_SECONDS < limit:
            time.sleep(_LOOK_SECONDS)
            deaf = not (pulse.busy or leaving or pulse.count != seen) and _wait(client, queues)
            quiet, seen = quiet + 1 if deaf else 0, pulse.count
        logging.getLogger(__name__).error(
            "no message was taken for %.0f s though some wait; this worker ends", limit
        )
        os._exit(_EXIT_CODE)

    threading.Thread(target=look, daemon=True).start()


def _wait(client: redis.Redis, queues: Sequence[str]) -> bool:
    """Whether messages wait in one of the queues; not while the server is away."""
    pipe = client.pipeline(transaction=False)
    for queue in queues:
        for priority in _PRIORITIES:
            pipe.llen(queue + priority)
    try:
        return any(cast("list[int]", pipe.execute()))
    except Gone:
        return False
