"""The loop's settings and the optimiser of a run, from its schedule and the parameters of its method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.optim import Optimizer

from dinodiet.config.build import build
from dinodiet.config.settings import Schedule, Settings
from dinodiet.data.loader import used_batch_size
from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.run.division import division_here
from dinodiet.run.rows_apart import check_rows_apart
from dinodiet.schedules import Scalar, scale_peak
from dinodiet.training.groups import by_depth, heads_apart
from dinodiet.training.loop import Optimisation
from dinodiet.training.optim import build_fused
from dinodiet.types import ParamGroup


def build_optimisation(settings: Settings, method: MethodBase, num_images: int) -> tuple[Optimisation, Optimizer]:
    """Return the loop's settings and the optimiser over the method's parameter groups.

    A learning rate that is meant for another batch size is scaled by the number of images that a step really sees.
    """
    schedule = settings.schedule
    optimisation = Optimisation(
        lr=_rate(schedule.lr, "schedule.lr", schedule, num_images),
        weight_decay=_scalar(schedule.weight_decay, "schedule.weight_decay"),
        clip_grad=schedule.clip_grad,
        clip_mode=schedule.clip_mode,
        accumulate=schedule.accumulate,
        precision=settings.precision,
        head_lr=None if schedule.head_lr is None else _rate(schedule.head_lr, "schedule.head_lr", schedule, num_images),
    )
    groups = [group.as_dict() for group in _groups(schedule, method)]
    if not groups and method.trains:
        raise UserError("method.trainable: nothing is left to train")
    groups, make = groups or [ParamGroup("none").as_dict()], build(schedule.optimizer, "schedule.optimizer")
    spread, instead = _spread(settings, method)
    if spread:
        check_rows_apart(schedule.optimizer, spread, instead)
    return optimisation, build_fused(make, groups)


def _spread(settings: Settings, method: MethodBase) -> tuple[str, str]:
    """Return what lies in rows on several processes, if anything, and the setting under which it does not."""
    if division_here(settings).splits(method):
        return "all weights", "strategy=ddp"
    return ("the rows of the head's weight", "method.head.sharded=false") if method.own_parameters() else ("", "")


def _groups(schedule: Schedule, method: MethodBase) -> list[ParamGroup]:
    """Return the method's parameter groups, divided as the schedule's rates ask for."""
    groups, backbone = method.param_groups(), method.towers()[0]
    if schedule.decayed == "all":
        groups = [replace(group, weight_decay_scale=1.0) for group in groups]
    if schedule.layer_decay is not None:
        groups = by_depth(groups, backbone, schedule.layer_decay)
    return groups if schedule.head_lr is None else heads_apart(groups, backbone)


def _rate(value: Any, key: str, schedule: Schedule, num_images: int) -> Scalar:
    """Return a learning rate, scaled where it is meant for another batch size."""
    lr = _scalar(value, key)
    if schedule.lr_reference_batch is None:
        return lr
    return scale_peak(lr, used_batch_size(schedule.batch_size, num_images) / schedule.lr_reference_batch)


def _scalar(value: Any, key: str) -> Scalar:
    """Return a number, or the schedule that a node describes."""
    if isinstance(value, dict):
        schedule: Scalar = build(value, key)()
        return schedule
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{key}: {value!r}; must be a number or a schedule (a node with a _target_)")
    return float(value)
