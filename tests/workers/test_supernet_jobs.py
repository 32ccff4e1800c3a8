"""A supernet in a Celery worker, killed in its midst, derives the cell of an unbroken one."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import torch

from automl.checkpoints import Store
from automl.records import Pack, Segment, Status
from automl.study.preparing import saved_state
from automl.tasks.opening import open_task
from automl.train.segment import run

from .chaos import Stage, automl, send, training, tree
from .starting import until


def killed(folder: Path) -> bool:
    """A study in this folder whose supernet was killed; whether that was in its midst.

    It is over some seconds after its first checkpoint, and we may stand still for as long.
    """
    folder.mkdir()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, 3))
    rows = np.column_stack([x, (x[:, 0] * x[:, 1] > 0) + 0])
    np.savetxt(folder / "t.csv", rows, "%.4f", delimiter=",", header="a,b,c,y", comments="")
    sets = ("nas.darts.epochs=16", "nas.darts.fine_tune=1", "architecture.table_cells.width=16")
    command = automl(
        "tune", str(folder / "t.csv"), "--target", "y", "--nas", "darts", "--name", "s",
        *(part for text in sets for part in ("--set", text)), "--budget", "3trials",
        "--strategy", "random", "--pack", "off", "--mlflow", "off", "--quiet",
        "--runs", str(folder / "runs"),
    )  # fmt: skip
    stage = Stage(folder, workers=1)
    try:
        stage.drive(command)
        store = Store(folder / "runs" / "s" / "checkpoints")
        until("the supernet's first checkpoint", lambda: store.steps(1), seconds=600)
        processes = training(tree(stage.workers[0].pid))
        send(signal.SIGKILL, processes)
        if not processes or store.meta(1, store.steps(1)[-1])["report"] is not None:
            return False

        def ended() -> bool:
            supernet = saved_state("s", runs=folder / "runs").supernet()
            return supernet is not None and supernet.status == Status.DONE

        until("the supernet", ended, seconds=600)
        return True
    finally:
        stage.close()


def test_a_killed_supernet_derives_the_cell_of_an_unbroken_one(tmp_path: Path) -> None:
    place = next(folder for n in range(5) if killed(folder := tmp_path / str(n)))
    state = saved_state("s", runs=place / "runs")
    supernet = state.supernet()
    assert supernet is not None and state.config is not None
    torch.set_num_threads(1)
    recipe = supernet.recipe
    segment = Segment(1, recipe, 0, recipe.steps)
    task = open_task(state.config.spec)
    (whole,) = run(Pack((segment,), str(tmp_path / "whole")), task)
    assert supernet.found == whole.found
    assert supernet.passes == whole.passes
