"""Early stopping: a training ends once its validation metric has stopped getting better.

    patience = n in the recipe (`--set patience=5`): stop after n evaluations in a row, none of
    which is better than the best so far by more than a ten-thousandth of it

What is evaluated are the weights to keep, so a recipe that averages its weights is stopped by the
average's metric, not by that of the weights in training. A training that ends, early or not, keeps
the weights of its best evaluation and reports their values as its own; it is done, not stopped:
whoever compares trials sees its best value at the step it was asked for, and the budget the passes
that were made. Only evaluations on the task's grid count, so segments do not change the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from automl.errors import RecipeError
from automl.recipe import Recipe
from automl.records import Metrics

_ENOUGH = 1e-4  # of the best value: less is no gain


@dataclass
class Patience:
    """One member's best evaluation so far, and how many came after it in vain."""

    evaluations: int  # in vain, after which it ends
    sign: int  # 1 where more is better
    best: Metrics = field(default_factory=dict)
    value: float | None = None  # of the metric that counts, in `best`
    vain: int = 0
    model: dict[str, Tensor] = field(default_factory=dict)  # the plain module's, at `best`

    @classmethod
    def of(cls, recipe: Recipe, direction: str) -> Patience | None:
        """The rule that the recipe asks for; None where it asks for none.

        Raises:
            RecipeError: a patience of less than one evaluation.
        """
        asked = recipe.point.get("patience")
        if asked is None:
            return None
        if not isinstance(asked, int) or asked < 1:
            raise RecipeError(f"patience {asked}: a number of evaluations, from 1 on")
        return cls(asked, 1 if direction == "maximize" else -1)

    @property
    def over(self) -> bool:
        return self.vain >= self.evaluations

    def better(self, value: float) -> bool:
        """Hear of an evaluation; whether it is the best so far (then `keep` what it was of)."""
        if self.value is None:
            return True
        gain = self.sign * (value - self.value)
        self.vain = 0 if gain > _ENOUGH * abs(self.value) else self.vain + 1
        return gain > 0

    def keep(self, value: float, metrics: Metrics, model: dict[str, Tensor]) -> None:
        self.value, self.best, self.model = value, dict(metrics), model

    def tensors(self) -> dict[str, Tensor]:
        return {f"best/{name}": x for name, x in self.model.items()}

    def meta(self) -> dict[str, Any]:
        return {"best": dict(self.best), "value": self.value, "vain": self.vain}

    def load(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        self.best, self.value, self.vain = dict(meta["best"]), meta["value"], int(meta["vain"])
        kept = (n for n in tensors if n.startswith("best/"))
        self.model = {n.removeprefix("best/"): tensors[n] for n in kept}
