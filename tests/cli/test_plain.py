"""A study in a pipe: few lines, each worth reading."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from automl.study.state import State, replay

from .made_up_study import config, events

# Installed under a name that mypy cannot follow to its folder.
PlainLines: Any = importlib.import_module("automl.cli.plain").PlainLines
Json: Any = importlib.import_module("automl.cli.showing").Json


def _lines(trials: int, *, seed: int = 0) -> list[str]:
    lines: list[str] = []
    plain = PlainLines(State(), lines.append)
    for event in events(trials=trials, seed=seed):
        plain.update(event)
    return lines


@pytest.mark.parametrize("seed", range(10))
def test_twelve_trials_are_at_most_twelve_lines(seed: int) -> None:
    assert len(_lines(12, seed=seed)) <= 12


def test_a_thousand_trials_stay_readable() -> None:
    assert len(_lines(1000)) < 40


def test_lines_are_single_and_without_escapes() -> None:
    for line in _lines(40):
        assert "\n" not in line
        assert "\x1b" not in line


def test_first_line_says_what_is_searched_and_the_last_what_was_found() -> None:
    lines = _lines(12)
    assert lines[0].startswith("digits: 1,797 images 8x8, 10 classes;")
    assert "smoke trial" in lines[1]
    assert "search ended after 12 trials; best 97.93 % (trial 7)" in lines[-1]


def test_each_class_of_failure_is_told_once() -> None:
    text = "\n".join(_lines(60))
    assert text.count("diverged") == 1
    assert text.count("out of memory") == 1


def test_a_study_taken_up_again_says_where_it_stands() -> None:
    lines: list[str] = []
    plain = PlainLines(State(), lines.append)
    plain.load(replay(e for e in events(trials=12) if "at" in e))
    assert lines == ["digits: goes on after 12 trials; best 97.93 % (trial 7)"]
    plain.load(replay(e for e in events(trials=0, end=False, workers=0) if "at" in e))
    assert lines[1:] == ["digits: no trial has ended yet"]


@pytest.mark.parametrize(("budget", "told"), [("5full", 1), ("10full", 0), ("12trials", 0)])
def test_a_budget_that_can_prove_nothing_is_told_at_once(budget: str, told: int) -> None:
    lines: list[str] = []
    smoke = {"kind": "smoke", "full_seconds": 10.0, "config": config(budget=budget).to_json()}
    PlainLines(State(), lines.append).update(smoke)
    assert sum("too small a budget to prove anything" in line for line in lines) == told


def test_long_silence_is_broken() -> None:
    now = [0.0]
    lines: list[str] = []
    plain = PlainLines(State(), lines.append, clock=lambda: now[0])
    for event in events(trials=30):
        now[0] += 20
        plain.update(event)
    assert any(line.startswith("27 trials; best") or "left" in line for line in lines)


def test_json_events_hold_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    Json().update({"kind": "progress", "metrics": {"val/loss": float("nan"), "lr": 0.1}})
    assert json.loads(capsys.readouterr().out) == {
        "kind": "progress",
        "metrics": {"val/loss": None, "lr": 0.1},
    }


def test_workers_that_come_and_go_are_told_now_and_then_and_an_empty_queue_at_once() -> None:
    now, lines = [0.0], []
    plain = PlainLines(State(), lambda text: lines.append(text), clock=lambda: now[0])

    def crew(count: int, at: float) -> None:
        now[0] = at
        idle = {"name": "w", "device": "cpu", "memory": 0, "doing": "", "trials": []}
        plain.update({"kind": "crew", "queues": ["cpu"], "workers": [idle] * count})

    for n, (count, at) in enumerate([(0, 0), (0, 1), (2, 2), (3, 3), (3, 70), (4, 71), (0, 72)]):
        crew(count, float(at + n / 10))
    nobody = "no worker listens on queue cpu; start one: automl worker start --queue cpu"
    assert lines == [
        nobody, "2 workers on queue cpu: 2 idle", "3 workers on queue cpu: 3 idle", nobody,
    ]  # fmt: skip
