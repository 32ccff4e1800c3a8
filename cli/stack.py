"""The processes behind `automl up`, and the one that keeps them: `python -m automl.cli.stack`.

    Redis or Valkey     on this machine's own address, with a password that this machine's user has
    workers             one a slot, on queue cpu
    MLflow's server     on the store of the studies
    driver service      runs the studies that were detached

All of them end with their keeper, however it ends. Their files lie in `.stack` of the studies'
folder; `broker` there holds the address with its password, `key` what studies are signed with.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from automl.alone import held, holder
from automl.errors import AutomlError, ExecutorError, StudyError
from automl.executors.valkey import Server
from automl.parents import end_with
from automl.signing import new_key_file

from .ui import address_of, listening, server_command, server_environment

_PORT = 5000  # MLflow's own habit
_POLL_SECONDS = 0.2
_AGAIN_SECONDS = 2.0  # before a process that died is started again
_LEAVE_SECONDS = 60.0  # for studies and segments to save themselves


@dataclass(frozen=True)
class Place:
    """Files of the stack of one studies' folder."""

    runs: Path

    @property
    def folder(self) -> Path:
        return self.runs.absolute() / ".stack"

    @property
    def broker(self) -> Path:
        return self.folder / "broker"

    @property
    def key(self) -> Path:
        return self.folder / "key"

    def facts(self) -> dict[str, Any]:
        """What its keeper has said of it; {} until it has, or when there is none."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "stack.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if found.get("keeper") == self.keeper() else {}

    def tell(self, facts: dict[str, Any]) -> None:
        """Say what this process, its keeper, has made of it."""
        part = self.folder / "stack.part"
        part.write_text(json.dumps({**facts, "keeper": os.getpid()}))
        part.replace(self.folder / "stack.json")

    @property
    def log(self) -> Path:
        return self.folder / "keeper.log"

    def keeper(self) -> int:
        """The process that keeps it; 0: it is not up."""
        return holder(self.folder / "lock")


@dataclass
class _Part:
    name: str
    command: Sequence[str]
    environment: dict[str, str]
    stdin: int = subprocess.DEVNULL
    process: subprocess.Popen[bytes] | None = None
    again: float = 0.0


def _keep(runs: Path, slots: int, port: int, stop: Callable[[], bool]) -> None:
    """Start everything and keep it alive until `stop`; port 0: MLflow's own, or a free one."""
    place, with_us = Place(runs), partial(end_with, os.getpid(), signal.SIGTERM)
    refusal = ExecutorError("it is up already")
    with held(place.folder / "lock", refusal), _line(port) as line:
        password = secrets.token_urlsafe(24)
        server = Server(place.folder / "redis", password=password, setup=with_us)
        _private(place.broker, server.url)
        here = {**os.environ, "AUTOML_BROKER_FILE": str(place.broker)}
        here["AUTOML_KEY_FILE"] = str(new_key_file(place.key))
        for given in ("AUTOML_BROKER", "AUTOML_KEY"):  # they would go before the files
            here.pop(given, None)
        ours = [sys.executable, "-m", "automl.cli"]
        logs = str(place.folder / "workers")
        parts = [
            _Part("driver", [*ours, "driver", "start", "--runs", str(runs)], here),
            _Part(
                "workers", [*ours, "worker", "start", "--slots", str(slots), "--logs", logs], here
            ),
            _Part("mlflow", server_command(runs), server_environment(), line.fileno()),
        ]
        place.tell({"mlflow": address_of(line), "port": server.port, "slots": slots})
        try:
            while not stop():
                if server.process.poll() is not None:
                    server.start()
                for part in parts:
                    _alive(part, place.folder)
                time.sleep(_POLL_SECONDS)
        finally:
            for part in parts:  # the driver first: its studies save themselves through the others
                _end(part)
            server.stop()
            place.broker.unlink(missing_ok=True)


def _line(port: int) -> socket.socket:
    if port:
        return listening(port)
    try:
        return listening(_PORT)
    except StudyError:
        return listening(0)


def _alive(part: _Part, folder: Path) -> None:
    """Start it, or start it again some time after its death."""
    now = time.monotonic()
    if part.process is not None and part.process.poll() is not None:
        part.process, part.again = None, now + _AGAIN_SECONDS
    if part.process is None and now >= part.again:
        with (folder / f"{part.name}.log").open("ab") as output:
            part.process = subprocess.Popen(
                part.command,
                env=part.environment,
                stdin=part.stdin,
                stdout=output,
                stderr=output,
                preexec_fn=partial(end_with, os.getpid(), signal.SIGTERM),
            )


def _end(part: _Part) -> None:
    if part.process is None:
        return
    part.process.terminate()
    try:
        part.process.wait(_LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        part.process.kill()
        part.process.wait()


def _private(path: Path, text: str) -> None:
    """Write a file that nobody else may read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _main(arguments: Sequence[str]) -> int:
    asked = False

    def stop(*_: Any) -> None:
        nonlocal asked
        asked = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    runs, slots, port = arguments
    try:
        _keep(Path(runs), int(slots), int(port), lambda: asked)
    except AutomlError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
