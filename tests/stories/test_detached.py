"""A study is left to the driver service, which is killed, started again and looked at."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from automl.service import handed_over, serving
from automl.study.preparing import saved_state

from ..study.test_control import AUTOML, HELD, Run, tune


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_detached_study_outlives_its_service(
    automl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text(HELD)
    (tmp_path / "baseline").touch()
    runs = tmp_path / "runs"
    told = subprocess.run(
        tune(tmp_path, "s", "--detach"), cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    service = psutil.Process(serving(runs))
    assert told.startswith(f"s is run by the driver service, process {service.pid}\n")
    until(lambda: saved_state("s", runs=runs).trials)
    family = [service, *service.children(recursive=True)]
    assert len(family) >= 3  # service, driver, training process
    service.kill()
    _, left = psutil.wait_procs(family, timeout=120)
    assert not left
    (tmp_path / "baseline").unlink()
    assert serving(runs) == 0 and handed_over(runs) == ["s"]
    assert saved_state("s", runs=runs).verdict is None

    with (tmp_path / "service.log").open("w") as log:
        again = subprocess.Popen([AUTOML, "driver", "start"], cwd=tmp_path, stdout=log, stderr=log)
    try:
        until(lambda: serving(runs) == again.pid)
        second = automl("driver", "start")
        assert second.returncode == 2
        assert f"process {again.pid} is the driver service of runs already" in second.stderr
        look = automl("attach", "s")
        assert look.returncode in (0, 3), look.stderr
        assert look.stdout.startswith(("s: goes on after ", "s: no trial has ended yet"))
        assert "report   runs/s/report.html" in look.stdout
        until(lambda: not handed_over(runs))
    finally:
        again.send_signal(signal.SIGTERM)
        assert again.wait(120) == 0
    assert "  done  " in automl("ls").stdout
    assert "s: ended" in (tmp_path / "service.log").read_text()


def test_what_does_not_run_cannot_be_attached_to(
    automl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = automl("attach", "x")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no study named 'x'" in done.stderr
