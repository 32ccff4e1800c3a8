"""Takes functions out of our own files together with all that they need, as plain source text.

`train_best.py` is made of the very code that trained: from each method's file its functions, the
constants and classes they use, and the imports that are not ours. What they do not use stays
behind. Annotations are never evaluated (`from __future__ import annotations`), so they are
followed only into the vocabulary of `methods/stages.py`, torch and the standard library, for the
reader's sake.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from automl.errors import MethodError

_VOCABULARY = "automl.methods.stages"
Root = tuple[str, str]  # module, name of a function, class or constant at its top level


@dataclass
class Bundle:
    """Source text by module, what is needed before what needs it, and foreign imports."""

    imports: set[str] = field(default_factory=set)
    names: dict[str, set[str]] = field(default_factory=dict)  # module -> names taken from it

    def text(self, module: str) -> str:
        """The definitions taken from `module`, in its own order, its comments kept."""
        source = _Source.of(module)
        taken = [source.definitions[n] for n in source.definitions if n in self.names[module]]
        texts = list(dict.fromkeys(source.segment(node) for node in taken))
        blocks = {source.segment(n) for n in taken if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        out = texts[:1]
        for before, after in itertools.pairwise(texts):
            out += ["\n\n\n" if {before, after} & blocks else "\n", after]
        return "".join(out)

    @property
    def modules(self) -> list[str]:
        return list(self.names)

    def import_lines(self) -> list[str]:
        """Import statements, standard library first, those of one module joined."""
        plain = sorted(t for t in self.imports if t.startswith("import "))
        froms: dict[str, set[str]] = {}
        for text in self.imports - set(plain):
            module, _, name = text.removeprefix("from ").partition(" import ")
            froms.setdefault(module, set()).add(name)
        lines = plain + [f"from {m} import {', '.join(sorted(froms[m]))}" for m in sorted(froms)]
        groups = [[t for t in lines if _standard(t)], [t for t in lines if not _standard(t)]]
        return [line for group in groups if group for line in (*group, "")]


def root_of(function: Callable[..., object]) -> Root:
    """Where a function stands.

    Raises:
        MethodError: it is a lambda, a closure or an instance, so it has no source of its own.
    """
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if not name.isidentifier() or name not in _Source.of(module).definitions:
        raise MethodError(f"{module}: {name or function} is no function at the top of its file")
    return module, name


def bundle(roots: Iterable[Root]) -> Bundle:
    """All that `roots` need, transitively.

    Raises:
        MethodError: two different things of one name, or a name that is defined nowhere.
    """
    found = Bundle()
    owner: dict[str, str] = {}
    for module, name in roots:
        _take(found, owner, module, name)
    return found


def header(module: str) -> str:
    """A module's own text, which for a method holds its formulae."""
    return ast.get_docstring(_Source.of(module).tree) or ""


def _take(found: Bundle, owner: dict[str, str], module: str, name: str) -> None:
    source = _Source.of(module)
    if name in source.foreign:
        found.imports.add(source.foreign[name])
        return
    if name in source.ours:
        _take(found, owner, *source.ours[name])
        return
    node = source.definitions.get(name)
    if node is None:
        if hasattr(builtins, name) or name.startswith("__"):
            return
        raise MethodError(f"{module} uses '{name}', which its file neither defines nor imports")
    if owner.setdefault(name, module) != module:
        if _VOCABULARY in (module, owner[name]):
            return  # a Protocol there, its one implementation here
        raise MethodError(f"both {module} and {owner[name]} define '{name}'")
    if name in found.names.get(module, ()):
        return
    # Entered before its needs, or two functions that call each other would never end; moved
    # behind them afterwards.
    found.names.setdefault(module, set()).add(name)
    for need in sorted(_needs(node)):
        _take(found, owner, module, need)
    for need in sorted(_annotated(node)):
        if source.ours.get(need, ("", ""))[0] == _VOCABULARY:
            _take(found, owner, *source.ours[need])
        elif module == _VOCABULARY and need in source.definitions:
            _take(found, owner, module, need)
        elif need in source.foreign and _everywhere(source.foreign[need]):
            found.imports.add(source.foreign[need])
    found.names[module] = found.names.pop(module)


@dataclass(frozen=True)
class _Source:
    tree: ast.Module
    lines: list[str]
    definitions: dict[str, ast.stmt]
    foreign: dict[str, str]  # name -> its import statement
    ours: dict[str, Root]  # name -> where it is defined

    @staticmethod
    @cache
    def of(module: str) -> _Source:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise MethodError(f"no source of {module}")
        text = Path(spec.origin).read_text(encoding="utf-8")
        source = _Source(ast.parse(text), text.splitlines(), {}, {}, {})
        for node in source.tree.body:
            source._enter(node)
        return source

    def _enter(self, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            self.definitions[node.name] = node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                for leaf in ast.walk(target):
                    if isinstance(leaf, ast.Name):
                        self.definitions[leaf.id] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            self.definitions[node.target.id] = node
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                self.foreign[name] = f"import {alias.name}" + (
                    f" as {alias.asname}" if alias.asname else ""
                )
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for alias in node.names:
                name = alias.asname or alias.name
                if (node.module or "").split(".")[0] == "automl":
                    self.ours[name] = (node.module or "", alias.name)
                else:
                    self.foreign[name] = f"from {node.module} import {alias.name}" + (
                        f" as {alias.asname}" if alias.asname else ""
                    )
        elif isinstance(node, ast.If):  # if TYPE_CHECKING:
            for inner in node.body:
                self._enter(inner)

    def segment(self, node: ast.stmt) -> str:
        """Its lines, with decorators and the comment above."""
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(d.lineno for d in decorators)]) - 1
        while first > 0 and self.lines[first - 1].startswith("#"):
            first -= 1
        return "\n".join(self.lines[first : node.end_lineno])


def _needs(node: ast.AST) -> set[str]:
    """Names that `node` reads when it is defined or called, annotations aside."""
    names: set[str] = set()
    local: set[str] = set()
    stack: list[ast.AST] = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, ast.Name):
            (names if isinstance(part.ctx, ast.Load) else local).add(part.id)
        elif isinstance(part, ast.FunctionDef | ast.Lambda):
            a = part.args
            every = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
            local |= {x.arg for x in every if x is not None}
        elif isinstance(part, ast.Import | ast.ImportFrom):
            local |= {(x.asname or x.name).split(".")[0] for x in part.names}
        elif isinstance(part, ast.ExceptHandler) and part.name:
            local.add(part.name)
        skipped = {"annotation", "returns"}
        for field_name, value in ast.iter_fields(part):
            if field_name in skipped:
                continue
            children = value if isinstance(value, list) else [value]
            stack += [c for c in children if isinstance(c, ast.AST)]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        names.discard(node.name)
    inner = {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return names - local - inner


def _annotated(node: ast.AST) -> set[str]:
    """Names in annotations."""
    names: set[str] = set()
    for part in ast.walk(node):
        for value in (getattr(part, "annotation", None), getattr(part, "returns", None)):
            if isinstance(value, ast.AST):
                names |= {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
    return names


def _standard(line: str) -> bool:
    return line.split()[1].split(".")[0] in sys.stdlib_module_names


def _everywhere(line: str) -> bool:
    return _standard(line) or line.split()[1].split(".")[0] == "torch"
