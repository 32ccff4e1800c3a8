"""What every test shares: one thread a process, and no library's noise."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from automl.executors.valkey import Server

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

# Started in the background, we ignore Ctrl-C, and so would every process that we start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A property must hold on a busy machine, too: nothing here is judged by the clock.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real Redis server, started when the first test asks for it."""
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def automl(capsys: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command in this process, by the door of the real one; its workers are processes."""
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="automl")
    main = script.load()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, out, err)

    return run
