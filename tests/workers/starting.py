"""Starts real Celery workers, each a process tree of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path


def start(
    url: str,
    queue: str,
    logs: Path,
    *,
    name: str = "w0",
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """An ordinary worker of the app; it takes messages some seconds later."""
    celery = Path(sys.executable).parent / "celery"
    command = [
        str(celery), "-A", "automl.workers.app", "worker", "-Q", queue, "-c", "1",
        "-n", f"{name}@{queue}", "--loglevel", "INFO",
    ]  # fmt: skip
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{name}.log").open("ab") as output:
        return subprocess.Popen(
            command,
            env={
                **os.environ,
                "AUTOML_BROKER": url,
                "AUTOML_LOGS": str(logs),
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


@contextlib.contextmanager
def worker(
    url: str,
    queue: str,
    logs: Path,
    *,
    name: str = "w0",
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    process = start(url, queue, logs, name=name, environment=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(what: str, true: Callable[[], object], *, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
