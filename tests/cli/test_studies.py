"""Looking at studies on disk, one of which is running while we look."""

from __future__ import annotations

import importlib.metadata
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automl.study.journal import Journal
from automl.study.state import replay
from automl.study.verdict import judge

from .made_up_study import config, events

Main = Callable[[list[str]], int]
Out = pytest.CaptureFixture[str]


@pytest.fixture(scope="session")
def main() -> Main:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="automl")
    found: Main = script.load()
    return found


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three studies: "done", "killed" (its driver died) and, in other tests, a running one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOML_RUNS", raising=False)
    story = [e for e in events(trials=12, now=time.time() - 3600) if "at" in e]
    state = replay(story)
    at = story[-1]["at"]
    verdict = {"kind": "verdict", "verdict": judge(state).to_json(), "at": at}
    end = {"kind": "end", "status": "done", "message": "", "at": at}
    _write("done", [*story, verdict, end]).close()
    running = [e for e in events(trials=5, end=False, now=time.time() - 60) if "at" in e]
    _write("killed", running).close()
    return tmp_path / "runs"


def _write(name: str, story: list[dict[str, object]]) -> Journal:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    journal = Journal(str(folder / "journal.db"), name, write=True)
    journal.append(story)
    return journal


@pytest.fixture
def running(runs: Path) -> Iterator[Journal]:
    story = [e for e in events(trials=8, end=False, now=time.time() - 60) if "at" in e]
    journal = _write("now", story)
    yield journal
    journal.close()


def test_ls_tells_what_runs_what_is_done_and_what_was_killed(
    main: Main, running: Journal, capsys: Out
) -> None:
    assert main(["ls"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    cells = {row.split()[0]: row.split() for row in rows}
    assert head.split() == [
        "NAME",
        "TASK",
        "STATE",
        "TRIALS",
        "BEST",
        "BASELINE",
        "METRIC",
        "BEGAN",
    ]
    assert {name: row[2] for name, row in cells.items()} == {
        "done": "done",
        "killed": "interrupted",
        "now": "running",
    }
    assert cells["done"][3:9] == ["12", "97.93", "%", "95.58", "%", "accuracy"]
    assert rows[0].endswith("1 h ago")


def test_ls_goes_on_after_a_broken_journal(main: Main, runs: Path, capsys: Out) -> None:
    (runs / "broken").mkdir()
    (runs / "broken" / "journal.db").write_text("not a database at all, but long enough to tell")
    assert main(["ls"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split() for row in rows if row.startswith("broken ")] == [["broken", "unreadable"]]
    assert rows[-1].startswith("broken: runs/broken/journal.db is not a journal")
    assert len(rows) == 5


def test_a_study_of_another_version_is_told_as_such(main: Main, runs: Path, capsys: Out) -> None:
    begun = {"kind": "study", "config": {**config().to_json(), "warp": 9}, "at": 1.0}
    _write("foreign", [begun]).close()
    assert main(["show", "foreign"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("the study was begun by another version of automl, with an option 'wa")
    assert main(["ls"]) == 0
    assert any(row.startswith("foreign  ") for row in capsys.readouterr().out.splitlines())


def test_looking_never_blocks_the_driver(main: Main, running: Journal, capsys: Out) -> None:
    before = running.last
    for command in (["ls"], ["show", "now"], ["show", "now", "3"], ["best", "now"]):
        assert main(command) == 0, capsys.readouterr()
        running.append([{"kind": "resume", "at": time.time()}])
    assert running.last == before + 4


def test_show_lists_the_best_first(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["show", "done"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("done: 1,797 images 8x8, 10 classes\n")
    rows = text.split("TRIAL  ")[1].splitlines()
    assert rows[1].split()[:3] == ["7", "97.93", "%"]
    assert "Cost: 12 trials" in text
    assert max(map(len, rows)) < 120


def test_show_of_a_killed_study_says_how_to_go_on(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["show", "killed"]) == 0
    assert capsys.readouterr().out.endswith("Go on with: automl resume killed\n")


def test_show_of_a_trial_marks_what_differs(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["show", "done", "7"]) == 0
    text = capsys.readouterr().out
    assert "validation accuracy 97.93 %" in text
    assert "* optimizer " in text
    assert "(baseline adamw)" in text
    assert "validation curve  ▁" in text


def test_show_of_no_such_trial_says_which_there_are(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["show", "done", "99"]) == 2
    assert capsys.readouterr().err == "study 'done' has no trial 99; it has 0 to 11\n"


def test_best_is_a_recipe_file_that_train_reads(main: Main, runs: Path, capsys: Out) -> None:
    from automl.reports.recipe_file import read_recipe

    assert main(["best", "done"]) == 0
    Path("best.toml").write_text(capsys.readouterr().out)
    assert main(["best", "done", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    found = read_recipe("best.toml")
    assert found.recipe.to_json() == data["recipe"]
    assert found.recipe.point["optimizer"] == "muon"
    assert found.spec.source == data["task"]["source"] == "digits"


def test_export_prints_one_row_a_trial(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["export", "done", "--format", "csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 13
    assert rows[0].startswith("trial,phase,label,status,val_accuracy")


def test_export_to_a_file_prints_its_path(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["export", "done", "--format", "parquet", "--to", "mine.parquet"]) == 0
    assert capsys.readouterr().out == "mine.parquet\n"
    assert Path("mine.parquet").read_bytes()[:4] == b"PAR1"


def test_export_into_no_folder_is_one_line(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["export", "done", "--to", "nowhere/mine.csv"]) == 2
    assert capsys.readouterr().err == "nowhere/mine.csv: no such file or directory\n"


def test_report_prints_where_the_page_lies(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["report", "done"]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == Path("runs/done/report.html")
    assert "<html" in page.read_text()


def test_two_studies_are_set_beside_each_other(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["compare", "done", "killed"]) == 0
    said = capsys.readouterr().out
    assert "against digits: cannot be compared: one of them has no fresh seeds" in said
    assert main(["compare", "done"]) == 2
    assert "'done' alone: compare two studies or more" in capsys.readouterr().err


def test_a_study_is_explained_while_it_has_no_verdict(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["explain", "killed"]) == 0
    assert "How the best was found:" in capsys.readouterr().out


def test_rm_needs_a_yes_where_nobody_can_be_asked(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["rm", "done"]) == 2
    assert "automl rm done --yes" in capsys.readouterr().err
    assert (runs / "done" / "journal.db").exists()


def test_rm_deletes_the_study_and_leaves_the_others(main: Main, runs: Path, capsys: Out) -> None:
    assert main(["rm", "done", "--yes"]) == 0
    assert capsys.readouterr().out == "deleted study 'done'\n"
    assert sorted(p.name for p in runs.iterdir()) == ["killed"]


def test_rm_deletes_what_no_other_command_can_read(main: Main, runs: Path, capsys: Out) -> None:
    begun = {"kind": "study", "config": {**config().to_json(), "warp": 9}, "at": 1.0}
    _write("foreign", [begun]).close()
    _write("begun", []).close()  # killed between its journal and its first event
    (runs / "broken").mkdir()
    (runs / "broken" / "journal.db").write_text("not a database at all, but long enough to tell")
    assert main(["show", "begun"]) == 2
    assert "'begun' was ended before it began" in capsys.readouterr().err
    for name in ("foreign", "begun", "broken"):
        assert main(["rm", name]) == 2
        assert f"automl rm {name} --yes" in capsys.readouterr().err
        assert main(["rm", name, "--yes"]) == 0
        assert capsys.readouterr().out == f"deleted study '{name}'\n"
    assert main(["rm", "broken", "--yes"]) == 2
    assert "no study named 'broken'" in capsys.readouterr().err
    assert sorted(p.name for p in runs.iterdir()) == ["done", "killed"]


def test_rm_refuses_a_running_study(main: Main, running: Journal, capsys: Out) -> None:
    assert main(["rm", "now", "--yes"]) == 2
    assert "is being run by process" in capsys.readouterr().err
    assert main(["show", "now"]) == 0


def test_a_journal_of_another_version_is_refused_in_one_line(
    main: Main, runs: Path, capsys: Out
) -> None:
    with sqlite3.connect(runs / "done" / "journal.db") as connection:
        connection.execute("UPDATE journal_format SET version = 99")
    connection.close()
    assert main(["show", "done"]) == 2
    err = capsys.readouterr().err
    assert "version 99" in err
    assert err.count("\n") == 1
