"""How often the verdict's race picks a better recipe than the luckiest value would, on real noise.

    python benchmarks/race.py --data ../shared/data --runs 40 --trials 30

Complete grids that hold several seeds of each training. A training brings one of the recorded
values of its cell, drawn at random; the truth is their mean. A search by `--strategy`, then

    luckiest    the best value that the search saw
    three       the three best on three fresh seeds each, the best mean (9 trainings)
    race        what a study does: `next_trials` until nothing is left, then `judge`

Regret % = 100 (true best of the grid - true value picked) / (true best - median cell).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from recorded import TABLES, Problem, noisy, table

from automl.recipe import Recipe
from automl.records import Report, Segment, Status, TaskCard
from automl.search.strategy import make_strategy
from automl.space.tree import Point
from automl.study.finals import Planned
from automl.study.state import State, StudyConfig
from automl.study.verdict import judge, next_trials

SEEDS = 3
Train = Callable[[Point], float]
Draw = Callable[[Point, np.random.Generator], float]


def searched(problem: Problem, train: Train, *, strategy: str, trials: int, seed: int) -> State:
    """A study whose search is over, with room for finals and no ablations."""
    card = TaskCard(
        name=problem.name, kind="table", metric="score", direction="maximize",
        space=problem.space.to_json(), steps=1, eval_steps=1, batch_size=1, sizes={},
    )  # fmt: skip
    config = StudyConfig(
        problem.name, name=problem.name, card=card, strategy=strategy, fidelity=(1, 1, 3),
        budget=f"{trials}trials", seed=seed, seeds=SEEDS, workers=1, pack="off",
    )  # fmt: skip
    state = State()
    state.apply({"kind": "study", "config": config.to_json(), "at": 0.0})
    looks = make_strategy(
        strategy, problem.space, fidelity=(1, 1, 3), direction="maximize", seed=seed,
        budget=float(trials),
    )  # fmt: skip
    for _ in range(trials):
        (segment,) = looks.ask(1)
        value = train(segment.recipe.point)
        looks.tell(segment, {1: value})
        _ended(state, Planned("search", looks.label(segment.trial), segment.recipe), value)
    state.apply({"kind": "judge", "allowance": 4.0 * SEEDS + 3, "at": 0.0})
    return state


def raced(state: State, train: Train) -> tuple[Point, int]:
    """The recipe that the verdict keeps, and what its finals cost."""
    cost = 0
    while plans := [p for p in next_trials(state) if p.phase == "verdict"]:
        for plan in plans:
            _ended(state, plan, train(plan.recipe.point))
            cost += plan.label != "baseline"
    verdict = judge(state)
    kept = verdict.standing(verdict.winner)
    assert kept is not None
    return kept.recipe.point, cost


def three(state: State, train: Train) -> Point:
    best = sorted(state.finished(), key=lambda t: -(t.last(state.metric) or 0.0))[:3]
    means = [np.mean([train(t.recipe.point) for _ in range(SEEDS)]) for t in best]
    return best[int(np.argmax(means))].recipe.point


def compared(
    problem: Problem, draw: Draw, *, strategy: str, trials: int, seed: int
) -> tuple[float, ...]:
    """Regret % of the luckiest, of the best of three and of the race's; finals of the race."""
    rng = np.random.default_rng([seed, 11])

    def train(point: Point) -> float:
        return draw(point, rng)

    def regret(point: Point) -> float:
        off = problem.best - float(problem.curve(point)[0][-1])
        return 100 * off / (problem.best - problem.median)

    state = searched(problem, train, strategy=strategy, trials=trials, seed=seed)
    lucky = state.incumbent()
    assert lucky is not None
    point, cost = raced(state, train)
    return regret(lucky.recipe.point), regret(three(state, train)), regret(point), cost


def _ended(state: State, plan: Planned, value: float) -> None:
    number = len(state.trials)
    segment = Segment(number, Recipe(plan.recipe.point, steps=1, seed=plan.recipe.seed), 0, 1)
    report = Report(number, 0, 1, Status.DONE, ((1, {"val/score": value}),), 1.0, 1.0)
    state.apply({"kind": "ask", "segment": segment.to_json(), "phase": plan.phase,
                 "label": plan.label, "at": 0.0})  # fmt: skip
    state.apply({"kind": "report", "report": report.to_json(), "at": 0.0})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=int, default=40, help="searches of each grid")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--strategy", default="random")
    args = parser.parse_args()
    print(f"{'grid':36} luckiest  three   race   finals   race better / worse than luckiest")
    total: list[tuple[float, ...]] = []
    for task in TABLES:
        problem, draw = table(args.data, task), noisy(args.data, task)
        rows = [
            compared(problem, draw, strategy=args.strategy, trials=args.trials, seed=seed)
            for seed in range(args.runs)
        ]
        total += rows
        _print(task, np.array(rows))
    _print("all", np.array(total))


def _print(name: str, rows: np.ndarray) -> None:
    lucky, three_, race, cost = rows.mean(axis=0)
    better, worse = (rows[:, 2] < rows[:, 0]).mean(), (rows[:, 2] > rows[:, 0]).mean()
    print(f"{name:36} {lucky:7.2f} {three_:7.2f} {race:6.2f} {cost:7.1f}   "
          f"{better:6.0%} / {worse:.0%}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
