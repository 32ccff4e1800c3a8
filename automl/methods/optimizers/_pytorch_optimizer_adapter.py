"""Finds "pytorch_optimizer:NAME" in the pytorch-optimizer package and gives it ranges.

The package is optional: `pip install "automl-service[optimizers]"`.
"""

from __future__ import annotations

import inspect
from functools import cache

import torch

from automl.errors import MethodError
from automl.methods.stages import Layout, Optimizer, Slot
from automl.registry import nearest
from automl.space.ranges import Float, Range


@cache
def adapted(name: str) -> Optimizer:
    """The optimizer `name` of the package, in any case of letters.

    Raises:
        MethodError: the package is not installed, has no such class, or its class needs more than
            a gradient.
    """
    try:
        import pytorch_optimizer  # optional
    except ImportError:
        raise MethodError(
            f"pytorch_optimizer:{name} needs a package that is not installed: "
            'pip install "automl-service[optimizers]"'
        ) from None
    from automl.methods.optimizers._pytorch_optimizer import pytorch_optimizer_functions

    names = {str(n).lower(): str(n) for n in pytorch_optimizer.get_supported_optimizers()}
    if name.lower() not in names:
        raise MethodError(
            f"pytorch_optimizer has no '{name}'{nearest(name.lower(), names)}; "
            f"it has {len(names)} others"
        )
    make = pytorch_optimizer.load_optimizer(names[name.lower()])
    arguments = inspect.signature(make).parameters
    lr = getattr(arguments.get("lr"), "default", None)
    if not isinstance(lr, int | float):
        raise MethodError(f"pytorch_optimizer:{name} has no learning rate with a default")
    ranges: dict[str, Range] = {"lr": Float(lr / 100, lr * 30, log=True, default=float(lr))}
    if "weight_decay" in arguments:
        ranges["wd"] = Float(1e-6, 0.5, log=True, default=1e-4)
    functions = pytorch_optimizer_functions(name.lower())
    method = Optimizer(
        **{n: f for n, f in functions.items() if f is not None},
        ranges=ranges,
        buffers=float("nan"),  # the class's own affair
        source=f"https://github.com/kozistr/pytorch_optimizer, class {make.__name__}",
    )
    _try(name, method)
    return method


def _try(name: str, method: Optimizer) -> None:
    """Two steps of a toy, so that a class which cannot serve is refused before anything starts."""
    layout = Layout((Slot("w", (3, 2), 0, "matrix"), Slot("b", (3,), 6, "vector")), 9, 6)
    w = torch.linspace(-1, 1, 9).unsqueeze(0)
    hyper = {n: torch.full((1, 1), 1e-3) for n in method.ranges}
    try:
        with torch.no_grad(), torch.random.fork_rng():
            state = method.init(w, layout)
            for t in (1, 2):
                method.step(w, 0.1 * w, state, hyper, torch.full((1, 1), float(t)), layout)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise MethodError(
            f"pytorch_optimizer:{name} cannot step from a gradient alone: {first}"
        ) from None
