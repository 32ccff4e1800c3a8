"""What README.md tells its reader to do can be done."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from automl.records import TaskSpec
from automl.tasks.opening import open_task

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_model_in_it_is_a_task(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (text,) = [block for block in blocks if "def model(" in block]
    (tmp_path / "task.py").write_text(text)
    card = open_task(TaskSpec(str(tmp_path / "task.py"))).card
    assert "model.width" in [dimension["name"] for dimension in card.space]


def test_its_links_lead_to_files_of_the_repository() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_its_commands_are_there(automl: Run) -> None:
    named = set(re.findall(r"automl ([a-z]+)", README))
    assert {"tune", "resume", "ui"} <= named
    done = automl("--help")
    known = set(re.findall(r"^  ([a-z]+)  ", done.stdout, re.M))
    assert named <= {*known, "is"}  # "automl is there"


def test_its_options_are_there(automl: Run) -> None:
    helps = [
        automl(*words, "--help").stdout
        for words in (["tune"], ["transfer"], ["train"], ["worker", "start"])
    ]
    text = re.sub(r'--cmd ".*?"', "--cmd", README)
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--help"}
    assert len(options) > 5
    assert options <= set(re.findall(r"--[a-z][a-z-]+", " ".join(helps)))


@pytest.mark.parametrize("name", ["demo", "test"])
def test_the_makefile_has_what_it_begins_with(name: str) -> None:
    assert f"make {name}" in README
    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.M)
