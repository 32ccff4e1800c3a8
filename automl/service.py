"""The driver service: runs every study that was handed over to it, each in a process of its own.

A study is handed over by the file `detached` in its folder, which holds the directory that its
paths start from, and which is taken away when it has ended or was stopped by a person. So nothing
is lost with the service: started again, it takes up all that is left, from their journals. Its
studies end with it (they save themselves), and one that dies alone is started again.

`python -m automl.service` reads on its standard input what it shall do, as JSON:

    {"runs", "journal"}                        serve until nothing is left, after `tune --detach`
    {"runs", "journal", "study", "service"}    run this one, until that process ends
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl.alone import held, holder
from automl.errors import AutomlError, ExecutorError, JournalAway, StudyError
from automl.executors.broker import broker_url
from automl.parents import end_with
from automl.study.control import Control
from automl.study.journal import writer
from automl.study.preparing import resume, saved_config
from automl.tuning import conduct

_MARK = "detached"
_LOCK = ".driver.lock"
_LOG = "driver.log"
_POLL_SECONDS = 0.2
_AGAIN_SECONDS = (1.0, 60.0)  # before a study that died is started again: first, at most
_LEAVE_SECONDS = 60.0  # for studies to save themselves when the service ends
_START_SECONDS = 60.0
_LATER = 75  # exit code: what is missing may come back (EX_TEMPFAIL)


def hand_over(folder: Path) -> None:
    """Let the service run the study in `folder`, as if from the present directory."""
    part = folder / f"{_MARK}.part"
    part.write_text(str(Path.cwd()))
    part.replace(folder / _MARK)


def take_back(folder: Path) -> bool:
    """The service shall not run this study any more; whether it had it."""
    had = (folder / _MARK).exists()
    (folder / _MARK).unlink(missing_ok=True)
    return had


def handed_over(runs: Path) -> list[str]:
    """Names of the studies that the service has."""
    return sorted(path.parent.name for path in runs.glob(f"*/{_MARK}"))


def serving(runs: Path) -> int:
    """Process of the service of this folder; 0: there is none."""
    return holder(runs / _LOCK)


def launch(runs: Path, *, journal: str | None, broker: str | None) -> int:
    """Start a service that ends when nothing is left for it to do; its process.

    Raises:
        StudyError: it did not start.
    """
    environment = {**os.environ, **({"AUTOML_BROKER": broker} if broker else {})}
    log = runs / _LOG
    with log.open("ab") as output:
        process = _ordered(
            {"runs": str(runs), "journal": journal}, output, environment, start_new_session=True
        )
    deadline = time.monotonic() + _START_SECONDS
    while not serving(runs) and process.poll() != 0:  # or it has done all that there was
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise StudyError(f"the driver service did not start; see {log}")
        time.sleep(_POLL_SECONDS)
    return process.pid


@dataclass
class _Child:
    process: subprocess.Popen[bytes] | None = None
    again: float = 0.0  # when it may start
    wait: float = field(default=_AGAIN_SECONDS[0])
    told: bool = False  # that it shall end


def serve(
    runs: Path,
    *,
    journal: str | None,
    say: Callable[[str], None],
    stop: Callable[[], int],
    until_idle: bool = False,
) -> None:
    """Run what is handed over until `stop` says so.

    Raises:
        StudyError: another service runs the studies of this folder.
    """
    runs.mkdir(parents=True, exist_ok=True)
    children: dict[str, _Child] = {}
    while True:
        refusal = StudyError(f"process {serving(runs)} is the driver service of {runs} already")
        with held(runs / _LOCK, refusal):
            try:
                while not stop():
                    _look(runs, journal, children, say)
                    if until_idle and not children:
                        break
                    time.sleep(_POLL_SECONDS)
            finally:
                _leave(children)
        if stop() or not until_idle or not handed_over(runs):
            return  # none came between the last look and the end of the lock


def _look(
    runs: Path, journal: str | None, children: dict[str, _Child], say: Callable[[str], None]
) -> None:
    wanted = handed_over(runs)
    for name in wanted:
        child = children.setdefault(name, _Child())
        if child.process is None and time.monotonic() >= child.again:
            _start(name, runs, journal, child, say)
    for name, child in list(children.items()):
        code = None if child.process is None else child.process.poll()
        if code is not None:
            child.process = None
            _ended(name, runs, code, child, say)
        elif name not in wanted and child.process is not None and not child.told:
            child.process.terminate()  # a person stopped it while it started
            child.told = True
        if child.process is None and name not in handed_over(runs):
            del children[name]


def _start(
    name: str, runs: Path, journal: str | None, child: _Child, say: Callable[[str], None]
) -> None:
    own = (runs / name / "journal.db").exists()
    try:
        if writer(str(runs / name / "journal.db") if own else journal or "", name):
            return  # a driver that is just ending, or a person's
    except JournalAway as error:
        _wait(name, str(error), child, say)
        return
    except AutomlError as error:
        _give_up(name, runs, str(error), say)
        return
    order: dict[str, Any] = {"study": name, "service": os.getpid(), "runs": str(runs.absolute())}
    order["journal"] = None if own else journal
    try:
        place = (runs / name / _MARK).read_text()
    except OSError:
        return  # stopped in this moment
    if not Path(place).is_dir():
        _give_up(name, runs, f"its paths start from {place}, which is not here", say)
        return
    with (runs / name / _LOG).open("ab") as output:
        child.process = _ordered(order, output, dict(os.environ), cwd=place)
    say(f"{name}: process {child.process.pid}")


def _ended(name: str, runs: Path, code: int, child: _Child, say: Callable[[str], None]) -> None:
    child.told = False
    if code == 0:
        take_back(runs / name)
        say(f"{name}: ended")
    elif code == 1:
        if Control(runs / name).wish() == "stop":
            take_back(runs / name)
        say(f"{name}: interrupted")
    elif code == 2:
        _give_up(name, runs, _last_line(runs / name / _LOG), say)
    else:
        why = _last_line(runs / name / _LOG) if code == _LATER else f"its driver died ({code})"
        _wait(name, why, child, say)


def _wait(name: str, why: str, child: _Child, say: Callable[[str], None]) -> None:
    """Start it again later, each time after longer."""
    say(f"{name}: {why}; again in {child.wait:.0f} s")
    child.again = time.monotonic() + child.wait
    child.wait = min(2 * child.wait, _AGAIN_SECONDS[1])


def _give_up(name: str, runs: Path, why: str, say: Callable[[str], None]) -> None:
    take_back(runs / name)
    say(f"{name}: {why}")


def _leave(children: dict[str, _Child]) -> None:
    """Let the studies save themselves, and make sure that none is left."""
    running = [c.process for c in children.values() if c.process is not None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + _LEAVE_SECONDS
    for process in running:
        try:
            process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    children.clear()


def _ordered(
    order: dict[str, Any], output: Any, environment: dict[str, str], **more: Any
) -> subprocess.Popen[bytes]:
    """A process of this module. The order goes by a pipe: `ps` would show a journal's password."""
    process = subprocess.Popen(
        [sys.executable, "-m", "automl.service"],
        stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment, **more,
    )  # fmt: skip
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
    return process


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"


# In the processes that it starts ------------------------------------------------------------


def _main() -> int:
    order = json.load(sys.stdin)
    asked = 0
    running = "study" not in order

    def stop(*_: object) -> None:
        nonlocal asked
        asked += 1
        if not running:
            raise SystemExit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    runs, journal = Path(order["runs"]), order["journal"]
    if running:
        say = lambda text: print(text, flush=True)  # noqa: E731
        serve(runs, journal=journal, say=say, stop=lambda: min(asked, 2), until_idle=True)
        return 0
    end_with(order["service"], signal.SIGTERM)
    try:
        name = order["study"]
        queued = saved_config(name, runs=runs, journal=journal).queues
        broker = broker_url(None) if queued else None
        if queued and broker is None:
            listed = ",".join(queued)
            raise ExecutorError(
                f"study '{name}' wants workers of queue {listed}; start the driver service with "
                "AUTOML_BROKER"
            )
        with contextlib.closing(
            resume(name, runs=runs, journal=journal, broker=broker, heed=True)
        ) as prepared:
            running = True
            state = conduct(prepared, stop=lambda: min(asked, 2))
        return 1 if state.ended == "interrupted" else 0
    except AutomlError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return _LATER if isinstance(error, ExecutorError | JournalAway) else 2


if __name__ == "__main__":
    sys.exit(_main())
