"""`automl up` brings a whole queue to one machine, and `automl down` leaves nothing of it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from automl.executors.celery import living

from ..study.test_control import AUTOML

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def say(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    secret = ("AUTOML_BROKER", "AUTOML_KEY")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(secret)}
    stack = place / "runs" / ".stack"
    if (stack / "broker").exists():
        environment["AUTOML_BROKER_FILE"] = str(stack / "broker")
        environment["AUTOML_KEY_FILE"] = str(stack / "key")
    return subprocess.run(
        [AUTOML, *words], cwd=place, env=environment, capture_output=True, text=True
    )


def family(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


@pytest.mark.slow
def test_the_first_block_of_the_operations_page_works_as_written(tmp_path: Path) -> None:
    (block,) = re.findall(r"```\n(automl up.*?)```", PAGE, re.S)
    processes: list[psutil.Process] = []
    stack = tmp_path / "runs" / ".stack"
    stack.mkdir(parents=True)  # as a killed one leaves it
    (stack / "stack.json").write_text("{}")
    (stack / "broker").write_text("redis://127.0.0.1:1/0")
    try:
        for line in block.splitlines():
            if line.startswith("export"):
                here = "$PWD/runs/.stack"  # as `say` does
                assert line == (
                    f"export AUTOML_BROKER_FILE={here}/broker AUTOML_KEY_FILE={here}/key"
                )
                continue
            done = say(tmp_path, *line.split()[1:])
            assert done.returncode in ((0, 3) if "attach" in line else (0,)), (line, done.stderr)
            if line.startswith("automl up"):
                processes = family(int((stack / "lock").read_text()))
                assert f"export AUTOML_BROKER_FILE={stack / 'broker'}" in done.stdout
                _is_up_once(tmp_path, done.stdout, processes)
                _is_secret(stack, processes)
            if line == "automl worker ls":
                assert done.stdout.splitlines()[1].startswith("cpu-0")
            if "attach" in line:
                assert "report   runs/first/report.html" in done.stdout
        assert done.stdout == "down\n"
        _, left = psutil.wait_procs(processes, timeout=120)
        assert not left
        assert not (stack / "broker").exists()
        assert say(tmp_path, "down").stdout == "nothing is up for runs\n"
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _is_up_once(place: Path, told: str, processes: list[psutil.Process]) -> None:
    (address,) = re.findall(r"^MLflow +(\S+)", told, re.M)
    with urllib.request.urlopen(f"{address}/health") as answer:
        assert answer.status == 200
    again = say(place, "up")
    assert again.returncode == 0
    assert "is up already" in again.stdout and address in again.stdout
    keeper = [c for c in processes[0].net_connections("tcp") if c.status == "LISTEN"]
    assert [f"http://127.0.0.1:{c.laddr.port}" for c in keeper] == [address]  # held all the while
    assert processes[0].is_running()


def _is_secret(stack: Path, processes: list[psutil.Process]) -> None:
    for file in (stack / "broker", stack / "key", stack / "redis" / "redis.conf"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    url = (stack / "broker").read_text()
    secret = url.split("@")[0].removeprefix("redis://:")
    key = (stack / "key").read_text().strip()
    assert len(secret) > 20 and len(key) > 20
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            line = " ".join(process.cmdline())
            assert secret not in line and key not in line
    assert len(living(url)) == 1


def test_every_command_and_option_of_the_page_is_there(automl: Run) -> None:
    lines = set(re.findall(r"automl [a-z][^`\n|]*", PAGE))
    assert len(lines) > 20
    helps: dict[str, str] = {}
    for line in lines:
        words = line.split("#")[0].split()[1:]
        name = " ".join(words[: 2 if words[0] in ("worker", "driver") else 1])
        if name not in helps:
            done = automl(*name.split(), "--help")
            assert done.returncode == 0, line
            helps[name] = done.stdout
        for option in re.findall(r"--[a-z-]+", line):
            assert option in helps[name], line


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = say(tmp_path, "up", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "is taken; choose another" in done.stderr and done.stderr.count("\n") == 1


def test_the_pages_end_with_the_command_that_is_killed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "mlflow.db").touch()
    command = subprocess.Popen([AUTOML, "ui", "--port", "0"], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while len(processes := family(command.pid)) < 2:  # the server as well
        assert command.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    command.kill()
    command.wait()
    _, left = psutil.wait_procs(processes, timeout=120)
    assert not left
