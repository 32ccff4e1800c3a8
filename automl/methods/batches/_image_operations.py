"""Operations on single images that rand_augment and trivial_augment choose from.

    operation    at strength s in [-1, 1]
    identity     x
    rotate       by 30*s degrees
    shear_x/y    by 0.3*s
    move_x/y     by 0.3*s of the side
    brightness   ref + (1 + 0.9*s)*(x - ref),  ref the image's darkest value
    contrast     the same with ref its mean
    color        the same with ref the mean of each pixel's channels
    sharpness    the same with ref the image blurred by 3x3
    solarize     pixels in the brightest share |s| of the image's range are turned upside down
    posterize    2^(8 - 5|s|) levels within the image's range

Images come normalized: black and white are taken to be the image's own darkest and brightest
value, and what comes in from outside is 0, the mean. Autocontrast and equalize, which have no
strength, are left out.
Source: the list of Cubuk et al. 2018, arXiv:1805.09501.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

OPERATIONS = 12


def augmented(x: Tensor, chosen: Tensor, s: Tensor) -> Tensor:
    """Each image after its own operation.

    Args:
        x: [n, c, h, w].
        chosen: [n], the number of the operation in the list above, 0 .. OPERATIONS - 1.
        s: [n], strength.
    """
    n, s = len(x), s.to(x.dtype)
    zero, one = torch.zeros_like(s), torch.ones_like(s)

    def at(operation: int, value: Tensor) -> Tensor:
        return torch.where(chosen == operation, value, zero)

    # Where each output pixel comes from; rotation and shear leave the centre in place.
    angle = at(1, s * math.pi / 6)
    columns = (angle.cos(), -angle.sin() + at(2, 0.3 * s), at(4, 0.6 * s))
    rows = (angle.sin() + at(3, 0.3 * s), angle.cos(), at(5, 0.6 * s))
    theta = torch.stack([*columns, *rows], dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    dark = x.amin(dim=(1, 2, 3), keepdim=True)
    light = x.amax(dim=(1, 2, 3), keepdim=True)
    which, strength = (a.view(n, 1, 1, 1) for a in (chosen, s))
    ref = torch.where(which == 6, dark, x.mean(dim=(1, 2, 3), keepdim=True))
    ref = torch.where(which == 8, x.mean(dim=1, keepdim=True), ref)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    ref = torch.where(which == 9, blurred, ref)
    blended = ref + (1 + 0.9 * strength) * (x - ref)

    span = (light - dark).clamp_min(1e-6)
    bright = x > light - strength.abs() * span
    solarized = torch.where(bright, light + dark - x, x)
    levels = torch.exp2(8 - 5 * strength.abs()).round() - one.view(n, 1, 1, 1)
    posterized = dark + ((x - dark) / span * levels).round() / levels * span

    out = torch.where((which >= 1) & (which <= 5), moved, x)
    out = torch.where((which >= 6) & (which <= 9), blended, out)
    out = torch.where(which == 10, solarized, out)
    return torch.where(which == 11, posterized, out)
