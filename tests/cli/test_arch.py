"""`automl arch show`: a cell as text and picture, and one line where there is none."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from automl.recipe import Recipe
from automl.records import Report, Segment, Status
from automl.reports import page
from automl.reports.architecture import picture
from automl.reports.derived import derived, score_words
from automl.study.journal import Journal
from automl.study.state import State, replay

from .made_up_study import config, events

Main = Callable[[list[str]], int]
Out = pytest.CaptureFixture[str]
Event = dict[str, Any]

# Installed under a name that mypy cannot follow to its folder.
PlainLines: Any = importlib.import_module("automl.cli.plain").PlainLines
Screen: Any = importlib.import_module("automl.cli.render").Screen

EDGES = ("normal_02", "normal_12", "normal_03", "normal_13", "normal_23")
CHOSEN = dict(zip(EDGES, ("skip", "sep3", "none", "sep3", "avgpool"), strict=True))
NAMES = ("none", "skip", "sep3", "avgpool")
SUPERNET = {"point": {"nas": "darts"}, "steps": 40, "passes": 1800.0}


def _weights(epoch: int) -> dict[str, dict[str, float]]:
    """The skip gains from epoch to epoch, on every edge."""
    skip = 0.25 + 0.1 * epoch
    return {e: {n: skip if n == "skip" else (1 - skip) / 3 for n in NAMES} for e in EDGES}


FOUND = {
    "nas": "darts",
    "points": [{"architecture": "image_cells"}],
    "edges": [CHOSEN],
    "weights": [_weights(epoch) for epoch in range(3)],
    "scores": [0.2, 0.35, 0.4],
    "sharpness": [0.5, 0.6, 1.2],
    "collapsed": 1,
    "before": 0.41,
    "after": 0.3,
    "skips": [1],
}


def _story(found: dict[str, Any] | None, *, ended: bool = True) -> list[Event]:
    """A study whose trial 3 was its supernet."""
    whole = config()
    plan = replace(whole, card=replace(whole.card, supernet=SUPERNET))
    story = [e for e in events(trials=3) if "at" in e]
    story[0]["config"] = plan.to_json()
    at, recipe = story[-1]["at"], Recipe({"nas": "darts"}, steps=40)
    segment = Segment(3, recipe, 0, 40).to_json()
    asked = {"kind": "ask", "segment": segment, "phase": "supernet", "label": "supernet darts"}
    report = Report(3, 0, 40, Status.DONE, seconds=20.0, passes=1800.0, found=found)
    told = {"kind": "report", "report": report.to_json(), "at": at + 20}
    return [*story, {**asked, "at": at}, *([told] if ended else [])]


@pytest.fixture(scope="session")
def main() -> Main:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="automl")
    found: Main = script.load()
    return found


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOML_RUNS", raising=False)


def _written(name: str, story: list[Event]) -> None:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    with Journal(str(folder / "journal.db"), name, write=True) as journal:
        journal.append(story)


def test_the_cell_is_told_and_drawn(main: Main, capsys: Out) -> None:
    _written("found", _story(FOUND))
    assert main(["arch", "show", "found"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == (
        "found: darts on image_cells, trial 3; 20 s, 2.0 full trainings; "
        "derived 2 sep3, 1 skip, 1 none, 1 avgpool"
    )
    assert "accuracy: 41.00 % with all candidates mixed, 30.00 % cut down to the cell" in out
    assert "skips: 1 of 5 edges; mean weight of a skip 0.250 -> 0.450" in out
    assert "back to epoch 2" in out
    rows = [line.split() for line in lines if line.startswith("normal")]
    assert rows[0] == ["normal", "0", "->", "2", "skip", "▁▄█", "0.450", "itself"]
    assert rows[1] == ["normal", "1", "->", "2", "sep3", "█▅▁", "0.183", "skip", "0.450"]
    assert lines[-1] == "picture  runs/found/arch.svg"
    root = ElementTree.parse("runs/found/arch.svg").getroot()
    texts = {"".join(e.itertext()).strip() for e in root.iter() if e.tag.endswith("text")}
    assert texts >= {"derived normal cell", "avgpool", "none", "mean weight of a skip"}


def test_the_page_shows_the_same_picture() -> None:
    state = replay(_story(FOUND))
    assert picture(state) in page.render(state)
    without = replay(e for e in events(trials=3) if "at" in e)
    assert picture(without) == ""
    assert "architecture that was found" not in page.render(without)


def test_cells_without_a_search_have_neither_weights_nor_scores(main: Main, capsys: Out) -> None:
    drawn: dict[str, Any] = {
        **FOUND,
        "weights": [],
        "scores": [],
        "sharpness": [],
        "before": None,
        "after": None,
        "collapsed": None,
        "nas": "random",
        "edges": [CHOSEN, CHOSEN],
    }
    _written("drawn", _story(drawn))
    assert main(["arch", "show", "drawn"]) == 0
    out = capsys.readouterr().out
    assert "derived 2 cells" in out
    assert "skips: 1, 1 of 5 edges" in out
    assert "WEIGHT" not in out
    assert Path("runs/drawn/arch.svg").read_text().count("derived normal cell") == 2


def test_a_metric_to_minimize_keeps_its_sign() -> None:
    story = _story({**FOUND, "scores": [-4.9, -4.5, -4.4], "before": -4.4, "after": -4.5})
    story[0]["config"]["card"] |= {"direction": "minimize", "metric": "bits_per_char"}
    state = replay(story)
    found = derived(state)
    assert (found.scores, found.before, found.after) == ((4.9, 4.5, 4.4), 4.4, 4.5)
    said = "supernet's bits per char: 4.4 with all candidates mixed, 4.5 cut down to the cell"
    assert score_words(state, found)[0] == said


@pytest.mark.parametrize(
    ("name", "story", "said"),
    [
        ("plain", [e for e in events(trials=2) if "at" in e], "has no supernet, so no cell"),
        ("asked", _story(None, ended=False), "its supernet (trial 3) is still being trained"),
        ("begun", _story(None)[:3], "its supernet has not begun"),
    ],
)
def test_where_there_is_no_cell_one_line_says_why(
    main: Main, capsys: Out, name: str, story: list[Event], said: str
) -> None:
    _written(name, story)
    assert main(["arch", "show", name]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_lines_and_screen_tell_of_the_supernet_when_it_ends() -> None:
    lines: list[str] = []
    out = io.StringIO()
    plain, screen = PlainLines(State(), lines.append), Screen(State())
    for event in _story(FOUND):
        plain.update(event)
        screen.update(event)
    Console(file=out, width=120, height=40).print(screen)
    said = "trial 3 (supernet darts): 20 s, 2.0 full trainings; derived 2 sep3, 1 skip"
    assert len([line for line in lines if line.startswith(said)]) == 1
    assert said in out.getvalue()
