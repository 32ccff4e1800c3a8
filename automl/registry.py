"""Families of methods: the folder is the registry, the file's name the method's.

`family("optimizer").get("lion")` imports `automl/methods/optimizers/lion.py` on first use and
returns its `METHOD`. Listing names, and reading a method's header, import nothing.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from automl.errors import MethodError
from automl.space.ranges import Range

_METHODS = Path(__file__).parent / "methods"


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method's file ends with; each family adds its functions in `methods/stages.py`.

    `ranges` are the method's hyperparameters with their defaults; `source` is the paper or page
    that they and the formulae come from; `pins` are the stages that this method takes over
    (schedule-free optimizers pin "schedule"), which then stay out of the recipe. `when` says in a
    few words when to reach for it, `evidence` what was measured, by whom, and against what; both
    stay empty rather than guess. `year` is needed only where the source is no arXiv number.
    """

    source: str
    ranges: Mapping[str, Range] = field(default_factory=dict)
    pins: tuple[str, ...] = ()
    year: int | None = None
    when: str = ""
    evidence: str = ""


def year_of(source: str) -> int | None:
    """The year in which an arXiv number begins."""
    found = re.match(r"arXiv:(\d\d)\d\d\.", source)
    return 2000 + int(found[1]) if found else None


@dataclass(frozen=True)
class Family:
    """One stage of a training step and the folder of methods that can fill it.

    `key` is the stage's name in a recipe, `chained` says that a recipe may join several methods
    of the family with "+", applied from left to right.
    """

    key: str
    folder: str
    chained: bool = False

    def names(self) -> tuple[str, ...]:
        """Names of all methods, sorted; imports none of them."""
        files = (_METHODS / self.folder).glob("*.py")
        return tuple(sorted(f.stem for f in files if not f.stem.startswith("_")))

    def adapters(self) -> tuple[str, ...]:
        """Libraries whose methods serve under "adapter:NAME"."""
        files = (_METHODS / self.folder).glob("_*_adapter.py")
        return tuple(sorted(f.stem[1:].removesuffix("_adapter") for f in files))

    def has(self, name: str) -> bool:
        """Whether `name` is a file's, or an adapter's library's own affair."""
        adapter, colon, _ = name.partition(":")
        return name in self.names() or (bool(colon) and adapter in self.adapters())

    def get(self, name: str) -> Method:
        """The method called `name`; "adapter:NAME" is one of another library.

        Raises:
            MethodError: the family has no such file, or the adapter's library no such thing.
        """
        adapter, colon, inner = name.partition(":")
        if colon and adapter in self.adapters():
            module = importlib.import_module(f"automl.methods.{self.folder}._{adapter}_adapter")
            adapted = module.adapted(inner)
            assert isinstance(adapted, Method)
            return adapted
        if name not in self.names():
            raise MethodError(f"no {self.key} named '{name}'{nearest(name, self.names())}")
        module = importlib.import_module(f"automl.methods.{self.folder}.{name}")
        method = module.METHOD
        assert isinstance(method, Method), f"{module.__name__}.METHOD is not a Method"
        return method

    def header(self, name: str) -> str:
        """The method's own text: idea, formulae, surprises, source. Imports nothing."""
        if not self.has(name):
            raise MethodError(f"no {self.key} named '{name}'{nearest(name, self.names())}")
        adapter, colon, _ = name.partition(":")
        return ast.get_docstring(self._tree(f"_{adapter}" if colon else name)) or ""

    def facts(self, name: str) -> Mapping[str, object]:
        """What the method's METHOD says in plain literals: year, when, evidence, passes ...

        Imports nothing; what is computed there is left out.
        """
        (made,) = (
            node.value
            for node in self._tree(name).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "METHOD"
        )
        found: dict[str, object] = {}
        for keyword in made.keywords if isinstance(made, ast.Call) else ():
            with suppress(ValueError):
                found[str(keyword.arg)] = ast.literal_eval(keyword.value)
        return found

    def _tree(self, name: str) -> ast.Module:
        return ast.parse((_METHODS / self.folder / f"{name}.py").read_text(encoding="utf-8"))


FAMILIES: Mapping[str, Family] = {
    f.key: f
    for f in (
        Family("batch", "batches", chained=True),
        Family("architecture", "architectures"),
        Family("parametrization", "parametrization"),
        Family("loss", "losses"),
        Family("gradient", "gradients"),
        Family("transform", "transforms", chained=True),
        Family("optimizer", "optimizers"),
        Family("schedule", "schedules"),
        Family("averaging", "averaging"),
    )
}


# What networks are made of, what judges them before training, and what finds them: no stages of a
# recipe.
PARTS: Mapping[str, Family] = {
    f.key: f
    for f in (
        Family("activation", "activations"),
        Family("operation", "operations"),
        Family("proxy", "proxies"),
        Family("nas", "supernets"),
    )
}


@cache
def family(key: str) -> Family:
    """The family that fills the recipe's stage `key`, such as "optimizer", or holds such parts."""
    families = {**FAMILIES, **PARTS}
    if key not in families:
        raise MethodError(f"no family of methods named '{key}'{nearest(key, families)}")
    return families[key]


def nearest(word: str, words: Iterable[str]) -> str:
    """The end of an error line: "; nearest: 'lion'", or nothing when no word is near."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f"; nearest: '{found[0]}'" if found else ""
