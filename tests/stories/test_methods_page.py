"""docs/methods.md says what was measured, and the optimizers' files say the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from automl.registry import family

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def _rank(name: str) -> tuple[str, int]:
    """The optimizer's mean rank in the table, and of how many."""
    ranks = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|", PAGE, re.M))
    return ranks[name], len(ranks)


def test_table_and_plot_are_those_of_the_recorded_trainings(tmp_path: Path) -> None:
    for name in ("methods.md", "shootout.jsonl"):
        shutil.copy(ROOT / "docs" / name, tmp_path / name)
    script = ROOT / "benchmarks" / "methods_shootout.py"
    known = ["--tasks", "digits", "--optimizers", "adamw"]  # is there: nothing is trained
    command = [sys.executable, str(script), *known, "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    assert (tmp_path / "methods.md").read_text(encoding="utf-8") == PAGE
    assert (tmp_path / "shootout.svg").read_text().count("<g id=") > 100
    assert (ROOT / "docs" / "shootout.svg").exists()


def test_every_optimizer_has_its_evidence() -> None:
    for name in family("optimizer").names():
        evidence = str(family("optimizer").facts(name)["evidence"])
        rank, count = _rank(name)
        if "AlgoPerf" not in evidence:
            assert f"mean rank {rank} of {count} (docs/methods.md)" in evidence, name
