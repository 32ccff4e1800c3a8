"""Several objectives, or constraints, with any sampler and any rule.

    rules      hear losses that remember their parts, and rank by them (`fidelity/ranked.py`)
    samplers   of one loss are told all trials anew before each suggestion, under other weights
               (`scalarizing.py`); NSGA's hear the losses themselves
    best       who keeps the constraints, then the first objective

A trial is known to samplers where it stood at rungs and at its end. Telling all of them again costs
O(trials) a suggestion. Samplers that never look back at a trial (the CMA family, Nevergrad's) take
what they were told first: with changing weights they learn little.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from automl.aims import Outcome
from automl.errors import StrategyError
from automl.recipe import Recipe
from automl.records import Segment
from automl.search.paired import Failure, Paired, Rule, Sampler, Trial, Values
from automl.search.pareto import Loss, front_of
from automl.search.scalarizing import draw_weights, scalarized
from automl.search.wrapping import ManyLosses, innermost
from automl.space.tree import Space


class Several(Paired):
    """The strategy made of a sampler and a rule, told Outcomes."""

    def __init__(
        self,
        space: Space,
        sampler: Sampler,
        rule: Rule,
        *,
        steps: int,
        directions: Sequence[str],
        seed: int,
        marks: Collection[int] = (),
        early_end: bool = False,
    ) -> None:
        """`marks`: steps, beside the ends of segments, at which samplers know a trial."""
        super().__init__(
            space, sampler, rule, steps=steps, maximize=False, seed=seed, early_end=early_end
        )
        self._signs = tuple(-1.0 if d == "maximize" else 1.0 for d in directions)
        self._marks = frozenset(marks)
        self._many = isinstance(innermost(sampler), ManyLosses)
        self._rng = np.random.default_rng([seed, 12])
        self._known: dict[int, dict[int, float]] = {}  # trial -> step -> Loss, or infinity

    def incumbent(self) -> Trial | None:
        """Of the trials at the furthest step the best in the first objective that keeps the
        constraints; while none does, the one that breaks them least."""
        found = [(loss.violation, loss.losses[0], t) for t, loss in self._furthest().items()]
        return self._trial(min(found)[2]) if found else None

    def front(self) -> list[Trial]:
        """Trials at the furthest step that none of them beats, the first objective's best first."""
        furthest = self._furthest()
        trials = list(furthest)
        losses = [furthest[t].losses for t in trials]
        violations = [furthest[t].violation for t in trials]
        return [self._trial(trials[i]) for i in front_of(losses, violations)]

    def _furthest(self) -> dict[int, Loss]:
        ends = {t: max(known) for t, known in self._known.items() if self._last(t) is not None}
        most = max(ends.values(), default=0)
        found = {t: self._last(t) for t, step in ends.items() if step == most}
        return {t: loss for t, loss in found.items() if loss is not None}

    def _last(self, trial: int) -> Loss | None:
        known = self._known[trial]
        loss = known[max(known)]
        return loss if isinstance(loss, Loss) else None

    def _trial(self, number: int) -> Trial:
        loss = self._last(number)
        assert loss is not None
        values = tuple(s * x for s, x in zip(self._signs, loss.losses, strict=True))
        step = max(self._known[number])
        outcome = Outcome(values, loss.violation)
        return Trial(number, self._recipes[number], step, values[0], self.label(number), outcome)

    # What comes in --------------------------------------------------------------------------

    def _losses(self, values: Values | Failure, stop: int) -> dict[int, float]:
        if not isinstance(values, Mapping) or not values:
            return {stop: math.inf}
        steps = sorted(values)
        outcomes = [self._outcome(values[step]) for step in steps]
        rows = np.array([[s * v for s, v in zip(self._signs, o.values, strict=True)]
                         for o in outcomes])  # fmt: skip
        violations = np.array([o.violation for o in outcomes])
        if not (np.isfinite(rows).all() and np.isfinite(violations).all()):
            return {stop: math.inf}
        even = np.full(len(self._signs), 1 / len(self._signs))
        _, before, broken = self._table()
        whole = scalarized(
            np.concatenate([before, rows]), np.concatenate([broken, violations]), even
        )
        losses: dict[int, float] = {
            step: Loss(one, row, violation)
            for step, one, row, violation in zip(
                steps, whole[len(before) :].tolist(), rows.tolist(), violations.tolist(),
                strict=True,
            )
        }  # fmt: skip
        losses.setdefault(stop, losses[steps[-1]])
        return losses

    def _outcome(self, value: float | Outcome) -> Outcome:
        if not isinstance(value, Outcome) or len(value.values) != len(self._signs):
            raise StrategyError(f"told {value}; an Outcome of {len(self._signs)} values is wanted")
        return value

    def _learn(self, trial: int, stop: int, losses: Mapping[int, float]) -> None:
        known = self._known.setdefault(trial, {})
        known.update((s, x) for s, x in losses.items() if s in self._marks or s == stop)
        if self._many and trial not in self._forks:
            assert isinstance(self._sampler, ManyLosses)
            loss = losses[stop]
            if isinstance(loss, Loss):
                self._sampler.observe_losses(trial, loss.losses, loss.violation)
            else:
                self._sampler.observe_losses(trial, (math.inf,) * len(self._signs), math.inf)

    # What the sampler sees ------------------------------------------------------------------

    def _begin(self, like: Recipe | None) -> Segment:
        if not self._many:
            self._show(draw_weights(self._rng, len(self._signs)))
        return super()._begin(like)

    def _show(self, weights: np.ndarray) -> None:
        """Tell the sampler every trial as if `weights` were all that counts."""
        places, losses, violations = self._table()
        whole = dict(zip(places, scalarized(losses, violations, weights).tolist(), strict=True))
        for trial, known in self._known.items():
            if trial in self._forks:  # what a line of descent came to is no place in the space
                continue
            curve = {s / self._steps: whole.get((trial, s), math.inf) for s in known}
            self._sampler.observe(trial, curve[max(known) / self._steps], curve)

    def _table(self) -> tuple[list[tuple[int, int]], np.ndarray, np.ndarray]:
        """All that is known: (trial, step), losses [n, m], violations [n]."""
        found = [
            ((t, s), x)
            for t, known in self._known.items()
            for s, x in known.items()
            if isinstance(x, Loss)
        ]
        rows = np.array([x.losses for _, x in found]).reshape(len(found), len(self._signs))
        return [p for p, _ in found], rows, np.array([x.violation for _, x in found])
