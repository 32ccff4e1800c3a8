"""A study whose results are made up, to be judged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from automl.recipe import Recipe
from automl.records import Report, Segment, Status, TaskCard
from automl.space.ranges import Choice, Float, Int, Value
from automl.space.tree import Condition, Dimension, Space
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


def searched(config: StudyConfig) -> Study:
    sign = 1 if config.card.direction == "maximize" else -1
    made = Study(config)
    made.search(BASE, sign * 0.95)
    made.search(MUON, sign * 0.98)
    made.search({**MUON, "batch_size": 32}, sign * 0.97)
    made.search({**BASE, "batch_size": 16}, sign * 0.94)
    made.search({**BASE, "batch_size": 17}, sign * 0.93)
    return made
