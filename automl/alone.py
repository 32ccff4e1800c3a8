"""A lock file that one process holds and whose text names it; it dies with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from automl.errors import AutomlError


@contextlib.contextmanager
def held(path: Path, refusal: AutomlError) -> Iterator[None]:
    """Hold the lock during the block.

    Raises:
        AutomlError: `refusal`, if another process holds it.
    """
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        lock.truncate(0)


def holder(path: Path) -> int:
    """The process that holds the lock; 0: none does."""
    with contextlib.suppress(OSError, ValueError), path.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read())
    return 0
