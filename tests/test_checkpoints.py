"""Checkpoints are whole or absent, whatever is killed when."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from automl.checkpoints import Store
from automl.errors import CheckpointError


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    store = Store(tmp_path)
    tensors = {"model/w": torch.randn(3, 4), "train/t": torch.tensor(7)}
    store.save(5, 40, tensors, {"curve": [[10, {"lr": 0.1}]]})
    loaded, meta = store.load(5, 40)
    assert all(torch.equal(loaded[name], t) for name, t in tensors.items())
    assert meta == {"curve": [[10, {"lr": 0.1}]]}
    assert store.steps(5) == [40]


def test_a_trial_can_be_deleted_by_step_or_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for step in (10, 20, 30):
        store.save(1, step, {"w": torch.zeros(1)}, {})
    store.delete(1, 20)
    assert store.steps(1) == [10, 30]
    store.delete(1)
    store.delete(1)
    assert store.steps(1) == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no readable checkpoint in .*/1/10"):
        Store(tmp_path).load(1, 10)


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.writing(1, 10) as folder:
        (folder / "half").write_text("half")
        raise RuntimeError
    assert store.steps(1) == []


_WRITER = """
import sys, torch
from automl.checkpoints import Store
store = Store(sys.argv[1])
print("ready", flush=True)
step = 0
while True:
    step += 1
    store.save(1, step, {"w": torch.full((50_000,), float(step))}, {"step": step})
"""


def test_a_killed_writer_leaves_whole_checkpoints_only(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    time.sleep(0.3)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    store = Store(tmp_path)
    assert store.steps(1)
    for step in store.steps(1):
        tensors, meta = store.load(1, step)
        assert meta["step"] == step
        assert torch.equal(tensors["w"], torch.full((50_000,), float(step)))
