"""Curriculum: begin with the easy samples, and let harder ones in as the training goes on.

    g = min(1, start + (1 - start)*(progress/full)^power)
    each batch is drawn from the share g of the samples that are easiest (`_difficulty.py`)

Epochs of the small set are shorter, so its samples come more often; order within it is random.
From `full` on it is ordinary training. Easy samples may be all of one class: see what the rare
ones get. It helped noisy labels and short trainings, and little else, in a careful comparison
(Wu et al. 2020, arXiv:2012.03107); `anti` is the control to compare it with.
Source: Bengio et al. 2009, doi:10.1145/1553374.1553380; pacing: Hacohen and Weinshall 2019,
arXiv:1904.03626.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.batches._difficulty import difficulty
from automl.methods.stages import BatchMethod, Hyper
from automl.space.ranges import Float


def scored_choose(places: Tensor, n: int, hyper: Hyper) -> Tensor:
    start = hyper["start"]
    g = start + (1 - start) * (hyper["progress"] / hyper["full"]) ** hyper["power"]
    return (places * g.clamp(max=1)).long()


METHOD = BatchMethod(
    choose=scored_choose,
    score=difficulty,
    ranges={
        "start": Float(0.05, 0.5, log=True, default=0.3),
        "full": Float(0.2, 0.9, default=0.5),
        "power": Float(0.5, 2.0, log=True, default=1.0),
    },
    year=2009,
    when="noisy labels, or very short trainings",
    evidence="Wu et al. 2020: no gain but with noise or in short trainings (not rerun here)",
    source="doi:10.1145/1553374.1553380",
)
