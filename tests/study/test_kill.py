"""`kill -9` of the driver, again and again: the study ends as if nothing had happened."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from automl.study.journal import Journal
from automl.study.preparing import saved_state
from automl.study.state import State

from ..press import AUTOML, Press

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


def words(folder: Path, runs: str) -> list[str]:
    return [
        "tune", str(folder / "task.py"), "--name", "s", "--budget", "20trials",
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
def test_a_driver_killed_twenty_times_ends_like_an_undisturbed_one(
    press: Press, tmp_path: Path
) -> None:
    (tmp_path / "task.py").write_text(TASK)
    calm = press.run(*words(tmp_path, "calm"), cwd=tmp_path)
    assert calm.returncode in (0, 3), calm.stderr
    rng = random.Random(1)
    journal = tmp_path / "stormy" / "s" / "journal.db"
    storm = words(tmp_path, "stormy")
    out = tmp_path / "stormy.txt"
    kills = 0
    while kills < KILLS:
        # One in five dies while it starts, as a process of its own; the others while they work.
        starting = kills % 5 == 0
        driver = _begun(storm, out) if starting else press.start(*storm, cwd=tmp_path, out=out)
        if not starting:
            before = _events(journal)
            while _events(journal) == before and driver.poll() is None:
                time.sleep(0.1)
        time.sleep(rng.uniform(0, 3.0 if starting else 0.5))
        if driver.poll() is not None:
            break  # done before its last kill
        top = psutil.Process(driver.pid if starting else press.pid)
        family = [psutil.Process(driver.pid), *top.children(recursive=True)]
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        kills += 1
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive, f"left over after kill {kills}: {alive}"
    last = press.run(*storm, cwd=tmp_path)
    assert last.returncode == calm.returncode, last.stderr
    undisturbed = saved_state("s", runs=tmp_path / "calm")
    disturbed = saved_state("s", runs=tmp_path / "stormy")
    assert kills == KILLS
    assert len(disturbed.packed) > KILLS / 2
    assert fingerprint(disturbed) == fingerprint(undisturbed)
    assert disturbed.ended == "done"


def _begun(arguments: list[str], out: Path) -> subprocess.Popen[bytes]:
    with out.open("ab") as file:
        return subprocess.Popen([AUTOML, *arguments], stdout=file, stderr=file)


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
