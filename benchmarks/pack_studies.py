"""What packs are worth to a whole `automl tune`: trainings a CPU second beside `--pack off`.

    python benchmarks/pack_studies.py digits --seeds 3 --budget 40full
    python benchmarks/pack_studies.py table --seeds 3 --budget 40full --space training
    python benchmarks/pack_studies.py table --packs auto off

For each seed two studies run one after the other, with one worker, in processes of their own:

    auto    as anybody would
    same    the very trials of that search, each alone, in the same order and to the same steps;
            its driver asks no strategy, and is counted as if it had taken what that one's took
    off     a search of its own with `--pack off`; its trials are others, and cost more or less

CPU seconds are those of the whole process tree, split where the study's phases change:

    start      imports, the data, the smoke trial and the first probe
    search     training, probes, traces, the strategy, the journal, the checkpoints
    verdict    fresh seeds, ablations and the report

A ratio is trainings a CPU second of the first study over the same of the second, of the search
alone and of the whole command, or trials a CPU second of the search; trainings are passes over
those of a full training, the verdict's included in the second. The table is scikit-learn's
breast_cancer, 569 rows of 30 columns.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

import automl
from automl.records import Segment
from automl.search import catalogue
from automl.search.catalogue import Setting

ASKED = "asked{}.json"  # segments of a search, by seed


class Recorded:
    """The strategy that asks for what another study's asked for."""

    queued = 0

    def __init__(self, path: Path) -> None:
        self._left = [Segment.from_json(found) for found in json.loads(path.read_text())]
        self._open: set[int] = set()

    def ask(self, n: int, *, new: bool = True, like: Any = None) -> list[Segment]:
        found: list[Segment] = []
        while len(found) < n and self._left and self._left[0].trial not in self._open:
            found.append(self._left.pop(0))
            self._open.add(found[-1].trial)
        return found

    def tell(self, segment: Segment, values: Any, *, seconds: float = 0.0) -> None:
        self._open.discard(segment.trial)

    def label(self, trial: int) -> str:
        return ""


def table(folder: Path) -> Path:
    """The table as a CSV file."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    path = folder / "cancer.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*data.feature_names, "diagnosis"])
        for row, y in zip(data.data.tolist(), data.target.tolist(), strict=True):
            writer.writerow([*row, data.target_names[y]])
    return path


def tree_seconds() -> float:
    """CPU seconds of this process, of its children and of those that have ended."""
    total = 0.0
    for usage in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        spent = resource.getrusage(usage)
        total += spent.ru_utime + spent.ru_stime
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def study(task: str, pack: str, seed: int, args: argparse.Namespace, runs: str) -> dict[str, Any]:
    """One study in this process: CPU seconds and trainings of its phases."""
    marks, drivers = dict[str, float](), dict[str, float]()
    asked: list[Mapping[str, Any]] = []
    place, strategy = Path(runs) / ASKED.format(seed), args.strategy
    if pack == "same":
        pack, strategy = "off", "recorded"

        def whole(setting: Setting) -> Any:
            return Recorded(place)

        about = "what another study asked for"
        catalogue.CATALOGUE[strategy] = catalogue.Named(about, about, whole=whole)

    def listen(event: Mapping[str, Any]) -> None:
        if event["kind"] == "phase":
            marks[event["phase"]], drivers[event["phase"]] = tree_seconds(), time.process_time()
        elif event["kind"] == "ask" and event["phase"] == "search":
            asked.append(event["segment"])

    state = automl.tune(
        task, target=args.target, pack=pack, seed=seed, budget=args.budget, strategy=strategy,
        sets=args.set, space=args.space, workers=1, runs=runs, mlflow="off",
        name=f"{pack}{seed}{strategy}", listen=listen,
    )  # fmt: skip
    end = tree_seconds()
    place.write_text(json.dumps(asked))
    steps = state.config.card.steps if state.config else 1
    search = [t for t in state.trials.values() if t.phase == "search"]
    return {
        "start": marks["search"],
        "search": marks["verdict"] - marks["search"],
        "driver": drivers["verdict"] - drivers["search"],  # of the search's seconds
        "verdict": end - marks["verdict"],
        "fulls": sum(t.passes for t in search) / steps,
        "all_fulls": state.passes() / steps,
        "trials": len(search),
        "packed": len(state.packed),
    }


def alone(task: str, pack: str, seed: int, args: argparse.Namespace, runs: str) -> dict[str, Any]:
    """As `study`, in a process of its own."""
    command = [
        sys.executable, __file__, task, "--one", pack, "--first", str(seed),
        "--budget", args.budget, "--strategy", args.strategy, "--runs", runs,
    ]  # fmt: skip
    for entry in args.set:
        command += ["--set", entry]
    if args.target:
        command += ["--target", args.target]
    if args.space:
        command += ["--space", args.space]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rates(one: Mapping[str, Any]) -> tuple[float, ...]:
    """Trainings a CPU second, of the search and of the whole command; trials, of the search."""
    whole = one["start"] + one["search"] + one["verdict"]
    search = one["search"]
    return one["fulls"] / search, one["all_fulls"] / whole, one["trials"] / search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("task", help="digits, table, or a file of your own")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--budget", default="40full")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--target", default=None, help="of a file of your own")
    parser.add_argument("--space", default=None)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--packs", nargs=2, default=["auto", "same"], help="what is compared")
    parser.add_argument("--runs", default=None, help="keep the studies there")
    parser.add_argument("--one", default=None, help="run this one study, in this process")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = args.runs or scratch
        if args.one:
            print(json.dumps(study(args.task, args.one, args.first, args, runs)))
            return
        task = args.task
        if task == "table":
            task, args.target = str(table(Path(scratch))), "diagnosis"
        found: list[tuple[float, ...]] = []
        print("seed  pack  start  search verdict  trainings  all  trials  packed")
        for seed in range(args.first, args.first + args.seeds):
            pair: list[tuple[str, dict[str, Any]]] = []
            for pack in args.packs:
                one = alone(task, pack, seed, args, runs)
                if pack == "same" and pair:
                    one["search"] += pair[0][1]["driver"] - one["driver"]
                pair.append((pack, one))
                print(
                    f"{seed:4}  {pack:4} {one['start']:6.1f} {one['search']:7.1f} "
                    f"{one['verdict']:7.1f} {one['fulls']:10.1f} {one['all_fulls']:4.0f} "
                    f"{one['trials']:7} {one['packed']:7}",
                    flush=True,
                )
            by_pack = dict(pair)
            ours, theirs = (rates(by_pack[pack]) for pack in args.packs)
            found.append(tuple(a / b for a, b in zip(ours, theirs, strict=True)))
            search, all_, trials = found[-1]
            print(
                f"      ratio: search {search:.2f}, whole {all_:.2f}, trials {trials:.2f}",
                flush=True,
            )
        for name, values in zip(
            ("search", "whole", "trials"), zip(*found, strict=True), strict=True
        ):
            print(
                f"{name}: median {statistics.median(values):.2f}, "
                f"from {min(values):.2f} to {max(values):.2f}"
            )


if __name__ == "__main__":
    main()
