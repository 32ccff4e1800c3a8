"""The operations that a function of tensors runs, written down as it runs: a program to replay.

    taped(f)(x, y)      runs f once; every operation that reaches torch's kernels becomes a node
    .program()(x, y)    the same operations on other tensors of the same shapes

What `make_fx` of torch does, at a tenth of its cost: no fake tensors, no stack traces, and none of
the compiler that it imports. vmap and grad stand above the recorder, so that what is written down
is plain operations on [k, ...] tensors; each is run as it is, which gives its outputs' shapes.

`graded` is torch.func.grad_and_value for the same reason: torch's own imports the compiler.

A tensor that no recorded operation made and that was not given (a constant of the model's) is kept
in the program. A number taken out of a tensor would be frozen: refused.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._functorch import eager_transforms as levels
from torch.fx.graph import CodeGen, PythonCode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from automl.errors import RecipeError

_aten: Any = torch.ops.aten
_NUMBERS = (_aten._local_scalar_dense.default, _aten.is_nonzero.default, _aten.equal.default)


def taped(function: Callable[..., Any]) -> Callable[..., Tape]:
    """Called with tensors, `function` runs on them once, and what it ran is given back.

    Raises:
        RuntimeError: the function takes a number out of a tensor.
        RecipeError: it draws random numbers from a generator of its own.
    """

    def record(*given: Tensor) -> Tape:
        tape = Tape()
        for i, x in enumerate(given):
            tape.known(x, tape.graph.placeholder(f"given_{i}"))
        with tape:
            found = function(*given)
        tape.graph.output(pytree.tree_map_only(Tensor, tape.node, found))
        return tape

    return record


def graded(loss: Callable[..., Tensor]) -> Callable[..., tuple[tuple[Tensor, ...], Tensor]]:
    """(gradients, value) of a 0-dim loss in its first argument, a list of tensors."""

    @torch.autograd.graph.disable_saved_tensors_hooks("no saved tensor hooks under graded")
    def both(weights: list[Tensor], *rest: Any) -> tuple[tuple[Tensor, ...], Tensor]:
        with levels.grad_increment_nesting() as level, torch.enable_grad():
            inside, others = levels._wrap_all_tensors((weights, rest), level)
            for w in inside:
                levels._create_differentiable(w, level)
            value = loss(inside, *others)
            found = torch.autograd.grad(value, inside, create_graph=True, allow_unused=True)
            pairs = zip(inside, found, strict=True)
            g = tuple(torch.zeros_like(w) if x is None else x for w, x in pairs)
            undo: Any = levels._undo_create_differentiable
            return undo(g, level), undo(value, level)

    return both


class Tape(TorchDispatchMode):
    """The operations as a graph, to be changed before it becomes a program."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to be skipped it would have to import the compiler, which takes a second

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self._constants = torch.nn.Module()
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []  # so that no other tensor gets the id of one of them

    def program(self) -> fx.GraphModule:
        """Takes the tensors that were given, and gives what the function gave."""
        self.graph.set_codegen(_Direct())
        return fx.GraphModule(self._constants, self.graph)

    def known(self, x: Tensor, node: fx.Node) -> None:
        node.meta["shape"], node.meta["stride"] = tuple(x.shape), x.stride()
        node.meta["dtype"] = x.dtype
        self._nodes[id(x)] = node
        self._alive.append(x)

    def node(self, x: Tensor) -> fx.Node:
        """Where x was made; a constant of the program, if it was not made here."""
        if id(x) not in self._nodes:
            name = f"constant_{len(list(self._constants.buffers()))}"
            self._constants.register_buffer(name, x)
            self.known(x, self.graph.get_attr(name))
        return self._nodes[id(x)]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is not None:
            raise RecipeError("the model draws random numbers from a generator of its own")
        if func in _NUMBERS:
            raise RuntimeError("data-dependent: a number is taken out of a tensor by .item()")
        given = pytree.tree_map_only(Tensor, self.node, (args, kwargs))
        found = func(*args, **kwargs)
        made = self.graph.call_function(func, *given)
        if isinstance(found, Tensor):
            self.known(found, made)
        elif isinstance(found, tuple | list):
            for i, x in enumerate(found):
                if isinstance(x, Tensor):
                    self.known(x, self.graph.call_function(operator.getitem, (made, i)))
        return found


class _Direct(CodeGen):
    """Python that calls torch's operations by themselves: by their wrappers, 1.3 us a call more."""

    def _gen_python_code(self, *args: Any, **kwargs: Any) -> PythonCode:
        code = super()._gen_python_code(*args, **kwargs)

        def inside(found: re.Match[str]) -> str:
            name = found[1].replace(".", "_")
            code.globals[name] = operator.attrgetter(found[1])(torch.ops)._op
            return f"{name}("

        code.src = re.sub(r"\btorch\.ops\.(\w+\.\w+\.\w+)\(", inside, code.src)
        return code
