"""The learning-rate range test: which rates a task's network bears under an optimizer.

    the rate rises from `low` to `high` by equal factors over `updates` steps, once for each seed
    y = the mean training loss over seeds, smoothed over the last ten steps or so
    steepest = the rate at which y falls fastest;  lowest = the rate at which y is least
    bounds = [steepest/10, lowest]

It stops once y is four times its least value, or not finite. Above `lowest` the loss no longer
falls in one step's time; a whole training, with warmup and decay, bears rates about as high.
Source: Smith 2015, arXiv:1506.01186; reading it at the steepest place: fast.ai's lr_find.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from automl.errors import RecipeError
from automl.recipe import Recipe
from automl.space.ranges import Value
from automl.tasks.task import ModelTask
from automl.train.step import Program

_MEMORY = 0.9  # of the smoothing
_BROKEN = 4.0  # times the least loss


@dataclass(frozen=True)
class RangeTest:
    """What was seen: rates in rising order, the smoothed loss at each, and what follows."""

    optimizer: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    steepest: float
    lowest: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Rates worth searching, two figures each."""
        low, high = self.steepest / 10, max(self.lowest, self.steepest)
        return float(f"{low:.1e}"), float(f"{high:.1e}")


def range_test(
    task: ModelTask,
    point: dict[str, Value],
    *,
    low: float = 1e-6,
    high: float = 10.0,
    updates: int = 200,
    seeds: Sequence[int] = (0, 1, 2),
) -> RangeTest:
    """Run the test for the optimizer of `point`; all else of the recipe as it says.

    Raises:
        RecipeError: the optimizer has no learning rate, or no rate lowers the loss.
    """
    optimizer = str(point["optimizer"])
    recipe = {
        n: v for n, v in point.items() if n.partition(".")[0] not in ("schedule", "averaging")
    }
    recipe |= {f"optimizer.{optimizer}.lr": high, "schedule": "range_test"}
    recipe["schedule.range_test.low"] = low / high
    batch_size = int(str(point.get("batch_size") or task.card.batch_size))
    steps = max(round(updates * batch_size / task.card.batch_size), 1)
    program = Program(task, [Recipe(recipe, steps=steps, seed=s) for s in seeds])
    if math.isnan(program.lr()[0]):
        raise RecipeError(f"{optimizer} has no learning rate to test")
    program.begin(program.total)
    rates: list[float] = []
    losses: list[float] = []
    smooth = least = math.nan
    for update in range(program.total):
        loss = float(program.step().mean())
        rate = program.lr()[0]
        if not math.isfinite(loss):
            break
        smooth = loss if update == 0 else _MEMORY * smooth + (1 - _MEMORY) * loss
        rates.append(rate)
        losses.append(smooth)
        least = smooth if math.isnan(least) else min(least, smooth)
        if smooth > _BROKEN * least > 0:
            break
    if len(losses) < 3 or (bottom := losses.index(min(losses))) < 2:
        raise RecipeError(f"no learning rate from {low:g} to {high:g} lowers the loss")
    fall = [losses[i + 1] - losses[i - 1] for i in range(1, bottom)]
    steepest = rates[1 + fall.index(min(fall))]
    return RangeTest(optimizer, tuple(rates), tuple(losses), steepest, rates[bottom])
