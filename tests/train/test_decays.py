"""The three ways to decay weights, in whole trainings, against torch's optimizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl.recipe import Recipe
from automl.space.ranges import Value
from automl.train.step import Program

from .small_problem import small_task

RULES: dict[str, tuple[bool, bool]] = {  # embeddings, vectors
    "matrices only": (False, False),
    "all but norms and biases": (True, False),
    "everything": (True, True),
}


def network(recipe: Recipe) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))


TASK = small_task(network)


def trained(decay: str, rule: str, lr: float, updates: int = 8) -> tuple[Tensor, Program]:
    embeddings, vectors = RULES[rule]
    point: dict[str, Value] = {
        "optimizer": "adam", "optimizer.adam.wd": 0.0, "optimizer.adam.lr": lr,
        "transform": decay, f"transform.{decay}.decay": 0.1, "precision": "float64",
        f"transform.{decay}.embeddings": embeddings, f"transform.{decay}.vectors": vectors,
    }  # fmt: skip
    program = Program(TASK, [Recipe(point, steps=20)])
    first = program.packed.w.clone()
    program.begin(updates)
    for _ in range(updates):
        program.step()
    return first, program


def by_torch(program: Program, first: Tensor, decay: str, rule: str, lr: float) -> Tensor:
    """Weights [1, p] of an ordinary loop on the same batches."""
    layout, model = program.packed.layout, network(program.recipes[0]).double()
    named = dict(model.named_parameters())
    for slot in layout.slots:
        named[slot.name].data = layout.view(first, slot)[0].clone()
    decayed = [p for p in named.values() if p.ndim > 1 or RULES[rule][1]]
    rest = [p for p in named.values() if p.ndim < 2 and not RULES[rule][1]]
    make = torch.optim.AdamW if decay == "decoupled_decay" else torch.optim.Adam
    inside = 0.0 if decay == "independent_decay" else 0.1
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    optimizer = make(groups, lr=lr, weight_decay=inside)
    feed = Program(TASK, program.recipes).update.feed
    feed.begin(range(program.updates))
    for update in range(program.updates):
        batch = feed.batch(update)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch.x[0]), batch.y[0]).backward()
        if decay == "independent_decay":
            with torch.no_grad():
                for p in decayed:
                    p.mul_(1 - 0.1)
        optimizer.step()
    return torch.cat([named[s.name].detach().reshape(1, -1) for s in layout.slots], 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("decay", ["coupled_decay", "decoupled_decay", "independent_decay"])
def test_a_decay_is_torchs(decay: str, rule: str) -> None:
    for lr in (1e-2, 1e-3):
        first, program = trained(decay, rule, lr)
        wanted = by_torch(program, first, decay, rule, lr)
        torch.testing.assert_close(program.packed.w, wanted, rtol=1e-7, atol=1e-9)


def test_only_the_independent_decay_does_not_follow_the_rate() -> None:
    # At a rate of nearly nothing the decay alone moves weights.
    for decay, share in (("independent_decay", 0.9**8), ("decoupled_decay", 1.0)):
        first, program = trained(decay, "matrices only", 1e-9)
        d = program.packed.layout.decayed
        torch.testing.assert_close(program.packed.w[:, :d], share * first[:, :d], rtol=0, atol=1e-6)
