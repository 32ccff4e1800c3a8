"""Commands as they are: their placeholders, their result, their end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from automl.errors import TaskError
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskSpec
from automl.space.tree import Space
from automl.tasks.opening import open_task
from automl.tasks.task import LoopTask
from automl.train.segment import Stop, run

REGEX = r"acc=(\S+)"
LR = ("lr=log 1e-4..1e-1 = 1e-2",)


def opened(command: str, **options: object) -> LoopTask:
    given = {"metric_regex": REGEX, "sets": LR, **options}
    task = open_task(TaskSpec(command, command=True, **given))  # type: ignore[arg-type]
    assert isinstance(task, LoopTask)
    return task


def result(
    task: LoopTask, folder: Path, *, steps: int = 1, stop: Stop = tuple, seed: int = 0
) -> Report:
    point = Space.from_json(task.card.space).default()
    recipe = Recipe(point, steps=task.card.steps, seed=seed)
    pack = Pack((Segment(0, recipe, 0, steps),), str(folder / "store"))
    (report,) = run(pack, task, stop=stop)
    return report


def test_the_last_match_counts(tmp_path: Path) -> None:
    task = opened("sh -c 'echo acc=0.1; echo acc=0.9; echo bye {lr}'", metric="accuracy")
    assert (task.card.kind, task.card.steps, task.card.resumable) == ("command", 1, False)
    report = result(task, tmp_path)
    assert report.status is Status.DONE
    assert [(s, m["val/accuracy"]) for s, m in report.curve] == [(1, 0.9)]


def test_a_command_can_ask_for_the_seed(tmp_path: Path) -> None:
    task = opened("echo acc={lr} seed={seed}", sets=("lr=0.1|0.2",), metric_regex=r"seed=(\d+)")
    assert result(task, tmp_path, seed=7).curve[0][1]["val/metric"] == 7


def test_one_match_a_step_is_the_whole_curve(tmp_path: Path) -> None:
    command = "sh -c 'for i in $(seq {epochs}); do echo acc=0.$i; done; true {lr}'"
    report = result(opened(command), tmp_path, steps=4)
    curve = [(s, m["val/metric"]) for s, m in report.curve]
    assert curve == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


def test_a_changed_script_changes_the_fingerprint(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("print('acc=1')\n")
    command = f"python {script} {{lr}}"
    first = opened(command).card.code_fingerprint
    assert opened(command).card.code_fingerprint == first
    script.write_text("print('acc=2')\n")
    assert opened(command).card.code_fingerprint != first


def test_placeholders_are_filled_with_the_recipe_and_the_length(tmp_path: Path) -> None:
    task = opened("echo acc={epochs}{lr}", epochs=30.0, sets=("lr=0.5|0.25",))
    assert task.card.steps == 30
    report = result(task, tmp_path, steps=10)
    assert [(s, m["val/metric"]) for s, m in report.curve] == [(10, 100.5)]


def test_a_command_that_fails_tells_its_last_line(tmp_path: Path) -> None:
    task = opened("sh -c 'echo {lr}; echo no such file >&2; exit 3'")
    report = result(task, tmp_path)
    assert report.status is Status.USER_CODE
    assert "exited with code 3" in report.message
    assert "no such file" in report.message


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo {lr}", r"'acc=\(\\S\+\)' matches nothing .* last line: 0.01"),
        ("echo acc={lr}x", "found '0.01x', which is no number"),
        ("no-such-program {lr}", "cannot be started: No such file"),
    ],
)
def test_a_command_without_a_result_says_why(command: str, message: str, tmp_path: Path) -> None:
    report = result(opened(command), tmp_path)
    assert report.status is Status.USER_CODE
    with pytest.raises(TaskError, match=message):
        raise TaskError(report.message)


def test_a_command_ends_at_once_with_all_it_started_when_asked(tmp_path: Path) -> None:
    child, draft = tmp_path / "child", tmp_path / "draft"
    task = opened(
        f"sh -c 'sleep 600 & echo $! > {draft}; mv {draft} {child}; wait; echo acc={{lr}}'"
    )
    began = time.monotonic()
    report = result(task, tmp_path, stop=lambda: {0} if child.exists() else set())
    assert report.status is Status.STOPPED
    assert time.monotonic() - began < 300
    assert _gone(int(child.read_text()))


def _gone(pid: int) -> bool:
    """Whether the process ends within a minute; a zombie has ended."""
    for _ in range(600):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("echo {lr} {wd}", {}, r"\{wd\} has no range"),
        ("echo {lr}", {"sets": (*LR, "wd=1|2")}, r"no \{wd\}; it has: \{lr\}"),
        ("echo 1", {"sets": ()}, "no {placeholder}"),
        ("echo {lr}", {"metric_regex": "acc=("}, r"'acc=\(' is no regular expression"),
        ("echo {lr}", {"metric_regex": "acc="}, "'acc=' has no group"),
        ("echo {lr}", {"metric_regex": None}, "--metric-regex"),
        ("echo '{lr}", {}, "--cmd: No closing quotation"),
        ("echo {lr", {}, "--cmd: expected '}'"),
        ("", {}, "--cmd is empty"),
        ("echo {lr}", {"space": "quick"}, "--space quick"),
    ],
)
def test_a_command_that_cannot_be_is_one_clear_line(
    command: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(TaskError, match=message) as error:
        opened(command, **options)
    assert "\n" not in str(error.value)
