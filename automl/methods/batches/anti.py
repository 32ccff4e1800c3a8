"""Anti-curriculum: begin with the hard samples, and let easier ones in as the training goes on.

    g = min(1, start + (1 - start)*(progress/full)^power)
    each batch is drawn from the share g of the samples that are hardest (`_difficulty.py`)

The control of every curriculum (`scored`), and sometimes better than it: where labels are right,
hard samples teach more. Wrong labels come first, too. From `full` on it is ordinary training.
Source: Wu et al. 2020, arXiv:2012.03107; pacing: Hacohen and Weinshall 2019, arXiv:1904.03626.
"""

from __future__ import annotations

from torch import Tensor

from automl.methods.batches._difficulty import difficulty
from automl.methods.stages import BatchMethod, Hyper
from automl.space.ranges import Float


def anti_choose(places: Tensor, n: int, hyper: Hyper) -> Tensor:
    start = hyper["start"]
    g = start + (1 - start) * (hyper["progress"] / hyper["full"]) ** hyper["power"]
    return n - 1 - (places * g.clamp(max=1)).long()


METHOD = BatchMethod(
    choose=anti_choose,
    score=difficulty,
    ranges={
        "start": Float(0.05, 0.5, log=True, default=0.3),
        "full": Float(0.2, 0.9, default=0.5),
        "power": Float(0.5, 2.0, log=True, default=1.0),
    },
    when="as the control of `scored`",
    source="arXiv:2012.03107",
)
