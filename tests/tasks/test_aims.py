"""What people may write after --objective and --constraint, and what they are told otherwise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.aims import Aims, Constraint, Objective, Outcome, first_metric, read_constraint
from automl.errors import TaskError
from automl.records import TaskSpec
from automl.tasks.aiming import aims_of, further_metrics


def aims(*objectives: str, constraints: tuple[str, ...] = (), loop: bool = False) -> Aims | None:
    spec = TaskSpec("t", objectives=objectives, constraints=constraints)
    target = None if loop else "classes"
    return aims_of(spec, metric="accuracy", direction="maximize", target=target)


def test_names_get_their_place_in_curves_and_their_usual_direction() -> None:
    found = aims("val/accuracy", "log_loss", "params:min", "latency", "train/loss", "passes:max")
    assert found is not None
    assert [(o.name, o.direction) for o in found.objectives] == [
        ("val/accuracy", "maximize"),
        ("val/log_loss", "minimize"),
        ("cost/params", "minimize"),
        ("cost/latency", "minimize"),
        ("train/loss", "minimize"),
        ("cost/passes", "maximize"),
    ]
    assert found.measures == ("params", "latency", "passes")
    assert aims() is None
    assert aims("accuracy") is None  # as without
    only = aims(constraints=("f1>80%",))
    assert only is not None and not only.several and only.objectives[0].name == "val/accuracy"


def test_a_loop_reports_what_it_likes_and_the_driver_counts_the_rest() -> None:
    found = aims("accuracy", "params", "seconds", constraints=("latency<5ms",), loop=True)
    assert found is not None
    assert found.names == ("val/accuracy", "val/params", "cost/seconds", "val/latency")
    assert found.directions == ("maximize", "minimize", "minimize")


def test_metrics_that_only_an_aim_names_are_evaluated_too() -> None:
    spec = TaskSpec("t", objectives=("accuracy", "f1", "params"), constraints=("val/loss<1",))
    assert [m.name for m in further_metrics(spec, "accuracy", "classes")] == ["f1"]


@pytest.mark.parametrize(
    ("text", "bound"),
    [("latency<5ms", 5.0), ("latency <= 0.5 s", 500.0), ("latency<200us", 0.2),
     ("params<100k", 1e5), ("params<1.5e3", 1500.0), ("size<2MiB", 2**21), ("size<2MB", 2e6),
     ("memory<1GiB", 1024.0), ("seconds<2m", 120.0), ("passes<3k", 3000.0),
     ("val/f1>=90%", 0.9), ("f1>0.9", 0.9), ("val/r2>-1", -1.0)],
)  # fmt: skip
def test_bounds_are_read_in_their_units(text: str, bound: float) -> None:
    assert read_constraint(text).bound == pytest.approx(bound)


BAD: dict[tuple[str, ...], str] = {
    ("latency<5",): "'latency<5': 5 what? us, ms, s",
    ("latency<5kg",): "'kg' is no unit of latency; use us, ms, s",
    ("val/f1>5ms",): "'ms' is no unit of val/f1; use %",
    ("latency",): "write NAME<VALUE, such as 'latency<5ms'",
    ("latency<1.2.3ms",): "write NAME<VALUE",
    ("latncy<5",): "--constraint latncy: no such metric or measure; nearest: 'latency'; there are",
    ("test/accuracy>0.9",): "the search never sees the test split",
}


@pytest.mark.parametrize("constraints", BAD)
def test_a_bad_constraint_gets_one_line(constraints: tuple[str, ...]) -> None:
    with pytest.raises(TaskError) as caught:
        aims(constraints=constraints)
    assert BAD[constraints] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        (("accuracy", "parms"), "--objective parms: no such metric or measure; nearest: 'params'"),
        (("accuracy", "rmse"), "val/accuracy, val/balanced_accuracy"),
        (("accuracy", "params:mn"), "'mn' is no direction; write params:min or :max"),
        (("accuracy:min",), "the task maximizes accuracy; leave the direction out"),
        (("accuracy", "f1:min"), "the task maximizes f1"),
        (("accuracy", ":min"), "write NAME, NAME:min or NAME:max"),
        (("accuracy", "f1", "val/f1"), "--objective val/f1 is given twice"),
    ],
)
def test_a_bad_objective_gets_one_line(objectives: tuple[str, ...], said: str) -> None:
    with pytest.raises(TaskError) as caught:
        aims(*objectives)
    assert said in str(caught.value)


def test_the_first_objective_is_the_metric() -> None:
    assert first_metric(()) is None
    assert first_metric(("val/f1", "params")) == "f1"
    for first in ("params", "train/loss"):
        with pytest.raises(TaskError, match="begin with the metric"):
            first_metric((first, "accuracy"))
    with pytest.raises(TaskError, match="never sees the test split"):
        first_metric(("test/accuracy",))
    with pytest.raises(TaskError, match="given twice"):
        first_metric(("accuracy", "params", "params:min"))


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(["<", "<=", ">", ">="]))
def test_a_violation_is_0_just_where_the_bound_is_kept(v: float, bound: float, sense: str) -> None:
    kept = {"<": v < bound, "<=": v <= bound, ">": v > bound, ">=": v >= bound}[sense]
    assert (Constraint("x", sense, bound, "").violation(v) == 0) == kept


def test_what_is_missing_is_nan_and_breaks_its_constraint() -> None:
    found = Aims(
        (Objective("val/accuracy", "maximize"), Objective("cost/params", "minimize")),
        (Constraint("cost/latency", "<", 2.0, ""), Constraint("cost/params", "<", 100.0, "")),
    )
    whole = {"val/accuracy": 0.9, "cost/params": 150.0, "cost/latency": 3.0}
    assert found.outcome(whole) == Outcome((0.9, 150.0), 1.0)  # half of each bound too much
    assert found.losses(whole) == (-0.9, 150.0)
    assert math.isinf(found.outcome({"val/accuracy": 0.9}).violation)
