"""The driver's handle on the mirror process, and the address of its page; no mlflow here.

The mirror is a session of its own: Ctrl-C in the driver's terminal does not reach it. Its standard
input is a pipe that the driver holds open. When the pipe ends, because the driver closed it
(`finish`) or died, the mirror writes what the journal holds and leaves; a store that does not
answer keeps it at most a minute longer. So it never outlives its driver for long, and never loses
what it could still write. The next run of the study copies whatever is missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

LOG = "mlflow.log"
_TRAINING = "?workflowType=machine_learning"  # otherwise MLflow opens its pages for agents
ADDRESS = "mlflow.json"  # where the study is in MLflow; written by the mirror


class MirrorProcess:
    """A running mirror. Made by `start`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    def finish(self, timeout: float) -> bool:
        """Let the mirror write the rest and leave; wait for that up to `timeout` seconds.

        Returns:
            True when MLflow has everything. False when it has not yet (the mirror goes on alone)
            or could not be reached (`trouble` says why).
        """
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            return self._process.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            return False

    @property
    def trouble(self) -> str:
        """Why the mirror gave up, in one line; "" when it did not."""
        if self._process.poll() in (None, 0):
            return ""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the mirror ended with status {self._process.returncode}"


def start(journal_url: str, study: str, store_uri: str, folder: Path) -> MirrorProcess:
    """Start the mirror of `study` and return at once.

    Args:
        journal_url: what `Journal` takes.
        study: its name.
        store_uri: MLflow's tracking URI: "sqlite:///runs/mlflow.db", "http://host:5000".
        folder: the study's folder: files to attach at the end, and the mirror's log.
    """
    log = folder / LOG
    with log.open("wb") as stderr:
        arguments = [str(journal_url), study, store_uri, str(folder)]
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "automl.tracking.mlflow", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    return MirrorProcess(process, log)


def page_url(server: str, folder: Path, *, saved_view: bool = True) -> str:
    """Address of the study's page on an MLflow server such as "http://127.0.0.1:5000".

    The server's front page while the mirror has not yet written anything. Without `saved_view`,
    an address that does not rest on MLflow's internal format.
    """
    address = _address(folder)
    if not address:
        return server
    query = address["query"] if saved_view else address["plain"]
    return f"{server.rstrip('/')}/#/experiments/{address['experiment']}/runs{query}"


def study_url(server: str, folder: Path) -> str:
    """Address of the study's parent run: its report and files."""
    address = _address(folder)
    if not address:
        return server
    page = f"experiments/{address['experiment']}/runs/{address['run']}{_TRAINING}"
    return f"{server.rstrip('/')}/#/{page}"


def _address(folder: Path) -> Mapping[str, str]:
    try:
        found: dict[str, str] = json.loads((folder / ADDRESS).read_text())
    except (OSError, ValueError):
        return {}
    return found
