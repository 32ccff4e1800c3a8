"""Where the queue is: an address from the environment, a file or, without a secret, an option.

Anyone on the machine can read a command line with `ps`, so one with a password is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from automl.errors import ExecutorError

_LEASE = "AUTOML_LEASE_SECONDS"
_VARIABLE, _FILE = "AUTOML_BROKER", "AUTOML_BROKER_FILE"


def broker_url(given: str | None) -> str | None:
    """Address of the Redis server, or None when nobody named one.

    Args:
        given: what was typed after --broker: a URL, or @FILE that holds it.

    Raises:
        ExecutorError: it is no address of Redis, or holds a password where `ps` shows it.
    """
    if given is not None and not given.startswith("@"):
        if urlsplit(given).password:
            raise ExecutorError(
                f"--broker {redacted(given)}: `ps` shows a password there; put the address into "
                f"{_VARIABLE}, or a file: --broker @FILE"
            )
        return _checked(given, "--broker")
    if given is not None:
        return _checked(_read(given[1:], "--broker"), given)
    if os.environ.get(_VARIABLE):
        return _checked(os.environ[_VARIABLE], _VARIABLE)
    if os.environ.get(_FILE):
        return _checked(_read(os.environ[_FILE], _FILE), _FILE)
    return None


def lease_seconds() -> float:
    """How long a worker may be silent until its segment is another's: 30 s, or as is said there.

    Raises:
        ExecutorError: AUTOML_LEASE_SECONDS is no length of 2 s or more.
    """
    text = os.environ.get(_LEASE, "30")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 2 <= seconds < float("inf"):
        raise ExecutorError(f"{_LEASE} {text}: give seconds, 2 or more")
    return seconds


def redacted(url: str) -> str:
    """The address without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{place}"))


def _read(path: str, option: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ExecutorError(f"{option}: cannot read {path}: {error.strerror}") from None


def _checked(url: str, where: str) -> str:
    if urlsplit(url).scheme not in ("redis", "rediss"):
        raise ExecutorError(
            f"{where} {redacted(url)}: give redis://HOST:6379/0, or rediss:// (TLS)"
        )
    return url
