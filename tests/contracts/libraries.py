"""Other people's optimizers beside ours: which class, with which arguments, over which weights.

Matrices are decayed, vectors are not, as with us. What a library does at its own discretion, and
no paper asks for, is set to nothing: an epsilon in a place of its own, a switch to bfloat16.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import pytorch_optimizer
import torch
from torch import Tensor

from .plain_optimizers import PLAIN, PlainOptimizer

Values = Mapping[str, Any]

# What the libraries call our hyperparameters.
_KEYWORDS = {
    "lr": "lr",
    "wd": "weight_decay",
    "eps": "eps",
    "alpha": "alpha",
    "momentum": "momentum",
    "nesterov": "nesterov",
    "warmup_steps": "warmup_steps",
    "gamma": "gamma",
    "final_lr": "final_lr",
    "d_coef": "d_coef",
    "r": "r",
}
# What their classes need besides, or call otherwise; None where they have no such argument.
_MORE: dict[str, Callable[[Values], dict[str, Any]]] = {
    "torch.optim.NAdam": lambda v: {"momentum_decay": v["psi"], "decoupled_weight_decay": True},
    "pytorch_optimizer.AdEMAMix": lambda v: {
        "weight_decouple": True,
        "t_alpha_beta3": v["warmup_steps"],
        "warmup_steps": None,
    },
    "pytorch_optimizer.MARS": lambda v: {"optimize_1d": True},
    "torch.optim.Adafactor": lambda v: {"beta2_decay": -v["decay"], "eps": (None, 1e-3)},
    "pytorch_optimizer.Prodigy": lambda v: {"safeguard_warmup": True},
}


def reference(
    name: str, path: str, values: Values, parameters: list[Tensor]
) -> list[torch.optim.Optimizer]:
    """The class at `path` over the parameters, two where it needs two.

    Without a path, our own second telling of the optimizer `name`.
    """
    if not path:
        return [PlainOptimizer(PLAIN[name], values, parameters)]
    module, _, cls = path.rpartition(".")
    make = getattr(importlib.import_module(module), cls)
    keywords = {_KEYWORDS[n]: v for n, v in values.items() if n in _KEYWORDS}
    betas = {"betas": tuple(values[b] for b in ("b1", "b2", "b3") if b in values)}
    if path == "torch.optim.Muon":  # takes hidden matrices only; the rest is AdamW's
        adamw = {"lr": values["lr"], "weight_decay": values["wd"], "eps": 1e-8, **betas}
        return [
            make(parameters[:2], adjust_lr_fn="match_rms_adamw", **keywords),
            torch.optim.AdamW(_groups(parameters[2:], adamw)),
        ]
    if betas["betas"]:
        keywords |= betas
    if path in _MORE:
        keywords |= _MORE[path](values)
    if path == "pytorch_optimizer.Magma":
        more = {n: values[n] for n in ("mask_prob", "tau")}
        return [make(torch.optim.AdamW(_groups(parameters, keywords)), **more)]
    given = {n: v for n, v in keywords.items() if v is not None}
    return [make(_groups(parameters, given))]


def _groups(parameters: list[Tensor], keywords: dict[str, Any]) -> list[dict[str, Any]]:
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    return [
        {"params": matrices, **keywords},
        {"params": vectors, **keywords, "weight_decay": 0.0},
    ]


@contextmanager
def exact(coin: Sequence[Tensor] = ()) -> Iterator[None]:
    """Within it the libraries compute in float64 throughout, and by the papers alone.

    What they draw of torch.bernoulli, one number a call, comes from `coin`, uniform in [0, 1).
    """

    drawn = 0

    def bernoulli(p: Tensor) -> Tensor:
        nonlocal drawn
        drawn += 1
        return (coin[0][(drawn - 1) % len(coin[0])] < p).to(p.dtype)

    base = pytorch_optimizer.base.optimizer.BaseOptimizer
    before = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "bfloat16", Tensor.clone)  # torch's Newton-Schulz rounds to it
        patch.setattr(Tensor, "float", Tensor.double)
        patch.setattr(torch, "bernoulli", bernoulli)
        # 1e-15 under the root, beside eps outside of it.
        for function in (base.apply_ams_bound, base.apply_ams_bound_foreach):
            patch.setattr(function, "__defaults__", (0.0,))
        torch.set_default_dtype(torch.float64)
        yield
    torch.set_default_dtype(before)
