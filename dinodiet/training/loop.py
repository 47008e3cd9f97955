"""fit(): the training loop. It names no method and no dataset."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.optim import Optimizer

from dinodiet.data.loader import on_device
from dinodiet.errors import UserError
from dinodiet.io.host_copy import HostCopy
from dinodiet.schedules import Scalar, at
from dinodiet.training.optim import ClipMode, clip_gradients_
from dinodiet.training.strategy import Alone, Strategy
from dinodiet.types import Batch, Clock, Method, Precision, Runtime, World

Logs = dict[str, Tensor]


class NonFiniteLossError(UserError):
    """The loss became NaN or infinite; the message says at which step and rates."""


@dataclass(frozen=True)
class Optimisation:
    """The settings of the loop that are not the method's own; see `conf/schedule`. `head_lr` None: as `lr`."""

    lr: Scalar
    weight_decay: Scalar
    clip_grad: float | None = None
    clip_mode: ClipMode = "global"
    accumulate: int = 1
    precision: Precision = "fp32"
    head_lr: Scalar | None = None


def fit(
    method: Method,
    batches: Iterator[Batch],
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    settings: Optimisation,
    clock: Clock,
    world: World,
    *,
    on_step: Callable[[Clock, Logs], None],
    on_gradients: Callable[[Clock, Batch], None] = lambda clock, batch: None,
    strategy: Strategy | None = None,
) -> None:
    """Train from `clock.step` to `clock.total_steps`; `on_step` hears of every finished step.

    `on_gradients` hears of every step's gradients, unscaled and not yet clipped, with the clock before the step.
    `strategy` says how the processes compute a step together (None: there is one); batches are this one's part.

    Every step is a function of the state before it, the batch, and (seed, step): a resumed run repeats the
    uninterrupted one exactly.

    Raises:
        NonFiniteLossError: the loss is not finite; nothing was changed by that step.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    strategy = strategy or Alone(method)
    method.train()
    batches = on_device(batches, world.device)
    while clock.step < clock.total_steps:
        batch = next(batches)
        torch.manual_seed(clock.generator("modules").initial_seed())  # for drop path and dropout
        set_rates(optimizer, settings, clock)
        logs, loss = forward_backward(strategy, batch, scaler, settings, clock, world)
        if not math.isfinite(loss.item()):
            raise NonFiniteLossError(_non_finite(loss.item(), optimizer, settings, clock))
        scaler.unscale_(optimizer)
        on_gradients(clock, batch)
        if settings.clip_grad is not None:
            clip_gradients_(parameters, settings.clip_grad, settings.clip_mode, strategy.shards)
        method.before_step(clock)
        scaler.step(optimizer)
        scaler.update()
        method.after_step(clock)
        optimizer.zero_grad(set_to_none=True)
        clock = clock.at(clock.step + 1)
        on_step(clock, logs)


def set_rates(optimizer: Optimizer, settings: Optimisation, clock: Clock) -> None:
    """Set every group's lr and weight decay: the schedules' values times the group's factors."""
    lr, weight_decay = at(settings.lr, clock), at(settings.weight_decay, clock)
    head_lr = lr if settings.head_lr is None else at(settings.head_lr, clock)
    for group in optimizer.param_groups:
        group["lr"] = (head_lr if group.get("head") else lr) * group["lr_scale"]
        group["weight_decay"] = weight_decay * group["weight_decay_scale"]


def forward_backward(
    strategy: Strategy,
    batch: Batch,
    scaler: torch.amp.GradScaler,
    settings: Optimisation,
    clock: Clock,
    world: World,
) -> tuple[Logs, HostCopy]:
    """Leave the gradients of the mean loss over the micro-batches; return the mean of what the method logs.

    The copy of the mean loss to the host begins before the last backward pass: reading it waits for the forward passes
    alone, and the device still has work while the host decides and goes on.
    """
    total: Logs = {}
    runtime = Runtime(world, settings.precision)
    for part, micro in enumerate(parts := list(batch.split(settings.accumulate))):
        share, last = len(micro) / len(batch), part + 1 == len(parts)
        with strategy.part(len(micro), last=last):
            with runtime.autocast(), batchnorm_told():
                logs = strategy.forward(micro, replace(clock, part=part))
            for key, value in logs.items():
                total[key] = total.get(key, 0) + value.detach() * share
            total = strategy.shared(total) if last else total
            loss = HostCopy(total["loss"])  # read after the last part, when it is the whole
            torch.autograd.backward(scaler.scale(logs["loss"] * share))
    return total, loss


@contextlib.contextmanager
def batchnorm_told() -> Iterator[None]:
    """Tell what to do where BatchNorm is to train on a single number per channel.

    Raises:
        UserError: a micro-batch has one image, of which the last maps have one pixel.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            "schedule.batch_size: BatchNorm cannot train on one image at a time whose maps shrink to one pixel; choose "
            "2 images or more for each of schedule.accumulate micro-batches, or a model without BatchNorm"
        ) from error


def _non_finite(loss: float, optimizer: Optimizer, settings: Optimisation, clock: Clock) -> str:
    """Say what can have led to a loss; in the first step the learning rate cannot, as nothing was trained."""
    told = f"the loss is {loss} at step {clock.step} of {clock.total_steps}"
    wider = [] if settings.precision == "fp32" else ["use precision fp32"]
    if clock.step == 0:
        return f"{told}, before anything was trained; {', or '.join([*wider, 'check images, weights and the loss'])}"
    rates = ", ".join(f"{group['name']} {group['lr']:.3g}" for group in optimizer.param_groups)
    clip = ["clip gradients"] if settings.clip_grad is None else []
    return f"{told} (learning rates: {rates}); {', or '.join(['lower the learning rate', *clip, *wider])}"
