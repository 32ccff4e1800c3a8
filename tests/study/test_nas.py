"""--nas in a study: the supernet survives kill -9, and what it finds competes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from automl.checkpoints import Store
from automl.errors import StudyError
from automl.recipe import Recipe
from automl.search.strategy import make_strategy
from automl.space.ranges import Choice, Float
from automl.space.tree import Space
from automl.study.architecture import checked_nas
from automl.study.preparing import saved_state
from automl.study.state import State

EDGES = ("e01", "e02", "e12", "e03", "e13", "e23")


def command(runs: Path) -> list[str]:
    small = ["architecture=mlp,cells", "architecture.cells.cells=1", "architecture.cells.width=4"]
    small += [f"architecture.cells.{e}=skip,conv1" for e in EDGES]
    small += ["nas.darts.epochs=30", "nas.darts.fine_tune=1", "optimizer=adamw", "batch=none"]
    sets = [part for s in small for part in ("--set", s)]
    return [
        str(Path(sys.executable).parent / "automl"), "tune", "digits", "--nas", "darts",
        "--name", "s", "--epochs", "4", "--budget", "3trials", "--strategy", "random", "--seeds",
        "1", "--workers", "1", "--mlflow", "off", "--quiet", "--pack", "off", "--runs", str(runs),
        *sets,
    ]  # fmt: skip


def found(state: State) -> dict[str, object]:
    supernet = state.supernet()
    assert supernet is not None and supernet.found is not None
    return {**supernet.found, "passes": supernet.passes}


@pytest.mark.slow
def test_a_supernet_killed_in_its_midst_finds_the_same(tmp_path: Path) -> None:
    calm = subprocess.run(command(tmp_path / "calm"), capture_output=True, text=True)
    assert calm.returncode in (0, 3), calm.stderr
    undisturbed = saved_state("s", runs=tmp_path / "calm")
    supernet = undisturbed.supernet()
    assert supernet is not None
    driver = subprocess.Popen(
        command(tmp_path / "stormy"),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    store = Store(tmp_path / "stormy" / "s" / "checkpoints")
    while not store.steps(supernet.number) and driver.poll() is None:
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert saved_state("s", runs=tmp_path / "stormy").supernet() is not None
    (step,) = store.steps(supernet.number)
    assert step < supernet.recipe.steps  # killed in its midst
    last = subprocess.run(command(tmp_path / "stormy"), capture_output=True, text=True)
    assert last.returncode == calm.returncode, last.stderr
    disturbed = saved_state("s", runs=tmp_path / "stormy")
    assert found(disturbed) == found(undisturbed)
    (derived,) = (t for t in disturbed.search_trials() if t.label == "derived")
    assert derived.status == "done"
    assert derived.recipe.point["architecture"] == "cells"
    assert supernet.number not in [t.number for t in disturbed.search_trials()]


def test_what_is_enqueued_comes_next_and_numbers_leave_no_gap() -> None:
    space = Space({"lr": Float(1e-3, 1.0, log=True, default=0.1), "act": Choice(["a", "b"])})
    strategy = make_strategy("random", space, fidelity=(10, 10, 3), direction="maximize", seed=0)
    strategy.ask(1)
    assert strategy.reserve(Recipe({"nas": "darts"}, steps=5), "supernet darts") == 1
    strategy.enqueue({"lr": 0.5, "act": "b"}, "derived")
    assert strategy.queued == 1
    (segment,) = strategy.ask(1)
    assert (segment.trial, dict(segment.recipe.point)) == (2, {"lr": 0.5, "act": "b"})
    assert [strategy.label(n) for n in range(3)] == ["baseline", "supernet darts", "derived"]
    assert strategy.queued == 0


def test_an_unknown_search_is_refused_with_its_nearest() -> None:
    assert checked_nas("pc-darts") == "pc-darts"
    with pytest.raises(
        StudyError, match="--nas dart: no such search; nearest: 'darts'; beta"
    ):
        checked_nas("dart")
