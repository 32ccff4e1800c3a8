"""What AlgoPerf's published runs say about optimizers that are here, too.

    python benchmarks/algoperf.py --data DATA      DATA/algoperf holds runs.json and curves.npz

MLCommons AlgoPerf, rounds v0.5 and v0.6: eight workloads, a validation target and a time limit
each. Tuned ("external tuning"): studies of five trials, the quickest trial of a study and the
median study count. Untuned ("self tuning"): three times the limit, each run by itself. Two figures:

    reached     workloads on which the target was reached
    score       mean over workloads of how long that took beside the quickest submission: 1 for the
                quickest, along a line to 0 at four times its time, 0 where never reached

That is AlgoPerf's own score without its held-out variants of the workloads, which decide there
whether a time counts: figures differ from the official ones. A submission tunes and schedules in
its own way: it is evidence for the whole of it, not for the optimizer's formula alone.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np

FALLING = ("loss", "wer")  # metrics of which less is better
CUT = 4.0  # times the fastest's time
Curve = tuple[np.ndarray, np.ndarray]  # seconds, metric with more being better


def studies(
    folder: Path, version: str, ruleset: str
) -> dict[tuple[str, str], dict[str, list[Curve]]]:
    """Curves by (submission, workload), then by study."""
    curves = np.load(folder / "curves.npz")
    seconds, metric = curves["seconds"], curves["metric"]
    found: dict[tuple[str, str], dict[str, list[Curve]]] = defaultdict(lambda: defaultdict(list))
    for run in json.loads((folder / "runs.json").read_text()):
        base = re.sub(r"_(jax|pytorch)$", "", run["workload"])
        if (run["version"], run["ruleset"]) != (version, ruleset):
            continue
        part = slice(run["offset"], run["offset"] + run["n"])
        sign = -1 if run["metric"].endswith(FALLING) else 1
        keep = np.isfinite(seconds[part]) & np.isfinite(metric[part])
        curve = seconds[part][keep], sign * metric[part][keep]
        if len(curve[0]):
            found[run["submission"], base][run["study"]].append(curve)
    return found


def until(trials: list[Curve], target: float) -> float:
    """Seconds of the study's quickest trial to the target; infinite where none came there."""
    times = [s[m >= target][0] for s, m in trials if (m >= target).any()]
    return float(min(times, default=np.inf))


def scores(folder: Path, version: str, ruleset: str) -> dict[str, tuple[int, float]]:
    """(workloads reached, score) by submission, the best first."""
    found = studies(folder, version, ruleset)
    names = sorted({s for s, _ in found})
    times: dict[str, dict[str, float]] = {}
    for base, target in TARGETS.items():
        times[base] = {
            n: statistics.median([until(t, target) for t in found[n, base].values()] or [math.inf])
            for n in names
        }
    out = {}
    for name in names:
        ratios = [
            t[name] / min(t.values()) if math.isfinite(t[name]) else CUT for t in times.values()
        ]
        score = statistics.mean(max(0.0, (CUT - r) / (CUT - 1)) for r in ratios)
        out[name] = sum(math.isfinite(t[name]) for t in times.values()), score
    return dict(sorted(out.items(), key=lambda item: -item[1][1]))


ROUNDS = (
    ("algoperf_v05", "external_tuning"),
    ("algoperf_v05", "self_tuning"),
    ("algoperf_v06", "external_tuning"),
)
# The benchmark's validation targets; less is better where negative.
TARGETS = {
    "criteo1tb": -0.123735,
    "fastmri": 0.723653,
    "imagenet_resnet": 0.77431,
    "imagenet_vit": 0.77309,
    "librispeech_conformer": -0.085884,
    "librispeech_deepspeech": -0.119936,
    "ogbg": 0.28098,
    "wmt": 30.8491,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    for version, ruleset in ROUNDS:
        print(f"{version} {ruleset}\n\n| submission | reached | score |\n|---|---|---|")
        for name, (reached, score) in scores(args.data / "algoperf", version, ruleset).items():
            print(f"| {name} | {reached} of {len(TARGETS)} | {score:.3f} |")
        print()


if __name__ == "__main__":
    main()
