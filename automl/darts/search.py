"""The search loop: alphas on one half of the training set, weights on the other, in turn.

    each update   alphas: one step of Adam on a batch of the second half (after `warmup` epochs)
                  weights: one step of SGD with momentum on a batch of the first half
    each epoch    note the alphas, the supernet's accuracy on the second half and the sharpness;
                  where that is watched, stop at its sign of collapse and take the alphas of before

Both halves lie inside the training set: no sample of validation or test is seen. What an update
sees depends on (seed, update) alone, so a search taken up from `state()` goes on bit for bit.
Source: Liu et al. 2019, arXiv:1806.09055; defaults are the paper's, but for both rates: in the few
hundred updates of a small task its 3e-4 hardly moves the alphas, and its 0.025 leaves the weights
untrained (20 epochs on digits: supernet's accuracy 0.51, with 0.1 it is 0.90), so that what needs
no training wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from automl.darts.bilevel import first_order, second_order, statistics_kept
from automl.darts.collapse import collapsed_at, sharpness
from automl.darts.recalibrate import Score, outputs_of, share_right
from automl.darts.supernet import Supernet
from automl.methods.stages import SupernetMethod
from automl.registry import family
from automl.tasks.searching import WATCH_PASSES, WATCHED
from automl.tasks.task import Split
from automl.train.data import Feed
from automl.train.seeding import KeyedDraws, mix

Objective = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) -> mean loss, 0-dim
FINE_TUNING = 1 << 20  # updates from here on are those between decisions: batches of their own
TUNING_RATE = 0.1  # of the weights' first rate


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of one search; lengths in epochs of a half of the training set."""

    epochs: int = 20
    warmup: int = 0  # epochs before the alphas move
    order: int = 1  # of the alphas' gradient, 1 or 2
    batch_size: int = 64
    lr: float = 0.1
    lr_end: float = 0.001  # the cosine ends here
    momentum: float = 0.9
    wd: float = 3e-4
    clip: float = 5.0  # of the weights' gradient norm
    alpha_lr: float = 3e-3
    alpha_wd: float = 1e-3
    watch: bool = False  # measure the sharpness, and stop at the sign of collapse
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """What the supernet was at the end of an epoch."""

    alphas: Mapping[str, tuple[float, ...]]
    accuracy: float  # score of the supernet on the second half
    sharpness: float | None  # None: not watched


class Search:
    """Trains a supernet; `run` to the end, or update by update with `state` between.

    Args:
        x, y: the training set.
        method: what is done otherwise than in plain DARTS; None: nothing.
        hyper: values of the method's hyperparameters.
    """

    def __init__(
        self,
        net: Supernet,
        x: Tensor,
        y: Tensor,
        settings: Settings,
        *,
        method: SupernetMethod | None = None,
        hyper: Mapping[str, float] | None = None,
        objective: Objective = F.cross_entropy,
        score: Score = share_right,
    ) -> None:
        self.net, self.settings = net, settings
        if method is None:
            plain = family("nas").get("darts")
            assert isinstance(plain, SupernetMethod)
            method = plain
        self.method, self._hyper = method, dict(hyper or {})
        self._objective, self.score = objective, score
        self.passes = 0.0  # of samples through one candidate an edge, forward and backward
        s, n = settings, len(x)
        drawn = KeyedDraws([mix(s.seed, "halves")]).at(0).permutation(n)[0]
        one, two = drawn[: n // 2], drawn[n // 2 :]
        self.train, self.valid = (x[one], y[one]), (x[two], y[two])
        self._feeds = [
            Feed(
                Split(*half),
                seeds=[mix(s.seed, name)],
                sizes=[s.batch_size],
                device=x.device,
                dtype=x.dtype,
            )
            for name, half in (("weights", self.train), ("alphas", self.valid))
        ]
        self.per_epoch = math.ceil(len(one) / s.batch_size)
        self._weights, self._alphas = net.weights(), net.structure()
        self._sgd = torch.optim.SGD(self._weights, s.lr, s.momentum, weight_decay=s.wd)
        self._adam = torch.optim.Adam(
            self._alphas, s.alpha_lr, betas=(0.5, 0.999), weight_decay=s.alpha_wd
        )
        self.updates = 0
        self.history: list[Epoch] = []
        net.train()

    # Training -------------------------------------------------------------------------------

    def run(self, epochs: int | None = None) -> None:
        """Train up to `epochs` epochs, or to the end; ends early where collapse shows."""
        last = self.settings.epochs if epochs is None else epochs
        while len(self.history) < last and not self.finished:
            self.update()

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.settings.epochs or self.collapsed is not None

    @property
    def collapsed(self) -> int | None:
        """The epoch, from 0, before the sign of collapse; None without one."""
        watched = [e for e in self.history if e.sharpness is not None]
        return collapsed_at(
            [e.sharpness for e in watched if e.sharpness is not None],
            [self._lead(e.alphas) for e in watched],
        )

    def _lead(self, alphas: Mapping[str, tuple[float, ...]]) -> float:
        """Share of the edges on which the skip is stronger than all else but "none"."""
        leads = []
        for edge, names in self.net.candidates.items():
            of = {n: a for n, a in zip(names, alphas[edge], strict=True) if n != "none"}
            leads.append("skip" in of and len(of) > 1 and max(of, key=lambda n: of[n]) == "skip")
        return sum(leads) / len(leads)

    def update(self) -> None:
        """One step of the alphas, one of the weights; a look around at the end of an epoch."""
        s, lr = self.settings, self._rate(self.updates)
        for group in self._sgd.param_groups:
            group["lr"] = lr
        warm = self.updates >= s.warmup * self.per_epoch
        if warm and self.method.learns and any(len(a) > 1 for a in self._alphas):
            self._mix("alphas", self.updates, noisy=not self.method.shakes)
            self._move_alphas(self.updates, lr)
        self._mix("weights", self.updates, noisy=True)
        self.train_weights(self.updates)
        self.net.weigh(self._plain)
        self.updates += 1
        if self.updates % self.per_epoch == 0:
            self.history.append(self._look())
            if self.collapsed is not None:
                self._take_back(self.history[self.collapsed])

    def tune(self, update: int) -> None:
        """A step of each between decisions, the weights' at a tenth of their rate and afresh.

        Args:
            update: which batches are seen; those of `FINE_TUNING` and on belong to no epoch.
        """
        if update == FINE_TUNING:
            self._sgd.state.clear()
        for group in self._sgd.param_groups:
            group["lr"] = self.settings.lr * TUNING_RATE
        if self.method.learns and any(len(self.net.open_names(e)) > 1 for e in self.net.candidates):
            self._move_alphas(update, self.settings.lr * TUNING_RATE)
        self.train_weights(update)

    def train_weights(self, update: int) -> None:
        """One step of SGD on the batch of the first half that belongs to `update`."""
        slopes = torch.autograd.grad(self._loss(0, update), self._weights, materialize_grads=True)
        for w, g in zip(self._weights, slopes, strict=True):
            w.grad = g
        torch.nn.utils.clip_grad_norm_(self._weights, self.settings.clip)
        self._sgd.step()

    def _mix(self, step: str, update: int, *, noisy: bool) -> None:
        """Weigh candidates as the method does in such a step of this update."""
        method = self.method
        if method.noisy is None or not noisy:
            self.net.weigh(self._plain)
            return
        values, made = {**self._hyper, **self._clock()}, method.noisy

        def weigh(edge: str, alpha: Tensor) -> Tensor:
            draws = KeyedDraws([mix(self.settings.seed, step, edge)]).at(update)
            return made(alpha, self.net.open_names(edge), values, draws)

        self.net.weigh(weigh)

    def _plain(self, edge: str, alpha: Tensor) -> Tensor:
        return self.method.weights(alpha)

    def _clock(self) -> dict[str, float]:
        progress = min(1.0, self.updates / (self.settings.epochs * self.per_epoch))
        return {"progress": progress, "epoch": float(self.updates // self.per_epoch)}

    def _move_alphas(self, u: int, lr: float) -> None:
        s = self.settings
        with statistics_kept(self.net):
            if s.order == 1:
                slopes = first_order(self._alphas, lambda: self._of_alphas(u))
            else:
                slopes = second_order(
                    self._weights,
                    self._alphas,
                    lambda: self._loss(0, u),
                    lambda: self._of_alphas(u),
                    eta=lr,
                    momentum=s.momentum,
                    wd=s.wd,
                    buffers=self._momenta(),
                )
        for a, g in zip(self._alphas, slopes, strict=True):
            a.grad = g
        self._adam.step()

    def _of_alphas(self, update: int) -> Tensor:
        loss = self._loss(1, update)
        if self.method.penalty is None:
            return loss
        alphas = list(self.net.alphas().values())
        return loss + self.method.penalty(alphas, {**self._hyper, **self._clock()})

    def _loss(self, half: int, update: int) -> Tensor:
        batch = self._feeds[half].batch(update)
        self.passes += self._width() * batch.x.shape[1]
        return self._objective(self.net(batch.x[0]), batch.y[0])

    def _width(self) -> float:
        """Candidates that an edge computes, on average."""
        if self.method.single:
            return 1.0
        counts = [len(self.net.open_names(edge)) for edge in self.net.candidates]
        return sum(counts) / len(counts) / self.net.parts

    def counted_accuracy(self) -> float:
        """As `supernet_accuracy`, with its forward passes in `passes`."""
        self.passes += self._evaluation()
        return self.supernet_accuracy()

    def _rate(self, update: int) -> float:
        s = self.settings
        progress = min(1.0, update / (s.epochs * self.per_epoch))
        return s.lr_end + (s.lr - s.lr_end) * (1 + math.cos(math.pi * progress)) / 2

    def _momenta(self) -> list[Tensor]:
        if not self._sgd.state:
            return []
        return [self._sgd.state[w]["momentum_buffer"] for w in self._weights]

    def supernet_accuracy(self) -> float:
        """On the second half, with statistics of the first."""
        return self.score(self._outputs(), self.valid[1])

    def loss_without(self, edge: str, name: str) -> float:
        """The supernet's loss on the second half, less one candidate's share.

        What is left on the edge weighs what it did, so that the edge gives so much less.
        """

        def weigh(at: str, alpha: Tensor) -> Tensor:
            weights = self._plain(at, alpha)
            if at != edge:
                return weights
            kept = [float(n != name) for n in self.net.open_names(edge)]
            return weights * weights.new_tensor(kept)

        self.passes += self._evaluation()
        self.net.weigh(weigh)
        outputs = self._outputs()
        self.net.weigh(self._plain)
        return float(self._objective(outputs, self.valid[1]))

    def _outputs(self) -> Tensor:
        return outputs_of(self.net, self.valid[0], measure=self.train[0])

    def _evaluation(self) -> float:
        """Passes of an evaluation: forward only, statistics included."""
        return self._width() * (len(self.valid[0]) + len(self.train[0])) / 3

    def _look(self) -> Epoch:
        sharp = None
        if self.settings.watch:
            x, y = (part[:WATCHED] for part in self.valid)
            self.passes += self._width() * len(x) * WATCH_PASSES
            with statistics_kept(self.net):
                sharp = sharpness(self._alphas, lambda: self._objective(self.net(x), y))
        alphas = {e: tuple(a.tolist()) for e, a in self.net.alphas().items()}
        return Epoch(alphas, self.counted_accuracy(), sharp)

    @torch.no_grad()
    def _take_back(self, epoch: Epoch) -> None:
        for edge, alpha in self.net.alphas().items():
            alpha.copy_(torch.tensor(epoch.alphas[edge]))

    # To go on from --------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Weights, alphas and both optimizers', by name, copied; `history` and `updates` apart."""
        tensors = {f"net.{n}": x for n, x in self.net.state_dict().items()}
        for key, optimizer in (("sgd", self._sgd), ("adam", self._adam)):
            for i, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"{key}.{i}.{n}": x for n, x in slots.items() if x is not None}
        return {n: x.detach().clone() for n, x in tensors.items()}

    def load(self, tensors: Mapping[str, Tensor], *, updates: int, history: list[Epoch]) -> None:
        """Go on from what `state` gave after `updates` updates."""
        net = {n.removeprefix("net."): x for n, x in tensors.items() if n.startswith("net.")}
        self.net.load_state_dict(net)
        for key, optimizer in (("sgd", self._sgd), ("adam", self._adam)):
            slots: dict[int, dict[str, Tensor]] = {}
            for name, x in tensors.items():
                if name.startswith(f"{key}."):
                    _, i, slot = name.split(".")
                    slots.setdefault(int(i), {})[slot] = x.clone()
            optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
        self.updates, self.history = updates, list(history)
        for group in self._sgd.param_groups:  # what trains on after the search keeps its last rate
            group["lr"] = self._rate(max(updates - 1, 0))
