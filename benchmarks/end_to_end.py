"""`automl tune` beside a good user's Optuna script, at equal CPU seconds.

    python benchmarks/end_to_end.py cifar16 --data DATA     CIFAR-10 images at 16x16, test accuracy
    python benchmarks/end_to_end.py table --data DATA       ETTh1 as a table, test RMSE
    python benchmarks/end_to_end.py digits                  CPU seconds until 98.5 % test accuracy

For each seed `automl tune` runs first, with its default strategy and one worker, and all the CPU
seconds of its process tree are counted: driver, worker, verdict, report. On images it too is
held to plain convnets, so that training methods are compared and not networks. The Optuna script
(optuna_script.py) then gets the same CPU seconds. Ours is judged by the mean test value of its
winner over fresh seeds; Optuna's by the test value of the trial with the best validation value.
DATA is a folder that holds cifar10_subset/cifar10_jpeg.npz and timeseries/ETTh1.csv.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def cifar16(data: Path, folder: Path) -> list[str]:
    """Write a quarter of the subset as 16x16 PNG files, one folder a class; the task's arguments.

    5,000 training images and 1,250 test images: small enough for tens of trainings a side.
    """
    pack = np.load(data / "cifar10_subset" / "cifar10_jpeg.npz")
    for split in ("train", "test"):
        raw, offsets = pack[f"{split}_bytes"], pack[f"{split}_offsets"]
        for i, label in list(enumerate(pack[f"{split}_labels"].tolist()))[::4]:
            jpeg = io.BytesIO(raw[offsets[i] : offsets[i + 1]].tobytes())
            place = folder / "cifar16" / split / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.open(jpeg).resize((16, 16), Image.Resampling.BOX).save(place / f"{i:05d}.png")
    return [str(folder / "cifar16")]


OURS = {"cifar16": ["--set", "architecture=convnet"], "table": [], "digits": []}


def table(data: Path, folder: Path) -> list[str]:
    """ETTh1 as a table: the oil temperature from the six loads of the same hour."""
    rows = (data / "timeseries" / "ETTh1.csv").read_text().splitlines()
    path = folder / "etth1.csv"
    path.write_text("\n".join(row.split(",", 1)[1] for row in rows))
    return [str(path), "--target", "OT"]


def children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def ours(task: list[str], seed: int, budget: str, runs: Path) -> tuple[dict[str, Any], float]:
    """The verdict of one `automl tune`, and the CPU seconds of its whole process tree."""
    before = children_cpu()
    command = [
        str(Path(sys.executable).parent / "automl"), "tune", *task, "--budget", budget,
        "--seed", str(seed), "--workers", "1", "--name", f"seed{seed}", "--runs", str(runs),
        "--mlflow", "off", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(f"automl tune ended with {done.returncode}: {done.stderr[-2000:]}")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    verdict = next(e["verdict"] for e in reversed(events) if e["kind"] == "verdict")
    return verdict, children_cpu() - before


def winner_test(verdict: dict[str, Any]) -> float:
    standing = next(s for s in verdict["standings"] if s["label"] == verdict["winner"])
    return float(standing["test"]["mean"])


def optuna(
    task: list[str], seed: int, cpu: float, epochs: int, pruner: str
) -> list[dict[str, Any]]:
    """The lines that the Optuna script printed."""
    command = [sys.executable, str(HERE / "optuna_script.py"), *task, "--seed", str(seed)]
    command += ["--cpu-seconds", f"{cpu:.0f}", "--epochs", str(epochs), "--pruner", pruner]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def spread(values: list[float]) -> str:
    sd = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.4f} ± {sd:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["cifar16", "table", "digits"])
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", default="20full")
    parser.add_argument("--epochs", type=int, default=10, help="of a full training, on both sides")
    parser.add_argument("--pruner", choices=["median", "hyperband"], default="median")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        task = ["digits"]
        if args.task != "digits":
            if args.data is None:
                raise SystemExit("--data: the folder that holds the data sets")
            task = {"cifar16": cifar16, "table": table}[args.task](args.data, folder)
        mine: list[float] = []
        theirs: list[float] = []
        for seed in range(args.seeds):
            mine_too = [*task, *OURS[args.task], "--epochs", str(args.epochs)]
            verdict, cpu = ours(mine_too, seed, args.budget, folder / "runs")
            lines = optuna(task, seed, cpu, args.epochs, args.pruner)
            mine.append(winner_test(verdict))
            theirs.append(lines[-1]["test"])
            print(
                f"seed {seed}: {cpu:5.0f} CPU s   automl tune {mine[-1]:.4f}   "
                f"Optuna {theirs[-1]:.4f} ({len(lines)} trials)",
                flush=True,
            )
            if args.task == "digits":
                reached = [line["cpu"] for line in lines if line["test"] >= 0.985]
                first = f"after {reached[0]:.0f} CPU s" if reached else "never"
                shown = f"within {cpu:.0f} CPU s" if mine[-1] >= 0.985 else "not"
                print(
                    f"        98.5 %: automl tune {shown}, shown on fresh seeds; "
                    f"Optuna's first trial {first}, one run"
                )
        print(
            f"test, mean over {args.seeds} seeds: "
            f"automl tune {spread(mine)}   Optuna {spread(theirs)}"
        )


if __name__ == "__main__":
    main()
