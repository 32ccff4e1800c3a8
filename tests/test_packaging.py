"""What is installed is what the tree holds, and importing it costs nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = {"automl.cli", "automl.search_spaces", "automl.workers"}


def test_wheel_lists_every_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "automl").rglob("__init__.py")
    }
    assert set(listed) == found | LEAVES


def test_no_folder_of_code_is_forgotten() -> None:
    folders = {p.parent for p in (ROOT / "automl").rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


@pytest.mark.parametrize("leaf", ["cli", "search_spaces", "workers"])
def test_a_leaf_refuses_its_bare_name(leaf: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {leaf}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"automl.{leaf}" in done.stderr


def test_importing_automl_loads_no_heavy_library() -> None:
    heavy = ("torch", "mlflow", "optuna", "celery", "numpy")
    code = f"import automl, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_constraints_hold_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    held = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {w.split(">")[0].split("=")[0].split("[")[0].lower().replace("_", "-") for w in wanted}
    assert names <= held
