"""A press: one process that has loaded everything, and of which each command is a fork.

`automl tune` and its workers load torch, pandas and the rest for seconds, to use them for a moment.
The press does so once. A command that is run here is a fork of it, and so is each worker that the
command starts; arguments, folder, environment and files are those that a process of its own would
have, and what it does then is the same. Tests of how processes start and die start real ones.

    press.run("tune", "digits", cwd=folder)             as subprocess.run does with `automl`
    press.start("tune", "digits", cwd=folder, out=file)  as subprocess.Popen does
"""

from __future__ import annotations

import array
import ast
import contextlib
import fcntl
import importlib
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
AUTOML = str(Path(sys.executable).parent / "automl")
_LIBRARIES = ("torch", "pandas", "matplotlib.pyplot", "sqlalchemy.dialects.sqlite")
_PACKAGES = ("cli", "executors", "methods", "reports", "search", "space", "study", "tasks", "train")
_OWN = ("celery", "crew", "holding", "leases", "valkey")  # of queues: no command here has one
_FILES = 5  # that a fork is given: 0, 1, 2 and a worker's two pipes

# What a command takes for Python, to start its workers with: it asks the press for a fork, and ends
# when that does. It loads next to nothing, and leaves what is no worker to Python.
_STUB = """#!{python} -SE
import os, sys
arguments = sys.argv[1:]
if "automl.train" not in arguments:
    os.execv({python!r}, [{python!r}, *arguments])
import _socket, array
numbers = [0, 1, 2, int(arguments[-2]), int(arguments[-1])]
order = repr((arguments, os.getcwd(), dict(os.environ), numbers)).encode()
line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
line.connect({place!r})
line.sendmsg([order], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", numbers))])
for number in numbers:
    os.close(number)
line.recv(16)  # its process number
os._exit(int(line.recv(16) or 1))
"""


class Press:
    """The process; it ends with `close`, or with this one."""

    def __init__(self, folder: Path) -> None:
        self._place = str(folder / "press")
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.press", self._place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    @property
    def pid(self) -> int:
        """Of the press, whose children are all that it runs, workers included."""
        return self._process.pid

    def start(self, *arguments: str, cwd: Path, out: Path, **environment: str) -> Running:
        """Run `automl` with these arguments; what it says is added to the file `out`."""
        with out.open("ab") as file:
            return self._order(arguments, cwd, environment, file.fileno(), file.fileno())

    def run(
        self, *arguments: str, cwd: Path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `automl` with these arguments, and what stands in the environment besides."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = self._order(arguments, cwd, environment, out.fileno(), err.fileno())
            code = done.wait()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())

    def _order(
        self, arguments: tuple[str, ...], cwd: Path, more: Mapping[str, str], out: int, err: int
    ) -> Running:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.connect(self._place)
        order = ([AUTOML, *arguments], str(cwd), {**os.environ, **more}, [0, 1, 2])
        with open(os.devnull) as nothing:
            files = array.array("i", [nothing.fileno(), out, err])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)]
            line.sendmsg([repr(order).encode()], rights)
        return Running(line)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Running:
    """A command that runs; it is killed when nobody holds this any more."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._code: int | None = None
        self.pid = int(line.recv(16))

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 300) -> int:
        """Its exit code; -9 of one that was killed, whatever by."""
        if self._code is None:
            self._line.settimeout(timeout)
            self._code = int(self._line.recv(16) or -signal.SIGKILL)
            self._line.close()
        return self._code

    def poll(self) -> int | None:
        if self._code is None and not select.select([self._line], [], [], 0)[0]:
            return None
        return self.wait()

    def end(self) -> None:
        """Kill it, should it still run."""
        if self.poll() is None:
            self.send_signal(signal.SIGKILL)
            self.wait()


# In the press -------------------------------------------------------------------------------


def _load() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    for package in _PACKAGES:
        found = importlib.import_module(f"automl.{package}")
        for module in pkgutil.walk_packages(found.__path__, f"{found.__name__}."):
            name = module.name.rpartition(".")[2]
            if name != "__main__" and name not in _OWN:
                with contextlib.suppress(ImportError):  # of a library that is not installed
                    importlib.import_module(module.name)


def _serve(place: str) -> None:
    stub = Path(place + ".python")
    stub.write_text(_STUB.format(python=sys.executable, place=place))
    stub.chmod(0o700)
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(place)
        listener.listen(64)
        print("ready", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            line, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _become(line, str(stub))
            line.close()


def _reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(line: socket.socket, python: str) -> None:
    """Do what the order on this line says, in place of the press, and end."""
    code = 1
    try:
        data, files, *_ = socket.recv_fds(line, 1 << 20, _FILES)
        arguments, folder, environment, numbers = ast.literal_eval(data.decode())
        line = _away(line, files, numbers)
        line.send(str(os.getpid()).encode())
        # Whoever asked is gone: so are we. (A worker's driver may have killed it.)
        fcntl.fcntl(line, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) | os.O_ASYNC)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.executable = python
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        try:
            code = _do(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            line.send(str(code).encode())
        os._exit(code)


def _away(line: socket.socket, files: list[int], numbers: list[int]) -> socket.socket:
    """Give the files their numbers; what else was open moves out of the way."""
    high = [fcntl.fcntl(f, fcntl.F_DUPFD, 100) for f in (*files, line.fileno())]
    for file in (*files, line.detach()):
        os.close(file)
    for file, number in zip(high, numbers, strict=False):
        os.dup2(file, number)
        os.close(file)
    return socket.socket(fileno=high[-1])


def _do(arguments: list[str]) -> int:
    if arguments[0] == AUTOML:
        sys.argv = arguments
        cli = importlib.import_module("automl.cli.app")
        return int(cli.main())
    if "-P" not in arguments:
        sys.path.insert(0, os.getcwd())
    sys.argv = arguments[arguments.index("-m") + 1 :]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    _load()
    _serve(sys.argv[1])
    os._exit(0)  # nothing of what was loaded needs an end
