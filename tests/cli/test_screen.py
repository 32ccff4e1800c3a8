"""The live screen, drawn from events of a study that nobody ran."""

from __future__ import annotations

import importlib
import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from automl.study.state import State, replay

from .made_up_study import config, events

# Installed under a name that mypy cannot follow to its folder.
Screen: Any = importlib.import_module("automl.cli.render").Screen
matters: Any = importlib.import_module("automl.cli.matters").matters


def _draw(screen: Any, width: int, height: int, *, encoding: str = "utf-8") -> list[str]:
    sink = io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # refuses what it cannot encode
    console = Console(width=width, height=height, record=True, file=sink)
    console.print(screen)
    return console.export_text().rstrip("\n").split("\n")


def _followed(**kind: Any) -> Any:
    now = [1000.0]
    screen = Screen(State(), clock=lambda: now[0])
    for event in events(**kind):
        now[0] = event.get("at", now[0])
        screen.update(event)
    return screen


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 16), (40, 12), (200, 60)])
@pytest.mark.parametrize("workers", [2, 64])
def test_screen_never_leaves_the_terminal(width: int, height: int, workers: int) -> None:
    screen = Screen(State())
    for n, event in enumerate(events(trials=20, workers=workers, end=False)):
        screen.update(event)
        if n % 10 == 0:
            lines = _draw(screen, width, height)
            assert len(lines) < height
            assert max(cell_len(line) for line in lines) <= width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_screen_tells_what_a_person_asks(width: int, height: int) -> None:
    text = "\n".join(_draw(_followed(trials=12, end=False), width, height))
    assert "digits" in text
    assert "baseline  95.58 %" in text
    assert "+2.35 points  trial 7: muon" in text
    assert "optimizer  muon 97.93 %, adamw" in text
    assert "1 diverged" in text
    assert "1 out of memory" in text
    assert "300/900" in text
    assert "trial 11 ended with" in text
    assert "▁▅█" in text
    assert "Ctrl-C stops" in text


def test_recent_events_are_the_last_three() -> None:
    text = "\n".join(_draw(_followed(trials=12, end=False), 80, 24))
    assert [n for n in range(12) if f"  trial {n} ended" in text] == [9, 10, 11]


def test_more_workers_than_lines_are_counted() -> None:
    text = "\n".join(_draw(_followed(trials=8, workers=64, end=False), 80, 24))
    shown = text.count("300/900")
    assert f"and {64 - shown} more" in text


def test_screen_needs_no_unicode_where_there_is_none() -> None:
    text = "\n".join(_draw(_followed(trials=8, end=False), 80, 24, encoding="ascii"))
    assert "#" in text
    assert "━" not in text


def test_a_note_takes_the_last_line() -> None:
    screen = _followed(trials=8, end=False)
    screen.say("stopping: running trials save themselves ...")
    assert _draw(screen, 80, 24)[-1].startswith("stopping")


def test_screen_before_the_first_event_says_what_it_waits_for() -> None:
    assert "smoke trial" in _draw(Screen(State()), 80, 24)[0]


def test_time_left_follows_the_tightest_limit() -> None:
    # 12 trials planned, 6 tried in 54 seconds: as long again.
    tried = 0
    now = [1000.0]
    screen = Screen(State(), clock=lambda: now[0])
    for event in events(trials=12):
        now[0] = event.get("at", now[0])
        screen.update(event)
        tried += event["kind"] == "report"
        if tried == 6:
            break
    head = _draw(screen, 100, 24)[1]
    assert " 50%" in head
    assert "about 55 s left" in head


def test_a_study_taken_up_again_shows_what_was() -> None:
    state = replay(e for e in events(trials=12, end=False) if "at" in e)
    screen = Screen(State())
    screen.load(state)
    text = "\n".join(_draw(screen, 80, 24))
    assert "+2.35 points  trial 7" in text
    assert "1 out of memory" in text


def test_what_matters_most_comes_first() -> None:
    state = replay(e for e in events(trials=60) if "at" in e)
    found = matters(state)
    assert found[0].name == "optimizer"  # the only thing that the made-up values depend on
    assert found[0].text.startswith("muon")
    assert [m.share for m in found] == sorted((m.share for m in found), reverse=True)


def test_nothing_matters_before_three_trials_compare() -> None:
    assert matters(replay(e for e in events(trials=2) if "at" in e)) == []
    assert matters(State(config=config())) == []


def _crew(*workers: dict[str, Any], queues: tuple[str, ...] = ("cpu",)) -> dict[str, Any]:
    return {"kind": "crew", "queues": list(queues), "workers": list(workers)}


def _worker(name: str, *trials: int, doing: str = "") -> dict[str, Any]:
    doing = doing or (f"digits/{trials[0]}" if trials else "")
    return {"name": name, "device": "cpu", "memory": 16e9, "doing": doing, "trials": list(trials)}


def test_the_workers_of_a_queue_and_what_each_trains_are_on_the_screen() -> None:
    screen = _followed(trials=8, end=False)
    screen.update(
        _crew(_worker("cpu-0@a"), _worker("cpu-1@a", doing="other/3"), _worker("cpu-0@b", 8, 9))
    )
    lines = _draw(screen, 100, 40)
    (at,) = [n for n, line in enumerate(lines) if line.startswith("workers")]
    assert lines[at].endswith("3 on queue cpu: 1 with this study, 1 with others, 1 idle")
    assert [line.split("  ")[1:3] for line in lines[at + 1 : at + 4]] == [
        ["cpu-0@b", "trials 8, 9"], ["cpu-1@a", "other/3"], ["cpu-0@a", "idle"],
    ]  # fmt: skip
    assert "16 GB" in lines[at + 1]


def test_the_screen_says_when_nobody_works_for_the_study() -> None:
    screen = _followed(trials=8, end=False)
    screen.update(_crew(queues=("gpu", "cpu")))
    assert (
        "no worker listens on queues gpu,cpu; start one: automl worker start --queue gpu"
        in _draw(screen, 100, 24)
    )


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 16), (40, 12)])
def test_a_thousand_workers_stay_on_the_screen(width: int, height: int) -> None:
    screen = _followed(trials=8, workers=64, end=False)
    screen.update(_crew(*(_worker(f"cpu-{n}@host", n) for n in range(1000))))
    lines = _draw(screen, width, height)
    assert len(lines) < height
    assert max(cell_len(line) for line in lines) <= width
    assert any(line.startswith("workers  1,000 on queue cpu") for line in lines)
