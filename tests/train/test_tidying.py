"""Recorded programs without what changes nothing: shorter, and the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from automl.train.tape import taped
from automl.train.tidying import tidy


def tidied(function: Callable[..., Tensor], *given: Tensor) -> tuple[Tensor, Counter[str]]:
    """What the tidy program gives for the same tensors, and how often it calls what."""
    tape = taped(function)(*(x.clone() for x in given))
    tidy(tape.graph)
    tape.graph.eliminate_dead_code()
    names = [str(n.target).split(".")[1] for n in tape.graph.nodes if n.op == "call_function"]
    return tape.program()(*given), Counter(names)


def test_views_and_repetitions_that_change_nothing_are_left_out() -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        whole = x.expand(3, 4).view(3, 4).transpose(0, 1).transpose(0, 1)
        return (whole + y).exp() * (x + y).exp() + 2 * x.view(4, 3).view(3, 4)

    x, y = torch.rand(3, 4), torch.rand(3, 1)
    found, names = tidied(function, x, y)
    assert torch.equal(found, function(x, y))
    assert names == {"add": 2, "exp": 1, "mul": 2, "view": 2}


def test_a_program_that_writes_computes_all_anew() -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        before = x + y
        x.view(3, 4).add_(1)
        return before * (x + y) + y.add_(1)

    x, y = torch.rand(3, 4), torch.rand(3, 4)
    expected = function(x.clone(), y.clone())
    found, names = tidied(function, x, y)
    assert torch.equal(found, expected)
    assert names["add"] == 3 and "view" not in names
