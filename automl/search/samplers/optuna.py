"""Optuna's samplers by name: `optuna:TPESampler`, `optuna:GPSampler`, `optuna:NSGAIISampler` ...

A trial of ours is one of Optuna's: asked for, walked down the tree name after name, as a program
that Optuna calls "define-by-run" does, and told once. A name that is not active is never asked
for, and trials that run are known as running. Names that others have chosen, one or all, are
those of a trial that Optuna calls "enqueued". Rising numbers are whole numbers to it, every other
choice a category. Several losses, and by how much a trial breaks the constraints, go to the
samplers that take them as they are.

Each trial that Optuna knows makes its next ask slower: this is for hundreds of trials.
Source: Akiba et al. 2019, KDD; Optuna 5.0.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from automl.errors import StrategyError
from automl.registry import nearest
from automl.search.columns import ordered
from automl.search.paired import Suggestion
from automl.space.ranges import Choice, Float, Range, Value
from automl.space.tree import Point, Space

# Where a sampler takes these, it gets them: the tree, and several workers, want them.
_ARGUMENTS = {"multivariate": True, "group": True, "constant_liar": True}
_BROKEN = "violation"  # of the constraints, among a trial's attributes


class OptunaSampler:
    """The sampler that Optuna calls `name`, with its own defaults otherwise.

    Args:
        losses: how many are told at once; None: one, by `observe`.

    Raises:
        StrategyError: Optuna has no such sampler, or it cannot sample this space.
    """

    def __init__(self, space: Space, *, name: str, seed: int, losses: int | None = None) -> None:
        import optuna  # late: a second to import

        offered = _offered(optuna)
        if name not in offered:
            raise StrategyError(f"Optuna has no sampler '{name}'{nearest(name, offered)}")
        self._space, self._name = space, name
        self._optuna = optuna
        self._asked: dict[int, Any] = {}  # by our number, until it is told
        self._worst = -math.inf  # of losses
        known = inspect.signature(offered[name].__init__).parameters
        given: dict[str, Any] = {n: x for n, x in _ARGUMENTS.items() if n in known}
        if losses is not None and "constraints_func" in known:
            given["constraints_func"] = lambda trial: (trial.user_attrs.get(_BROKEN, 0.0),)
        with self._quiet():
            sampler = offered[name](seed=seed, **given)
            self._study = optuna.create_study(
                directions=["minimize"] * (losses or 1), sampler=sampler
            )

    def suggest(self, trial: int) -> Suggestion:
        return Suggestion(self._begun(trial, {}))

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`, with these names fixed."""
        return Suggestion(self._begun(trial, fixed))

    def adopt(self, trial: int, point: Point) -> None:
        self._begun(trial, point)

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        """Optuna takes one loss a trial: the first. A failure is as bad as the worst so far."""
        if loss < math.inf:
            self._worst = max(self._worst, loss)
        self._tell(trial, (min(loss, self._worst),))

    def observe_losses(self, trial: int, losses: Sequence[float], violation: float) -> None:
        if violation < math.inf and trial in self._asked:
            self._asked[trial].set_user_attr(_BROKEN, violation)
        self._tell(trial, losses)

    def _tell(self, trial: int, losses: Sequence[float]) -> None:
        asked = self._asked.pop(trial, None)
        if asked is None:
            return
        known = all(math.isfinite(x) for x in losses)
        with self._quiet():
            if known:
                self._study.tell(asked, list(losses))
            else:
                self._study.tell(asked, state=self._optuna.trial.TrialState.FAIL)

    def _begun(self, number: int, known: Point) -> dict[str, Value]:
        """The point of a new trial, with the values that are known already."""
        with self._quiet():
            try:
                if known:
                    told = {n: _told(self._space[n].range, v) for n, v in known.items()}
                    self._study.enqueue_trial(told)
                trial = self._asked[number] = self._study.ask()
                point: dict[str, Value] = {}
                for d in self._space:
                    if d.active(point):
                        drawn = _drawn(trial, d.name, d.range)
                        point[d.name] = known.get(d.name, drawn)
            except Exception as error:  # samplers refuse what they cannot sample, each in its way
                lines = str(error).splitlines() or [type(error).__name__]
                raise StrategyError(f"Optuna's {self._name} gave up: {lines[0]}") from None
        return point

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Without what Optuna logs and warns of."""
        logging = self._optuna.logging
        before = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.set_verbosity(before)


def _offered(optuna: Any) -> dict[str, Any]:
    """Samplers that need nothing but a seed."""
    found = {}
    for name in sorted(set(optuna.samplers.__all__) - {"BruteForceSampler"}):  # ends the study
        kind = getattr(optuna.samplers, name)
        if inspect.isclass(kind) and not inspect.isabstract(kind):
            parameters = list(inspect.signature(kind).parameters.values())
            free = all(p.default is not p.empty for p in parameters)
            if free and any(p.name == "seed" for p in parameters):
                found[name] = kind
    return found


def _drawn(trial: Any, name: str, range_: Range) -> Value:
    if isinstance(range_, Choice):
        if ordered(range_):
            place: int = trial.suggest_int(name, 0, len(range_.options) - 1)
            return range_.options[place]
        value: Value = trial.suggest_categorical(name, range_.options)
    elif isinstance(range_, Float):
        value = trial.suggest_float(name, range_.low, range_.high, log=range_.log)
        value = range_.decode(range_.encode(value))  # to the digits that a space draws with
    else:
        value = trial.suggest_int(name, range_.low, range_.high, log=range_.log)
    return value


def _told(range_: Range, value: Value) -> Value:
    if isinstance(range_, Choice) and ordered(range_):
        return range_.options.index(value)
    return value
