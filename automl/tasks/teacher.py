"""The teacher of a distillation: a trained network of a study, or a function of the user's.

--set teacher=runs/NAME/best.toml      the recipe file; its weights lie beside it
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from automl.errors import TaskError
from automl.recipe import Recipe


@dataclass(frozen=True)
class Teacher:
    """teach(x [b, ...]) -> outputs [b, ...], without a gradient; `weights` tell what it costs."""

    function: Callable[[Tensor], Tensor]
    weights: int | None = None  # None: not known

    def teach(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.function(x)


def without_teacher(sets: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """The --set entries without "teacher=FILE", and that file."""
    own = [s for s in sets if s.partition("=")[0].strip() == "teacher"]
    rest = tuple(s for s in sets if s not in own)
    return rest, own[-1].partition("=")[2].strip() if own else None


def read_teacher(file: str, build: Callable[[Recipe], nn.Module], device: str) -> Teacher:
    """The network of a recipe file, with the weights of the .safetensors file of its name.

    Raises:
        TaskError: one line on which file is missing, or does not fit this task.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(file)
    weights = path.with_suffix(".safetensors")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))["recipe"]
        recipe = Recipe(data["point"], int(data["steps"]), int(data.get("seed", 0)))
        tensors = load_file(weights)
    except OSError as error:
        missing, why = error.filename or weights, error.strerror or "No such file"
        raise TaskError(
            f"--set teacher={file}: {missing}: {why}; give a study's best.toml, with "
            "best.safetensors beside it"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise TaskError(f"--set teacher={file}: not a recipe file such as best.toml") from None
    except SafetensorError as error:
        raise TaskError(f"--set teacher={file}: {weights.name}: {error}") from None
    with torch.random.fork_rng():
        net = build(recipe)
    try:
        net.load_state_dict(tensors)
    except RuntimeError:
        if any(name.startswith("members.0.") for name in tensors):
            raise TaskError(
                f"--set teacher={file}: an ensemble of networks; give a recipe of one"
            ) from None
        raise TaskError(
            f"--set teacher={file}: its network does not fit this task's data; a teacher is "
            "trained on data of the same shape"
        ) from None
    return of_module(net, device)


def of_module(net: nn.Module, device: str) -> Teacher:
    """A network as it stands, in evaluation mode."""
    net = net.to(device).eval().requires_grad_(False)
    dtype = next((p.dtype for p in net.parameters()), torch.float32)

    def outputs(x: Tensor) -> Tensor:
        found: Tensor = net(x.to(dtype) if x.is_floating_point() else x)
        return found

    return Teacher(outputs, sum(p.numel() for p in net.parameters()))
