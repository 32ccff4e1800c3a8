"""What a no-op trial costs through Celery workers, beside two peers that use several processes.

    python benchmarks/overhead_queue.py [--workers 1 2 4] [--trials 400] [--ray PYTHON]
    python benchmarks/overhead_queue.py --alone --workers 2 --trials 10000 --parts 10

One run, one after the other on the same machine: our driver and Celery workers on a Redis server
of their own, Optuna's JournalStorage on Redis in two processes, and Ray Tune with reused actors,
each with ten parameters, the random sampler and one report a trial. Our driver keeps --ahead
segments out for each worker, as `automl tune --workers` would, so that none waits for its next.
Trials per second and CPU milliseconds per trial (all processes, the server included) between a
quarter of the trials and all of them, so that start-up does not count. Ray is optional: PYTHON is
an interpreter that has it, such as one of a virtual environment with `pip install "ray[tune]"
psutil`. With --parts our study is told part by part, from its beginning: whether the cost of a
trial grows with their number.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from overhead import TASK

from automl.executors.celery import living
from automl.executors.valkey import Server
from automl.study.controller import run
from automl.study.options import TuneOptions
from automl.study.preparing import prepare


class Cost(NamedTuple):
    per_second: float
    cpu_ms: float  # per trial


class Mark(NamedTuple):
    wall: float
    cpu: float


def between(a: Mark, b: Mark, trials: int) -> Cost:
    return Cost(trials / (b.wall - a.wall), (b.cpu - a.cpu) / trials * 1e3)


def mark(*pids: int) -> Mark:
    """Now, and the CPU seconds of these processes and all below them."""
    family = [p for pid in pids for p in (psutil.Process(pid),)]
    family += [child for p in list(family) for child in p.children(recursive=True)]
    spent = [p.cpu_times() for p in {p.pid: p for p in family}.values()]
    # Of processes that have ended meanwhile, their parents know.
    cpu = sum(t.user + t.system + t.children_user + t.children_system for t in spent)
    return Mark(time.perf_counter(), cpu)


def celery(trials: int, workers: int, folder: Path, *, ahead: int, parts: int = 1) -> list[Cost]:
    """Costs of the parts of a study; with one, of all but its first quarter."""
    task = folder / "task" / "noop.py"  # alone in its folder: that travels to the workers
    task.parent.mkdir(exist_ok=True)
    task.write_text(TASK)
    place = folder / f"queue{workers}-{time.time()}"
    server = Server(place / "redis")
    command = [
        str(Path(sys.executable).parent / "automl"), "worker", "start", "--broker", server.url,
        "--slots", str(workers), "--logs", str(place / "logs"),
    ]  # fmt: skip
    crew = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ends = [trials * (n + 1) // parts for n in range(parts)]
    ends = [1, *ends] if parts > 1 else [trials // 4, trials]
    marks: list[Mark] = []
    done = 0

    def listen(event: Any) -> None:
        nonlocal done
        done += event["kind"] == "report"
        if event["kind"] == "report" and done in ends:
            marks.append(mark(os.getpid(), server.process.pid))

    try:
        while len(living(server.url)) < workers:
            time.sleep(0.2)
        options = TuneOptions(
            task, budget=f"{trials}trials", strategy="random", seeds=1,
            name="queue", workers=ahead * workers, runs=place / "runs", broker=server.url,
        )  # fmt: skip
        prepared = prepare(options)
        run(prepared, listen=listen)
        prepared.close()
    finally:
        crew.terminate()
        crew.wait()
        server.stop()
    return [between(marks[n], marks[n + 1], ends[n + 1] - ends[n]) for n in range(len(ends) - 1)]


JOURNAL = """
import sys, optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalRedisBackend
url, seed = sys.argv[1:]
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(
    storage=JournalStorage(JournalRedisBackend(url)), study_name="s", load_if_exists=True,
    sampler=optuna.samplers.RandomSampler(seed=int(seed)), direction="maximize",
)
def objective(trial):
    values = [trial.suggest_float(f"p{i}", 0.0, 1.0) for i in range(10)]
    trial.report(values[0], 1)
    return values[0]
print("ready", flush=True)
for line in sys.stdin:
    study.optimize(objective, n_trials=int(line))
    print("done", flush=True)
"""


def journal_redis(trials: int, folder: Path, *, processes: int = 2) -> Cost:
    server = Server(folder / f"journal-{time.time()}")
    crew = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", JOURNAL, server.url, str(seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for seed in range(processes)
    ]  # fmt: skip

    def all_of(count: int) -> Mark:
        for one in crew:
            assert one.stdin and one.stdout
            if count:
                print(count // processes, file=one.stdin, flush=True)
        for one in crew:
            assert one.stdout and one.stdout.readline()
        return mark(server.process.pid, *(one.pid for one in crew))

    try:
        all_of(0)
        begun = all_of(trials // 4)
        ended = all_of(trials - trials // 4)
    finally:
        for one in crew:
            one.kill()
            one.wait()
        server.stop()
    return between(begun, ended, trials - trials // 4)


RAY = """
import json, sys, time, psutil
from ray import tune
def spent():
    tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
    times = [p.cpu_times() for p in tree]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)
def objective(config):
    tune.report({"score": config["p0"]})
def fit(n):
    space = {f"p{i}": tune.uniform(0.0, 1.0) for i in range(10)}
    before, began = spent(), time.perf_counter()
    config = tune.TuneConfig(num_samples=n, reuse_actors=True, metric="score", mode="max")
    tune.Tuner(objective, param_space=space, tune_config=config).fit()
    return spent() - before, time.perf_counter() - began
n = int(sys.argv[1])
fit(2)  # starts the cluster
few, many = fit(n // 4), fit(n)
more = n - n // 4
print(json.dumps([more / (many[1] - few[1]), (many[0] - few[0]) / more * 1e3]))
"""


def ray(trials: int, python: str) -> Cost:
    environment = {**os.environ, "RAY_AIR_NEW_OUTPUT": "0", "PYTHONPATH": ""}
    done = subprocess.run(
        [python, "-c", RAY, str(trials)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise SystemExit(f"{python}: {(done.stderr.strip().splitlines() or ['no ray'])[-1]}")
    cost = Cost(*json.loads(done.stdout.strip().splitlines()[-1]))
    if min(cost) <= 0:
        raise SystemExit(f"Ray's start took longer than {trials} trials: give more --ray-trials")
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trials", type=int, nargs="+", default=[400])
    parser.add_argument("--repeat", type=int, default=1, help="rounds; the median is shown, too")
    parser.add_argument("--ahead", type=int, default=8, help="segments out for each worker")
    parser.add_argument("--parts", type=int, default=1, help="that our study is told in")
    parser.add_argument("--ray", metavar="PYTHON", help="an interpreter that has Ray Tune")
    parser.add_argument("--ray-trials", type=int, default=400)
    parser.add_argument("--alone", action="store_true", help="without the peers")
    args = parser.parse_args()
    rows: dict[str, list[Cost]] = {}

    def show(name: str, cost: Cost) -> None:
        rows.setdefault(name, []).append(cost)
        load = os.getloadavg()[0]
        print(
            f"{name:44} {cost.per_second:8.1f}/s {cost.cpu_ms:8.2f} ms CPU   load {load:.0f}",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for _ in range(args.repeat):
            for trials in args.trials:
                for workers in args.workers:
                    costs = celery(trials, workers, folder, ahead=args.ahead, parts=args.parts)
                    for n, cost in enumerate(costs, 1):
                        part = f", part {n}" if len(costs) > 1 else ""
                        show(f"automl, {workers} Celery workers, {trials} trials{part}", cost)
                if not args.alone:
                    cost = journal_redis(trials, folder)
                    show(f"Optuna, JournalRedis, 2 processes, {trials} trials", cost)
            if args.ray:
                show(
                    f"Ray Tune, reused actors, {args.ray_trials} trials",
                    ray(args.ray_trials, args.ray),
                )
    if not args.ray:
        print("Ray Tune was left out: --ray PYTHON names an interpreter that has it")
    if args.repeat > 1:
        print("medians")
        for name, costs in rows.items():
            rate = statistics.median(c.per_second for c in costs)
            print(f"{name:44} {rate:8.1f}/s {statistics.median(c.cpu_ms for c in costs):8.2f} ms")


if __name__ == "__main__":
    main()
