"""A lock that one process holds, and processes that end with the one that started them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from automl.alone import held, holder, taken
from automl.errors import StudyError

BUSY = StudyError("busy")


def test_one_holds_the_lock_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path) == 0
    with held(path, BUSY):
        assert holder(path) == os.getpid()
        with pytest.raises(StudyError, match="busy"), held(path, BUSY):
            pass
        assert holder(path) == os.getpid()
    assert holder(path) == 0


def test_who_only_looks_at_the_lock_refuses_it_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    looking = path.open("a+")
    fcntl.flock(looking, fcntl.LOCK_SH)  # as `holder` does for an instant
    gone = threading.Timer(0.1, looking.close)
    gone.start()
    with held(path, BUSY):
        assert looking.closed
        assert holder(path) == os.getpid()
    gone.join()


def test_a_killed_holder_is_not_taken_for_the_one_after_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    path.write_text(str(killed.pid))
    assert holder(path) == 0
    with path.open("r+") as lock:
        assert taken(lock.fileno())
        late = threading.Timer(0.1, path.write_text, [f"{os.getpid()}\n"])
        late.start()
        assert holder(path) == os.getpid()
        late.join()


# Its child asks for a signal before it has ended, or after.
PARENT = """
import os, signal, sys, time
from automl.parents import end_with
parent = os.getpid()
if os.fork() == 0:
    while sys.argv[1] == "late" and os.getppid() == parent:
        time.sleep(0.01)
    end_with(parent, signal.SIGKILL)
    print("asked", flush=True)
    time.sleep(600)
    print("lives", flush=True)
elif sys.argv[1] == "in time":
    time.sleep(600)
"""


@pytest.mark.parametrize(("when", "said"), [("in time", "asked\n"), ("late", "")])
def test_a_process_ends_with_its_parent_be_that_gone_already(when: str, said: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, when], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == said
    parent.kill()
    assert parent.communicate()[0] == ""  # nobody holds the pipe any more
