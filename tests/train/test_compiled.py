"""A pack as machine code: the loop's results, and the traced program where no compiler serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest
import torch
from torch import Tensor, fx, nn

from automl.checkpoints import Store
from automl.recipe import Recipe
from automl.records import Pack, Segment, Status
from automl.train import compiled
from automl.train.compiled import Compiled, own_folder
from automl.train.segment import run

from .small_problem import PLAIN, in_float64, small_task


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


def normed(recipe: Recipe) -> nn.Module:
    """Batch norm, whose statistics a pass changes in place."""
    return nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))


def test_a_compiled_pack_equals_the_loop_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    task, point = small_task(normed), in_float64(PLAIN)
    found = [Segment(t, Recipe(point, steps=20, seed=t), 0, 20) for t in range(2)]

    def run_in(folder: str, *segments: Segment, size: int = 2) -> list[dict[str, Tensor]]:
        places = tuple(range(len(segments)))
        pack = Pack(segments, str(tmp_path / folder), size=size, places=places, engine="compiled")
        reports = run(pack, task)
        assert {(r.status, r.packed, r.packing) for r in reports} == {(Status.DONE, size, None)}
        return [Store(pack.checkpoints).load(s.trial, s.stop)[0] for s in segments]

    whole = run_in("whole", *found)
    run_in("parts", *(replace(s, stop=10) for s in found))
    parts = run_in("parts", *(replace(s, start=10, parent=(s.trial, 10)) for s in found))
    for k, segment in enumerate(found):
        (alone,) = run_in(f"alone {k}", segment, size=1)
        for name, x in alone.items():
            assert torch.equal(whole[k][name], parts[k][name])
            torch.testing.assert_close(whole[k][name], x, rtol=1e-9, atol=1e-12)


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


def test_no_two_processes_share_a_folder_of_compilations(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = own_folder()
    assert own_folder() == mine
    others: list[TextIO] = []
    with monkeypatch.context() as another:  # to a lock, each opening of its file is another holder
        another.setattr(compiled, "_LOCKS", others)
        theirs = own_folder()
        assert own_folder(fresh=True) not in (mine, theirs)
    assert theirs != mine and theirs.parent == mine.parent
    (broken,) = mine.parent.glob("*.broken")
    assert broken.name == f"{theirs.name}.lock.broken"
    others[0].close()
    theirs.mkdir()
    others.clear()
    with monkeypatch.context() as again:
        again.setattr(compiled, "_LOCKS", others)
        assert own_folder() == theirs
    assert not theirs.exists() and not broken.exists()  # thrown away by who comes next
    others[0].close()
