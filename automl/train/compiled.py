"""A traced program as machine code, by torch.compile: inductor and the system's C++ compiler.

    traced      some 50 operations a pass, each through torch's dispatcher and over memory
    compiled    what stands side by side is one loop over the numbers

The first call compiles, for 10 to 30 CPU seconds; so it is for packs that train for minutes.
Results differ from the traced program's by rounding, and are the same in any process that
compiles the program on a like machine.

Compilations are kept in a folder that no two living processes share: one that is killed while it
writes leaves a library that the next cannot load. Then a fresh folder is tried, once; where that
fails too (no compiler), the traced program itself runs on, with a warning that says why.
"""

from __future__ import annotations

import atexit
import copy
import fcntl
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.graph import CodeGen

from automl.folders import cache_folder

_LOCKS: list[Any] = []  # open files, held until the process ends


class Compiled:
    """Runs like `traced`, from its first call on as machine code.

    seconds: of CPU time that compiling took, the compiler's own included.
    failure: why the traced program runs instead; "" where it does not.
    """

    def __init__(self, traced: fx.GraphModule) -> None:
        self._traced = traced
        self._run: Callable[..., Any] | None = None
        self.seconds, self.failure = 0.0, ""

    def __call__(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        if self._run is None:
            return self._first(given)
        losses, g = self._run(*given)
        return losses, g

    def _first(self, given: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        began, error = cpu_seconds(), None
        for again in (False, True):
            own_folder(fresh=again)
            # A copy: a program whose compilation failed is remembered as such.
            plain = copy.deepcopy(self._traced)
            plain.graph.set_codegen(CodeGen())  # in the words that the compiler reads
            plain.recompile()
            self._run = torch.compile(plain, dynamic=False, fullgraph=True)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of torch about itself
                    losses, g = self._run(*given)
            except Exception as failed:  # of any class: the compiler's, the linker's, the loader's
                error = failed
                continue
            self.seconds = cpu_seconds() - began
            return losses, g
        # "backend='inductor' raised:", then what it was.
        self.failure = (str(error).split("raised:\n")[-1].strip() or repr(error)).splitlines()[0]
        self._run = self._traced
        warnings.warn(f"not compiled: {self.failure}", stacklevel=2)
        found: tuple[Tensor, Tensor] = self._traced(*given)
        return found


def own_folder(*, fresh: bool = False) -> Path:
    """The folder of this process's compilations, told to torch; an empty one if `fresh`."""
    from torch._inductor import config

    config.compile_threads = 1  # no pool of compiling processes beside each worker
    if fresh:
        folder = Path(tempfile.mkdtemp(prefix="automl-compiled-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        if _LOCKS:  # what could not be loaded is thrown away by the next process that comes here
            Path(f"{_LOCKS[0].name}.broken").touch()
    elif _LOCKS:
        return Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    else:
        folder = _claimed(cache_folder("compiled"))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    return folder


def _claimed(root: Path) -> Path:
    """The first folder in `root` that no living process holds."""
    number = 0
    while True:
        lock = (root / f"{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            number += 1
            continue
        _LOCKS.append(lock)
        folder, broken = root / str(number), Path(f"{lock.name}.broken")
        if broken.exists():
            shutil.rmtree(folder, ignore_errors=True)
            broken.unlink()
        return folder


def cpu_seconds() -> float:
    """Of this process and the compilers that it has run."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
