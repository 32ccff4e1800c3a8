"""Other people's searches on the same recorded trainings: Optuna's, and Nevergrad's if installed.

Each is used as its documentation shows, with its defaults but for one thing: rungs begin at a
ninth of a training, for earlier ranks mislead (an "@1" begins at the first epoch, the default).
"+baseline" begins with the space's default, as ours do.
One worker. A peer returns the best score after each full training paid for, [fulls]; a trial
that is stopped early pays for what it trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from recorded import Problem

from automl.space.ranges import Choice, Int
from automl.space.tree import Dimension

Peer = Callable[[Problem, int, int], np.ndarray]  # problem, full trainings, seed


def _optuna(
    problem: Problem, fulls: int, seed: int, *, sampler: str, pruner: str, baseline: bool
) -> np.ndarray:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    first = math.ceil(problem.steps / 9) if pruner.endswith("@9th") else 1
    samplers = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "cma": lambda: optuna.samplers.CmaEsSampler(seed=seed),
    }
    pruners = {
        "none": optuna.pruners.NopPruner,
        "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=first),
        "median": lambda: optuna.pruners.MedianPruner(n_warmup_steps=first),
    }
    paid, seen = 0, []

    def objective(trial: optuna.Trial) -> float:
        nonlocal paid
        scores = problem.curve({d.name: _suggest(trial, d) for d in problem.space})[0]
        for step, score in enumerate(scores.tolist(), 1):
            paid += 1
            seen.append(score)
            if pruner != "none":
                trial.report(score, step)
                if step < problem.steps and trial.should_prune():
                    raise optuna.TrialPruned
        return float(scores.max() if pruner == "none" else scores[-1])

    study = optuna.create_study(
        direction="maximize", sampler=samplers[sampler](), pruner=pruners[pruner.split("@")[0]]()
    )
    if baseline:
        study.enqueue_trial(problem.space.default())
    while paid < fulls * problem.steps:
        study.optimize(objective, n_trials=1)
    return _by_fulls(seen, problem.steps, fulls)


def _suggest(trial: object, d: Dimension) -> float | int | str | bool | None:
    import optuna

    assert isinstance(trial, optuna.Trial)
    if isinstance(d.range, Choice):
        return trial.suggest_categorical(d.name, d.range.options)  # type: ignore[no-any-return]
    if isinstance(d.range, Int):
        whole: int = trial.suggest_int(d.name, d.range.low, d.range.high, log=d.range.log)
        return whole
    real: float = trial.suggest_float(d.name, d.range.low, d.range.high, log=d.range.log)
    return real


def _nevergrad(problem: Problem, fulls: int, seed: int, *, name: str) -> np.ndarray:
    import nevergrad

    parts = {}
    for d in problem.space:
        if isinstance(d.range, Choice):
            parts[d.name] = nevergrad.p.Choice(list(d.range.options))
            continue
        kind = nevergrad.p.Log if d.range.log else nevergrad.p.Scalar
        part = kind(lower=d.range.low, upper=d.range.high)
        parts[d.name] = part.set_integer_casting() if isinstance(d.range, Int) else part
    space = nevergrad.p.Instrumentation(**{f"x{i}": p for i, p in enumerate(parts.values())})
    space.random_state.seed(seed)
    search = nevergrad.optimizers.registry[name](space, budget=fulls, num_workers=1)
    seen: list[float] = []
    for _ in range(fulls):
        asked = search.ask()
        point = dict(zip(parts, asked.kwargs.values(), strict=True))
        scores = problem.curve(point)[0]
        seen += scores.tolist()
        search.tell(asked, -float(scores.max()))
    return _by_fulls(seen, problem.steps, fulls)


def _by_fulls(seen: list[float], steps: int, fulls: int) -> np.ndarray:
    best: np.ndarray = np.maximum.accumulate(seen)
    return best[steps - 1 :: steps][:fulls]


def _with_optuna(sampler: str, pruner: str, *, baseline: bool = False) -> Peer:
    return lambda problem, fulls, seed: _optuna(
        problem, fulls, seed, sampler=sampler, pruner=pruner, baseline=baseline
    )


def _with_nevergrad(name: str) -> Peer:
    return lambda problem, fulls, seed: _nevergrad(problem, fulls, seed, name=name)


PEERS: dict[str, Peer] = {
    "optuna-tpe": _with_optuna("tpe", "none"),
    "optuna-tpe+baseline": _with_optuna("tpe", "none", baseline=True),
    "optuna-gp": _with_optuna("gp", "none"),
    "optuna-cma": _with_optuna("cma", "none"),
    "optuna-tpe+hyperband": _with_optuna("tpe", "hyperband@9th"),
    "optuna-tpe+hyperband@1": _with_optuna("tpe", "hyperband"),
    "optuna-tpe+median": _with_optuna("tpe", "median@9th"),
    "nevergrad-de": _with_nevergrad("TwoPointsDE"),
    "nevergrad-ngopt": _with_nevergrad("NGOpt"),
}
