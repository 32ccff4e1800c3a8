"""The live screen of a study: one picture, redrawn in place, that fits the terminal.

`Screen` follows the journal's events and the progress between them; Rich draws it from its own
thread, hence the lock.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.text import Text

from automl.records import FAILURES, Status
from automl.study.budget import Budget
from automl.study.state import State, Trial

from .matters import Matter, matters
from .wording import about, counted, curve, duration, number, signed, title

_RECENT = 3
_FEWEST = 10  # lines; a lower terminal is cut at the bottom
_CURVE = 14  # columns


class Screen:
    """A study as it runs, at most as wide and high as the terminal.

    Args:
        state: where the study stands; the screen applies further events to it, so it must not be
            shared with the driver.
        clock: seconds since the epoch.
    """

    def __init__(self, state: State, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # A signal's handler may speak while the same thread is inside `update`.
        self._lock = threading.RLock()
        self._live: dict[int, list[tuple[int, float]]] = {}
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._planned = 0  # trainings that the verdict still wants
        self._phase = "search"
        self._note = ""
        self.load(state)

    def load(self, state: State) -> None:
        """Go on from `state`: the study was begun earlier."""
        with self._lock:
            self._state = state
            self._failures = Counter(t.status for t in state.trials.values() if _bad(t.status))
            self._matters: list[Matter] = matters(state) if state.config else []
            self._seen = self._clock()

    def update(self, event: Mapping[str, Any]) -> None:
        """Take a journal event, or one of "smoke", "progress", "phase"."""
        with self._lock:
            self._take(event)

    def say(self, note: str) -> None:
        """Show `note` in the last line: what Ctrl-C did."""
        with self._lock:
            self._note = note

    def _take(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if kind == "progress":
            value = event["metrics"].get(self._state.metric)
            if value is not None:
                self._live.setdefault(event["trial"], []).append((event["step"], value))
        elif kind == "phase":
            self._phase = event["phase"]
            self._plan()
        elif kind in ("study", "resume", "ask", "report", "judge", "verdict", "end"):
            before = self._state.incumbent()
            self._state.apply(event)
            self._seen = self._clock()
            if kind == "report":
                self._reported(event["report"]["trial"], before)

    def _reported(self, number_: int, before: Trial | None) -> None:
        state = self._state
        trial = state.trials[number_]
        self._live.pop(number_, None)
        value = trial.last(state.metric)
        who = f"trial {number_}" + (f" ({trial.label})" if trial.label else "")
        if state.incumbent() is not before:
            self._recent.append(f"{who} is the new best: {number(value)}")
        elif _bad(trial.status):
            self._failures[trial.status] += 1
            why = f": {trial.message}" if trial.message else ""
            self._recent.append(f"{who}: {trial.status}{why}")
        elif trial.status == Status.DONE:
            self._recent.append(f"{who} ended with {number(value)}")
        elif trial.status == "waiting":
            self._recent.append(f"{who} waits at step {trial.reached} with {number(value)}")
        self._matters = matters(state)
        self._plan()

    def _plan(self) -> None:
        """Count what the verdict still wants; only while it is being made."""
        if self._phase != "verdict" or self._state.allowance is None:
            return
        from automl.study.finals import next_trials  # not needed before

        planned = next_trials(self._state, allowance_fulls=self._state.allowance)
        self._planned = len(planned)

    # Drawing --------------------------------------------------------------------------------

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        # A line is left for the cursor: a picture as high as the terminal would scroll.
        height = max((options.height or console.size.height) - 1, _FEWEST)
        with self._lock:
            lines = self._lines(options.max_width, height, plain=options.ascii_only)
        for line in lines[:height]:
            line.truncate(options.max_width, overflow="ellipsis")
            line.no_wrap = True
            yield line

    def _lines(self, width: int, height: int, *, plain: bool) -> list[Text]:
        if self._state.config is None:
            return [Text(self._note or "opening the task, then a smoke trial of the baseline ...")]
        head = [*self._headline(width, plain), Text(), *self._values()]
        foot = [Text(self._note or "Ctrl-C stops; what is trained is saved", "dim")]
        failures = self._failed()
        recent = [Text("recent", "bold"), *(Text(f"  {line}") for line in self._recent)]
        recent = recent if self._recent else []
        room = height - len(head) - len(foot) - len(failures) - len(recent) - 3
        running = self._running(width, max(room - 5, 2), plain)
        matter = self._mattering(room - len(running))
        blocks = [matter, running, [*failures, *recent], foot]
        lines = head
        for block in blocks:
            if block:
                lines = [*lines, Text(), *block] if block is not foot else [*lines, *block]
        return lines

    def _headline(self, width: int, plain: bool) -> list[Text]:
        config = self._state.config
        assert config is not None
        first = Text(f"{config.name}", "bold")
        first.append(f"  {config.card.about}", "dim")
        share, left = self._progress()
        ended = sum(t.status not in ("running", "waiting") for t in self._state.search_trials())
        waiting = sum(t.status == "waiting" for t in self._state.search_trials())
        after = [f"{share:4.0%}", self._doing(), left, counted(ended, "trial") + " ended"]
        if waiting:
            after.append(f"{waiting} at a rung")
        tail = "  ".join(word for word in after if word)
        bar = max(min(width - len(tail) - 2, 30), 8)
        done = round(bar * share)
        full, empty = ("#", ".") if plain else ("━", "━")
        second = Text()
        second.append(full * done, "green")
        second.append(empty * (bar - done), "dim" if plain else "bright_black")
        second.append("  " + tail)
        return [first, second]

    def _doing(self) -> str:
        if self._phase == "verdict":
            return "proving the winner with fresh seeds"
        return "done" if self._phase == "done" else "searching"

    def _progress(self) -> tuple[float, str]:
        """Share of the work that is done, and the time left in words."""
        state = self._state
        if self._phase == "done":
            return 1.0, ""
        if self._phase == "verdict":
            late = [t for t in state.trials.values() if t.phase != "search"]
            done = sum(t.status != "running" for t in late)
            total = len(late) + self._planned
            left = (total - done) * state.full_seconds() / self._workers()
            return (done / total if total else 0.0), f"about {about(left)} left" if left else ""
        return search_progress(state, waited=max(self._clock() - self._seen, 0.0))

    def _workers(self) -> int:
        return max(self._state.config.workers if self._state.config else 1, 1)

    def _values(self) -> list[Text]:
        state = self._state
        assert state.config is not None
        card = state.config.card
        base, best = state.baseline(), state.incumbent()
        value = base.last(state.metric) if base and base.status == Status.DONE else None
        line = Text("baseline   ", "dim")
        line.append(f"{number(value):<8}" if value is not None else "training")
        line.append(f"  {title(base.recipe)}" if base else "", "dim")
        goal = Text(f"{card.metric} on the validation split, ", "dim")
        goal.append("higher is better" if card.direction == "maximize" else "lower is better")
        lines = [goal, line]
        if best is None:
            lines.append(Text("best       none yet", "dim"))
            return lines
        now = best.last(state.metric)
        line = Text("best       ", "dim")
        line.append(f"{number(now):<8}", "bold green" if best.number else "bold")
        if best.number == 0:
            line.append("  the baseline itself", "dim")
        else:
            if value is not None and now is not None:
                line.append(f"  {signed(now - value)}", "green")
            line.append(f"  trial {best.number}: {title(best.recipe)}")
        return [*lines, line]

    def _running(self, width: int, most: int, plain: bool) -> list[Text]:
        state = self._state
        trials = [state.trials[n] for n in sorted(state.open)]
        if not trials:
            return []
        lines = [Text("training now", "bold")]
        shown = trials if len(trials) < most else trials[: most - 2]
        for trial in shown:
            points = [*trial.values(state.metric)]
            points += [p for p in self._live.get(trial.number, []) if p[0] > trial.reached]
            step = points[-1][0] if points else trial.reached
            values = [v for _, v in points if math.isfinite(v)]
            what = trial.label or title(trial.recipe)
            row = Text(f"  {trial.number:>4}  ")
            if not plain:
                row.append(f"{curve(values, _CURVE):<{_CURVE}}  ", "cyan")
            row.append(f"{number(values[-1]) if values else '':<8}")
            row.append(f"{step:>6}/{trial.recipe.steps:<6}  ", "dim")
            row.append(what)
            lines.append(row)
        if len(shown) < len(trials):
            lines.append(Text(f"  and {len(trials) - len(shown)} more", "dim"))
        return lines

    def _mattering(self, most: int) -> list[Text]:
        found = self._matters[: max(most - 1, 0)]
        if not found:
            return []
        wide = max(len(m.name) for m in found)
        lines = [Text("what matters so far (best value of each)", "bold")]
        for m in found:
            line = Text(f"  {m.name:<{wide}}  ", "dim")
            line.append(m.text)
            lines.append(line)
        return lines

    def _failed(self) -> list[Text]:
        if not self._failures:
            return []
        line = Text("failures  ", "bold")
        line.append(", ".join(f"{n} {status}" for status, n in self._failures.most_common()), "red")
        return [line]


def search_progress(state: State, *, waited: float = 0.0) -> tuple[float, str]:
    """Share of the search's budget that is spent, and the time left in words ("" if unknown).

    `waited` is seconds since the state's last event.
    """
    assert state.config is not None
    budget = Budget.parse(state.config.budget)
    wall = state.wall_seconds + waited
    share = budget.share_spent(state)
    left = math.inf
    if budget.seconds is not None:
        share = max(share, min(wall / budget.seconds, 1.0))
        left = max(budget.seconds - wall, 0.0)
    if share >= 0.03:
        left = min(left, wall * (1 - share) / share)
    elif state.full_seconds():
        fulls = budget.search_fulls(state.config)
        left = min(left, fulls * state.full_seconds() / max(state.config.workers, 1))
    return share, f"about {about(left)} left" if math.isfinite(left) else ""


def ended_line(state: State) -> str:
    """How much was done: "31 trials in 3 min 20 s"."""
    return f"{counted(len(state.search_trials()), 'trial')} in {duration(state.wall_seconds)}"


def _bad(status: str) -> bool:
    return status == Status.DIVERGED or status in FAILURES
