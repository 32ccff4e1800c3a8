"""The single door: curves, resumes, packs, failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from automl.checkpoints import Store
from automl.recipe import Recipe
from automl.records import Progress, Report, Segment, Status
from automl.space.ranges import Value
from automl.tasks.task import ModelTask
from automl.train.segment import run

from .small_problem import (
    IMAGES,
    PLAIN,
    RECIPES,
    in_float64,
    longer,
    network,
    pack,
    segment,
    small_task,
    task_of,
)

EVERY = {**RECIPES, **IMAGES}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _train(folder: Path, one: Segment, task: ModelTask | None = None) -> Report:
    (report,) = run(pack(folder, one), task or small_task())
    assert report.status is Status.DONE, report.message
    return report


def _tensors(folder: Path, trial: int = 0, step: int = 20) -> dict[str, Tensor]:
    return Store(folder).load(trial, step)[0]


def _assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_training_learns_and_reports_its_curve(tmp_path: Path) -> None:
    heard: list[Progress] = []
    one = longer(segment(), 200)
    (report,) = run(pack(tmp_path, one, test=True), small_task(), progress=heard.append)
    assert report.status is Status.DONE, report.message
    assert [step for step, _ in report.curve] == list(range(5, 201, 5))
    assert [(p.step, p.metrics) for p in heard] == list(report.curve)
    last = report.curve[-1][1]
    assert set(last) == {"train/loss", "val/loss", "val/accuracy", "lr"}
    assert last["val/accuracy"] > 0.85
    assert report.test is not None
    assert report.test["test/accuracy"] > 0.8
    assert report.passes == 200
    assert report.memory_mib > 50


@pytest.mark.parametrize("name", EVERY)
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path: Path, name: str) -> None:
    point = EVERY[name]
    whole = _train(tmp_path / "whole", segment(point), task_of(name))
    first = _train(tmp_path / "parts", segment(point, 0, 7), task_of(name))
    second = _train(tmp_path / "parts", segment(point, 7, 20), task_of(name))
    _assert_same(_tensors(tmp_path / "whole"), _tensors(tmp_path / "parts"))
    curve = [entry for entry in (*first.curve, *second.curve) if entry[0] != 7]
    assert curve == list(whole.curve)


@pytest.mark.parametrize("name", EVERY)
def test_members_of_a_pack_equal_their_own_runs(tmp_path: Path, name: str) -> None:
    point = in_float64(EVERY[name])
    lr = f"optimizer.{point['optimizer']}.lr"
    segments = [segment({**point, lr: 0.003 * (k + 1)}, trial=k, seed=10 + k) for k in range(3)]
    packed = run(pack(tmp_path / "packed", *segments), task_of(name))
    for k, one in enumerate(segments):
        alone = _train(tmp_path / "alone", one, task_of(name))
        assert packed[k].trial == k
        for (step, got), (at, wanted) in zip(packed[k].curve, alone.curve, strict=True):
            assert step == at
            assert got == pytest.approx(wanted, rel=1e-9)
        got_tensors, wanted_tensors = (
            _tensors(tmp_path / "packed", k),
            _tensors(tmp_path / "alone", k),
        )
        for tensor in wanted_tensors:
            torch.testing.assert_close(
                got_tensors[tensor], wanted_tensors[tensor], rtol=1e-9, atol=1e-12
            )


def test_kept_weights_load_into_the_plain_module_and_score_the_same(tmp_path: Path) -> None:
    task = small_task()
    one = segment(RECIPES["sgd, one cycle, sam, swa"])
    report = _train(tmp_path, one)
    module = network(one.recipe)
    names = {n for n in _tensors(tmp_path) if n.startswith("model/")}
    module.load_state_dict({n[6:]: _tensors(tmp_path)[n] for n in names})
    module.eval()
    assert task.valid.x is not None and task.valid.y is not None
    with torch.no_grad():
        value = task.evaluate(module(task.valid.x), task.valid.y)["accuracy"]
    assert value == report.curve[-1][1]["val/accuracy"]


def test_a_segment_that_is_handed_out_again_trains_nothing(tmp_path: Path) -> None:
    first = run(pack(tmp_path, segment(), test=True), small_task())

    def build(recipe: Recipe) -> nn.Module:
        raise AssertionError("nothing is to be built")

    again = run(pack(tmp_path, segment(), test=True), small_task(build))
    assert [replace(r, memory_mib=0) for r in again] == [replace(r, memory_mib=0) for r in first]


def test_a_checkpoint_of_another_recipe_is_not_taken_up(tmp_path: Path) -> None:
    _train(tmp_path, segment(seed=1))
    other = _train(tmp_path, segment(seed=2))
    assert other.curve == _train(tmp_path / "new", segment(seed=2)).curve


def test_a_stop_saves_and_the_rest_gives_the_undisturbed_values(tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole", segment())
    polls = iter(range(100))
    (stopped,) = run(
        pack(tmp_path / "cut", segment()),
        small_task(),
        stop=lambda: {0} if next(polls) == 8 else (),
    )
    assert (stopped.status, stopped.reached) == (Status.STOPPED, 8)
    assert [step for step, _ in stopped.curve] == [5]
    rest = _train(tmp_path / "cut", segment())
    assert rest.curve == whole.curve
    _assert_same(_tensors(tmp_path / "cut"), _tensors(tmp_path / "whole"))
    assert Store(tmp_path / "cut").steps(0) == [20]


def test_a_fork_goes_on_from_its_parents_checkpoint(tmp_path: Path) -> None:
    _train(tmp_path, segment(stop=10, trial=3))
    fork = segment({**PLAIN, "optimizer.adamw.lr": 0.0}, 10, 20, trial=4, parent=(3, 10))
    _train(tmp_path, fork)
    before, after = _tensors(tmp_path, 3, 10), _tensors(tmp_path, 4, 20)
    torch.testing.assert_close(after["train/weights"], before["train/weights"], rtol=0, atol=0)


def test_one_member_that_diverges_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    good = segment(in_float64({"optimizer": "sgd", "optimizer.sgd.lr": 0.05}), trial=0)
    bad = segment(in_float64({"optimizer": "sgd", "optimizer.sgd.lr": 1e200}), trial=1)
    by_trial = {r.trial: r for r in run(pack(tmp_path / "p", bad, good), small_task())}
    assert by_trial[1].status is Status.DIVERGED
    assert 0 < by_trial[1].reached < 20
    assert by_trial[0].status is Status.DONE
    alone = _train(tmp_path / "a", good)
    assert by_trial[0].curve[-1][1] == pytest.approx(alone.curve[-1][1], rel=1e-9)


def test_a_diverged_run_keeps_its_curve(tmp_path: Path) -> None:
    calls = iter(range(1000))

    def loss(output: Tensor, target: Tensor, hyper: object) -> Tensor:
        value = nn.functional.cross_entropy(output, target)
        return value * float("nan") if torch.is_grad_enabled() and next(calls) >= 12 else value

    (report,) = run(pack(tmp_path, segment()), small_task(loss=loss))
    assert (report.status, report.reached) == (Status.DIVERGED, 13)
    assert [step for step, _ in report.curve] == [5, 10]


def test_an_error_in_the_users_model_names_its_line(tmp_path: Path) -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x) @ torch.zeros(3, 3)
            return out

    (report,) = run(pack(tmp_path, segment()), small_task(lambda recipe: Wrong()))
    assert report.status is Status.USER_CODE
    assert report.message.startswith("RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    line = Wrong.forward.__code__.co_firstlineno + 1
    assert report.message.endswith(f"(test_segment.py:{line})")
    assert len(report.traceback.splitlines()) <= 8
    assert "torch.zeros(3, 3)" in report.traceback


def test_a_model_of_the_wrong_output_is_told_so(tmp_path: Path) -> None:
    (report,) = run(pack(tmp_path, segment()), small_task(lambda recipe: nn.Linear(2, 5)))
    assert report.status is Status.USER_CODE
    assert report.message == ("the model returns [16, 5] for 16 samples; this data needs [16, 2]")


def test_too_large_a_model_is_out_of_memory(tmp_path: Path) -> None:
    def build(recipe: Recipe) -> nn.Module:
        return nn.Linear(2, 1 << 50)

    (report,) = run(pack(tmp_path, segment()), small_task(build))
    assert report.status is Status.OUT_OF_MEMORY


def test_a_failing_member_costs_its_trial_alone(tmp_path: Path) -> None:
    def build(recipe: Recipe) -> nn.Module:
        if recipe.seed == 1:
            raise MemoryError
        return network(recipe)

    segments = [segment(trial=k, seed=k) for k in range(3)]
    reports = {r.trial: r.status for r in run(pack(tmp_path, *segments), small_task(build))}
    assert reports == {0: Status.DONE, 1: Status.OUT_OF_MEMORY, 2: Status.DONE}


def test_an_unknown_method_is_an_invalid_recipe(tmp_path: Path) -> None:
    (report,) = run(pack(tmp_path, segment({"optimizer": "adamm"})), small_task())
    assert report.status is Status.INVALID
    assert report.message.startswith("no optimizer named 'adamm'; nearest: ")


def test_a_missing_parent_is_said_plainly(tmp_path: Path) -> None:
    (report,) = run(pack(tmp_path, segment(PLAIN, 5, 10)), small_task())
    assert report.status is Status.LOST
    assert report.message.startswith("no readable checkpoint in ")


def test_a_worker_that_died_between_checkpoints_loses_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automl.train.evaluations._SAVE_SECONDS", 0.0)
    die_at, calls = 1000, iter(range(1000))

    def loss(output: Tensor, target: Tensor, hyper: object) -> Tensor:
        if torch.is_grad_enabled() and next(calls) == die_at:
            raise KeyboardInterrupt  # as kill -9 would: nothing of ours may handle it
        return nn.functional.cross_entropy(output, target)

    task = small_task(loss=loss)
    whole = _train(tmp_path / "whole", segment(), task)
    die_at, calls = 12, iter(range(1000))
    with pytest.raises(KeyboardInterrupt):
        run(pack(tmp_path / "cut", segment()), task)
    assert Store(tmp_path / "cut").steps(0) == [10]  # the last evaluation before
    die_at = 1000
    rest = _train(tmp_path / "cut", segment(), task)
    assert rest.curve == whole.curve
    assert rest.passes == whole.passes
    _assert_same(_tensors(tmp_path / "cut"), _tensors(tmp_path / "whole"))


def test_members_that_stand_at_other_steps_reach_the_same_end(tmp_path: Path) -> None:
    segments = [segment(trial=k, seed=k) for k in range(3)]
    whole = [_train(tmp_path / "whole", one) for one in segments]
    polls = iter(range(100))
    run(
        pack(tmp_path / "cut", segments[1]),
        small_task(),
        stop=lambda: {1} if next(polls) == 9 else (),
    )
    reports = {r.trial: r for r in run(pack(tmp_path / "cut", *segments), small_task())}
    for k, one in enumerate(whole):
        assert [step for step, _ in reports[k].curve] == [step for step, _ in one.curve]
        assert reports[k].curve[-1][1] == pytest.approx(one.curve[-1][1], rel=1e-4)


def test_one_member_of_a_pack_is_stopped_and_the_others_go_on(tmp_path: Path) -> None:
    segments = [segment(in_float64(PLAIN), trial=k, seed=k) for k in range(3)]
    alone = _train(tmp_path / "alone", segments[2])
    polls = iter(range(100))
    reports = {
        r.trial: r
        for r in run(
            pack(tmp_path / "p", *segments),
            small_task(),
            stop=lambda: {1} if next(polls) >= 6 else (),
        )
    }
    assert [reports[k].status for k in range(3)] == [Status.DONE, Status.STOPPED, Status.DONE]
    assert reports[1].reached == 6
    assert reports[2].curve[-1][1] == pytest.approx(alone.curve[-1][1], rel=1e-9)
    rest = _train(tmp_path / "p", segments[1])
    whole = _train(tmp_path / "alone", segments[1])
    assert rest.curve[-1][1] == pytest.approx(whole.curve[-1][1], rel=1e-9)


def test_a_stop_before_the_first_step_keeps_nothing(tmp_path: Path) -> None:
    (report,) = run(pack(tmp_path, segment()), small_task(), stop=lambda: {0})
    assert (report.status, report.reached, report.curve) == (Status.STOPPED, 0, ())
    assert Store(tmp_path).steps(0) == []


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({**PLAIN, "batch": "cutmix"}, "batch 'cutmix' does not serve vector data"),
        ({**PLAIN, "loss": "huber"}, "loss 'huber' does not serve a target of classes"),
        ({**PLAIN, "precision": "int4"}, "precision 'int4'; one of float32, float64, bfloat16"),
        ({"schedule": "cosine"}, "the recipe names no optimizer"),
    ],
)
def test_a_recipe_that_cannot_be_trained_says_why(
    tmp_path: Path, point: dict[str, Value], message: str
) -> None:
    (report,) = run(pack(tmp_path, segment(point)), small_task())
    assert report.status is Status.INVALID
    assert report.message.startswith(message)


def test_running_out_of_memory_inside_a_step_is_told_apart(tmp_path: Path) -> None:
    def loss(output: Tensor, target: Tensor, hyper: object) -> Tensor:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    (report,) = run(pack(tmp_path, segment()), small_task(loss=loss))
    assert report.status is Status.OUT_OF_MEMORY
    assert report.message == "CUDA out of memory. Tried to allocate 2.00 GiB"
