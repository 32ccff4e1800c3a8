"""The workers of a queue, in words: on the screen, in plain lines and in `automl worker ls`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl.reports.numerals import counted


def nobody(event: Mapping[str, Any]) -> str:
    """What is wrong when a "crew" event tells of no worker, and what to type."""
    queues, unfit = event["queues"], event.get("unfit", 0)
    where = f"{'queues' if len(queues) > 1 else 'queue'} {','.join(queues)}"
    start = f"start one: automl worker start --queue {queues[0]}"
    if unfit:
        have = "has" if unfit == 1 else "have"
        needs = " and ".join(event["needs"])
        who = f"the {counted(unfit, 'worker')} on {where} {have} not"
        return f"{who} what the study needs, {needs}; {start} --devices 0"
    return f"no worker listens on {where}; {start}"


def summary(event: Mapping[str, Any]) -> str:
    """Of a "crew" event: "3 workers on queue gpu: 2 with this study, 1 idle"."""
    workers = event["workers"]
    return f"{counted(len(workers), 'worker')} {what(event)}" if workers else what(event)


def what(event: Mapping[str, Any]) -> str:
    """The same without the number: "on queue gpu: 2 with this study, 1 idle"."""
    workers = event["workers"]
    if not workers:
        return nobody(event)
    here = sum(bool(w["trials"]) for w in workers)
    idle = sum(not w["doing"] for w in workers)
    parts = {
        "with this study": here,
        "with others": len(workers) - here - idle,
        "idle": idle,
    }
    words = ", ".join(f"{n:,} {name}" for name, n in parts.items() if n)
    return f"on queue {','.join(event['queues'])}: {words}"


def trains(worker: Mapping[str, Any]) -> str:
    """What one worker of a "crew" event does: "trial 12", "digits/3" of another study, "idle"."""
    trials = worker["trials"]
    if not trials:
        return worker["doing"] or "idle"
    if len(trials) > 4:
        return f"{len(trials)} trials, {trials[0]} to {trials[-1]}"
    return f"{'trials' if len(trials) > 1 else 'trial'} {', '.join(map(str, trials))}"


def size(count: int) -> str:
    """Memory in the unit of `--needs memory=40g`; "" where it is not known."""
    return f"{count / 1e9:.0f} GB" if count else ""
