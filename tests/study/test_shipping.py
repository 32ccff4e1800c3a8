"""What of the user's files goes to workers elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl.records import TaskSpec
from automl.study.shipping import shipped


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    for name in ("sub/task.py", "sub/net.py", "train.sh", "table.csv", "mine.toml"):
        (folder / name).write_text("x")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path / "cache"))
    return folder


def files(folder: Path | None) -> list[str]:
    assert folder is not None
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_task_file_takes_its_folder_along(here: Path) -> None:
    sent = shipped(TaskSpec("sub/task.py"), leave_out=[])
    assert sent.spec.source == "task.py"
    assert files(sent.folder) == ["net.py", "task.py"]


def test_a_command_takes_the_present_folder_along(here: Path) -> None:
    sent = shipped(TaskSpec("sh train.sh {lr}", command=True), leave_out=[here / "sub"])
    assert sent.spec.source == "sh train.sh {lr}"
    assert files(sent.folder) == ["mine.toml", "table.csv", "train.sh"]


@pytest.mark.parametrize("source", ["digits", "s3://bucket/table.csv"])
def test_nothing_travels_for_what_workers_reach_themselves(here: Path, source: str) -> None:
    sent = shipped(TaskSpec(source), leave_out=[])
    assert (sent.spec.source, sent.data, sent.folder, sent.digest) == (source, None, None, "")


def test_data_are_named_by_a_path_that_holds_anywhere(here: Path) -> None:
    sent = shipped(TaskSpec("table.csv", sets=("lr=1", "teacher=mine.toml")), leave_out=[])
    assert (sent.spec.source, sent.data) == (str(here / "table.csv"), None)
    assert sent.spec.sets == ("lr=1", f"teacher={here}/mine.toml")


def test_a_space_file_travels_with_or_without_code(here: Path) -> None:
    for source, others in (("digits", []), ("sub/task.py", ["net.py", "task.py"])):
        sent = shipped(TaskSpec(source, space="mine.toml"), leave_out=[])
        assert sent.spec.space == ".automl-space/mine.toml"
        assert files(sent.folder) == [".automl-space/mine.toml", *others]
    assert shipped(TaskSpec("digits", space="quick"), leave_out=[]).spec.space == "quick"


def test_what_is_published_is_what_a_worker_fetches(here: Path, tmp_path: Path) -> None:
    sent = shipped(TaskSpec("sub/task.py"), leave_out=[])
    sent.publish(str(tmp_path / "store"))
    assert (tmp_path / "store" / "code" / f"{sent.digest}.tar").read_bytes() == sent.data
    assert (tmp_path / "store" / "checkpoints" / ".here").exists()
