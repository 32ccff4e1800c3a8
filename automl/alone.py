"""A lock file that one process holds and whose text names it; it dies with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from automl.errors import AutomlError

_LOOK_SECONDS = 0.01
_NAMED_SECONDS = 2.0  # in which whoever gets a lock writes its name there; in truth, microseconds


@contextlib.contextmanager
def held(path: Path, refusal: AutomlError) -> Iterator[None]:
    """Hold the lock during the block.

    Raises:
        AutomlError: `refusal`, if another process holds it.
    """
    with path.open("a+") as lock:
        if not taken(lock.fileno()):
            raise refusal
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        lock.truncate(0)


def taken(lock: int) -> bool:
    """Lock an open file, until it is closed; False: another process holds it."""
    while not _locked(lock, fcntl.LOCK_EX):
        if not _locked(lock, fcntl.LOCK_SH):
            return False
        fcntl.flock(lock, fcntl.LOCK_UN)  # somebody was only looking
        time.sleep(_LOOK_SECONDS)
    return True


def holder(path: Path) -> int:
    """The process that holds the lock; 0: none does."""
    pid = 0
    with contextlib.suppress(OSError, ValueError), path.open("r") as lock:
        deadline = time.monotonic() + _NAMED_SECONDS
        while not _locked(lock.fileno(), fcntl.LOCK_SH):
            lock.seek(0)
            text = lock.read().strip()
            pid = int(text) if text else 0
            # The name may be that of a holder that was killed, until the next has written its own.
            if (pid and _lives(pid)) or time.monotonic() > deadline:
                return pid
            time.sleep(_LOOK_SECONDS)
    return 0


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def _locked(lock: int, kind: int) -> bool:
    """Lock it if nobody's lock forbids it: shared locks forbid only exclusive ones."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
