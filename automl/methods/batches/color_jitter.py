"""Color jitter: change the brightness, contrast and saturation of each image at random.

    x = x + a                   a in [-brightness, brightness], in deviations of the pixels
    x = m + f*(x - m)           f in 1 -+ contrast, m the image's mean
    x = grey + s*(x - grey)     s in 1 -+ saturation, grey the mean of each pixel's channels

Images come normalized, so brightness is a shift here and not a factor, and grey weighs channels
alike. Of one channel the third line changes nothing. Wrong where color is what tells classes
apart.
Source: Krizhevsky et al. 2012, doi:10.1145/3065386; Howard 2013, arXiv:1312.5402.
"""

from __future__ import annotations

from automl.methods.stages import Batch, BatchMethod, Draws, Hyper
from automl.space.ranges import Float


def color_jitter_batch(batch: Batch, draws: Draws, hyper: Hyper) -> Batch:
    x = batch.x
    k, b = x.shape[:2]
    drawn = (2 * draws.uniform(3, b) - 1).to(x.dtype).view(k, 3, b, 1, 1, 1)
    a, f, s = (
        drawn[:, i] * hyper[name].view(k, 1, 1, 1, 1)
        for i, name in enumerate(("brightness", "contrast", "saturation"))
    )
    x = x + a
    mean = x.mean(dim=(2, 3, 4), keepdim=True)
    x = mean + (1 + f) * (x - mean)
    grey = x.mean(dim=2, keepdim=True)
    return Batch(grey + (1 + s) * (x - grey), batch.y, batch.y2, batch.weight)


METHOD = BatchMethod(
    apply=color_jitter_batch,
    kinds=("image",),
    # .4 each is customary for photographs of the size of ImageNet's.
    ranges={
        "brightness": Float(0.0, 0.8, default=0.3),
        "contrast": Float(0.0, 0.8, default=0.3),
        "saturation": Float(0.0, 0.8, default=0.3),
    },
    when="photographs in changing light",
    source="arXiv:1312.5402",
)
