"""What a pack gains whose members train by unlike methods: the time alone of all, over the pack's.

    python benchmarks/pack_unlike.py digits
    python benchmarks/pack_unlike.py table.csv --target y --sizes 2,4,16

Sixteen recipes are drawn from the task's space, all with the baseline's network, batch size and
gradient. Of each size three packs are drawn from them; beside these stand a pack of the
baseline's recipe under as many seeds, and one in which every other member has half the batch size,
padded (0 where samples of a batch see each other). CPU time on one thread, the best of three turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from automl.recipe import Recipe
from automl.records import TaskSpec
from automl.space.tree import Space
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask
from automl.train.declining import pads
from automl.train.step import Program

DRAWN = 16
STRUCTURE = ("architecture", "batch_size", "gradient", "model")
SORTED_BY = ("optimizer", "transform", "averaging", "batch")  # as a study places them


def drawn(space: Space, steps: int) -> list[Recipe]:
    """Recipes of one structure, like methods side by side."""
    rng, default = np.random.default_rng(0), space.default()
    kept = {n: v for n, v in default.items() if n.split(".")[0] in STRUCTURE}
    found = []
    for seed in range(DRAWN):
        point = space.sample(rng)
        free = {n: v for n, v in point.items() if n.split(".")[0] not in STRUCTURE}
        found.append(Recipe({**kept, **free}, steps=steps, seed=seed))
    return sorted(found, key=lambda r: [str(r.point.get(stage, "")) for stage in SORTED_BY])


def milliseconds(task: ModelTask, recipes: Sequence[Recipe], updates: int = 30) -> float:
    """CPU time of an update of all of them."""
    program = Program(task, recipes, engine="traced" if len(recipes) > 1 else "loop")

    def turn(count: int) -> float:
        program.begin(program.updates + count)
        began = time.process_time()
        for _ in range(count):
            program.step().tolist()
        return 1000 * (time.process_time() - began) / count

    turn(5)  # the first call traces
    return min(turn(updates) for _ in range(3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("task", help="digits, or a file of your own")
    parser.add_argument("--target", default=None, help="of a table")
    parser.add_argument("--sizes", default="2,4,8,16")
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = open_task(TaskSpec(source=args.task, target=args.target))
    if not isinstance(task, ModelTask):
        raise SystemExit(f"{args.task} trains itself: there is nothing to pack")
    space = Space.from_json(task.card.space)
    recipes = drawn(space, task.card.steps)
    alone = [milliseconds(task, [recipe]) for recipe in recipes]
    like = Recipe(space.default(), steps=task.card.steps)
    batch = int(str(like.point.get("batch_size", task.card.batch_size)))
    sizes = (batch, batch // 2)
    halves = [Recipe({**like.point, "batch_size": n}, steps=like.steps) for n in sizes]
    whole, half = (milliseconds(task, [recipe]) for recipe in halves)
    pad = pads(task, halves[0])
    print(f"members  unlike, three packs  alike  batches of {sizes[0]} and {sizes[1]}")
    for size in map(int, args.sizes.split(",")):
        gains = []
        for pack in range(3):
            rows = sorted(np.random.default_rng(pack).choice(DRAWN, size, replace=False).tolist())
            together = milliseconds(task, [recipes[i] for i in rows])
            gains.append(f"{sum(alone[i] for i in rows) / together:.2f}")
        alike = [replace(halves[0], seed=seed) for seed in range(size)]
        gain = size * whole / milliseconds(task, alike)
        padded = [replace(halves[seed % 2], seed=seed) for seed in range(size)]
        both = size * (whole + half) / 2 / milliseconds(task, padded) if pad else 0.0
        print(f"{size:7}  {' '.join(gains):19}  {gain:5.2f}  {both:.2f}")


if __name__ == "__main__":
    main()
