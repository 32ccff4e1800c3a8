"""The form of a method's file, which the listing and the exported script rely on."""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import CodeType, FunctionType

import pytest

import automl.methods
from automl.methods.stages import Batch
from automl.registry import FAMILIES, PARTS, family

FOLDER = Path(automl.methods.__file__).parent
KEYS = (*FAMILIES, *PARTS)
FILES = [(key, name) for key in KEYS for name in family(key).names()]
every_file = pytest.mark.parametrize(("key", "name"), FILES)


def _tree(key: str, name: str) -> ast.Module:
    return ast.parse((FOLDER / family(key).folder / f"{name}.py").read_text(encoding="utf-8"))


def _alone(key: str, name: str) -> dict[str, object]:
    """What the file defines when it stands in a script of its own, without automl."""
    tree = _tree(key, name)
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.ImportFrom) and _stays_behind(str(node.module)))
        and not _is_method(node)
    ]
    # The script carries the record that augmentation returns beside the method's functions.
    space: dict[str, object] = {"__name__": name, **({"Batch": Batch} if key == "batch" else {})}
    exec(compile(tree, f"{name}.py", "exec"), space)
    return space


def _stays_behind(module: str) -> bool:
    """What is ours, but for the files of a family's folder whose names begin with "_"."""
    return module.startswith("automl") and not module.rpartition(".")[2].startswith("_")


def _is_method(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "METHOD"


def _globals_used(code: CodeType) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL":
            yield step.argval
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _globals_used(constant)


@every_file
def test_file_ends_with_its_method_and_names_its_source(key: str, name: str) -> None:
    assert _is_method(_tree(key, name).body[-1])
    header = family(key).header(name)
    assert "\nSource: " in header
    assert family(key).get(name).source


@every_file
def test_header_explains_every_hyperparameter(key: str, name: str) -> None:
    header = family(key).header(name)
    for hyper in family(key).get(name).ranges:
        assert hyper in header, f"{hyper} stands in no formula"


@every_file
def test_functions_need_torch_and_math_only(key: str, name: str) -> None:
    space = _alone(key, name)
    mine = [f for f in space.values() if getattr(f, "__module__", "") == name]
    methods = [vars(c).values() for c in mine if isinstance(c, type)]
    own = [f for f in (*mine, *chain(*methods)) if isinstance(f, FunctionType)]
    assert own or key == "nas"  # where some differ in numbers alone
    for function in own:
        missing = {
            n
            for n in _globals_used(function.__code__)
            if n not in space and not hasattr(builtins, n)
        }
        assert not missing, f"{function.__name__} uses {missing}"
    imported = [n for n in _tree(key, name).body if isinstance(n, ast.Import | ast.ImportFrom)]
    roots = {
        str(i.module if isinstance(i, ast.ImportFrom) else i.names[0].name).split(".")[0]
        for i in imported
    }
    assert roots <= {*sys.stdlib_module_names, "torch", "automl"}


@every_file
def test_top_level_names_begin_with_the_methods_name(key: str, name: str) -> None:
    for node in _tree(key, name).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert node.name.lower().replace("_", "").startswith(name.replace("_", ""))


def test_no_two_files_of_a_script_share_a_function() -> None:
    names = Counter(
        node.name
        for key, name in FILES
        for node in _tree(key, name).body
        if isinstance(node, ast.FunctionDef)
    )
    assert [n for n, count in names.items() if count > 1] == []
