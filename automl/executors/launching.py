"""Starts one Celery worker a device slot on this machine, and keeps them alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from automl.errors import ExecutorError

_POLL_SECONDS = 0.2
_AGAIN_SECONDS = 2.0  # before a worker that died is started again


@dataclass
class _Slot:
    name: str  # "cpu-0"
    device: str
    process: subprocess.Popen[bytes]
    again: float = field(default=0.0)  # when to start it again; 0: it runs


def devices_of(text: str) -> list[str]:
    """Devices as typed: "cpu" or "0,1".

    Raises:
        ExecutorError: it is neither.
    """
    devices = [d.strip() for d in text.split(",")]
    if not all(d == "cpu" or d.isdecimal() for d in devices):
        raise ExecutorError(f"--devices {text}: give cpu, or numbers of GPUs such as 0,1")
    return devices


def keep_running(
    url: str,
    *,
    queue: str,
    devices: Sequence[str],
    slots: int,
    logs: Path,
    say: Callable[[str], None],
    runner_memory: int | None = None,
) -> None:
    """Run workers until SIGTERM or Ctrl-C; then they hand over what they train and end.

    A training process that holds more than `runner_memory` bytes after an order is replaced; None:
    more than its part of half of the machine's memory.

    The address travels in the environment, where `ps` does not show it to others. A worker that
    ends by itself with exit code 0 was drained; it is not started again.
    """
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    old = [(s, signal.signal(s, stop)) for s in (signal.SIGTERM, signal.SIGINT)]
    names = [(f"{d if d == 'cpu' else f'gpu{d}'}-{n}", d) for d in devices for n in range(slots)]
    most = runner_memory or psutil.virtual_memory().total // 2 // len(names)

    def begin(name: str, device: str) -> subprocess.Popen[bytes]:
        return _start(url, queue, name, device, logs, slots, most)

    running = [_Slot(name, d, begin(name, d)) for name, d in names]
    say(f"{len(running)} on queue {queue}: {', '.join(s.name for s in running)}; logs in {logs}")
    try:
        while running and not stopping:
            time.sleep(_POLL_SECONDS)
            for slot in list(running):
                code = slot.process.poll()
                if code == 0:
                    say(f"{slot.name} was drained")
                    running.remove(slot)
                elif code is not None and not slot.again:
                    say(f"{slot.name} ended with code {code}; it is started again")
                    slot.again = time.monotonic() + _AGAIN_SECONDS
                elif slot.again and time.monotonic() > slot.again:
                    slot.process = begin(slot.name, slot.device)
                    slot.again = 0.0
    finally:
        for slot in running:
            slot.process.terminate()
        for slot in running:
            slot.process.wait()
        for number, handler in old:
            signal.signal(number, handler)


def _start(
    url: str, queue: str, name: str, device: str, logs: Path, slots: int, most: int
) -> subprocess.Popen[bytes]:
    logs.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "AUTOML_BROKER": url,
        "AUTOML_LOGS": str(logs.absolute()),
        "AUTOML_DEVICE": device,
        "AUTOML_SLOTS": str(slots),
        "AUTOML_RUNNER_MEMORY": f"{most / 1e6}m",
        "AUTOML_LAUNCHED": str(os.getpid()),  # it ends with us
    }
    command = [
        sys.executable, "-m", "celery", "-A", "automl.workers.app", "worker", "-Q", queue,
        "-c", "1", "-n", f"{name}@%h", "--loglevel", "INFO",
        "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    with (logs / f"{name}.log").open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is the launcher's to hear
        )
