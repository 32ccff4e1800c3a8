"""The optimizers for small networks, from the command line."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

AUTOML = str(Path(sys.executable).parent / "automl")


@pytest.mark.slow
def test_the_small_space_trains_its_unusual_optimizers(tmp_path: Path) -> None:
    command = [
        AUTOML, "tune", "digits", "--space", "small", "--set", "optimizer=lbfgs,lm_ma_es,lifting",
        "--budget", "4trials", "--strategy", "random", "--seeds", "1", "--epochs", "1",
        "--workers", "1", "--mlflow", "off", "--name", "small",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode in (0, 3), done.stderr
    table = (tmp_path / "runs" / "small" / "trials.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    trained = {row["optimizer"] for row in rows if row["status"] == "done"}
    assert trained == {"lbfgs", "lm_ma_es", "lifting"}
    # What looks at the loss more than once a step pays for it.
    passes = {row["optimizer"]: float(row["passes"]) / float(row["reached"]) for row in rows}
    assert passes["lifting"] == pytest.approx(1)
    assert passes["lbfgs"] > 3
    assert passes["lm_ma_es"] > 9
