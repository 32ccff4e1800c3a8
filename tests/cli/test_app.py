"""The command line from outside: help, flags, start-up cost, completion, errors, exit codes."""

from __future__ import annotations

import importlib.metadata
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automl import strategies
from automl.study.options import TuneOptions

Main = Callable[[list[str]], int]

HEAVY = ("torch", "mlflow", "optuna", "celery", "numpy", "rich", "sqlalchemy", "pydantic")

FLAGS = {
    "tune": "--broker --budget --checkpoint-budget --checkpoints --cmd --constraint --detach "
    "--device --dry-run --epochs --help --journal --json --metric --metric-regex --mlflow --name "
    "--nas --needs --objective --pack --prescreen --prior --priority --queue --quiet --runs "
    "--seed --seeds --set --space --spend-all --strategy --target --warm-start --workers",
    "resume": "--broker --detach --help --journal --json --mlflow --queue --quiet --runs --workers",
    "pause": "--help --journal --runs",
    "stop": "--help --journal --runs",
    "attach": "--help --journal --json --quiet --runs",
    "driver": "--help",
    "driver start": "--broker --help --journal --runs",
    "worker": "--help",
    "worker start": "--broker --checkpoints --devices --help --logs --queue --runner-memory "
    "--slots",
    "worker ls": "--broker --help",
    "worker drain": "--broker --help",
    "up": "--help --port --runs --slots",
    "down": "--help --runs",
    "worker logs": "--help --logs",
    "transfer": "--argument --budget --device --epochs --help --large --name --quiet --runs --seed "
    "--seeds --set --small --space --target --workers",
    "train": "--device --help --save --seed --target --task",
    "ls": "--help --journal --runs",
    "show": "--help --journal --runs",
    "best": "--help --journal --json --runs --trial",
    "report": "--help --journal --open --runs",
    "explain": "--help --journal --runs",
    "compare": "--help --journal --runs",
    "arch": "--help",
    "arch show": "--help --journal --runs",
    "ui": "--help --port --runs",
    "cite": "--bibtex --help --journal --runs",
    "methods": "--help",
    "strategies": "--help",
    "space": "--help",
    "space show": "--help --set",
    "space ls": "--help",
    "lr-find": "--device --help --optimizer --plot --set --target --updates",
    "bench": "--help",
    "bench packs": "--compile --device --help --largest --set --target",
    "doctor": "--help --runs",
    "export": "--format --help --journal --runs --to --trial",
    "rm": "--help --journal --runs --yes",
}


@pytest.fixture(scope="session")
def main() -> Main:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="automl")
    found: Main = script.load()
    return found


@pytest.fixture(autouse=True)
def _empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("AUTOML_RUNS", raising=False)


def _script() -> str:
    return str(Path(sys.executable).parent / "automl")


# Help -------------------------------------------------------------------------------------------


def test_help_lists_commands_in_groups(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    groups: dict[str, list[str]] = {}
    for line in text.splitlines():
        if head := re.match(r"(\w+):$", line):
            groups[head[1]] = []
        elif groups and (name := re.match(r"  ([a-z][\w-]*)  ", line)):
            list(groups.values())[-1].append(name[1])
    groups.pop("Options")
    assert groups == {
        "Search": ["tune", "resume", "pause", "stop", "attach", "transfer", "train"],
        "Look": ["ls", "show", "best", "report", "explain", "compare", "arch", "ui", "cite"],
        "Know": ["methods", "strategies", "space", "lr-find", "bench", "doctor"],
        "Scale": ["worker", "driver", "up", "down"],
        "Keep": ["export", "rm"],
    }
    assert "automl tune digits" in text


def test_no_arguments_show_the_help(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Search:" in capsys.readouterr().out


@pytest.mark.parametrize("group", ["arch", "bench", "driver", "space", "worker"])
def test_a_group_without_a_command_shows_its_help(
    group: str, main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([group]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"Usage: automl {group} [OPTIONS] COMMAND")
    assert "\nCommands:\n" in err
    assert "..." not in err.partition("Commands:")[2]  # no line is cut


@pytest.mark.parametrize("command", FLAGS)
def test_flags_are_frozen(command: str, main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    rows = re.findall(r"^  ((?:-\w, )?--[a-z-]+(?:, -\w)?)", text, re.MULTILINE)
    found = {flag for row in rows for flag in re.findall(r"--[a-z-]+", row)}
    assert " ".join(sorted(found)) == FLAGS[command]


def test_the_line_in_the_list_is_the_commands_own(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--help"])
    listed = dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", capsys.readouterr().out, re.MULTILINE))
    for command in (c for c in FLAGS if " " not in c):
        main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        words = listed[command]
        assert words.rstrip(".") in text, command


def test_help_of_tune_tells_the_budget_that_there_is(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert f"[default: {TuneOptions().budget[0]}]" in words
    assert "`automl strategies` lists the ways" in words


def test_every_strategy_is_listed_with_when_to_use_it(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["strategies"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split(":")[0].split("[")[0].strip() for line in lines if line[:3].strip()]
    assert listed[1:] == list(strategies())
    assert sum(line.startswith("      for: ") for line in lines) == len(strategies())


def test_version_is_the_installed_one(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == (
        f"automl {importlib.metadata.version('automl-service')}"
    )


# What it costs ----------------------------------------------------------------------------------


def _cpu_ms(arguments: list[str]) -> float:
    """CPU milliseconds of a process, the least of five runs."""
    found = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(arguments, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        found.append(1000 * (user + system))
    return min(found)


@pytest.mark.parametrize("arguments", [["--help"], ["tune", "--help"]])
def test_help_costs_at_most_150_ms_above_bare_python(arguments: list[str]) -> None:
    bare = _cpu_ms([sys.executable, "-c", "pass"])
    assert _cpu_ms([_script(), *arguments]) - bare < 150


@pytest.mark.parametrize("code", ["import automl", "main(['--help'])", "main(['tune', '--help'])"])
def test_help_loads_nothing_heavy(code: str) -> None:
    start = "" if code.startswith("import") else "from automl.cli.app import main; "
    check = f"import sys; print(*(m for m in {HEAVY!r} if m in sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{start}{code}; {check}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.split() == []


@pytest.mark.parametrize("arguments", [["ls"], ["show", "nosuch"], ["methods"], ["space", "ls"]])
def test_looking_loads_no_torch_and_no_mlflow(arguments: list[str]) -> None:
    code = (
        f"import sys; from automl.cli.app import main; main({arguments!r}); "
        "print(*(m for m in ('torch', 'mlflow', 'optuna') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("name", ["cli", "search_spaces"])
def test_leaves_refuse_their_bare_name(name: str) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); import {name}"],
        capture_output=True,
        text=True,
    )
    assert f"ImportError: this folder is the package automl.{name}" in done.stderr


# Completion -------------------------------------------------------------------------------------


def _completed(line: str, **environment: str) -> list[str]:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [_script()],
        env={**os.environ, **environment, **words, "_AUTOML_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_shell_completes_commands_and_options() -> None:
    assert _completed("automl t") == ["tune", "transfer", "train"]
    assert _completed("automl tune --bu") == ["--budget"]


def test_shell_completes_names_of_methods_and_studies(tmp_path: Path) -> None:
    assert _completed("automl methods schedule_free_a") == ["schedule_free_adamw"]
    (tmp_path / "mine" / "one").mkdir(parents=True)
    (tmp_path / "mine" / "one" / "journal.db").touch()
    assert _completed("automl show o", AUTOML_RUNS=str(tmp_path / "mine")) == ["one"]


# Errors -----------------------------------------------------------------------------------------

WRONG = {
    "--bla": "no such option: --bla",
    "tun": "no such command 'tun'",
    "tune digits --budgte 3m": "no such option: --budgte",
    "tune": "give a task (try `automl tune digits`) or --cmd",
    "tune digits --cmd x": "give one of them",
    "tune digits --metric-regex x": "there is no --cmd",
    "tune --cmd x": "--cmd needs --metric-regex",
    "tune digits --constraint latency<5": "'latency<5': 5 what? us, ms, s",
    "tune digits --objective params": "begin with the metric that trainings are judged by",
    "tune digits --budget 0m": "budget '0m' holds nothing",
    "tune digits --budget soon": "budget 'soon': write a time",
    "tune digits --budget 1m,2m": "given twice",
    "tune digits --strategy auot": "no strategy named 'auot'; nearest: 'auto'",
    "tune digits --seeds 0": "'--seeds'",
    "tune digits --seeds three": "'--seeds'",
    "tune digits --workers 0": "'--workers'",
    "tune digits --epochs -1": "--epochs -1: a training needs a length above 0",
    "tune digits --epochs nan": "--epochs nan: a training needs a length above 0",
    "tune digits --device gpu": "--device gpu: give auto, cpu, cuda or cuda:N",
    "tune digits --set lr": "--set lr: write NAME=VALUE",
    "show": "missing argument 'NAME'",
    "show nosuch": "no study named 'nosuch'",
    "best nosuch": "no study named 'nosuch'",
    "report nosuch": "no study named 'nosuch'",
    "export nosuch": "no study named 'nosuch'",
    "export nosuch --format excel": "'--format'",
    "rm nosuch": "no study named 'nosuch'",
    "resume nosuch": "no study named 'nosuch'",
    "ls --journal nonsense://x": "a journal is kept in sqlite or postgresql",
    "lr-find digits --optimizer lionn": "no optimizer named 'lionn'; nearest: 'lion'",
    "lr-find digits --plot nowhere/x.svg": "--plot nowhere/x.svg: no folder",
    "methods lionn": "no method named 'lionn'; nearest: 'lion'",
    "space show nosuch": "no space named 'nosuch'",
    "transfer digits --small 64 --large 32": "--small 64 and --large 32: give a larger width",
    "transfer digits --argument depth": "'depth' is no whole-number argument",
    "transfer digits --set parametrization=standard": "a transfer sets it itself",
    "train nosuch.toml": "nosuch.toml: no such file",
    "ui": "no MLflow store in runs yet",
    "ui --port 99999": "'--port'",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_usage_is_one_line_and_exit_2(
    line: str, main: Main, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert WRONG[line].lower() in err.lower()
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_an_error_of_our_own_is_short_and_keeps_the_rest_in_a_file(
    main: Main, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a division\nby zero")

    monkeypatch.setattr("automl.registry.Family.names", broken)
    assert main(["methods"]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) <= 8
    assert "ZeroDivisionError: a division at test_app.py:" in err
    assert "Traceback" not in err
    log = Path(err.split("Everything about it: ")[1].strip())
    assert "by zero" in log.read_text()
    log.unlink()


def test_a_closed_pipe_is_no_error() -> None:
    # ls of a folder that is not there prints a line; `true` reads nothing of it.
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {_script()} methods | true"],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_ls_of_nothing_says_how_to_begin(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    assert capsys.readouterr().out == ("no studies in runs yet; start with: automl tune digits\n")


def test_a_method_is_explained(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "lion"]) == 0
    text = capsys.readouterr().out
    assert "c = b1*m + (1 - b1)*g" in text
    assert re.search(r"optimizer\.lion\.lr +log 1e-06\.\.0\.01 +0\.0003", text)
    assert "1 number of state a weight; 1 forward-backward pass a step" in text
    assert "arXiv:2302.06675" in text


def test_methods_are_listed_by_family(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert text.index("optimizer (") < text.index("  lion ") < text.index("schedule (")
    assert max(map(len, text.splitlines())) <= 120


def test_lr_find_prints_bounds_that_tune_takes(
    main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lr-find", "digits", "--updates", "80", "--plot", "rates.svg"]) == 0
    text = capsys.readouterr().out
    bounds = re.search(r"--set optimizer.adamw.lr=([\d.e-]+)\.\.([\d.e-]+)$", text, re.M)
    assert bounds is not None
    assert float(bounds[1]) < 3e-3 < float(bounds[2])  # a rate that is known to be good
    assert Path("rates.svg").read_text().startswith("<svg")
    assert main(["tune", "digits", "--dry-run", *bounds[0].split()]) == 0


@pytest.mark.slow
def test_doctor_finds_this_machine_fit(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor"])
    text = capsys.readouterr().out
    assert code == 0, text
    for what in ("python", "packages", "device", "cores", "memory", "folder", "mlflow"):
        assert re.search(rf"^(ok|warning) +{what} ", text, re.MULTILINE), what
    assert "ready: automl tune digits" in text


def test_doctor_names_an_unwritable_folder(
    main: Main, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place = tmp_path / "file"
    place.write_text("")
    assert main(["doctor", "--runs", str(place / "runs")]) == 1
    assert re.search(r"^problem +folder ", capsys.readouterr().out, re.MULTILINE)
