"""Recorded trainings as problems for a search: the curve of any point, and what is known of it.

LCBench: YAHPO's surrogate of 52-epoch trainings (needs onnxruntime: pip install -e '.[bench]').
Tables: complete grids, one full training a cell. Scores are maximized.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from automl.recipe import Recipe
from automl.search.learnt import Experience
from automl.search.strategy import make_strategy
from automl.space.ranges import Choice, Float, Int, Range
from automl.space.tree import Point, Space

TASKS = ("7593", "126026", "167104", "167168", "167185", "168330", "168910", "189908")
TABLES = (
    "hpobench_mlp__australian",
    "hpobench_mlp__car",
    "hpobench_mlp__phoneme",
    "hpolib__parkinsons_telemonitoring",
    "hpolib__protein_structure",
    "nasbench201__cifar10",
)


@dataclass
class Problem:
    """Recorded trainings; scores are maximized. `curve(point)` is (scores, seconds) by step."""

    name: str
    space: Space
    steps: int
    curve: Callable[[Point], tuple[np.ndarray, np.ndarray]]
    best: float
    median: float
    portfolio: Sequence[Point] = ()
    truth: Mapping[float, float] = field(default_factory=dict)  # noise-free scores, if known

    def measure(self, recipe: Recipe, step: int) -> tuple[dict[str, float], float]:
        scores, seconds = self.curve(recipe.point)
        return {"val/score": float(scores[step - 1])}, float(seconds[step - 1])


def lcbench(data: Path, task: str) -> Problem:
    """One task of YAHPO's LCBench surrogate; best known from a search of its own."""
    import onnxruntime  # an extra of its own

    meta = json.loads((data / "lcbench/meta.json").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    net = onnxruntime.InferenceSession(data / "lcbench/model.onnx", options)
    ranges: dict[str, Range] = {
        d["name"]: (Int if d["type"] == "int" else Float)(d["low"], d["high"], log=d["log"])
        for d in meta["space"]
    }
    space = Space(ranges)
    names = meta["cont_names"][1:]

    def predict(points: Sequence[Point], epochs: Iterable[int]) -> np.ndarray:
        rows = [[e, *(p[n] for n in names)] for p in points for e in epochs]
        cont = np.array(rows, dtype=np.float32)
        cat = np.full((len(rows), 1), meta["tasks"][task], dtype=np.int32)
        found: np.ndarray = net.run(None, {"x_cat": cat, "x_cont": cont})[0]
        return found

    known: dict[tuple[Any, ...], tuple[np.ndarray, np.ndarray]] = {}

    def curve(point: Point) -> tuple[np.ndarray, np.ndarray]:
        key = tuple(point[n] for n in names)
        if key not in known:
            out = predict([point], range(1, 53))
            known[key] = out[:, 1], np.maximum.accumulate(out[:, 0])
        return known[key]

    scores, best = _reference(space, lambda points: predict(points, (52,))[:, 1])
    return Problem(f"lcbench {task}", space, 52, curve, best, float(np.median(scores)))


def experience(problem: Problem, trainings: int) -> Experience:
    """What a study of `trainings` full ones by our process leaves behind."""
    strategy = make_strategy(
        "gp", problem.space, fidelity=(52, 52, 3), direction="maximize", seed=4321
    )
    points: list[Point] = []
    losses: list[float] = []
    for _ in range(trainings):
        (segment,) = strategy.ask(1)
        score = float(problem.curve(segment.recipe.point)[0][-1])
        strategy.tell(segment, {52: score})
        points.append(segment.recipe.point)
        losses.append(-score)
    return Experience(points, losses, [1.0] * trainings)


def _reference(
    space: Space, score: Callable[[Sequence[Point]], np.ndarray]
) -> tuple[np.ndarray, float]:
    """Scores of 20,000 random points, and the best once the best eight have been refined."""
    rng = np.random.default_rng(0)
    units = rng.random((20000, len(space)))
    scores = score([space.decode(u) for u in units])
    top = np.argsort(-scores)[:8]
    points, values = units[top], scores[top]
    for round_ in range(30):
        step = 0.2 * 0.8**round_
        near = np.repeat(points, 25, axis=0)
        near = np.clip(near + step * rng.normal(size=near.shape), 0, 1)
        found = score([space.decode(u) for u in near])
        points, values = np.concatenate([points, near]), np.concatenate([values, found])
        top = np.argsort(-values)[:8]
        points, values = points[top], values[top]
    return scores, float(values.max())


def table(data: Path, name: str) -> Problem:
    """A complete grid; a training is one step, its score the mean over the recorded seeds."""
    spec = json.loads((data / "tables/spaces.json").read_text())[name.split("__")[0]]
    raw = np.load(data / f"tables/{name}.npz")
    names = [d["name"] for d in spec["space"]]
    choices = [d["choices"] for d in spec["space"]]
    ranges: dict[str, Range] = {
        n: Choice(list(range(len(c))), default=len(c) // 2)
        for n, c in zip(names, choices, strict=True)
    }
    numeric = {n for n, c in zip(names, choices, strict=True) if not isinstance(c[0], str)}
    for n in numeric:
        ranges[n] = Int(0, len(choices[names.index(n)]) - 1)
    scores = np.nanmean(raw["y"].astype(float), axis=1) * (-1 if "loss" in spec["metric"] else 1)
    cells = {tuple(i): s for i, s in zip(raw["idx"].tolist(), scores.tolist(), strict=True)}

    def curve(point: Point) -> tuple[np.ndarray, np.ndarray]:
        score = cells.get(tuple(point[n] for n in names), float(np.median(scores)))
        return np.array([score]), np.array([1.0])

    return Problem(name, Space(ranges), 1, curve, float(scores.max()), float(np.median(scores)))


def noisy(data: Path, name: str) -> Callable[[Point, np.random.Generator], float]:
    """One recorded seed of a grid's cell, drawn at random; `table` has the means."""
    spec = json.loads((data / "tables/spaces.json").read_text())[name.split("__")[0]]
    raw = np.load(data / f"tables/{name}.npz")
    names = [d["name"] for d in spec["space"]]
    sign = -1 if "loss" in spec["metric"] else 1
    y = sign * raw["y"].astype(float)
    cells = {tuple(i): row for i, row in zip(raw["idx"].tolist(), y, strict=True)}
    median = float(np.median(np.nanmean(y, axis=1)))

    def draw(point: Point, rng: np.random.Generator) -> float:
        row = cells.get(tuple(point[n] for n in names))
        if row is None:
            return median
        seeds = row[np.isfinite(row)]
        return float(seeds[int(rng.integers(len(seeds)))])

    return draw
