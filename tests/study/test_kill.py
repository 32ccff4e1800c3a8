"""`kill -9` of the driver, again and again: the study ends as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from automl.study.journal import Journal
from automl.study.preparing import saved_state
from automl.study.state import State

KILLS = 20

TASK = """
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(600, 8)
y = (x[:, 0] * x[:, 1] + 0.3 * torch.randn(600) > 0).long()
data = (x, y)
metric = "accuracy"
epochs = 60


def model(width: "log 8..64" = 16, dropout: "0.0..0.5" = 0.1):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 2))
"""


def command(folder: Path, runs: str) -> list[str]:
    automl = Path(sys.executable).parent / "automl"
    return [
        str(automl), "tune", str(folder / "task.py"), "--name", "s", "--budget", "20trials",
        "--strategy", "asha", "--seeds", "2", "--workers", "1", "--mlflow", "off", "--quiet",
        "--pack", "4", "--set", "model.width=16", "--runs", str(folder / runs),
    ]  # fmt: skip


def fingerprint(state: State) -> dict[int, Any]:
    """Everything of a study that must not depend on when it was killed."""
    return {
        t.number: (
            t.recipe.key, t.phase, t.label, t.status, t.reached, t.passes,
            [(step, m[state.metric], m["train/loss"]) for step, m in t.curve],
            t.test and dict(t.test),
        )
        for t in state.trials.values()
    }  # fmt: skip


@pytest.mark.slow
def test_a_driver_killed_twenty_times_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    calm = subprocess.run(command(tmp_path, "calm"), capture_output=True, text=True)
    assert calm.returncode in (0, 3), calm.stderr
    rng = random.Random(1)
    storms, kills = ["stormy"], 0
    while kills < KILLS:
        journal = tmp_path / storms[-1] / "s" / "journal.db"
        driver = subprocess.Popen(
            command(tmp_path, storms[-1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if kills % 5:  # one in five dies while it starts, the others while they work
            before = _events(journal)
            while _events(journal) == before and driver.poll() is None:
                time.sleep(0.1)
        time.sleep(rng.uniform(0, 0.5 if kills % 5 else 3.0))
        if driver.poll() is not None:  # done while we stood still: the next kills hit another
            assert driver.returncode == calm.returncode
            storms.append(f"stormy {len(storms)}")
            continue
        family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        kills += 1
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive, f"left over after kill {kills}: {alive}"
    undisturbed = saved_state("s", runs=tmp_path / "calm")
    for runs in storms:
        last = subprocess.run(command(tmp_path, runs), capture_output=True, text=True)
        assert last.returncode == calm.returncode, last.stderr
        disturbed = saved_state("s", runs=tmp_path / runs)
        assert len(disturbed.packed) > KILLS / 2
        assert fingerprint(disturbed) == fingerprint(undisturbed)
        assert disturbed.ended == "done"


def _events(journal: Path) -> int:
    if not journal.exists():
        return 0
    try:
        reader = Journal(journal, "s")
    except Exception:  # not yet a journal: its driver is making it
        return 0
    try:
        return reader.last
    finally:
        reader.close()
