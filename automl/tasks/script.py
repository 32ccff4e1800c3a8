"""A command line as it is: `--cmd "python train.py --lr {lr}" --metric-regex "acc=([0-9.]+)"`.

Each placeholder is a hyperparameter with its range in `--set lr="log 1e-5..1e-1 = 1e-3"`. The last
match of the regex in what the command prints is the result. With {epochs} or {steps} in the
command a training can be cut short, by running it again for longer; without, it is one step.
A command that prints one result an epoch, or step, gives its whole curve. {seed} is filled with
the trial's seed; without it the verdict's fresh seeds cannot tell luck from merit.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import signal
import string
import subprocess
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread

from automl.errors import SpaceError, TaskError
from automl.parents import end_with
from automl.records import TaskCard, TaskSpec
from automl.space.ranges import Range, parse_range
from automl.space.tree import Space
from automl.tasks.aiming import aims_of, maximized
from automl.tasks.fitting import device_for
from automl.tasks.metrics import direction_of
from automl.tasks.task import Handle, LoopTask

_LENGTHS = ("epochs", "steps")
_FULL = 10  # epochs or steps of a full training, unless --epochs says otherwise
_LOOK_SECONDS = 0.2  # between looks for a stop
_STARTED = 20  # last lines of the command's output that are kept for a message


def open_command(spec: TaskSpec) -> LoopTask:
    """The task of a command line with placeholders.

    Raises:
        TaskError: a placeholder without a range, a range without a placeholder, or a regex that
            finds nothing by its form.
    """
    if spec.space is not None:
        raise TaskError(f"--space {spec.space}: a command's ranges are given by --set")
    words = _words(spec.source)
    regex = _regex(spec.metric_regex)
    names = _placeholders(spec.source)
    ranges = _ranges(spec.sets)
    lengths = [n for n in names if n in _LENGTHS and n not in ranges]
    given = [*lengths, "seed"]
    for name in names:
        if not name.isidentifier():
            raise TaskError(
                f"--cmd: {{{name}}} is no placeholder; write {{lr}}, or {{{{ }}}} for plain braces"
            )
        if name not in ranges and name not in given:
            raise TaskError(
                f'--cmd: {{{name}}} has no range; add e.g. --set "{name}=log 1e-5..1e-1 = 1e-3"'
            )
    for name in ranges:
        if name not in names:
            raise TaskError(
                f"--set {name}: the command has no {{{name}}}; it has: {_listed(names)}"
            )
    if not ranges:
        raise TaskError("--cmd: no {placeholder} in the command; write e.g. --lr {lr}")
    metric = spec.metric or "metric"
    direction = direction_of(metric, maximized(spec))
    steps = max(round(spec.epochs or _FULL), 1) if lengths else 1
    script = next((Path(w).stem for w in words if w.endswith((".py", ".sh"))), Path(words[0]).name)
    card = TaskCard(
        name=script,
        kind="command",
        metric=metric,
        direction=direction,
        space=Space(ranges).to_json(),
        steps=steps,
        eval_steps=1,
        batch_size=1,
        about=f"`{spec.source}`",
        code_fingerprint=_fingerprint(spec.source, words),
        resumable=False,
        device=device_for(spec),
        aims=aims_of(spec, metric=metric, direction=direction),
    )

    def train(trial: Handle) -> None:
        filled = {"seed": trial.seed, **trial.recipe, **dict.fromkeys(lengths, trial.stop)}
        command = [word.format(**filled) for word in words]
        values = _results(command, regex, alive=lambda: trial.report(trial.start, {}))
        whole = len(values) == trial.stop  # one result a step: the curve
        for step, value in enumerate(values, start=1) if whole else [(trial.stop, values[-1])]:
            trial.report(step, {metric: value})

    return LoopTask(card, train)


def _results(
    command: list[str], regex: re.Pattern[str], *, alive: Callable[[], object] = lambda: None
) -> list[float]:
    """Run the command to its end; the numbers that the regex found, at least one.

    `alive` is called several times a second; when it raises, the command is ended.

    Raises:
        TaskError: it cannot be started, fails, or prints no match.
    """
    shown = shlex.join(command)
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True,  # so that what it starts itself can be ended with it
            preexec_fn=partial(end_with, os.getpid(), signal.SIGKILL),
        )  # fmt: skip
    except OSError as error:
        raise TaskError(f"`{shown}` cannot be started: {error.strerror}") from None
    last: deque[str] = deque(maxlen=_STARTED)
    found: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                last.append(line.rstrip())
                found.extend(match.group(1) for match in regex.finditer(line))

    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            reader.join(_LOOK_SECONDS)
            alive()
    finally:
        if reader.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    said = next((line for line in reversed(last) if line.strip()), "nothing")
    if code != 0:
        raise TaskError(f"`{shown}` exited with code {code}; its last line: {said[:200]}")
    if not found:
        raise TaskError(
            f"--metric-regex '{regex.pattern}' matches nothing that `{shown}` printed; "
            f"its last line: {said[:200]}"
        )
    numbers = [_number(text) for text in found]
    if numbers[-1] is None:
        raise TaskError(f"--metric-regex '{regex.pattern}' found '{found[-1]}', which is no number")
    return [number for number in numbers if number is not None]


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _fingerprint(command: str, words: list[str]) -> str:
    """Content hash of the command and of the files that it names, 16 hex digits."""
    digest = hashlib.sha256(command.encode())
    for word in words:
        if Path(word).is_file() and word.endswith((".py", ".sh")):
            digest.update(Path(word).read_bytes())
    return digest.hexdigest()[:16]


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise TaskError(f"--cmd: {error} in: {command}") from None
    if not words:
        raise TaskError("--cmd is empty; write e.g. --cmd 'python train.py --lr {lr}'")
    return words


def _placeholders(command: str) -> list[str]:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(command) if name is not None]
    except ValueError as error:
        raise TaskError(f"--cmd: {error}; write a brace of the command's own as {{{{") from None
    return list(dict.fromkeys(fields))


def _regex(text: str | None) -> re.Pattern[str]:
    if not text:
        raise TaskError("--cmd needs --metric-regex, e.g. --metric-regex 'accuracy=([0-9.]+)'")
    try:
        regex = re.compile(text)
    except re.error as error:
        raise TaskError(f"--metric-regex '{text}' is no regular expression: {error}") from None
    if regex.groups < 1:
        raise TaskError(
            f"--metric-regex '{text}' has no group; put the number in ( ): '{text}([0-9.]+)'"
        )
    return regex


def _ranges(sets: tuple[str, ...]) -> dict[str, Range]:
    found: dict[str, Range] = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise SpaceError(f"--set {text}: write NAME=LOW..HIGH or NAME=A,B")
        try:
            found[name.strip()] = parse_range(value.strip())
        except SpaceError as error:
            raise SpaceError(f"--set {name.strip()}: {error}") from None
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(f"{{{n}}}" for n in names) or "none"
