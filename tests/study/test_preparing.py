"""A study is prepared for seconds, in which other processes may do the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from automl.errors import StudyError
from automl.study import preparing
from automl.study.journal import Journal, writer
from automl.study.options import TuneOptions
from automl.study.smoke import smoke_trial

TASK = """
import torch
from torch import nn

data = (torch.arange(240.0).reshape(60, 4) / 240, torch.arange(60) % 2)
metric = "accuracy"
epochs = 1


def model(width: "log 4..8" = 4):
    return nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2))
"""


def test_a_study_that_another_process_begins_meanwhile_is_not_begun_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "task.py").write_text(TASK)
    journal = tmp_path / "runs" / "s" / "journal.db"

    def while_another_begins(executor: Any, config: Any, folder: Path, **more: Any) -> Any:
        journal.parent.mkdir()
        with Journal(journal, "s", write=True) as other:
            other.append([{"kind": "study", "at": 1.0, "config": config.to_json()}])
        return smoke_trial(executor, config, folder, **more)

    monkeypatch.setattr(preparing, "smoke_trial", while_another_begins)
    options = TuneOptions(
        tmp_path / "task.py", name="s", budget="2trials", workers=1, pack="off", mlflow="off",
        runs=tmp_path / "runs",
    )  # fmt: skip
    with pytest.raises(StudyError, match="'s' was begun by another process meanwhile"):
        preparing.prepare(options)
    assert writer(journal, "s") == ""
    with Journal(journal, "s", write=True) as left:  # a driver of the service hands it back
        assert left.last == 1
        order = {"study": "s", "service": os.getpid(), "runs": str(tmp_path / "runs")}
        done = subprocess.run(
            [sys.executable, "-m", "automl.service"], input=json.dumps({**order, "journal": None}),
            capture_output=True, text=True,
        )  # fmt: skip
        assert "'s' is being run by process" in done.stderr
        assert done.returncode == 75
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["s"]
