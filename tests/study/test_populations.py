"""A population in a study: its journal, its packs, its budget, and the verdict on a schedule."""

from __future__ import annotations

from typing import Any

from automl.recipe import Recipe
from automl.records import Report, Segment, Status
from automl.reports.line_plot import line
from automl.reports.tables import change_rows, trial_lines, trials_rows
from automl.search.strategy import Strategy, make_strategy
from automl.study.finals import changes, next_trials
from automl.study.packing import Packer
from automl.study.state import State, replay
from automl.study.telling import next_segment, retell
from automl.study.verdict import judge

from .test_packing import SPACE, config

STEPS, EVERY = 90, 10


def value(recipe: Recipe, step: int) -> float:
    """Better with a higher rate early, and a lower one late."""
    total = 0.0
    for at in range(0, step, EVERY):
        point = recipe.at(at).point
        lr = float(str(point.get("optimizer.sgd.lr", 0.001)))
        total += 0.01 * (lr if at < STEPS / 2 else 0.5 - lr)
    return 0.9 + total


def pbt() -> Strategy:
    return make_strategy(
        "pbt", SPACE, fidelity=(EVERY, STEPS, 3), direction="maximize", seed=1, budget=9
    )


class Desk:
    """A study in the order in which its controller would write it down, packs of eight."""

    def __init__(self) -> None:
        self.strategy, self.packer = pbt(), Packer("8", 8)
        self.events: list[dict[str, Any]] = []
        self.state = State()
        self.write({"kind": "study", "config": config("8", strategy="pbt").to_json()})

    def write(self, event: dict[str, Any]) -> None:
        self.events.append({"at": 0.0, **event})
        self.state.apply(self.events[-1])

    def ask(self) -> list[list[Segment]]:
        """A pack of one worker's, as lists of those that train together."""

        def one(beside: Segment | None) -> Segment | None:
            new = self.state.searched < 9 and not (beside and beside.start)
            found = next_segment(self.strategy, new, beside.recipe if beside and new else None)
            if found is not None:
                event = {"segment": found.to_json(), "phase": "search", "label": "", "new": new}
                like = {"like": beside.trial} if beside and new else {}
                self.write({"kind": "ask", **event, **like})
            return found

        return [g.segments for g in self.packer.gather(one, 1, self.state)]

    def train(self, segment: Segment) -> None:
        curve = ((segment.stop, {self.state.metric: value(segment.recipe, segment.stop)}),)
        passes = float(segment.stop - segment.start)
        report = Report(
            segment.trial, segment.start, segment.stop, Status.DONE, curve, passes=passes
        )
        self.write({"kind": "report", "report": report.to_json()})
        told = {segment.stop: curve[0][1][self.state.metric]}
        self.strategy.tell(segment, told)

    def run(self) -> list[list[Segment]]:
        packs = []
        while groups := self.ask():
            packs += groups
            for segment in [s for group in groups for s in group]:
                self.train(segment)
        return packs


def test_a_study_with_copies_is_retold_packed_and_paid_as_it_was() -> None:
    desk = Desk()
    packs = desk.run()
    state = desk.state
    forks = [t for t in state.trials.values() if t.start > 0]
    assert len(forks) >= 4
    # An interval of those that share a structure is one pack.
    late = [p for p in packs if p[0].start > 0]
    assert all(len({(s.start, s.stop, s.recipe.structure) for s in p}) == 1 for p in late)
    assert max(len(p) for p in late) >= 4
    # Nobody goes on before the last of its population has come to the same step.
    starts = [s.start for p in packs for s in p if s.trial > 0]
    assert starts == sorted(starts)
    # A copy is no new trial, and costs its own steps alone.
    assert state.searched == 9
    assert len(state.search_trials()) == 9 + len(forks)
    assert all(t.passes == t.reached - t.start for t in state.search_trials())
    assert 0.8 * 9 * STEPS < state.passes() <= 9 * STEPS
    for fork in forks:
        assert fork.parent is not None
        assert fork.recipe.seed == state.trials[fork.parent[0]].recipe.seed
    # Killed anywhere, it goes on as it would have.
    for end in (len(desk.events), len(desk.events) // 2, 2 * len(desk.events) // 3):
        again = pbt()
        retell(again, list(enumerate(desk.events[:end])))
        first = replay(desk.events[:end])
        rest = [e for e in desk.events[end:] if e["kind"] == "ask"]
        if rest and desk.events[end]["kind"] == "ask":
            like = first.trials[rest[0]["like"]].recipe if "like" in rest[0] else None
            found = next_segment(again, rest[0]["new"], like)
            assert found == Segment.from_json(rest[0]["segment"])


def test_the_verdict_trains_the_schedule_and_what_it_is_without_changes() -> None:
    desk = Desk()
    desk.run()
    state = desk.state
    best = state.incumbent()
    assert best is not None
    assert best.recipe.changes
    desk.write({"kind": "judge", "allowance": 40.0})
    asked, labels = [], set()
    while planned := next_trials(state):
        for plan in planned:
            asked.append(plan)
            number = 100 + len(asked)
            segment = Segment(number, plan.recipe, 0, STEPS)
            event = {"segment": segment.to_json(), "phase": plan.phase, "label": plan.label}
            desk.write({"kind": "ask", **event})
            seeded = value(plan.recipe, STEPS) + 1e-4 * (plan.recipe.seed % 7)
            curve = ((STEPS, {state.metric: seeded}),)
            report = Report(number, 0, STEPS, Status.DONE, curve, passes=STEPS)
            desk.write({"kind": "report", "report": report.to_json()})
            labels.add(plan.label)
    winner = [p.recipe for p in asked if p.label == "finalist 1"]
    assert len({r.seed for r in winner}) == len(winner) >= 2
    assert all(r.changes == best.recipe.changes for r in winner)
    assert best.recipe.seed not in {r.seed for r in winner}
    assert "without changes while training" in labels
    assert judge(state).winner.startswith("finalist")
    found = {c.label: c.without for c in changes(state, best.recipe)}
    constant = found["without changes while training"]
    assert (constant.changes, constant.point) == ((), best.recipe.point)
    rest = [r for label, r in found.items() if label != "without changes while training"]
    assert rest
    for recipe in rest:
        names = {n for _, values in recipe.changes for n in values}
        assert names <= set(recipe.point)
    # What people read: the line of descent as a picture, in words and in trials.csv.
    desk.write({"kind": "verdict", "verdict": judge(state).to_json()})
    words = "\n".join(name for name, _, _ in change_rows(judge(state)))
    assert "values that change while training" in words
    picture = line(state)
    assert "sgd lr" in picture
    words = "\n".join(trial_lines(state, best.number))
    at, parent = best.start, best.parent
    assert parent is not None
    assert f"from step {at} on as a copy of trial {parent[0]}" in words
    (row,) = (r for r in trials_rows(state) if r["trial"] == best.number)
    assert str(row["line"]).startswith(f"{parent[0]}@{at}; ")
