"""Packs beside the loops that they replace: time a member and update.

    .venv/bin/python benchmarks/packs.py [CASE ...] [--sizes 1,2,4,8] [--rounds 5] [--json FILE]
                                         [--device cuda] [--precision bfloat16] [--processes 16]

Baselines, each training K models on the same batches (`pack_rivals.py`):

    plain      torch's model and AdamW as torch makes it, one model after the other
    fused      the same with AdamW(fused=True), the fairer one
    loop       our own loop, K = 1: what --pack off runs
    processes  `fused`, one process a core at once; on a GPU --processes of them on it
    step       one model's whole step under torch.compile (CPU)
    graph      one CUDA graph a trial, replayed in turns on eight streams (GPU; on a CPU, with
               --graphs, the function that would be captured: a try of the script)

A pack is what --pack K runs: augmentation, schedule, optimizer and, on a CPU, reading the losses
after each update; on a GPU as one CUDA graph. The ratios are the baselines' times by the pack's.
The same pack otherwise:

    launched   without a CUDA graph: "x launched" is what the graph gains (GPU)
    compiled   as machine code (CPU), which auto chooses where it pays; "x compiled" its gain
    bf16       in bfloat16 (GPU); "x bf16" is its gain

Rounds of all take turns, so that a busy machine
slows all of them; a ratio is the median of the rounds' ratios. What runs one model after the other
is measured with at most eight, and counted K times. Members have their own lr, decay and seed.
Times are of the CPU with one thread, with --device cuda of the clock. Peak memory is the process's,
or the GPU's, measured anew for each size. `auto` is what the probe of a study chooses.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from pack_cases import CASES, recipes, task_of
from pack_rivals import Processes, Walk, compiled_step, graphs, in_turn, plain

from automl.tasks.task import ModelTask
from automl.train.compiled import own_folder
from automl.train.probing import forget_peak, peak_mib, probe
from automl.train.step import EngineName, Program

_IN_TURN = 8  # models at most of what costs K times one of them
_LARGEST = 64  # members that the probe tries on a CPU
# The allocator as workers have it; it reads its environment when a process starts.
_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184",
         "MALLOC_TOP_PAD_": "67108864"}  # fmt: skip


def packed(task: ModelTask, k: int, engine: EngineName, precision: str) -> Walk:
    program = Program(task, recipes(k, precision), engine=engine if k > 1 else "loop")
    cpu = program.device.type == "cpu"

    def walk(updates: int) -> None:
        program.begin(program.updates + updates)
        for _ in range(updates):
            loss = program.step()
            if cpu:
                loss.tolist()  # as a segment does, to see a divergence
        if program.ungraphed:
            raise SystemExit(f"no CUDA graph: {program.ungraphed}")

    return walk


def walks_of(task: ModelTask, k: int, precision: str, step: Walk | None) -> dict[str, Walk]:
    """The pack and what it is measured against.

    Args:
        step: one model's compiled step, shared by all sizes; None: as on a GPU.
    """
    few = min(k, _IN_TURN)
    engine: EngineName = "graphed" if step is None else "traced"
    walks = {
        "pack": packed(task, k, engine, precision),
        "plain": plain(task, few, fused=False, precision=precision),
        "fused": plain(task, few, fused=True, precision=precision),
        "loop": in_turn([packed(task, 1, "loop", precision) for _ in range(few)]),
    }
    if step is not None:
        walks["step"] = in_turn([step] * few)
        return walks | ({"compiled": packed(task, k, "compiled", precision)} if k > 1 else {})
    walks["graph"] = graphs(task, k, precision)
    if k > 1:
        walks["launched"] = packed(task, k, "traced", precision)
    if precision != "bfloat16":
        walks["bf16"] = packed(task, k, engine, "bfloat16")
    return walks


def measured(
    walks: dict[str, Walk], updates: int, rounds: int, device: str
) -> dict[str, list[float]]:
    """Seconds of each walk in each round: of the CPU, or of the clock on a GPU."""
    for walk in walks.values():
        walk(3)
    table: dict[str, list[float]] = {name: [] for name in walks}
    for _ in range(rounds):
        for name, walk in walks.items():
            began = _now(device)
            walk(updates)
            table[name].append(_now(device) - began)
    return table


def _now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def case_rows(name: str, given: argparse.Namespace) -> list[dict[str, object]]:
    """Print the case's table; its rows."""
    case, device, precision = CASES[name], given.device, given.precision
    cpu = device == "cpu"
    task = task_of(case, device)
    found = probe(task, recipes(1, precision)[0], _LARGEST if cpu else max(given.sizes))
    chosen = f"{found.size} together ({found.gain:.2f}x)" if found.size > 1 else "alone"
    print(f"\n{name}: {case.about}, {precision}; auto: {chosen} {found.reason}")
    own = ["step", "compiled"] if cpu and not given.graphs else ["graph", "launched", "bf16"]
    shown = ["plain", "fused", "loop", "processes", *own]
    print(f"{'K':>4} {'ms a member':>12} " + " ".join(f"{'x ' + n:>11}" for n in shown)
          + f" {'spread':>14} {'peak MiB':>9}")  # fmt: skip
    processes = Processes(given.processes or len(os.sched_getaffinity(0)))
    step = compiled_step(task) if "step" in own else None
    rows: list[dict[str, object]] = []
    for k in given.sizes:
        walks, few = walks_of(task, k, precision, step), min(k, _IN_TURN)
        updates = max(4, int(200 / k)) if cpu else max(20, int(4000 / k))
        times = measured(walks, updates, given.rounds, device)
        for name_ in ("plain", "fused", "loop", "step"):
            times[name_] = [t * k / few for t in times.get(name_, ())]
        times["processes"] = [
            processes.seconds(name, k, updates, device, precision) for _ in range(given.rounds)
        ]
        pack, pairs = walks["pack"], times["pack"]
        walks.clear()
        forget_peak()
        pack(2)
        ratios = {n: statistics.median(a / b for a, b in zip(times[n], pairs, strict=True))
                  for n in shown if times.get(n)}  # fmt: skip
        for other in {"compiled", "bf16"} & ratios.keys():
            ratios[other] = 1 / ratios[other]
        spread = [a / b for a, b in zip(times["plain"], pairs, strict=True)]
        each = statistics.median(pairs) / updates / k * 1000
        rows.append({"case": name, "device": device, "precision": precision, "members": k,
                     "ms": each, "ratios": ratios, "spread": [min(spread), max(spread)],
                     "peak_mib": peak_mib(), "auto": found.size})  # fmt: skip
        print(f"{k:4} {each:12.4f} " + " ".join(f"{ratios[n]:11.2f}" if n in ratios
                                                else f"{'':11}" for n in shown)
              + f"   {min(spread):5.2f} to {max(spread):4.2f} {peak_mib():8.0f}",
              flush=True)  # fmt: skip
    processes.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Packs beside the loops that they replace.")
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--sizes", help="members of a pack; 1 to 64, on a GPU to 1024")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu or cuda")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--processes", type=int, help="at once; one a core unless told")
    parser.add_argument("--graphs", action="store_true", help="a GPU's columns on a CPU, as a try")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here too")
    given = parser.parse_args()
    unknown = [name for name in given.cases if name not in CASES]
    if unknown:
        parser.error(f"no case '{unknown[0]}'; one of {', '.join(CASES)}")
    if given.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {given.device}: torch sees no GPU here")
    if "MALLOC_MMAP_MAX_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_HEAP})
    torch.set_num_threads(1)
    own_folder()
    sizes = given.sizes or ("1,2,4,8,16,32,64" if given.device == "cpu" else "1,4,16,64,256,1024")
    given.sizes = [int(size) for size in sizes.split(",")]
    rows = []
    for name in given.cases:
        rows += case_rows(name, given)
    if given.json:
        given.json.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


if __name__ == "__main__":
    main()
