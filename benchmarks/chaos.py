"""Nothing is lost, doubled or left hanging: a study in workers, harmed again and again.

    python benchmarks/chaos.py [--faults 60] [--trials 200] [--seed 0] [--keep FOLDER]

A real server, three real workers, each behind a line that can be cut, and a driver. A script kills
(-9) a worker, its training process, the driver and the server, asks a worker to end, freezes one
of them for longer than a lease, delivers messages twice and cuts lines, one after the other over
the whole study. Then the study is compared with the same one left in peace. The exit code is 1
when a promise was broken, and every broken one is named. The machinery is that of the tests, which
run the same with ten faults.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.workers.chaos import storm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds that an epoch lasts")
    parser.add_argument("--keep", type=Path, help="folder for logs and journals, not removed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = storm(
            folder, faults=args.faults, trials=args.trials, seed=args.seed, pause=args.pause,
            say=lambda line: print(line, flush=True),
        )  # fmt: skip
    print(f"{sum(outcome.faults.values())} faults in {outcome.seconds:.0f} s, {args.trials} trials")
    for fault, count in sorted(outcome.faults.items()):
        print(f"  {count:3} {fault}")
    print(f"{outcome.lost} segments were lost with their process and trained again")
    for line in outcome.wrong:
        print(f"BROKEN: {line}")
    print("broken promises:", len(outcome.wrong))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
