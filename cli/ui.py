"""`automl ui`: MLflow's web pages on the store of our studies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Annotated

import typer

from automl.errors import StudyError

from .options import Runs

_START_SECONDS = 120.0  # importing MLflow takes half a minute on a loaded machine


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    runs: Runs = Path("runs"),
) -> None:
    """Open all trials in MLflow's web pages.

    Serves this machine only (127.0.0.1), until Ctrl-C.
    """
    store = runs / "mlflow.db"
    if not store.exists():
        raise StudyError(f"no MLflow store in {runs} yet; a study makes it: automl tune digits")
    _check_free(port)
    address = f"http://127.0.0.1:{port}"
    log = runs / "mlflow-server.log"
    typer.echo(f"starting MLflow on {address} (about half a minute) ...")
    with log.open("w") as file, _server(store, runs / "mlflow-artifacts", port, file) as server:
        try:
            _wait(server, address, log)
            for line in _pages(runs, address):
                typer.echo(line)
            typer.echo("Ctrl-C ends it")
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.terminate()
    typer.echo("MLflow has ended")


def _server(store: Path, artifacts: Path, port: int, log: IO[str]) -> subprocess.Popen[bytes]:
    # Without job execution: it would start eight more processes that nothing here uses.
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{store.absolute()}"]
    command += ["--artifacts-destination", str(artifacts.absolute())]
    # A session of its own, so that Ctrl-C reaches us alone.
    return subprocess.Popen(
        command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )


def _check_free(port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise StudyError(f"port {port} is taken; choose another: --port {port + 1}") from None


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise StudyError(f"MLflow's server ended while starting; see {log}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise StudyError(f"MLflow's server did not answer in {_START_SECONDS:.0f} s; see {log}")


def _pages(runs: Path, address: str) -> list[str]:
    """One line a study, the latest first: the page of its trials, best on top."""
    from automl.tracking.mirror import page_url

    folders = sorted(runs.glob("*/mlflow.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    lines = [f"{p.parent.name}: {page_url(address, p.parent)}" for p in folders]
    return lines or [f"all studies: {address}"]
