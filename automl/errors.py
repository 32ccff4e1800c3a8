"""Every error that this project raises on purpose.

    AutomlError                 one line: where, what was found, what would be right
    +-- SpaceError              a range, a space file or a --set that cannot be
    +-- RecipeError             a recipe that its space or the trainer refuses
    +-- MethodError             no such method, or one that cannot serve this task
    +-- TaskError               the user's model, data, metric or file
    +-- BudgetError             a budget that cannot be read, or is empty
    +-- StrategyError           a strategy asked or told something impossible
    +-- CheckpointError         a checkpoint that is missing, broken or cannot be written
    +-- JournalError            a journal that is locked, unreadable or of another version
        +-- JournalAway         one that cannot be had now, and may be later
    +-- StudyError              a study that does not exist, exists already, or cannot go on
    +-- ExecutorError           workers that cannot start
        +-- QueueAway           no server answers where the queue should be

A trial that fails is a Report with a status, never an exception in the controller.
"""


class AutomlError(Exception):
    """Base of all; the command line prints its text as one line and exits with 2."""


class SpaceError(AutomlError):
    """A range, a space file or an override that cannot be."""


class RecipeError(AutomlError):
    """A recipe that its space or the trainer refuses."""


class MethodError(AutomlError):
    """An unknown method, or one that cannot serve this task."""


class TaskError(AutomlError):
    """The user's model, data, metric or file; the text names the file and the line."""


class BudgetError(AutomlError):
    """A budget that cannot be read, or that holds nothing."""


class StrategyError(AutomlError):
    """A strategy asked or told something impossible."""


class CheckpointError(AutomlError):
    """A checkpoint that is missing, broken or cannot be written."""


class JournalError(AutomlError):
    """A journal that is locked, unreadable or of another version."""


class JournalAway(JournalError):
    """A journal that does not answer, or is another process's; it may be had later."""


class StudyError(AutomlError):
    """A study that does not exist, exists already, or cannot go on."""


class ExecutorError(AutomlError):
    """Workers that cannot be started."""


class QueueAway(ExecutorError):
    """No server answers where the queue should be; it may come back."""
