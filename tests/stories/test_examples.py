"""Each example at the terminal, with next to no budget: tuned, judged, its files written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
AUTOML = str(Path(sys.executable).parent / "automl")
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_is_tuned_as_its_first_lines_say(path: Path, tmp_path: Path) -> None:
    options = ["--budget", "3full", "--seeds", "1", "--workers", "1", "--mlflow", "off"]
    options += ["--pack", "off"]
    done = subprocess.run(
        [AUTOML, "tune", f"examples/{path.name}", *options, "--runs", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 3), done.stderr
    assert done.stderr == ""
    assert "trial 0 (baseline): " in done.stdout
    folder = tmp_path / path.stem
    wanted = {"best.toml", "train_best.py", "report.html", "trials.csv", "journal.db"}
    assert wanted <= {f.name for f in folder.iterdir()}
