"""A thousand workers and many trials: what the driver and Redis bear.

    python benchmarks/scale.py [--workers 1000] [--trials 100000] [--minutes 10]

The driver is real, with its journal on disk and the random sampler; the workers are simulated, and
each trial takes `--minutes` of their time. What the simulation itself costs is not counted. Then a
real Redis server is given an order for each worker and serves claims, renewals and commits. It
says where the time and the bytes go, and with how many workers each part is busy all the time.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from automl.executors.executor import Executor
from automl.executors.holding import Holder
from automl.executors.leases import Leases, connect
from automl.executors.simulated import Simulated
from automl.executors.valkey import Server
from automl.recipe import Recipe
from automl.records import Metrics, Pack, Report, Segment, Status
from automl.study.controller import run
from automl.study.options import TuneOptions
from automl.study.preparing import prepare

NAMES = [f"p{i}" for i in range(10)]
STEPS = 10  # evaluations of a trial
TASK = f"""
space = {{name: "0.0..1.0" for name in {NAMES}}}
metric = "score"
steps = {STEPS}


def train(trial):
    for step in range({STEPS}):
        trial.report(step + 1, {{"score": trial.recipe["p0"]}})
"""


class Timed(Simulated):
    """Simulated workers that know what it cost to simulate them."""

    spent = 0.0

    def submit(self, pack: Pack) -> None:
        began = time.process_time()
        super().submit(pack)
        self.spent += time.process_time() - began

    def reports(self, timeout: float = 0.0) -> list[Report]:
        began = time.process_time()
        found = super().reports(timeout)
        self.spent += time.process_time() - began
        return found


def driver(folder: Path, *, workers: int, trials: int, seconds: float) -> None:
    """Run the study, and print what a trial costs at a tenth, a half and the end."""
    (folder / "noop.py").write_text(TASK)

    def measure(recipe: Recipe, step: int) -> tuple[Metrics, float]:
        p0 = cast(float, recipe.point["p0"])
        return {"val/score": p0 * step, "train/loss": 1 - p0}, seconds * (0.5 + p0) * step / STEPS

    options = TuneOptions(
        folder / "noop.py", budget=f"{trials}trials", strategy="random", seeds=1, name="large",
        workers=workers, pack="off", runs=folder / "runs", mlflow="off",
    )  # fmt: skip
    prepared = prepare(options)
    prepared.executor.close()
    crowd = Timed(measure, workers=workers)
    prepared.executor = cast(Executor, crowd)
    marks = {max(trials // 10, 1), trials // 2, trials}
    done, cpu, wall = 0, time.process_time(), time.perf_counter()
    before = (done, cpu, wall)

    def listen(event: Any) -> None:
        nonlocal done, before
        if event["kind"] != "report":
            return
        done += 1
        if done in marks:
            now = (done, time.process_time() - crowd.spent, time.perf_counter())
            more = now[0] - before[0]
            size = sum(f.stat().st_size for f in prepared.folder.glob("journal.db*"))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{done:8} trials  {(now[1] - before[1]) / more * 1e3:6.2f} ms CPU a trial  "
                f"{more / (now[2] - before[2]):7.0f} trials/s of wall  {memory:6.0f} MiB  "
                f"{size / done:6.0f} bytes a trial in the journal",
                flush=True,
            )
            before = now

    run(prepared, listen=listen)
    print(f"{crowd.now / 3600:.1f} hours of a crew of {workers} were simulated")
    prepared.close()


def server(folder: Path, *, workers: int) -> None:
    """Print what a claim, a renewal and a commit cost Redis, and what an order weighs."""
    redis = Server(folder / "redis")
    try:
        client = connect(redis.url)
        leases = Leases(client, "large")

        def info(name: str) -> float:
            return float(client.info()[name])

        def spent() -> float:
            return info("used_cpu_user") + info("used_cpu_sys")

        point = cast(Any, {**dict.fromkeys(NAMES, 0.123456), "optimizer": "adamw"})
        recipe = Recipe(point, steps=STEPS, seed=0)
        curve = tuple((n, {"val/score": 0.5, "train/loss": 0.5}) for n in range(1, STEPS + 1))
        empty = info("used_memory")
        for n in range(workers):
            order = Pack((Segment(n, recipe, 0, STEPS),), "/runs/large/checkpoints").to_json()
            leases.put(f"{n}-0-{STEPS}-0123456789ab", order)
        print(f"an order weighs {(info('used_memory') - empty) / workers:6.0f} bytes in Redis")
        held = []
        began = spent()
        for n in range(workers):
            holder = Holder(client, f"cpu-0@host-{n}")
            lease = holder.claim("large", f"{n}-0-{STEPS}-0123456789ab")
            assert lease is not None
            held.append(lease)
        claimed = spent()
        for lease in held * 5:
            holder.renew(lease)
        renewed = spent()
        full = info("used_memory")
        for n, lease in enumerate(held):
            holder.commit(lease, [Report(n, 0, STEPS, Status.DONE, curve).to_json()])
        committed = spent()
        left = info("used_memory") - empty
        print(f"held, {(full - empty) / workers:.0f}; its reports {left / workers:.0f} until read")
        for what, seconds, count in (
            ("claim", claimed - began, workers),
            ("renewal", renewed - claimed, 5 * workers),
            ("commit", committed - renewed, workers),
        ):
            print(f"a {what:8} costs Redis {seconds / count * 1e6:6.0f} microseconds of CPU")
    finally:
        redis.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=10.0, help="that a trial takes a worker")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        server(Path(scratch), workers=args.workers)
        driver(Path(scratch), workers=args.workers, trials=args.trials, seconds=60 * args.minutes)


if __name__ == "__main__":
    main()
