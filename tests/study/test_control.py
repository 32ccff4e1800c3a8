"""`automl pause`, `resume` and `stop` of a study that another process runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automl.checkpoints import Store
from automl.errors import AutomlError
from automl.executors.leases import connect
from automl.executors.valkey import Server
from automl.study.control import Control
from automl.study.preparing import saved_state
from automl.study.state import State

from .test_kill import TASK, fingerprint

Run = Callable[..., "subprocess.CompletedProcess[str]"]
AUTOML = str(Path(sys.executable).parent / "automl")

# A trial takes two minutes for as long as its file lies beside the task: so a test finds it in its
# midst, however late it looks. What is trained does not depend on it.
HELD = (
    "import time\nfrom pathlib import Path\n"
    + TASK.replace("epochs = 60", "epochs = 200").replace("nn.Sequential(", "Held(dropout, ")
    + """

class Held(nn.Sequential):
    def __init__(self, dropout, *layers):
        super().__init__(*layers)
        self.hold = Path(__file__).with_name("baseline" if dropout == 0.1 else "others")

    def forward(self, x):
        if self.training and self.hold.exists():
            time.sleep(0.1)
        return super().forward(x)
"""
)


def tune(folder: Path, name: str, *more: str) -> list[str]:
    return [
        AUTOML, "tune", str(folder / "task.py"), "--name", name, "--budget", "2trials",
        "--strategy", "random", "--seeds", "1", "--workers", "1", "--pack", "off",
        "--mlflow", "off", "--quiet", "--set", "model.width=16", *more,
    ]  # fmt: skip


@contextlib.contextmanager
def driver(
    command: list[str], folder: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "driver.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(folder: Path, name: str, true: Callable[[State], object]) -> State:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with contextlib.suppress(AutomlError):
            state = saved_state(name, runs=folder / "runs")
            if true(state):
                return state
        time.sleep(0.05)
    raise AssertionError((folder / "driver.log").read_text())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text(HELD)
    return tmp_path


def test_a_wish_is_read_by_every_process_that_sees_the_folder(tmp_path: Path) -> None:
    here, there = Control(tmp_path), Control(tmp_path)
    assert there.wish() == "go"
    for wish in ("pause", "go", "stop"):
        here.ask(wish)
        assert here.wish() == wish == Control(tmp_path).wish()
        assert (tmp_path / "control").stat().st_size == 8


@pytest.mark.slow
def test_a_study_that_is_paused_and_stopped_ends_like_an_undisturbed_one(
    automl: Run, place: Path
) -> None:
    def begun(state: State) -> bool:
        last = max(state.trials, default=0)
        reported = state.paused and state.trials[last].device != ""
        return reported and bool(Store(place / "runs" / "s" / "checkpoints").steps(last))

    for hold in ("baseline", "others"):
        (place / hold).touch()
    with driver(tune(place, "s"), place) as process:
        until(place, "s", lambda s: s.open)
        assert automl("pause", "s").stdout == "s is paused; go on with: automl resume s\n"
        assert "  paused  " in automl("ls").stdout
        assert begun(until(place, "s", begun))  # it saved itself
        asked = saved_state("s", runs=place / "runs").updated
        time.sleep(0.5)
        assert saved_state("s", runs=place / "runs").updated == asked  # nothing goes on
        assert automl("resume", "s").stdout.startswith("s goes on, run by process")
        (place / "baseline").unlink()
        running = until(place, "s", lambda s: s.trials.get(1))
        assert not running.paused
        assert automl("stop", "s").stdout == "s is stopped; go on with: automl resume s\n"
        assert process.wait(120) == 1
    (place / "others").unlink()
    stopped = saved_state("s", runs=place / "runs")
    assert stopped.ended == "interrupted" and stopped.verdict is None
    for name in ("s", "c"):
        done = subprocess.run(tune(place, name), cwd=place, stdout=subprocess.DEVNULL)
        assert done.returncode in (0, 3)
    assert fingerprint(saved_state("s", runs=place / "runs")) == fingerprint(
        saved_state("c", runs=place / "runs")
    )


def test_what_waits_in_a_queue_without_workers_is_withdrawn_at_once(
    automl: Run, place: Path, broker: Server
) -> None:
    client = connect(broker.url)
    with driver(tune(place, "q", "--queue", "empty"), place, AUTOML_BROKER=broker.url) as process:
        until(place, "q", lambda s: s.open)
        assert automl("pause", "q").returncode == 0
        until(place, "q", lambda s: s.trials[0].message == "" and s.paused)
        deadline = time.monotonic() + 60
        while list(client.scan_iter(match="automl:q-*:order:*")):
            assert time.monotonic() < deadline
        assert automl("stop", "q").returncode == 0
        assert process.wait(120) == 1


@pytest.mark.parametrize("word", ["pause", "stop"])
def test_what_does_not_run_cannot_be_paused_or_stopped(
    word: str, automl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = automl(word, "x")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "no study named 'x'" in done.stderr
