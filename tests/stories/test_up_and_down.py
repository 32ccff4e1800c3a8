"""`automl up` brings a whole queue to one machine, and `automl down` leaves nothing of it."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import urllib.request
from pathlib import Path

import psutil
import pytest

from automl.executors.celery import living
from automl.executors.valkey import free_port

from ..study.test_control import AUTOML


def say(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AUTOML_BROKER")}
    broker = place / "runs" / ".stack" / "broker"
    if broker.exists():
        environment["AUTOML_BROKER_FILE"] = str(broker)
    return subprocess.run(
        [AUTOML, *words], cwd=place, env=environment, capture_output=True, text=True
    )


def family(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


@pytest.mark.slow
def test_up_twice_is_up_once_and_down_leaves_no_process(tmp_path: Path) -> None:
    assert say(tmp_path, "down").stdout == "nothing is up for runs\n"
    port = free_port()
    processes: list[psutil.Process] = []
    try:
        up = say(tmp_path, "up", "--slots", "1", "--port", str(port))
        assert up.returncode == 0, up.stderr
        stack = tmp_path / "runs" / ".stack"
        assert f"export AUTOML_BROKER_FILE={stack / 'broker'}" in up.stdout
        processes = family(int((stack / "lock").read_text()))
        again = say(tmp_path, "up")
        assert again.returncode == 0
        assert "is up already" in again.stdout and f"http://127.0.0.1:{port}" in again.stdout
        assert {p.pid for p in family(processes[0].pid)} >= {p.pid for p in processes[:4]}

        # The address is a secret, and it works.
        url = (stack / "broker").read_text()
        assert stat.S_IMODE((stack / "broker").stat().st_mode) == 0o600
        assert stat.S_IMODE((stack / "redis" / "redis.conf").stat().st_mode) == 0o600
        secret = url.split("@")[0].removeprefix("redis://:")
        assert len(secret) > 20
        assert not any(secret in " ".join(p.cmdline()) for p in processes if p.is_running())
        (worker,) = living(url)
        assert worker.split("@")[0] in say(tmp_path, "worker", "ls").stdout
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200
        assert json.loads((stack / "stack.json").read_text())["slots"] == 1

        down = say(tmp_path, "down")
        assert (down.returncode, down.stdout) == (0, "down\n")
        _, left = psutil.wait_procs(processes, timeout=20)
        assert not left
        assert not (stack / "broker").exists()
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = say(tmp_path, "up", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "is taken; choose another" in done.stderr and done.stderr.count("\n") == 1
