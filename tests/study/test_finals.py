"""Which trainings a verdict asks for."""

from __future__ import annotations

import pytest

from automl.recipe import Recipe
from automl.records import Status
from automl.reports.tables import change_words, verdict_lines
from automl.study.comparison import Sample
from automl.study.contenders import contenders
from automl.study.finals import changes, fresh_seeds
from automl.study.race import Runs, order
from automl.study.verdict import Planned, next_trials

from .judged_study import BASE, MUON, NAN, SPACE, Study, config, searched


@pytest.fixture
def study() -> Study:
    """A search that has found two points better than the baseline, and two worse."""
    return searched(config())


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


@pytest.mark.parametrize(
    ("allowance", "labels", "measured"),
    [
        (9, ["optimizer back to adamw", "without mixup, batch_size back to 64"], [1, 1]),
        (7, ["optimizer back to adamw"], [1, 0, 0]),  # what was not run is still named
    ],
)
def test_a_short_allowance_takes_the_last_changes_back_together(
    study: Study, allowance: float, labels: list[str], measured: list[int]
) -> None:
    study.judge(allowance)
    found = study.finish({"finalist 1": (0.98, 0.981, 0.979), "*": (0.95, 0.951, 0.949)})
    trials = [t for t in study.state.trials.values() if t.phase == "ablation"]
    assert [t.label for t in trials] == labels
    assert [a.value.n for a in found.ablations] == measured
    if len(labels) == 2:
        both = next(a for a in found.ablations if not a.group)
        assert {n for n in both.changed if "." not in n} == {"batch", "batch_size"}
        assert change_words(both) == "batch none -> mixup, batch size 64 -> 128"
        told = verdict_lines(study.state)
        (row,) = [i for i, line in enumerate(told) if line == "  batch none -> mixup,"]
        assert told[row + 1].startswith("  batch size 64 -> 128 ")
        assert trials[1].recipe.point == SPACE.complete({"optimizer": "muon"})
    for a in found.ablations[len(labels) :]:
        assert a.gain is None
        assert not a.proven


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
