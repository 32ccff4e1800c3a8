"""Does the best learning rate stay, and do outputs move alike, over a 16-fold width?

    python benchmarks/mup.py digits --out OUT
    python benchmarks/mup.py text --data TEXT.txt --out OUT

Under muP and, as the baseline beside it, the standard parametrization: every rate of a grid at
every width, the same seeds, one optimizer, no schedule but a short warmup. Prints

    coordinates    rms of how far each layer's outputs move in five updates, by width
    rates          the training loss over the last fifth of the updates, by rate and width; the best
                   rate of each width, and what the narrowest network's best rate costs there

and writes both as pictures into OUT. One thread. Loss, not accuracy: muP speaks of training.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from automl.recipe import Recipe
from automl.records import TaskSpec
from automl.reports.width_plots import coordinate_plot, rates_plot
from automl.space.ranges import Value
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask
from automl.train.coordinates import Moved, coordinates, slopes
from automl.train.step import Program

NAMES = ("mup", "standard")


@dataclass(frozen=True)
class Setting:
    """What is trained: widths from the base on, rates, updates, seeds, the rest of the point."""

    argument: str
    widths: tuple[int, ...]
    rates: tuple[float, ...]
    updates: int
    seeds: tuple[int, ...]
    point: dict[str, Value]
    head: int = 0  # width of an attention head, which stays; 0: no attention


def setting_of(task: str, optimizer: str, low: float, rates: int) -> Setting:
    grid = tuple(low * 2.0**i for i in range(rates))
    trainer: dict[str, Value] = {
        "optimizer": optimizer, f"optimizer.{optimizer}.wd": 0.0, "schedule": "wsd",
    }  # fmt: skip
    if task == "digits":
        model: dict[str, Value] = {
            "architecture": "mlp", "architecture.mlp.depth": 3, "loss": "cross_entropy",
        }  # fmt: skip
        return Setting("architecture.mlp.width", (32, 64, 128, 256, 512), grid, 150, (0, 1),
                       {**trainer, **model, "batch_size": 64})  # fmt: skip
    model = {"architecture": "transformer", "architecture.transformer.depth": 2,
             "loss": "cross_entropy"}  # fmt: skip
    return Setting("architecture.transformer.width", (16, 32, 64, 128, 256), grid, 120, (0,),
                   {**trainer, **model, "batch_size": 8}, head=16)  # fmt: skip


def point_of(s: Setting, name: str, width: int) -> dict[str, Value]:
    point: dict[str, Value] = {**s.point, s.argument: width, "parametrization": name}
    if name == "mup":
        point["parametrization.mup.base"] = s.widths[0]
        point["parametrization.mup.argument"] = s.argument
    if s.head:
        point["architecture.transformer.heads"] = width // s.head
    return point


def trained(task: ModelTask, s: Setting, name: str, width: int, rate: float) -> float:
    """Mean training loss of the last fifth of the updates, over seeds; infinite if it diverges."""
    optimizer = str(s.point["optimizer"])
    point = {**point_of(s, name, width), f"optimizer.{optimizer}.lr": rate}
    steps = math.ceil(s.updates * int(str(point["batch_size"])) / task.card.batch_size)
    program = Program(task, [Recipe(point, steps=steps, seed=seed) for seed in s.seeds])
    program.begin(program.total)
    tail = max(program.total // 5, 1)
    total = 0.0
    for update in range(program.total):
        loss = float(program.step().mean())
        if not math.isfinite(loss) or loss > 100:
            return math.inf
        total += loss if update >= program.total - tail else 0.0
    return total / tail


def measure_coordinates(task: ModelTask, s: Setting, out: Path) -> None:
    found: dict[str, dict[int, dict[str, Moved]]] = {}
    for name in NAMES:
        found[name] = {}
        for width in s.widths:
            at = Recipe(point_of(s, name, width), steps=task.card.steps)
            found[name][width] = coordinates(task, at, width=s.argument, at=width)
    layers = list(found["mup"][s.widths[0]])
    print("\nrms of an output's change in five updates, at width")
    for name in NAMES:
        powers = slopes(found[name])
        print(f"\n{name:<28}" + "".join(f"{w:>10}" for w in s.widths) + "   power of the width")
        for layer in layers:
            row = "".join(f"{found[name][w][layer].moved:>10.3g}" for w in s.widths)
            print(f"{layer:<28}{row}   {powers[layer]:+.2f}")
    (out / "coordinates.svg").write_text(coordinate_plot(found), encoding="utf-8")


def measure_rates(task: ModelTask, s: Setting, out: Path) -> None:
    found: dict[str, dict[int, Sequence[float]]] = {name: {} for name in NAMES}
    for width in s.widths:
        for name in NAMES:
            if width == s.widths[0] and name == "standard":
                found[name][width] = found["mup"][width]  # the base: one and the same training
                continue
            began = time.perf_counter()
            found[name][width] = [trained(task, s, name, width, r) for r in s.rates]
            print(f"# {name} at {width}: {time.perf_counter() - began:.0f} s", flush=True)
    print("\ntraining loss by rate; best marked")
    for name in NAMES:
        print(f"\n{name:<10}" + "".join(f"{r:>10.2g}" for r in s.rates) +
              "   best rate   loss there   with the narrowest's rate")  # fmt: skip
        first = _best(found[name][s.widths[0]])
        for width in s.widths:
            row = found[name][width]
            best = _best(row)
            cells = "".join(f"{v:>9.3f}{'*' if i == best else ' '}" for i, v in enumerate(row))
            ends = f"{s.rates[best]:<9.2g}   {row[best]:<10.3f}   {row[first]:.3f}"
            print(f"{width:<10}{cells}   {ends}")
    finite = {
        n: {w: [min(v, 1e3) for v in row] for w, row in by.items()} for n, by in found.items()
    }
    (out / "rates.svg").write_text(rates_plot(finite, s.rates, "training loss"), encoding="utf-8")


def _best(values: Sequence[float]) -> int:
    return min(range(len(values)), key=lambda i: values[i])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=("digits", "text"))
    parser.add_argument("--data", type=Path, help="a text file, for text")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the pictures")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--low", type=float, default=2.0**-12, help="lowest rate of the grid")
    parser.add_argument("--rates", type=int, default=9, help="how many, each twice the one before")
    given = parser.parse_args()
    if given.task == "text" and given.data is None:
        parser.error("text needs --data FILE.txt")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    given.out.mkdir(parents=True, exist_ok=True)
    task = open_task(TaskSpec("digits" if given.task == "digits" else str(given.data)))
    assert isinstance(task, ModelTask)
    s = setting_of(given.task, given.optimizer, given.low, given.rates)
    print(f"{task.card.name}: {task.card.about}; {given.optimizer}, {s.updates} updates of "
          f"{s.point['batch_size']} samples, seeds {', '.join(map(str, s.seeds))}")  # fmt: skip
    measure_coordinates(task, s, given.out)
    measure_rates(task, s, given.out)


if __name__ == "__main__":
    main()
