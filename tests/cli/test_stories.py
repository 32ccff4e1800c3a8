"""What a person does at the terminal, with real studies of digits: tiny, but whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

AUTOML = str(Path(sys.executable).parent / "automl")
# Few things to search, so that few changes are left to be tried one by one in the verdict.
SPACE = [
    "architecture=mlp",
    "architecture.mlp.width=32",
    "architecture.mlp.depth=1",
    "architecture.mlp.norm=none",
    "architecture.mlp.activation=relu",
    "architecture.mlp.dropout=0",
    "loss.cross_entropy.smoothing=0",
    "batch=none",
    "batch_size=128",
    "gradient=plain",
    "averaging=none",
    "schedule=cosine",
    "optimizer=adamw,sgd",
]
SETS = [word for text in SPACE for word in ("--set", text)]
TINY = ["tune", "digits", *SETS, "--epochs", "2", "--workers", "2", "--seeds", "2"]
LONGER = ["tune", "digits", *SETS, "--epochs", "15", "--workers", "2", "--seeds", "1"]
LONGER += ["--budget", "12trials", "--strategy", "random", "--mlflow", "off"]
ENDLESS = [word.replace("12trials", "9999trials") for word in LONGER]
# And where nothing of the training matters: one that costs nothing.
LOOP = """
import math

steps = 2
metric = "accuracy"
space = {"lr": "log 1e-5..1e-1 = 1e-3", "wd": "0.0..1.0 = 0.9"}


def train(trial):
    lr, wd = trial.recipe["lr"], trial.recipe["wd"]
    value = 0.9 - 0.05 * (math.log10(lr) + 2) ** 2 - 0.2 * (wd - 0.3) ** 2
    for step in (1, 2):
        trial.report(step, {"accuracy": value - 0.1 / step})
"""
QUICK = ["tune", "loop.py", "--workers", "1", "--seeds", "1", "--mlflow", "off"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOML_RUNS", raising=False)
    monkeypatch.setenv("CI", "1")
    (tmp_path / "loop.py").write_text(LOOP)
    return tmp_path


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AUTOML, *arguments], capture_output=True, text=True, timeout=300)


def _wait_for(what: str, file: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while what not in file.read_text():
        assert process.poll() is None or what in file.read_text(), file.read_text()
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.05)


def test_a_newcomer_tunes_digits_and_looks_around(automl: Run, place: Path) -> None:
    done = _run(*TINY, "--budget", "12trials", "--mlflow", "off")
    assert done.stderr == ""
    assert done.returncode in (0, 3), done.stdout
    assert "\x1b" not in done.stdout
    progress, verdict = done.stdout.split("\n\n", 1)
    assert 4 <= len(progress.splitlines()) <= 12, progress
    assert progress.startswith("digits: ")
    assert "Cost: 12 trials" in verdict
    assert not re.search(r"\d\.\d{6,}", done.stdout), "a float with too many digits"
    for file in ("best.toml", "best.safetensors", "report.html", "trials.csv", "train_best.py"):
        assert (place / "runs/digits" / file).stat().st_size > 0
        assert f"runs/digits/{file}" in verdict or file == "trials.csv"

    assert re.search(r"^digits +digits +done +12 ", automl("ls").stdout, re.MULTILINE)
    shown = automl("show", "digits").stdout
    assert verdict.splitlines()[0] in shown
    assert " waiting " not in shown  # who was at a rung when the search ended is stopped
    best = automl("best", "digits").stdout
    assert best == (place / "runs/digits/best.toml").read_text()

    # The same command again finds the study done: the verdict at once, nothing trained.
    again = _run(*TINY, "--budget", "12trials", "--mlflow", "off")
    assert again.returncode == done.returncode
    assert verdict.splitlines()[0] in again.stdout

    trained = _run("train", "runs/digits/best.toml", "--save", "mine.safetensors")
    assert trained.returncode == 0, trained.stderr
    assert "validation accuracy" in trained.stdout
    assert re.search(r"^test/accuracy +\d", trained.stdout, re.MULTILINE)
    assert (place / "mine.safetensors").stat().st_size > 0


def _begin(out: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A study whose first trial has just ended."""
    with out.open("wb") as file:
        process = subprocess.Popen([AUTOML, *arguments], stdout=file, stderr=subprocess.STDOUT)
    _wait_for("trial 0 (baseline)", out, process)
    return process


def _begin_and_freeze(out: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The same, stopped in its search: on a busy machine it could end while we look."""
    for _ in range(5):
        process = _begin(out, *arguments)
        process.send_signal(signal.SIGSTOP)
        if "search ended" not in out.read_text():
            return process
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()  # we came too late
        process.wait()
        psutil.wait_procs(family, timeout=120)  # they write there, too
        shutil.rmtree("runs")
    raise AssertionError(out.read_text())


def test_a_study_is_stopped_looked_at_and_taken_up_again(automl: Run, place: Path) -> None:
    out = place / "out.txt"
    wide = [w.replace("width=32", "width=16..32") for w in LONGER]
    aims = ["--objective", "val/accuracy", "--objective", "params:min"]
    aims += ["--constraint", "params<2k", "--constraint", "latency<1s"]
    process = _begin_and_freeze(out, *wide, *aims)

    # While it runs: everybody may look, nobody may run it a second time or delete it.
    assert re.search(r"^digits +digits +running", automl("ls").stdout, re.MULTILINE)
    assert "running; " in automl("show", "digits").stdout
    assert automl("best", "digits").returncode == 0
    refused = automl("rm", "digits", "--yes")
    assert refused.returncode == 2
    assert "is being run by process" in refused.stderr

    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    assert process.wait(120) == 1
    text = out.read_text()
    assert "stopping: running trials save themselves" in text
    assert "Best so far:" in text
    assert text.rstrip().endswith("Go on with: automl resume digits")
    assert re.search(r"^digits +digits +interrupted", automl("ls").stdout, re.MULTILINE)

    rest = _run("resume", "digits", "--mlflow", "off")
    assert rest.returncode in (0, 3), rest.stdout + rest.stderr
    assert rest.stdout.startswith("digits: goes on after ")
    assert "Cost: 12 trials" in rest.stdout
    assert re.search(r"^digits +digits +done +12 ", automl("ls").stdout, re.MULTILINE)

    # Two objectives and two constraints, all the way to the files.
    assert re.search(r"; front of \d+ recipes?; best accuracy \d\d\.\d\d %, params ", rest.stdout)
    assert re.search(r"Beside it: params \S+k", rest.stdout)
    assert re.search(r"(It keeps|the baseline breaks) params<2k", rest.stdout)
    shown = automl("show", "digits").stdout
    front = re.findall(r"^ *\*(\d+) .*%", shown, re.MULTILINE)
    assert front, shown
    lines = automl("show", "digits", front[-1]).stdout.splitlines()
    assert "on the front" in lines
    assert (place / "runs/digits/pareto.svg").stat().st_size > 0
    one = automl("export", "digits", "--format", "toml", "--trial", front[-1])
    assert f"trial = {front[-1]}" in one.stdout
    best = json.loads(automl("best", "digits", "--json").stdout)
    assert best["score"]["cost_params"] < 2000


def test_sigterm_is_a_first_ctrl_c(place: Path) -> None:
    out = place / "out.txt"
    process = _begin(out, *ENDLESS)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 1
    assert out.read_text().rstrip().endswith("Go on with: automl resume digits")


def test_two_signals_stop_at_once(place: Path) -> None:
    out = place / "out.txt"
    process = _begin(out, *ENDLESS)
    workers = psutil.Process(process.pid).children()
    for worker in workers:
        worker.suspend()  # none of them will ever save itself
    process.send_signal(signal.SIGINT)
    _wait_for("stopping: running trials save themselves", out, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 1
    assert "stopping at once" in out.read_text()
    assert "Traceback" not in out.read_text()
    assert workers and not psutil.wait_procs(workers, timeout=60)[1]


def test_a_ctrl_c_that_python_drops_is_not_forgotten(place: Path) -> None:
    # One that comes within a callback is printed and dropped.
    err = _interrupted(place, "Dropped()")
    assert "KeyboardInterrupt" in err  # it was dropped
    assert err.endswith("automl: stopped\n")


def test_ctrl_c_before_anything_runs_leaves_nothing(place: Path) -> None:
    assert _interrupted(place, "signal.raise_signal(signal.SIGINT)") == "automl: stopped\n"


def _interrupted(place: Path, what: str) -> str:
    """What a command says to a Ctrl-C that comes thus, when the library is loaded."""
    (place / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Dropped:\n"
        "    def __del__(self):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'automl.study.preparing':\n"
        "            sys.meta_path.remove(self)\n"
        f"            {what}\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    path = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [AUTOML, *TINY], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert not list((place / "runs").glob("*/journal.db"))
    return done.stderr


def test_json_is_events_and_nothing_else(place: Path) -> None:
    done = _run(*QUICK, "--budget", "3trials", "--json", "--strategy", "random")
    assert done.returncode in (0, 3), done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [e["kind"] for e in events]
    assert kinds[0] == "smoke"
    assert kinds.count("verdict") == kinds.count("end") == 1
    assert {"study", "ask", "report", "phase", "progress"} < set(kinds)
    assert sum(e["kind"] == "ask" and e["phase"] == "search" for e in events) == 3


def test_dry_run_prints_the_plan_and_leaves_nothing(place: Path) -> None:
    done = _run(*TINY, "--budget", "20full", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert list(lines) == (
        ["task", "metric", "space", "baseline", "training", "rungs", "search", "verdict", "study"]
    )
    assert re.search(r"about \d+ trials in \d+ (s|min)", lines["search"])
    assert lines["baseline"].startswith("adamw, cosine")
    assert [p.name for p in (place / "runs").rglob("*")] == []


def test_a_study_of_other_settings_is_not_taken_up(automl: Run, place: Path) -> None:
    first = automl(*QUICK, "--budget", "2trials", "--quiet")
    assert first.returncode in (0, 3), first.stderr
    assert "smoke" not in first.stdout  # --quiet: the verdict only
    assert "Cost: 2 trials" in first.stdout
    other = automl(*QUICK, "--budget", "3trials")
    assert other.returncode == 2
    assert "a study named 'loop' exists with budget 2trials, not 3trials" in other.stderr
    assert other.stderr.count("\n") == 1


def test_the_live_screen_leaves_no_trace(place: Path) -> None:
    """On a terminal of 80 columns: drawn while it runs, erased at the end."""
    import pty

    environment = {k: v for k, v in os.environ.items() if k != "CI"}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [AUTOML, *TINY, "--budget", "4trials", "--mlflow", "off", "--pack", "off"],
        stdout=child,
        stderr=child,
        stdin=child,
        env=environment,
    )
    os.close(child)
    seen = b""
    while True:
        try:
            data = os.read(parent, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        seen += data
    os.close(parent)
    assert process.wait(120) in (0, 3)
    text = seen.decode()
    assert "1 of 2: search" in text
    assert "training now" in text
    end = text.rindex("\x1b[2K") + 4  # the screen's last line is erased
    assert "\x1b" not in text[end:]
    assert "Cost: 4 trials" in text[end:]
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # and the cursor is back


def test_packs_are_measured_and_used(place: Path) -> None:
    measured = _run("bench", "packs", "digits", *SETS, "--largest", "4")
    assert measured.returncode == 0, measured.stderr
    assert "TRIALS x SAMPLES/S" in measured.stdout
    assert re.search(r"^ +2 +.* MiB$", measured.stdout, re.MULTILINE)
    assert re.search(r"^auto trains ", measured.stdout, re.MULTILINE)
    tuned = _run(*LONGER, "--pack", "6", "--name", "packed")
    assert tuned.returncode in (0, 3), tuned.stderr
    assert re.search(r"search ended after 12 trials \(packed 12\); best", tuned.stdout)


def test_a_loop_of_ones_own_has_no_packs_to_measure(automl: Run, place: Path) -> None:
    refused = automl("bench", "packs", "loop.py")
    assert refused.returncode == 2
    assert "trains itself: its trials cannot be packed" in refused.stderr


def test_a_study_begins_where_an_earlier_one_ended(automl: Run, place: Path) -> None:
    first = _points(automl(*QUICK, "--budget", "6trials", "--name", "one", "--json"))
    second = [*QUICK, "--budget", "4trials", "--name", "two"]
    again = _points(automl(*second, "--warm-start", "one", "--json"))
    assert again[0] == first[0]  # the baseline
    assert again[1] in first[1:]
    shutil.rmtree(place / "runs" / "one")
    same = automl(*second, "--warm-start", "one")  # ended; it does not need the earlier one
    assert same.returncode in (0, 3), same.stderr
    other = automl(*second)
    assert other.returncode == 2
    assert "exists with warm_start one, not nothing" in other.stderr


def _points(done: subprocess.CompletedProcess[str]) -> list[object]:
    """Points of the search's trials, in order."""
    assert done.returncode in (0, 3), done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    asked = [e for e in events if e["kind"] == "ask" and e["phase"] == "search"]
    return [e["segment"]["recipe"]["point"] for e in asked if e["segment"]["start"] == 0]


def test_a_search_that_can_gain_no_more_ends_and_says_so(automl: Run, place: Path) -> None:
    tune = [*QUICK, "--budget", "45trials"]
    done = automl(*tune)
    assert "not expected to find anything better: the rest of the budget is saved" in done.stdout
    found = re.search(r"search ended after (\d+) trials", done.stdout)
    assert found is not None and int(found.group(1)) < 45
    assert "It ended before its budget did" in automl("explain", "loop").stdout
    whole = automl(*tune, "--name", "whole", "--spend-all")
    assert "search ended after 45 trials" in whole.stdout
