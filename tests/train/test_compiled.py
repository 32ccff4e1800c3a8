"""A pack as machine code: the loop's results, and the traced program where no compiler serves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import torch
from torch import fx, nn

from automl.space.ranges import Value
from automl.train import compiled
from automl.train.compiled import Compiled, own_folder

from .small_problem import PLAIN, small_task
from .test_engines import assert_equal, trained


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    monkeypatch.setenv("AUTOML_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    locks: list[TextIO] = []
    monkeypatch.setattr(compiled, "_LOCKS", locks)
    yield
    for lock in locks:
        lock.close()


def test_a_compiled_pack_equals_the_loop() -> None:
    # Batch norm, whose statistics a pass changes in place, and dropout.
    points: list[dict[str, Value]] = [PLAIN, {**PLAIN, "optimizer.adamw.lr": 3e-3}]
    losses, pack = trained(small_task(), points, "compiled", seeds=[1, 2])
    expected, loop = trained(small_task(), points, "loop", seeds=[1, 2])
    torch.testing.assert_close(losses, expected, rtol=1e-9, atol=1e-12)
    assert_equal(pack, loop)


def test_without_a_compiler_the_traced_program_runs_on_and_says_why() -> None:
    from torch._inductor import config

    layer = nn.Linear(2, 2)
    traced = fx.symbolic_trace(nn.Sequential(layer, nn.Tanh()))
    graph = traced.graph
    (out,) = (node for node in graph.nodes if node.op == "output")
    out.args = ((out.args[0], out.args[0]),)
    traced.recompile()
    program, x = Compiled(traced), torch.ones(3, 2)
    with config.patch({"cpp.cxx": ("no-such-compiler",)}), torch.no_grad():
        with pytest.warns(UserWarning, match="not compiled: .*C\\+\\+ compiler"):
            first, _ = program(x)
        second, _ = program(x)
    assert torch.equal(first, layer(x).tanh()) and torch.equal(second, first)
    assert program.failure and not program.seconds


def test_no_two_processes_share_a_folder_of_compilations(tmp_path: Path) -> None:
    mine = own_folder()
    assert own_folder() == mine
    says = "from automl.train.compiled import own_folder; print(own_folder())"
    other = subprocess.run(
        [sys.executable, "-c", says], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert Path(other) != mine and Path(other).parent == mine.parent
    fresh = own_folder(fresh=True)
    assert fresh.is_dir() and fresh != mine
