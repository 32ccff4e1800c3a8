"""`automl ui`: MLflow's web pages on the store of our studies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import IO, Annotated

import typer

from automl.errors import StudyError
from automl.parents import end_with

from .options import Runs

_START_SECONDS = 120.0  # importing MLflow takes half a minute on a loaded machine


def ui(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")
    ] = 5000,
    runs: Runs = Path("runs"),
) -> None:
    """Open all trials in MLflow's web pages.

    Serves this machine only (127.0.0.1), until Ctrl-C.
    """
    store = runs / "mlflow.db"
    if not store.exists():
        raise StudyError(f"no MLflow store in {runs} yet; a study makes it: automl tune digits")
    log = runs / "mlflow-server.log"
    with listening(port) as line, log.open("w") as file, _server(runs, line, file) as server:
        address = address_of(line)
        try:
            typer.echo(f"starting MLflow on {address} (about half a minute) ...")
            _wait(server, address, log)
            for page in _pages(runs, address):
                typer.echo(page)
            typer.echo("Ctrl-C ends it")
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.terminate()
    typer.echo("MLflow has ended")


def listening(port: int) -> socket.socket:
    """A socket on this machine's own address, so that nobody takes the port before MLflow is up.

    `port` 0: a free one.

    Raises:
        StudyError: somebody listens there already.
    """
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        raise StudyError(f"port {port} is taken; choose another: --port {port + 1}") from None


def address_of(line: socket.socket) -> str:
    return f"http://127.0.0.1:{line.getsockname()[1]}"


def server_command(runs: Path) -> list[str]:
    """The server of the store of these studies, on the socket that is its standard input."""
    store, artifacts = (runs / name for name in ("mlflow.db", "mlflow-artifacts"))
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--uvicorn-opts", "--fd 0", "--backend-store-uri", f"sqlite:///{store.absolute()}"]
    return [*command, "--artifacts-destination", str(artifacts.absolute())]


def server_environment() -> dict[str, str]:
    # Without job execution: it would start eight more processes that nothing here uses.
    return {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _server(runs: Path, line: socket.socket, log: IO[str]) -> subprocess.Popen[bytes]:
    # A session of its own, so that Ctrl-C reaches us alone.
    return subprocess.Popen(
        server_command(runs),
        env=server_environment(),
        stdin=line.fileno(),
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=partial(end_with, os.getpid(), signal.SIGTERM),
    )


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise StudyError(f"MLflow's server ended while starting; see {log}")
        if answers(address):
            return
        time.sleep(0.3)
    raise StudyError(f"MLflow's server did not answer in {_START_SECONDS:.0f} s; see {log}")


def answers(address: str) -> bool:
    """Whether the server there is ready."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _pages(runs: Path, address: str) -> list[str]:
    """One line a study, the latest first: the page of its trials, best on top."""
    from automl.tracking.mirror import page_url

    folders = sorted(runs.glob("*/mlflow.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    lines = [f"{p.parent.name}: {page_url(address, p.parent)}" for p in folders]
    return lines or [f"all studies: {address}"]
