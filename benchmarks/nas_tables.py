"""Samplers of architectures on NAS-Bench-201: 15,625 cells, each trained three times to the end.

    python benchmarks/nas_tables.py --data ../shared/data --plot docs/nasbench201.svg

A search sees one recorded training of each cell it asks for (which of the three depends on seed and
cell); it is judged by its incumbent's mean over them. Regret is in points of validation accuracy
below the best mean of the table. Our strategies begin with the cell of six "none", the space's
first, which costs them a trial; regularized evolution begins with a random population of 20, draws
5 and mutates one edge of the best of them, and forgets the oldest.
Source: Dong and Yang 2020, arXiv:2001.00326 (the table); Real et al. 2019, arXiv:1802.01548
(regularized evolution; 20 and 5 are ours, for searches of this length).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from automl.search.strategy import make_strategy
from automl.space.ranges import Choice
from automl.space.tree import Space

Cell = tuple[int, ...]
TABLES = ("nasbench201__cifar10", "nasbench201__cifar100")
POPULATION, TOURNAMENT = 20, 5


class Table:
    """Recorded trainings by cell."""

    def __init__(self, data: Path, name: str) -> None:
        spec = json.loads((data / "tables/spaces.json").read_text())["nasbench201"]["space"]
        raw = np.load(data / f"tables/{name}.npz")
        self.operations = [tuple(d["choices"]) for d in spec]
        self.edges = [d["name"] for d in spec]
        self._runs = dict(zip(map(tuple, raw["idx"].tolist()), raw["y"].astype(float), strict=True))
        self.means = {cell: float(np.nanmean(y)) for cell, y in self._runs.items()}
        self.best = max(self.means.values())

    def seen(self, cell: Cell, seed: int) -> float:
        """Validation accuracy in % of one of its trainings."""
        runs = self._runs[cell][~np.isnan(self._runs[cell])]
        return float(runs[np.random.default_rng([seed, *cell]).integers(len(runs))])


Ask = Callable[[], Cell]
Tell = Callable[[float], None]


def ours(name: str, table: Table, seed: int, budget: int) -> tuple[Ask, Tell]:
    """One of the service's strategies."""
    space = Space({e: Choice(list(o)) for e, o in zip(table.edges, table.operations, strict=True)})
    strategy = make_strategy(
        name, space, fidelity=(1, 1, 3), direction="maximize", seed=seed, budget=budget
    )
    asked = []

    def ask() -> Cell:
        asked.append(strategy.ask(1)[0])
        point = asked[-1].recipe.point
        return tuple(
            o.index(str(point[e])) for e, o in zip(table.edges, table.operations, strict=True)
        )

    return ask, lambda value: strategy.tell(asked[-1], {1: value})


def regularized_evolution(table: Table, seed: int) -> tuple[Ask, Tell]:
    rng = np.random.default_rng([seed, 1])
    population: deque[tuple[float, Cell]] = deque(maxlen=POPULATION)
    asked: list[Cell] = []
    sizes = [len(o) for o in table.operations]

    def ask() -> Cell:
        if len(population) < POPULATION:
            cell = tuple(int(rng.integers(n)) for n in sizes)
        else:
            rivals = rng.choice(len(population), TOURNAMENT, replace=False)
            parent = max(population[i] for i in rivals)[1]
            edge = int(rng.integers(len(sizes)))
            moved = (parent[edge] + int(rng.integers(1, sizes[edge]))) % sizes[edge]
            cell = (*parent[:edge], moved, *parent[edge + 1 :])
        asked.append(cell)
        return cell

    return ask, lambda value: population.append((value, asked[-1]))


def regrets(name: str, table: Table, seed: int, budget: int) -> Iterator[float]:
    """After each training: what the incumbent lacks."""
    if name == "regularized evolution":
        ask, tell = regularized_evolution(table, seed)
    else:
        ask, tell = ours(name, table, seed, budget)
    best, regret = -np.inf, np.nan
    for _ in range(budget):
        cell = ask()
        value = table.seen(cell, seed)
        tell(value)
        if value > best:
            best, regret = value, table.best - table.means[cell]
        yield regret


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budgets", type=int, nargs="+", default=[20, 50, 100, 200])
    parser.add_argument(
        "--samplers", nargs="+", default=["random", "regularized evolution", "tpe", "gp", "auto"]
    )
    parser.add_argument("--plot", type=Path, help="an SVG to write")
    args = parser.parse_args()
    most = max(args.budgets)
    curves: dict[tuple[str, str], np.ndarray] = {}
    for title in TABLES:
        table = Table(args.data, title)
        print(f"\n{title}: best mean {table.best:.2f} %, median cell "
              f"{np.median(list(table.means.values())):.2f} %")  # fmt: skip
        print(f"{'sampler':24}" + "".join(f"{b:>8} trainings" for b in args.budgets)
              + "   CPU s a search")  # fmt: skip
        for name in args.samplers:
            begun = time.process_time()
            found = np.array([list(regrets(name, table, seed, most)) for seed in range(args.seeds)])
            seconds = (time.process_time() - begun) / args.seeds
            curves[title, name] = found
            cells = "".join(
                f"{found[:, b - 1].mean():11.2f} ± {found[:, b - 1].std(ddof=1):4.2f}"
                for b in args.budgets
            )
            print(f"{name:24}{cells}{seconds:12.2f}", flush=True)
    if args.plot:
        plot(curves, args.plot)


def plot(curves: dict[tuple[str, str], np.ndarray], path: Path) -> None:
    """Mean regret over seeds by trainings, a panel a table; bands are standard errors."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "nas"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(TABLES), figsize=(9, 3.6), layout="constrained")
    for panel, title in zip(panels, TABLES, strict=True):
        for (at, name), found in curves.items():
            if at != title:
                continue
            mean, error = found.mean(0), found.std(0, ddof=1) / np.sqrt(len(found))
            x = np.unique(np.geomspace(5, len(mean), 40).astype(int))
            mean, error = mean[x - 1], error[x - 1]
            (line,) = panel.plot(x, mean, label=name, linewidth=1.4)
            panel.fill_between(x, mean - error, mean + error, alpha=0.15, color=line.get_color())
        panel.set(title=title.partition("__")[2], xlabel="trainings", xscale="log", yscale="log")
    panels[0].set_ylabel("regret, points of accuracy")
    panels[-1].legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
