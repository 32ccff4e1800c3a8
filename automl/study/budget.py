"""How much a study may spend, and how much of it the verdict keeps.

    30m, 2h, 90s    wall time while a driver is alive, verdict included
    20full          as much training as 20 full ones cost, in passes, verdict included
    100trials       search trials; the verdict comes on top

Several limits: whichever comes first. A study that cannot prove its result has wasted its search,
so the verdict's share is set aside from the start: what it wants (the finalists and the baseline
on fresh seeds, and the ablations), but never more than two fifths.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from automl.errors import BudgetError
from automl.records import Segment
from automl.study.state import State, StudyConfig

_AMOUNT = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|m|h|d|trials?|full)$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_VERDICT_SHARE = 0.4
LEAST = 4 / _VERDICT_SHARE  # full trainings: the least budget that can prove something
_LAST = 0.5  # full trainings: what is begun last may cost as much less or more
_FINALISTS, _ABLATIONS = 3, 6  # trainings wanted: (finalists + baseline) x seeds, one a change


@dataclass(frozen=True)
class Budget:
    """Limits of one study; None where there is none.

    >>> Budget.parse(["30m", "100trials"])
    Budget(seconds=1800.0, trials=100, fulls=None)
    """

    seconds: float | None = None
    trials: int | None = None
    fulls: float | None = None

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Budget:
        """Read amounts such as "30m", "100trials", "20full", each also as a comma list.

        Raises:
            BudgetError: an amount cannot be read, is zero, or its kind comes twice.
        """
        limits: dict[str, float] = {}
        for text in (part.strip() for t in texts for part in t.split(",")):
            found = _AMOUNT.match(text.lower())
            if not found:
                raise BudgetError(f"budget '{text}': write a time (30m, 2h), 100trials or 20full")
            amount, unit = float(found[1]), found[2]
            kind = "seconds" if unit in _SECONDS else "fulls" if unit == "full" else "trials"
            if kind == "trials" and amount != int(amount):
                raise BudgetError(f"budget '{text}': trials come in whole numbers")
            if amount <= 0:
                raise BudgetError(f"budget '{text}' holds nothing; give at least 1trials or 1full")
            if kind in limits:
                raise BudgetError(f"budget '{text}': a limit in {kind} is given twice")
            limits[kind] = amount * _SECONDS.get(unit, 1)
        trials = limits.get("trials")
        return cls(
            limits.get("seconds"), None if trials is None else int(trials), limits.get("fulls")
        )

    def search_fulls(self, config: StudyConfig) -> float:
        """Full trainings that the search can expect; a plan, made before anything has run."""
        found = []
        if self.fulls is not None:
            found.append(self.fulls - self._verdict_fulls(config, self.fulls))
        if self.seconds is not None:
            total = self.seconds * config.workers / max(config.full_seconds, 1e-3)
            found.append(total - self._verdict_fulls(config, total))
        found = [f - _supernet_fulls(config) for f in found]
        if self.trials is not None:
            found.append(float(self.trials))
        return min(found)

    def verdict_seeds(self, config: StudyConfig) -> int:
        """Fresh seeds that the best recipe and the baseline can expect; below two prove nothing."""
        shares = [_wanted(config)]
        if self.fulls is not None:
            shares.append(_VERDICT_SHARE * self.fulls)
        if self.seconds is not None:
            total = self.seconds * config.workers / max(config.full_seconds, 1e-3)
            shares.append(_VERDICT_SHARE * total)
        return min(config.seeds, int(min(shares) / 2))

    def searching(self, state: State) -> bool:
        """Whether the search may go on; the verdict's share is no longer its to spend.

        What is under way counts as spent, or each worker would overspend by a training.
        """
        assert state.config is not None
        if self.fulls is not None:
            kept = self._verdict_fulls(state.config, self.fulls)
            gone = _fulls(state) + _under_way(state)
            if gone >= self.fulls - kept - (_LAST if gone else 0.0):
                return False
        if self.seconds is not None:
            kept_seconds = self._verdict_seconds(state)
            if state.wall_seconds >= self.seconds - kept_seconds:
                return False
        return True

    def new_trials(self, state: State, begun: int = 0) -> bool:
        """Whether another trial may begin; trials that wait at a rung may always go on.

        `begun` trials are about to begin that `state` does not know. Until a supernet has trained,
        room is kept for what it will find; the baseline comes first in any case.
        """
        if self.trials is None:
            return True
        return state.searched + begun < max(1, self.trials - _to_come(state))

    def room(self, state: State, asked: Sequence[Segment]) -> bool:
        """Whether the search can pay for what runs and for `asked` besides: a pack goes no further.

        A single segment may always overspend a little (`searching`); a pack would by many.
        """
        assert state.config is not None
        fulls = _under_way(state, asked)
        if self.fulls is not None:
            kept = self._verdict_fulls(state.config, self.fulls)
            if _fulls(state) + fulls > self.fulls - kept:
                return False
        if self.seconds is not None:
            left = self.seconds - self._verdict_seconds(state) - state.wall_seconds
            return fulls * state.full_seconds() / state.config.workers <= left
        return True

    def allowance(self, state: State) -> float:
        """Full trainings that the verdict may spend, judged when the search ends."""
        assert state.config is not None
        wanted = _wanted(state.config)
        if self.fulls is not None:
            wanted = min(wanted, self.fulls - _fulls(state))
        if self.seconds is not None:
            left = (self.seconds - state.wall_seconds) * state.config.workers
            wanted = min(wanted, left / max(state.full_seconds(), 1e-3))
        return max(wanted, 0.0)

    def _verdict_fulls(self, config: StudyConfig, total: float) -> float:
        return min(_wanted(config), _VERDICT_SHARE * total)

    def _verdict_seconds(self, state: State) -> float:
        assert state.config is not None and self.seconds is not None
        wanted = _wanted(state.config) * state.full_seconds() / state.config.workers
        return min(wanted, _VERDICT_SHARE * self.seconds)


def _wanted(config: StudyConfig) -> float:
    return (_FINALISTS + 1) * config.seeds + _ABLATIONS


def _fulls(state: State) -> float:
    """Full trainings spent; a supernet counts in full, as expected, from its beginning."""
    assert state.config is not None
    running = any(state.trials[n].phase == "supernet" for n in state.open)
    ahead = _supernet_fulls(state.config) if running else 0.0
    return state.passes() / state.config.card.steps + ahead


def _under_way(state: State, asked: Sequence[Segment] = ()) -> float:
    """Full trainings that open segments cost, and `asked` besides; a supernet is in `_fulls`."""
    assert state.config is not None
    known = [s for n, s in state.open.items() if state.trials[n].phase != "supernet"]
    passes = sum((s.stop - s.start) * state.pace(s.recipe) for s in (*known, *asked))
    return passes / state.config.card.steps


def _to_come(state: State) -> int:
    """Trials that the supernet will bring: one, or as many random cells as were asked for."""
    assert state.config is not None
    plan, trial = state.config.card.supernet, state.supernet()
    if plan is None or (trial is not None and trial.number not in state.open):
        return 0
    return int(plan["point"].get("nas.random.cells", 1))


def _supernet_fulls(config: StudyConfig) -> float:
    plan = config.card.supernet
    return 0.0 if plan is None else float(plan["passes"]) / config.card.steps
