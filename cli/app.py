"""The command `automl`: which commands there are, and how any of them ends.

Commands load when they are called: `automl --help` reads the table below and imports none of
them. Exit codes: 0 fine, 1 the study failed or was interrupted, 2 wrong usage or input, 3 no
recipe beats the baseline.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException

from .stopping import noticed

if TYPE_CHECKING:
    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter


class Entry(NamedTuple):
    """Where a command lives (`module:name`), and its line in `automl --help`."""

    group: str
    place: str
    line: str


COMMANDS = {
    "tune": Entry("Search", "tune:tune", "Search for the best way to train a network."),
    "resume": Entry("Search", "tune:resume", "Go on with a study that was interrupted."),
    "pause": Entry("Search", "asking:pause", "Let a running study wait."),
    "stop": Entry("Search", "asking:stop", "End a running study; what is trained is saved."),
    "attach": Entry("Search", "attaching:attach", "Show the screen of a study that runs."),
    "transfer": Entry(
        "Search", "transfer:transfer", "Tune at a small width, train at a large one."
    ),
    "train": Entry("Search", "train:train", "Train one recipe."),
    "ls": Entry("Look", "studies:ls", "List the studies."),
    "show": Entry("Look", "studies:show", "Show a study, or one of its trials."),
    "best": Entry("Look", "studies:best", "Print the best recipe of a study."),
    "report": Entry("Look", "studies:report", "Write the report of a study, one HTML page."),
    "explain": Entry("Look", "insight:explain", "Explain what a study found."),
    "compare": Entry("Look", "insight:compare", "Set studies of one task beside each other."),
    "arch": Entry("Look", "arch:app", "Show the architecture that a study found."),
    "ui": Entry("Look", "ui:ui", "Open all trials in MLflow's web pages."),
    "cite": Entry("Look", "cite:cite", "Print the papers behind the best recipe of a study."),
    "methods": Entry("Know", "methods:methods", "List the methods, or explain one."),
    "strategies": Entry(
        "Know", "strategies:strategies", "List the strategies of a search, with when to use which."
    ),
    "space": Entry("Know", "space:space", "List and show search spaces."),
    "lr-find": Entry(
        "Know", "lr_find:lr_find", "Find the learning rates that are worth searching."
    ),
    "bench": Entry("Know", "bench:bench", "Measure what packs of trials gain on this machine."),
    "doctor": Entry("Know", "doctor:doctor", "Check what is installed and reachable."),
    "worker": Entry("Scale", "worker:app", "Start, list and drain workers of a queue."),
    "driver": Entry("Scale", "driver:app", "Run studies that were detached."),
    "up": Entry("Scale", "up:up", "Start a queue, workers, a driver service and MLflow here."),
    "down": Entry("Scale", "up:down", "End what `automl up` started."),
    "export": Entry("Keep", "studies:export", "Print the trials, or the best recipe, of a study."),
    "rm": Entry("Keep", "studies:rm", "Delete a study."),
}
_INTERRUPTED = 130  # what Typer makes of a KeyboardInterrupt
EPILOG = "Start with: automl tune digits"


class Commands(TyperGroup):
    """A group whose commands are imported one by one, when asked for."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and not ctx.resilient_parsing:
            # Typer loads pydantic, 90 ms, to read a None where one of these was not given.
            self.params = [p for p in self.params if not str(p.name).endswith("_completion")]
            asked_help = self.get_help_option(ctx)
            if asked_help is not None:
                asked_help.default = False
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].place.partition(":")
        found = getattr(importlib.import_module(f".{module}", __package__), name)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        return typer.main.get_command(_alone(cmd_name, found))

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        for group in dict.fromkeys(entry.group for entry in COMMANDS.values()):
            with formatter.section(group):
                formatter.write_dl([(n, e.line) for n, e in COMMANDS.items() if e.group == group])


def _alone(name: str, function: object) -> typer.Typer:
    one = typer.Typer(rich_markup_mode=None, add_completion=False)
    one.command(name, context_settings=_SETTINGS)(function)  # type: ignore[type-var]
    return one


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

# Without Rich's markup and its exceptions the help costs half the start-up time.
app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
    epilog=EPILOG,
    no_args_is_help=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # slow to import, and rarely needed

        typer.echo(f"automl {version('automl-service')}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Finds how a neural network should be trained."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; every way it can end becomes an exit code and at most a few lines.

    Args:
        arguments: as typed after `automl`; None reads the command line.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with noticed():
            code = typer.main.get_command(app).main(
                args=given or ["--help"], prog_name="automl", standalone_mode=False
            )
        sys.stdout.flush()
    except TyperException as error:
        return _say(_usage(error), 2)
    except (Abort, KeyboardInterrupt):
        return _say("automl: stopped", 1)
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted; nothing more may be flushed at exit.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return 0
    except Exception as error:
        from .failures import explain  # only now: the good path need not pay for it

        return _say(*explain(error))
    if code == _INTERRUPTED:
        return _say("automl: stopped", 1)
    return code if isinstance(code, int) else 0


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _usage(error: TyperException) -> str:
    """One line: the command, what was wrong, where to read more; a bare group's help as it is."""
    ctx = getattr(error, "ctx", None)
    if ctx is not None and error.format_message() == ctx.get_help():
        return error.format_message()
    path = ctx.command_path if ctx else "automl"
    text = " ".join(error.format_message().split()).rstrip(".")
    return f"{path}: {text[:1].lower()}{text[1:]}; see {path} --help"
