"""Bad input, through the real command: one clear line, exit code 2, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

GOOD_TASK = """
import torch
from torch import nn

x = torch.randn(200, 4)
data = (x, (x[:, 0] > 0).long())
metric = "accuracy"
epochs = 2


def model(width: "8|16" = 8):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
"""
GOOD_LOOP = """
space = {"lr": "log 1e-4..1e-1 = 1e-2"}
metric = "accuracy"
steps = 3


def train(trial):
    for step in range(trial.start + 1, trial.stop + 1):
        trial.report(step, {"accuracy": 0.5})
"""
GOOD_TABLE = "a,b,y\n" + "".join(f"{i},{i % 7},{'no' if i % 2 else 'yes'}\n" for i in range(60))


Make = Callable[[Path], object]


def table(text: str) -> Make:
    return lambda folder: (folder / "t.csv").write_text(text)


def task(old: str, new: str) -> Make:
    assert old in GOOD_TASK
    return lambda folder: (folder / "task.py").write_text(GOOD_TASK.replace(old, new))


def loop(old: str, new: str) -> Make:
    assert old in GOOD_LOOP
    return lambda folder: (folder / "loop.py").write_text(GOOD_LOOP.replace(old, new))


def space(text: str) -> Make:
    return lambda folder: (folder / "space.toml").write_text(text)


def nothing(folder: Path) -> None:
    pass


def empty_images(folder: Path) -> None:
    (folder / "images").mkdir()


def broken_images(folder: Path) -> None:
    for name in ("cats", "dogs"):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(12):
            (folder / "images" / name / f"{i}.png").write_bytes(b"no picture")


def unwritable(folder: Path) -> None:
    (folder / "runs").write_text("a file where a folder should be")


# Seen before any worker starts: arguments that cannot be read.
QUICK: dict[str, tuple[Make, list[str], str]] = {
    "no task": (nothing, [], "give a task"),
    "unknown option": (nothing, ["digits", "--bugdet", "3full"], "--bugdet"),
    "budget without a unit": (nothing, ["digits", "--budget", "fast"], "budget 'fast': write"),
    "budget of nothing": (nothing, ["digits", "--budget", "0trials"], "holds nothing"),
    "budget given twice": (nothing, ["digits", "--budget", "1h,2h"], "given twice"),
    "half a trial": (nothing, ["digits", "--budget", "1.5trials"], "whole numbers"),
    "unknown strategy": (nothing, ["digits", "--strategy", "tp"], "tpe"),
    "no seeds": (nothing, ["digits", "--seeds", "0"], "--seeds"),
    "no workers": (nothing, ["digits", "--workers", "0"], "--workers"),
    "no runs folder": (unwritable, ["digits"], "cannot write in"),
    "a study that is not there": (nothing, ["resume", "nobody"], "no study named 'nobody'"),
    "showing one that is not there": (nothing, ["show", "nobody"], "no study named 'nobody'"),
    "an unknown method": (nothing, ["methods", "lionn"], "nearest: 'lion'"),
    "an unknown space": (nothing, ["space", "show", "quik"], "nearest: 'quick'"),
    "a recipe that is no file": (nothing, ["train", "best.toml"], "best.toml"),
}

# Seen by the worker that opens the task, or by the smoke trial.
OPENED: dict[str, tuple[Make, list[str], str]] = {
    "no such task": (nothing, ["digitz"], "digits"),
    "no such file": (nothing, ["gone.csv", "--target", "y"], "gone.csv"),
    "unknown kind of file": (
        lambda folder: (folder / "t.docx").write_text("x"), ["t.docx"], "t.docx",
    ),
    "empty table": (table(""), ["t.csv", "--target", "y"], "t.csv"),
    "table of a header only": (table("a,b,y\n"), ["t.csv", "--target", "y"], "t.csv"),
    "table without --target": (table(GOOD_TABLE), ["t.csv"], "--target"),
    "missing target": (table(GOOD_TABLE), ["t.csv", "--target", "z"], "z"),
    "one class": (table(GOOD_TABLE.replace("no", "yes")), ["t.csv", "--target", "y"], "same value"),
    "target all missing": (
        table("a,y\n" + "1,\n" * 40), ["t.csv", "--target", "y"], "y",
    ),
    "unknown metric": (
        table(GOOD_TABLE), ["t.csv", "--target", "y", "--metric", "acuracy"], "accuracy",
    ),
    "metric of another kind": (
        table(GOOD_TABLE), ["t.csv", "--target", "y", "--metric", "rmse"], "rmse",
    ),
    "folder without images": (empty_images, ["images"], "images"),
    "unreadable images": (broken_images, ["images"], ".png"),
    "corpus too short": (
        lambda folder: (folder / "c.txt").write_text("short"), ["c.txt"], "c.txt",
    ),
    "unknown space file": (nothing, ["digits", "--space", "gone.toml"], "gone.toml"),
    "broken TOML": (space("[space\n"), ["digits", "--space", "space.toml"], "space.toml"),
    "space without a table": (
        space("about = 'x'\n"), ["digits", "--space", "space.toml"], "[space]",
    ),
    "unknown method": (
        space("[space]\noptimizer = ['adamww']\n"), ["digits", "--space", "space.toml"],
        "nearest: 'adamw'",
    ),
    "no earlier study": (nothing, ["digits", "--warm-start", "nope"], "no study named 'nope'"),
    "a warm start that is not used": (
        nothing, ["digits", "--warm-start", "one", "--strategy", "tpe"], "for the strategy auto",
    ),
    "range upside down": (
        nothing, ["digits", "--set", "optimizer.adamw.lr=1e-1..1e-3"], "above high",
    ),
    "unknown hyperparameter": (
        nothing, ["digits", "--set", "optimizer.adamw.lrr=1e-3"], "nearest: 'optimizer.adamw.lr'",
    ),
    "a set without a value": (nothing, ["digits", "--set", "batch_size"], "NAME=VALUE"),
    "task that raises": (task("epochs = 2", "1 / 0"), ["task.py"], "task.py:8"),
    "task with a syntax error": (task("epochs = 2", "epochs = ="), ["task.py"], "task.py:8"),
    "task without a model": (task("def model", "def modle"), ["task.py"], "model"),
    "task without data": (task("data =", "dta ="), ["task.py"], "data"),
    "task with an unknown metric": (task('"accuracy"', '"acc"'), ["task.py"], "metric"),
    "model of a wrong input": (task("nn.Linear(4", "nn.Linear(5"), ["task.py"], "task.py"),
    "model of too few outputs": (task("width, 2)", "width, 1)"), ["task.py"], "task.py"),
    "model that is none": (task("return nn.S", "nn.S"), ["task.py"], "task.py"),
    "model's range upside down": (task('"8|16" = 8', '"16..8" = 8'), ["task.py"], "above high"),
    "loop that never reports": (loop("trial.report", "print"), ["loop.py"], "report"),
    "loop that raises": (loop("trial.report(", "trial.reprot("), ["loop.py"], "loop.py:9"),
    "loop that reports another metric": (loop('{"accuracy"', '{"loss"'), ["loop.py"], "accuracy"),
    "command whose metric is never printed": (
        nothing,
        ["--cmd", "echo {lr}", "--metric-regex", r"acc=(\S+)", "--set", "lr=log 1e-4..1e-1"],
        "acc=",
    ),
    "command that fails": (
        nothing,
        ["--cmd", "false {lr}", "--metric-regex", r"acc=(\S+)", "--set", "lr=log 1e-4..1e-1"],
        "false",
    ),
    "command with an unknown placeholder": (
        nothing, ["--cmd", "echo {lr}", "--metric-regex", r"acc=(\S+)"], "lr",
    ),
    "regex that is none": (
        nothing, ["--cmd", "echo {lr}", "--metric-regex", "acc=(", "--set", "lr=0.1|0.2"], "acc=(",
    ),
}  # fmt: skip

VERBS = ("resume", "show", "methods", "space", "train")


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("AUTOML_RUNS", str(tmp_path / "runs"))
    return tmp_path


def words(arguments: list[str]) -> list[str]:
    told = bool(arguments) and arguments[0] in VERBS
    return arguments if told else ["tune", *arguments, "--mlflow", "off"]


def check(run: Run, folder: Path, arguments: list[str], message: str) -> str:
    before = sorted(folder.rglob("*"))
    done = run(*words(arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    left = [
        p for p in sorted(folder.rglob("*")) if p not in before and "__pycache__" not in p.parts
    ]
    assert [p for p in left if p != folder / "runs"] == []
    return str(done.stderr)


@pytest.mark.parametrize("case", QUICK)
def test_a_wrong_argument_is_one_clear_line(case: str, automl: Run, place: Path) -> None:
    make, arguments, message = QUICK[case]
    make(place)
    check(automl, place, arguments, message)


@pytest.mark.slow
@pytest.mark.parametrize("case", OPENED)
def test_a_wrong_task_is_one_clear_line(case: str, automl: Run, place: Path) -> None:
    make, arguments, message = OPENED[case]
    make(place)
    check(automl, place, arguments, message)


@pytest.mark.parametrize("case", ["budget without a unit", "task that raises", "no such file"])
def test_a_process_of_its_own_says_the_same(case: str, automl: Run, place: Path) -> None:
    make, arguments, message = {**QUICK, **OPENED}[case]
    make(place)
    said = check(automl, place, arguments, message)
    command = [str(Path(sys.executable).parent / "automl"), *words(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
