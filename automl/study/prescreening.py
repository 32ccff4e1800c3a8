"""Prescreening around a search: the pool before it, how far its proxy can be believed during it."""

from __future__ import annotations

import math
import time
from pathlib import Path

from automl.errors import StudyError
from automl.executors.executor import Executor
from automl.recipe import Recipe
from automl.records import FAILURES, Pack, Report, Segment, Status
from automl.registry import family, nearest
from automl.search.prescreen import (
    FACTOR,
    FEWEST,
    YARDSTICK,
    Candidate,
    Pool,
    Trust,
    drawn,
    trust,
)
from automl.space.tree import Space
from automl.study.budget import Budget
from automl.study.state import State, StudyConfig

_TRIALS_A_FULL = 3  # about as many does a search with rungs begin for one full training
_POOL = (5 * FEWEST, 160)  # networks scored, at least and at most
_OWN_LOOPS = ("loop", "command")  # kinds of tasks that train themselves
_FIRST = -2  # trial of the first candidate; -1 is the smoke trial


def checked_proxy(name: str | None) -> str | None:
    """What --prescreen was given.

    Raises:
        StudyError: there is no such proxy.
    """
    names = family("proxy").names()
    if name is None or name in names:
        return name
    raise StudyError(f"--prescreen {name}: no such proxy{nearest(name, names)}; {', '.join(names)}")


def pool_for(executor: Executor, config: StudyConfig, store: Path, budget: Budget) -> Pool:
    """Draw networks and have a worker score them.

    Raises:
        StudyError: there are too few networks to choose from, or the proxy cannot judge them.
    """
    card, proxy = config.card, str(config.prescreen)
    space = Space.from_json(card.space)
    if card.kind in _OWN_LOOPS:
        raise StudyError(f"--prescreen {proxy}: the task trains itself; there is no network to see")
    expected = _TRIALS_A_FULL * budget.search_fulls(config)
    count = int(min(max(expected * (FACTOR + 1) / 2, _POOL[0]), _POOL[1]))
    points = drawn(space, count, seed=config.seed)
    if len(points) < FACTOR:
        raise StudyError(
            f"--prescreen {proxy}: the space holds {len(points)} network"
            f"{'' if len(points) == 1 else 's'}; there is nothing to rank"
        )
    begun = time.monotonic()
    segments = tuple(
        Segment(_FIRST - i, Recipe(space.complete(point), card.steps, config.seed), 0, 0)
        for i, point in enumerate(points)
    )
    proxies = tuple(dict.fromkeys((proxy, YARDSTICK)))
    executor.submit(Pack(segments, str(store), proxies=proxies))
    found: dict[int, Report] = {}
    while len(found) < len(segments):
        found |= {n.trial: n for n in executor.reports(1.0) if isinstance(n, Report)}
    candidates = []
    for segment, point in zip(segments, points, strict=True):
        report = found[segment.trial]
        if report.status in (Status.USER_CODE, Status.LOST, Status.TIMEOUT):
            raise StudyError(f"--prescreen {proxy}: {report.status}: {report.message}")
        if report.scores is not None:
            candidates.append(Candidate(point, report.scores))
    if all(math.isnan(c.scores[proxy]) for c in candidates):
        raise StudyError(
            f"--prescreen {proxy}: it sees nothing in these networks; try another: "
            + ", ".join(n for n in family("proxy").names() if n != proxy)
        )
    return Pool(proxy, tuple(candidates), round(time.monotonic() - begun, 2))


def trust_of(state: State) -> Trust | None:
    """How far the study's proxy can be believed by now; None without one."""
    config = state.config
    if config is None or config.pool is None:
        return None
    sign = 1.0 if config.card.direction == "maximize" else -1.0
    results = []
    for trial in state.search_trials():
        scores = config.pool.scores_of(trial.recipe.point)
        if scores is None:
            continue
        values = {
            step / trial.recipe.steps: sign * value
            for step, value in trial.values(state.metric)
            if math.isfinite(value)
        }
        if trial.status in FAILURES or trial.status == Status.DIVERGED:
            values[trial.reached / trial.recipe.steps] = -math.inf
        results.append((scores, values))
    return trust(config.pool.proxy, results)


def trust_words(state: State) -> str:
    """One line for people: what the proxy has shown, and what follows; "" without one."""
    found, config = trust_of(state), state.config
    if found is None or config is None or config.pool is None:
        return ""
    head = f"prescreen {found.proxy}: {len(config.pool.candidates)} networks scored"
    if not found.judged:
        return f"{head}, {found.trained} of the {FEWEST} trained that it takes to judge it"
    step = round(found.share * config.card.steps)
    beside = "" if found.proxy == YARDSTICK else f" (parameter count {found.yardstick:.2f})"
    text = (
        f"{head}; rank correlation {found.correlation:.2f}{beside} with {config.card.metric} at "
        f"step {step} of {found.trained} trained"
    )
    if found.trusted:
        return f"{text}: trusted"
    why = "" if found.significant else "not above chance"
    return f"{text}: no longer trusted, {why or 'no better than counting parameters'}"
