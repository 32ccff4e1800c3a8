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

from rich.console import Console, ConsoleOptions, OverflowMethod
from rich.text import Text

from automl.records import FAILURES, Report, Status
from automl.reports import pack_words
from automl.reports.aim_words import front_words, place_words
from automl.reports.derived import found_words
from automl.reports.numerals import Scale, counted
from automl.reports.tables import recipe_title
from automl.study.budget import Budget
from automl.study.prescreening import trust_words
from automl.study.state import State, Trial

from .crew import size, trains, what
from .matters import Matter, matters, seen_at
from .wording import about, curve

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
        self._crew: Mapping[str, Any] | None = None  # of a queue, as its last event told
        self.load(state)

    def load(self, state: State) -> None:
        """Go on from `state`: the study was begun earlier."""
        with self._lock:
            self._state = state
            self._failures = Counter(t.status for t in state.trials.values() if _bad(t.status))
            self._matters: list[Matter] = []
            self._where = ""
            self._stale, self._reckon_at = state.config is not None, 0.0
            self._seen = self._clock()

    def update(self, event: Mapping[str, Any]) -> None:
        """Take a journal event, or one of "smoke", "progress", "phase", "crew"."""
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
        elif kind == "crew":
            self._crew = event
        elif kind == "note":
            self._recent.append(event["text"])
        elif kind in ("study", "resume", "pause", "ask", "report", "judge", "verdict", "end"):
            before = self._state.incumbent()
            self._state.apply(event)
            self._seen = self._clock()
            if kind == "report":
                self._reported(Report.from_json(event["report"]), before)

    def _reported(self, report: Report, before: Trial | None) -> None:
        state, number_ = self._state, report.trial
        trial = state.trials[number_]
        self._live.pop(number_, None)
        value = self._scale.value(trial.last(state.metric))
        who = f"trial {number_}" + (f" ({trial.label})" if trial.label else "")
        if place := place_words(state, trial):
            self._recent.append(f"{who} is on the front: {place}")
        elif state.incumbent() is not before:
            self._recent.append(f"{who} is the new best: {value}")
        elif _bad(trial.status):
            self._failures[trial.status] += 1
            why = f": {trial.message}" if trial.message else ""
            self._recent.append(f"{who}: {trial.status}{why}")
        elif trial.found is not None:
            self._recent.append(f"{who}: {found_words(state, trial)}")
        elif trial.status == Status.DONE:
            self._recent.append(f"{who} ended with {value}")
        elif trial.status == "waiting":
            self._recent.append(f"{who} paused at step {trial.reached} with {value}")
        if fewer := pack_words.smaller(state, trial.recipe, report.packing):
            self._recent.append(fewer)
        self._stale = True
        self._plan()

    @property
    def _scale(self) -> Scale:
        assert self._state.config is not None
        return Scale(self._state.config.card.metric)

    def _title(self, trial: Trial) -> str:
        base = self._state.baseline()
        return recipe_title(trial.recipe, base.recipe if base else None)

    def _what(self, trial: Trial) -> str:
        if trial.number == 0:
            return trial.label
        return f"{trial.label}: {self._title(trial)}" if trial.label else self._title(trial)

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
        overflow: OverflowMethod = "crop" if options.ascii_only else "ellipsis"
        for line in lines[:height]:
            line.truncate(options.max_width, overflow=overflow)
            line.no_wrap = True
            yield line

    def _lines(self, width: int, height: int, *, plain: bool) -> list[Text]:
        if self._state.config is None:
            return [Text(self._note or "opening the task, then a smoke trial of the baseline ...")]
        head = [*self._headline(width, plain), Text(), *self._values()]
        foot = [Text(self._note or "Ctrl-C stops; what is trained is saved", "dim")]
        news = [*self._failed(), *self._screened(), *self._news()]
        room = height - len(head) - len(foot) - (len(news) + 1 if news else 0)
        crew = self._hands(max(room // 3, 1))
        room -= len(crew) + 1 if crew else 0
        running = self._running(max(room - 1, 2), plain)
        room -= len(running) + 1
        blocks = [head, self._mattering(room - 1), running, crew, news]
        lines: list[Text] = []
        for block in blocks:
            lines += [*([Text()] if lines and block else []), *block]
        return lines + foot

    def _headline(self, width: int, plain: bool) -> list[Text]:
        config = self._state.config
        assert config is not None
        first = Text()
        first.append(config.name, "bold")
        first.append(f"  {config.card.about}", "dim")
        share, left = self._progress()
        trials = self._state.search_trials()
        ended = sum(t.status == Status.DONE for t in trials)
        counts = f"{counted(len(trials), 'trial')}, {ended} to the end"
        stages = {"verdict": "2 of 2: fresh seeds", "done": "done"}
        stage = stages.get(self._phase, "1 of 2: search")
        if self._state.paused:
            stage, left = "paused", f"automl resume {config.name} goes on"
        words = (f"{share:4.0%}", stage, left, counts, pack_words.packed(self._state))
        tail = "  ".join(word for word in words if word)
        bar = max(min(width - len(tail) - 2, 30), 8)
        done = round(bar * share)
        full, empty = ("#", ".") if plain else ("━", "─")
        second = Text()
        second.append(full * done, "green")
        second.append(empty * (bar - done), "dim")
        second.append("  " + tail)
        return [first, second]

    def _progress(self) -> tuple[float, str]:
        """Share of the present stage that is done, and the time left in words."""
        state = self._state
        if self._phase == "done":
            return 1.0, ""
        if self._phase == "verdict":
            late = state.late_trials()
            done = sum(t.status != "running" for t in late)
            total = len(late) + self._planned
            left = (total - done) * state.full_seconds() / self._workers()
            return (done / total if total else 0.0), f"about {about(left)} left" if left else ""
        return search_progress(state, waited=max(self._clock() - self._seen, 0.0))

    def _workers(self) -> int:
        return max(self._state.config.workers if self._state.config else 1, 1)

    def _values(self) -> list[Text]:
        state, scale = self._state, self._scale
        assert state.config is not None
        upwards = state.config.card.direction == "maximize"
        better = "higher is better" if upwards else "lower is better"
        base, best = state.baseline(), state.incumbent()
        value = base.last(state.metric) if base and base.status == Status.DONE else None
        first = Text()
        first.append("baseline  ", "dim")
        first.append(f"{scale.value(value) if value is not None else 'training':<9}")
        first.append(recipe_title(base.recipe) if base else "", "dim")
        second = Text()
        second.append("best      ", "dim")
        if best is None:
            second.append("none yet", "dim")
        else:
            now = best.last(state.metric)
            second.append(f"{scale.value(now):<9}", "bold green" if best is not base else "bold")
            if best is base:
                second.append("the baseline itself", "dim")
            elif value is not None and now is not None:
                second.append(f"{scale.signed(now - value)}{scale.unit}  ", "green")
            if best is not base:
                second.append(f"trial {best.number}: {self._title(best)}")
        lines = [Text(f"{scale.words} on the validation split, {better}", "dim"), first, second]
        if not state.aims.plain and (words := front_words(state)):
            lines.append(Text(f"{'front' if state.aims.several else 'kept':<10}", "dim"))
            lines[-1].append(words.removeprefix("front of "), "bold")
        return lines

    def _running(self, most: int, plain: bool) -> list[Text]:
        state = self._state
        trials = [state.trials[n] for n in sorted(state.open)]
        if not trials or state.paused:
            return []
        lines = [Text("training now", "bold")]
        shown = trials if len(trials) < most else trials[: most - 2]
        for trial in shown:
            points = trial.values(state.metric)
            points += [p for p in self._live.get(trial.number, []) if p[0] > trial.reached]
            step = points[-1][0] if points else trial.reached
            values = [v for _, v in points if math.isfinite(v)]
            row = Text(f"  {trial.number:>4}  ")
            if not plain:
                row.append(f"{curve(values, _CURVE):<{_CURVE}}  ", "cyan")
            row.append(f"{self._scale.value(values[-1]) if values else '':<9}")
            row.append(f"{step:>6}/{trial.recipe.steps:<6}  ", "dim")
            row.append(self._what(trial))
            lines.append(row)
        if len(shown) < len(trials):
            rest = len(trials) - len(shown)
            lines.append(Text(f"  and {rest} more" if shown else f"  {rest} trials", "dim"))
        return lines

    def _hands(self, most: int) -> list[Text]:
        """Who could train this study, and what each does; those that train it come first."""
        if self._crew is None:
            return []
        workers = sorted(self._crew["workers"], key=lambda w: (not w["trials"], not w["doing"]))
        if not workers:
            return [Text(what(self._crew), "red")]
        head = Text()
        head.append("workers  ", "bold")
        head.append(f"{len(workers):,} {what(self._crew)}", "dim")
        wide = max(len(w["name"]) for w in workers)
        shown = workers if len(workers) < most else workers[: max(most - 2, 0)]
        lines = [head]
        for w in shown:
            line = Text(f"  {w['name']:<{wide}}  {trains(w):<12}  ")
            line.append(" ".join(p for p in (w["device"], size(w["memory"])) if p), "dim")
            lines.append(line)
        if len(shown) < len(workers) and most > 1:
            lines.append(Text(f"  and {len(workers) - len(shown)} more", "dim"))
        return lines

    def _mattering(self, most: int) -> list[Text]:
        self._reckon()
        found = self._matters[: max(most - 1, 0)]
        if not found:
            return []
        wide = max(len(m.name) for m in found)
        lines = [Text(f"what matters so far (best value of each {self._where})", "bold")]
        for m in found:
            line = Text(f"  {m.name:<{wide}}  ", "dim")
            line.append(m.text)
            lines.append(line)
        return lines

    def _reckon(self) -> None:
        """What matters, anew; its cost grows with the study, so at most a twentieth of the time."""
        begun = time.monotonic()
        if self._stale and begun >= self._reckon_at:
            self._matters, self._stale = matters(self._state), False
            step = seen_at(self._state)
            self._where = "at the end" if step is None else f"at step {step:,}"
            self._reckon_at = begun + 20 * (time.monotonic() - begun)

    def _failed(self) -> list[Text]:
        if not self._failures:
            return []
        line = Text()
        line.append("failures  ", "bold")
        line.append(", ".join(f"{n} {status}" for status, n in self._failures.most_common()), "red")
        return [line]

    def _screened(self) -> list[Text]:
        state = self._state
        found = (pack_words.declined(state), trust_words(state), state.ended_early)
        return [Text(words) for words in found if words]

    def _news(self) -> list[Text]:
        lines = [Text(f"  {line}") for line in self._recent]
        return [Text("recent", "bold"), *lines] if lines else []


def search_progress(state: State, *, waited: float = 0.0) -> tuple[float, str]:
    """Share of the search that is done, and the time left for it in words ("" if unknown).

    `waited` is seconds since the state's last event.
    """
    config = state.config
    assert config is not None
    budget = Budget.parse(config.budget)
    each, workers = state.full_seconds(), max(config.workers, 1)
    wall = state.wall_seconds + waited
    share, left = 0.0, math.inf
    if budget.seconds is not None:
        fulls = Budget(seconds=budget.seconds).search_fulls(config)
        whole = max(fulls * config.full_seconds / workers, 1.0)
        share, left = wall / whole, max(whole - wall, 0.0)
    if budget.fulls is not None:
        whole = max(Budget(fulls=budget.fulls).search_fulls(config), 1.0)
        share = max(share, state.passes() / config.card.steps / whole)
    if budget.trials is not None:
        share = max(share, tried(state) / budget.trials)
    share = min(share, 1.0)
    if share >= 0.03:
        left = min(left, wall * (1 - share) / share)
    elif each:
        left = min(left, budget.search_fulls(config) * each / workers)
    return share, f"about {about(left)} left" if 0 < left < math.inf else ""


def tried(state: State) -> int:
    """Search trials of which something is known, be it that they failed."""
    return sum(t.reached > 0 or t.status != "running" for t in state.search_trials())


def _bad(status: str) -> bool:
    return status == Status.DIVERGED or status in FAILURES
