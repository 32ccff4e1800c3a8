"""A lock file that one process holds and whose text names it; it dies with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from automl.errors import AutomlError

_LOOK_SECONDS = 0.01


@contextlib.contextmanager
def held(path: Path, refusal: AutomlError) -> Iterator[None]:
    """Hold the lock during the block.

    Raises:
        AutomlError: `refusal`, if another process holds it.
    """
    with path.open("a+") as lock:
        while not _locked(lock, fcntl.LOCK_EX):
            if not _locked(lock, fcntl.LOCK_SH):
                raise refusal
            fcntl.flock(lock, fcntl.LOCK_UN)  # somebody was only looking
            time.sleep(_LOOK_SECONDS)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        lock.truncate(0)


def holder(path: Path) -> int:
    """The process that holds the lock; 0: none does."""
    with contextlib.suppress(OSError, ValueError), path.open("r") as lock:
        if not _locked(lock, fcntl.LOCK_SH):
            return int(lock.read())
    return 0


def _locked(lock: IO[str], kind: int) -> bool:
    """Lock it if nobody's lock forbids it: shared locks forbid only exclusive ones."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
