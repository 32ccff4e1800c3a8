"""The verdict: which trainings it asks for, and what it says of their results."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from automl.recipe import Recipe
from automl.records import Report, Segment, Status, TaskCard
from automl.space.ranges import Choice, Float, Int, Value
from automl.space.tree import Condition, Dimension, Space
from automl.study.comparison import Difference, Sample, noise, welch
from automl.study.contenders import contenders
from automl.study.finals import changes, fresh_seeds
from automl.study.race import Runs, order
from automl.study.state import State, StudyConfig
from automl.study.verdict import Planned, Verdict, judge, next_trials

NAN = float("nan")
FREE: tuple[Condition, ...] = (("optimizer", ("adamw", "muon")),)
ADAMW: tuple[Condition, ...] = (("optimizer", ("adamw",)),)
MUON_ONLY: tuple[Condition, ...] = (("optimizer", ("muon",)),)
MIXUP: tuple[Condition, ...] = (("batch", ("mixup",)),)
COSINE: tuple[Condition, ...] = (*FREE, ("schedule", ("cosine",)))
SPACE = Space(
    [
        Dimension("optimizer", Choice(["adamw", "muon", "schedule_free"])),
        Dimension("optimizer.adamw.lr", Float(1e-4, 1e-1, log=True, default=1e-3), ADAMW),
        Dimension("optimizer.muon.lr", Float(1e-4, 1e-1, log=True, default=1e-2), MUON_ONLY),
        Dimension("batch", Choice(["none", "mixup"])),
        Dimension("batch.mixup.alpha", Float(0.1, 1.0, default=0.2), MIXUP),
        Dimension("batch_size", Int(16, 256, log=True, default=64)),
        Dimension("schedule", Choice(["cosine", "wsd"]), FREE),
        Dimension("schedule.cosine.warmup", Float(0.0, 0.3, default=0.05), COSINE),
        Dimension("model.width", Int(16, 256, log=True, default=64)),
    ]
)
BASE = SPACE.default()
MUON = SPACE.complete({"optimizer": "muon", "batch": "mixup", "batch_size": 128})


def config(*, seeds: int = 3, direction: str = "maximize", test: int = 400) -> StudyConfig:
    card = TaskCard(
        name="digits",
        kind="image",
        metric="accuracy" if direction == "maximize" else "loss",
        direction=direction,
        space=SPACE.to_json(),
        steps=100,
        eval_steps=10,
        batch_size=64,
        sizes={"train": 1000, "valid": 400, "test": test},
    )
    return StudyConfig(
        "digits", name="s", card=card, fidelity=(10, 100, 3), budget="9full", seed=7, seeds=seeds,
        workers=2, pack="off",
    )  # fmt: skip


class Study:
    """A study made of events, as the controller would write them."""

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.state = State()
        self.clock = 0.0
        self._tell(kind="study", config=config.to_json())

    def search(self, point: Mapping[str, Value], value: float, **more: Any) -> None:
        self.train(Planned("search", "", Recipe(point, steps=100, seed=1)), value, **more)

    def judge(self, allowance: float) -> None:
        self._tell(kind="judge", allowance=allowance)

    def train(
        self,
        plan: Planned,
        value: float,
        *,
        test: float | None = None,
        status: Status = Status.DONE,
        passes: float = 100.0,
    ) -> None:
        self.ask(plan)
        trial = max(self.state.trials)
        metric = self.config.card.metric
        seen = None if test is None else {f"test/{metric}": test}
        curve = ((50, {f"val/{metric}": value}), (100, {f"val/{metric}": value}))
        report = Report(trial, 0, 100, status, curve, 1.0, passes, test=seen)
        self._tell(kind="report", report=report.to_json())

    def ask(self, plan: Planned) -> None:
        segment = Segment(len(self.state.trials), plan.recipe, 0, 100)
        self._tell(kind="ask", segment=segment.to_json(), phase=plan.phase, label=plan.label)

    def finish(self, values: Mapping[str, Sequence[float]], **more: Any) -> Verdict:
        """Train all that the verdict asks for; values[label][i] is that of its i-th seed."""
        turns: dict[str, int] = {}
        while plans := next_trials(self.state):
            for plan in plans:
                turn = turns[plan.label] = turns.get(plan.label, -1) + 1
                one = values.get(plan.label, values.get("*", (0.9,)))
                value = one[min(turn, len(one) - 1)]
                status = Status.DIVERGED if math.isnan(value) else Status.DONE
                shift = more.get("test_shift")
                test = None if shift is None or status != Status.DONE else value + shift
                self.train(plan, value, test=test, status=status)
        return judge(self.state)

    def _tell(self, **event: Any) -> None:
        self.clock += 1
        self.state.apply(json.loads(json.dumps({**event, "at": self.clock})))


@pytest.fixture
def study() -> Study:
    """A search that has found two points better than the baseline, and two worse."""
    return searched(config())


def searched(config: StudyConfig) -> Study:
    sign = 1 if config.card.direction == "maximize" else -1
    made = Study(config)
    made.search(BASE, sign * 0.95)
    made.search(MUON, sign * 0.98)
    made.search({**MUON, "batch_size": 32}, sign * 0.97)
    made.search({**BASE, "batch_size": 16}, sign * 0.94)
    made.search({**BASE, "batch_size": 17}, sign * 0.93)
    return made


# What is trained -----------------------------------------------------------------------------


def test_finals_come_first_on_the_same_fresh_seeds(study: Study) -> None:
    plans = next_trials(study.state)
    assert [p.label for p in plans] == [
        "finalist 1", *["baseline"] * 3, "finalist 2", "finalist 3", "finalist 4"
    ]  # fmt: skip
    assert {p.phase for p in plans} == {"verdict"}
    seeds = {label: [p.recipe.seed for p in plans if p.label == label] for label in
             ("baseline", "finalist 1", "finalist 4")}  # fmt: skip
    assert seeds["finalist 1"] == seeds["finalist 4"] == seeds["baseline"][:1]
    assert len(set(seeds["baseline"])) == 3
    assert 1 not in seeds["baseline"]
    assert dict(plans[0].recipe.point) == MUON


def test_the_worst_finalist_is_out_after_each_seed(study: Study) -> None:
    values = {"finalist 1": (0.980, 0.98, 0.98), "finalist 2": (0.974, 0.99, 0.99),
              "finalist 3": (0.976, 0.96), "finalist 4": (0.972,),
              "*": (0.90, 0.95, 0.93)}  # fmt: skip
    found = study.finish(values)
    assert {s.label: len(s.trials) for s in found.standings} == {
        "finalist 2": 3, "finalist 1": 3, "finalist 3": 2, "finalist 4": 1, "baseline": 3
    }  # fmt: skip
    seeds = fresh_seeds(study.state, 3)
    finals = [t for t in study.state.trials.values() if t.phase == "verdict"]
    for label in values:
        ran = [t.recipe.seed for t in finals if t.label == label]
        assert ran == seeds[: len(ran)]


def test_who_is_beaten_beyond_the_noise_is_out_at_once(study: Study) -> None:
    study.judge(40)
    found = study.finish({"finalist 1": (0.98, 0.981, 0.979), "finalist 2": (0.979, 0.98, 0.98),
                          "*": (0.95, 0.951, 0.949)})  # fmt: skip
    runs = {s.label: len(s.trials) for s in found.standings}
    assert (runs["finalist 2"], runs["finalist 3"], runs["finalist 4"]) == (3, 1, 1)


def test_the_luckiest_value_is_not_the_winner(study: Study) -> None:
    # finalist 4 has the best single value of all, in its only run, behind three as lucky ones
    found = study.finish({"finalist 1": (0.97, 0.972, 0.971), "finalist 2": (0.966, 0.93, 0.94),
                          "finalist 3": (0.967, 0.92, 0.93), "finalist 4": (0.965,),
                          "*": (0.95, 0.96, 0.94)})  # fmt: skip
    assert found.winner == "finalist 1"
    lucky = {"steady": Runs([0.10, 0.11, 0.12]), "lucky": Runs([0.107])}
    assert order(lucky)[0] == "steady"
    assert min(lucky, key=lambda label: Sample.of(lucky[label].losses).mean or 0.0) == "lucky"


def test_a_race_goes_on_as_planned_whatever_ends_first(study: Study) -> None:
    # The last seed of the baseline comes in early, or late: the next round is the same.
    other = searched(config())
    first = next_trials(study.state)
    for made, plans in ((study, first), (other, first[::-1])):
        for plan in plans:
            made.train(plan, 0.9 + plan.recipe.seed % 11 / 100 + len(plan.recipe.point) / 100)
    assert next_trials(study.state) == next_trials(other.state) != []


def test_two_that_are_left_run_on_all_other_seeds_at_once(study: Study) -> None:
    values = {"finalist 1": 0.98, "finalist 2": 0.979}
    for plan in next_trials(study.state):
        study.train(plan, values.get(plan.label, 0.9) + plan.recipe.seed % 7 * 1e-4)
    rest = [p.label for p in next_trials(study.state)]
    assert sorted(rest) == ["finalist 1", "finalist 1", "finalist 2", "finalist 2"]


def test_nothing_is_asked_for_twice(study: Study) -> None:
    first = next_trials(study.state)
    study.ask(first[0])
    assert next_trials(study.state) == first[1:]
    for plan in first[1:]:
        study.ask(plan)
    assert next_trials(study.state) == []  # ablations wait until every final has ended


@pytest.mark.parametrize(
    ("allowance", "labels"),
    [
        (15, {"finalist 1": 3, "baseline": 3, "finalist 2": 3, "finalist 3": 2, "finalist 4": 1}),
        (14, {"finalist 1": 3, "baseline": 3, "finalist 2": 3}),
        (6, {"finalist 1": 3, "baseline": 3}),
        (4.5, {"finalist 1": 2, "baseline": 2}),
        (2, {"finalist 1": 1, "baseline": 1}),
        (0.5, {}),
    ],
)
def test_a_short_allowance_keeps_the_proof(
    study: Study, allowance: float, labels: dict[str, int]
) -> None:
    study.judge(allowance)
    study.finish({"*": (0.95,)})
    finals = [t.label for t in study.state.trials.values() if t.phase == "verdict"]
    assert {label: finals.count(label) for label in finals} == labels


def test_dear_recipes_count_at_their_measured_cost() -> None:
    made = Study(config())
    made.search(BASE, 0.95)
    made.search(MUON, 0.98, passes=200.0)  # as SAM does
    made.judge(9)
    assert len(next_trials(made.state)) == 6
    assert len(next_trials(made.state, allowance_fulls=8)) == 4


def test_the_baseline_leading_the_search_still_meets_the_best_other_point() -> None:
    made = Study(config())
    made.search(BASE, 0.99)
    made.search(MUON, 0.98)
    assert {p.label for p in next_trials(made.state)} == {"finalist 1", "baseline"}


def test_diverged_and_unfinished_points_are_no_finalists() -> None:
    made = Study(config())
    made.search(BASE, 0.95)
    made.search(MUON, NAN, status=Status.DIVERGED)
    made.search({**MUON, "batch_size": 32}, 0.97, status=Status.USER_CODE)
    made.search({**MUON, "batch_size": 33}, NAN)
    assert {p.label for p in next_trials(made.state)} == {"baseline"}


def test_several_seeds_of_one_point_are_one_finalist_at_their_mean() -> None:
    made = Study(config())
    made.search(BASE, 0.95)
    made.search(MUON, 0.99)
    made.train(Planned("search", "", Recipe(MUON, steps=100, seed=2)), 0.95)
    made.search({**BASE, "batch_size": 32}, 0.98)
    found = {c.label: c for c in contenders(made.state)}
    assert dict(found["finalist 1"].recipe.point) == {**BASE, "batch_size": 32}
    assert found["finalist 2"].searched == pytest.approx(0.97)


def test_finals_keep_their_label_when_a_late_trial_changes_the_ranking(study: Study) -> None:
    for plan in next_trials(study.state):
        study.ask(plan)
    study.search({**MUON, "batch_size": 200}, 0.999)
    assert next_trials(study.state) == []
    found = {c.label: c.recipe.point for c in contenders(study.state)}
    assert dict(found["finalist 1"]) == MUON


def test_ablations_take_one_change_back_at_a_time(study: Study) -> None:
    study.judge(40)
    study.finish({"finalist 1": (0.98, 0.981, 0.979), "*": (0.95, 0.951, 0.949)})
    trials = [t for t in study.state.trials.values() if t.phase == "ablation"]
    assert [t.label for t in trials[:3]] == [
        "optimizer back to adamw", "without mixup", "batch_size back to 64"
    ]  # fmt: skip
    assert len(trials) == 9
    assert [t.recipe.seed for t in trials] == [
        s for s in fresh_seeds(study.state, 3) for _ in range(3)
    ]
    for trial in trials:
        SPACE.validate(trial.recipe.point)
    assert trials[0].recipe.point["optimizer.adamw.lr"] == 1e-3
    assert trials[0].recipe.point["batch"] == "mixup"


def test_ablations_stop_at_the_allowance(study: Study) -> None:
    study.judge(9)
    found = study.finish({"finalist 1": (0.98, 0.981, 0.979), "*": (0.95, 0.951, 0.949)})
    assert sum(t.phase == "ablation" for t in study.state.trials.values()) == 2
    assert [a.value.n for a in found.ablations] == [1, 1, 0]  # what was not run is still named
    assert found.ablations[2].gain is None
    assert not found.ablations[2].proven


def test_taking_back_a_pinning_optimizer_brings_the_schedule_along() -> None:
    free = SPACE.complete({"optimizer": "schedule_free"})
    assert "schedule" not in free
    made = Study(config())
    made.search(BASE, 0.9)
    made.search(free, 0.95)
    (change,) = changes(made.state, Recipe(free, steps=100))
    assert change.label == "optimizer back to adamw"
    assert dict(change.without.point) == BASE


def test_a_single_change_needs_no_ablation_runs() -> None:
    made = Study(config())
    made.search(BASE, 0.9)
    made.search({**BASE, "batch_size": 32}, 0.95)
    found = made.finish({"finalist 1": (0.95, 0.951, 0.952), "baseline": (0.90, 0.901, 0.902)})
    assert all(t.phase != "ablation" for t in made.state.trials.values())
    (row,) = found.ablations
    assert row.gain == pytest.approx(0.05)
    assert row.changed == {"batch_size": (64, 32)}


# What is said --------------------------------------------------------------------------------


def test_a_clear_gain_is_better_and_measured_on_the_test_split(study: Study) -> None:
    study.judge(40)
    found = study.finish(
        {"finalist 1": (0.980, 0.982, 0.981), "*": (0.950, 0.952, 0.951)}, test_shift=-0.01
    )
    assert (found.outcome, found.winner, found.keep, found.split) == (
        "better", "finalist 1", "finalist 1", "test"
    )  # fmt: skip
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.03)
    expected = stats.ttest_ind((0.970, 0.972, 0.971), (0.940, 0.942, 0.941), equal_var=False)
    assert found.difference.low == pytest.approx(expected.confidence_interval(0.95).low, abs=1e-6)
    assert found.optimism == pytest.approx(0.01)
    assert found.luck == pytest.approx(0.98 - 0.981)
    assert Verdict.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_overlapping_values_are_tied_and_say_what_could_hide(study: Study) -> None:
    found = study.finish({"finalist 1": (0.98, 0.95, 0.97), "*": (0.96, 0.94, 0.975)})
    assert found.outcome == "tied"
    assert found.difference is not None
    assert found.difference.high is not None
    assert found.hidden == pytest.approx(found.difference.high)
    assert found.ties == ("finalist 2", "finalist 3")


def test_the_baseline_can_win(study: Study) -> None:
    found = study.finish({"baseline": (0.98, 0.981, 0.982), "*": (0.95, 0.951, 0.952)})
    assert (found.outcome, found.winner, found.keep) == ("baseline", "baseline", "baseline")
    assert found.rival.startswith("finalist")
    assert found.ablations == ()


def test_a_winner_that_fails_on_test_is_not_kept(study: Study) -> None:
    while plans := [p for p in next_trials(study.state) if p.phase == "verdict"]:
        for plan in plans:
            final = plan.label == "finalist 1"
            jitter = plan.recipe.seed % 7 * 1e-4
            study.train(plan, 0.98 if final else 0.95, test=(0.90 if final else 0.96) + jitter)
    found = judge(study.state)
    assert (found.outcome, found.winner, found.keep) == ("worse", "finalist 1", "baseline")
    assert found.difference is not None
    assert found.difference.value < 0


def test_smaller_is_better_where_the_metric_says_so() -> None:
    made = searched(config(direction="minimize"))
    found = made.finish(
        {"finalist 1": (0.20, 0.21, 0.22), "*": (0.30, 0.31, 0.32)}, test_shift=0.05
    )
    assert found.outcome == "better"
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.1)
    assert found.optimism == pytest.approx(0.05)  # test loss is higher: validation flatters


def test_one_seed_is_not_measured() -> None:
    found = searched(config(seeds=1)).finish({"finalist 1": (0.99,), "*": (0.9,)})
    assert found.outcome == "not measured"
    assert "two seeds" in found.reason
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.09)
    assert [a.noise for a in found.ablations] == [None] * 3
    assert not any(a.proven for a in found.ablations)


def test_equal_values_on_few_samples_prove_nothing() -> None:
    # 1/12 of a step squared is kept as variance: one sample of ten apart is within it
    made = searched(config(test=10))
    while plans := [p for p in next_trials(made.state) if p.phase == "verdict"]:
        for plan in plans:
            made.train(plan, 0.98 if plan.label == "finalist 1" else 0.9, test=0.9)
    found = judge(made.state)
    assert found.outcome == "tied"
    assert found.difference is not None
    assert found.difference.p == pytest.approx(1.0)
    assert found.difference.high == pytest.approx(
        0.1 / math.sqrt(12) * math.sqrt(2 / 3) * 2.776, 1e-3
    )


def test_a_diverged_final_ranks_last(study: Study) -> None:
    found = study.finish({"finalist 1": (0.99, NAN, 0.99), "finalist 2": (0.96, 0.97, 0.98),
                          "*": (0.95, 0.951, 0.952)})  # fmt: skip
    assert found.winner == "finalist 2"
    assert [s.label for s in found.standings][-1] == "finalist 1"
    assert found.standings[-1].diverged == 1


def test_a_baseline_that_always_diverges_has_lost(study: Study) -> None:
    found = study.finish({"baseline": (NAN,), "*": (0.9, 0.91, 0.92)})
    assert found.outcome == "better"
    assert found.difference is None
    assert "diverged on all 3" in found.reason


@pytest.mark.parametrize("status", [Status.OUT_OF_MEMORY, Status.USER_CODE, Status.DIVERGED])
def test_finals_that_all_fail_are_no_verdict(study: Study, status: Status) -> None:
    for plan in next_trials(study.state):
        study.train(plan, NAN, status=status)
    assert judge(study.state).outcome == "not measured"
    assert next_trials(study.state) == []


def test_nothing_trained_at_all_is_no_verdict() -> None:
    made = Study(config())
    assert next_trials(made.state) == []
    found = judge(made.state)
    assert (found.outcome, found.winner) == ("not measured", "")
    assert "no trial was trained to its last step" in found.reason
    assert Verdict.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_an_interrupted_study_shows_what_the_search_saw(study: Study) -> None:
    found = judge(study.state)
    assert (found.outcome, found.winner) == ("not measured", "incumbent")
    assert [s.validation.mean for s in found.standings] == [0.98, 0.95]


# The statistics ------------------------------------------------------------------------------

values = st.lists(st.floats(-10, 10), min_size=2, max_size=5).filter(lambda v: np.ptp(v) > 1e-3)


@given(a=values, b=values)
def test_welch_equals_scipy(a: list[float], b: list[float]) -> None:
    ours = welch(a, b)
    theirs = stats.ttest_ind(a, b, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours is not None
    assert ours.low == pytest.approx(interval.low, rel=1e-6, abs=1e-9)
    assert ours.high == pytest.approx(interval.high, rel=1e-6, abs=1e-9)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


@given(a=values, b=values)
def test_swapping_sides_mirrors_the_difference(a: list[float], b: list[float]) -> None:
    one, other = welch(a, b), welch(b, a)
    turned = welch(a, b, sign=-1)
    assert one is not None
    assert other is not None
    assert turned == other
    assert one.p == other.p
    assert one.low is not None
    assert other.high is not None
    assert one.low == pytest.approx(-other.high)


def test_seeds_that_change_nothing_prove_nothing() -> None:
    assert welch([0.5, 0.5], [0.5, 0.5]) == Difference(0.0)
    assert welch([0.75, 0.75], [0.5, 0.5, 0.5]) == Difference(0.25)


def test_noise_pools_the_spread_of_all_groups() -> None:
    # variances 1 and 4 with 1 and 2 degrees of freedom: pooled 3; t(3) = 3.182
    groups = [[0.0, math.sqrt(2)], [-2.0, 0.0, 2.0], [7.0]]
    assert noise(groups, 1, 3) == pytest.approx(3.182 * math.sqrt(3 * (1 + 1 / 3)), rel=1e-3)
    assert noise([[1.0], [2.0]], 1, 1) is None


@pytest.mark.parametrize(("correlation", "ceiling"), [(0.0, 0.02), (1.0, 0.05)])
def test_without_a_difference_better_is_rarely_said(correlation: float, ceiling: float) -> None:
    # The winner is chosen on validation among three equals; its test luck is tied to that.
    rng = np.random.default_rng(3)
    draws, said = 3000, 0
    valid = rng.normal(size=(draws, 4, 3))
    test = correlation * valid + math.sqrt(1 - correlation**2) * rng.normal(size=valid.shape)
    for v, t in zip(valid, test, strict=True):
        best = int(v.mean(axis=1).argmax())
        found = welch(list(t[best]), list(t[0])) if best else None
        said += found is not None and found.low is not None and found.low > 0
    assert said / draws < ceiling


@settings(max_examples=25)
@given(shift=st.floats(-0.2, 0.2), scale=st.floats(1e-4, 0.05), seed=st.integers(0, 99))
def test_a_study_never_claims_both_ways(shift: float, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    draw: Callable[[float], tuple[float, ...]] = lambda m: tuple(rng.normal(m, scale, 3).tolist())  # noqa: E731
    found = searched(replace(config())).finish({"finalist 1": draw(0.7 + shift), "*": draw(0.7)})
    better = found.outcome == "better"
    if found.difference is not None and found.difference.low is not None:
        assert better == (found.winner != "baseline" and found.difference.low > 0)
    assert len(found.standings[0].trials) == 3  # also of one that was out, and came back
