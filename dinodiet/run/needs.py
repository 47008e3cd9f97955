"""The memory that a run needs, from its settings: everything is built on the meta device, without values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dinodiet.backbones.meta import without_weights
from dinodiet.backbones.recompute import recompute_blocks
from dinodiet.config.build import build
from dinodiet.config.settings import Settings
from dinodiet.config.teacher import teacher_of, with_teacher
from dinodiet.data.loader import used_batch_size
from dinodiet.errors import UserError
from dinodiet.features.trunk_cache import CHUNK
from dinodiet.methods.base import MethodBase
from dinodiet.processes.batches import part_size
from dinodiet.processes.gathering import assumed
from dinodiet.run.activations import Activations, StepCost
from dinodiet.run.division import ONE_PROCESS, Division
from dinodiet.training.loop import batchnorm_told
from dinodiet.types import Backbone, DataSpec, Record, RecordMemory

COPIES = 4  # of the features of a step, at most, while records measure them


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of a run, see `dinodiet.run.flops`.

    Attributes:
        step: of a training step of all processes, without a trunk cache.
        waiting: of one in which the backbone waits, for the part `warmup` of all steps.
        image: of the backbone on one image that is scored.
        trunk: of the blocks before the first trained one on one view, where a cache keeps what they make of it; else 0.
        views: of each image that such a cache keeps.
    """

    step: float
    waiting: float
    warmup: float
    image: float
    trunk: float = 0.0
    views: int = 0


@dataclass(frozen=True)
class Needs:
    """Bytes: `held` by weights, gradients and optimiser state; at the worst moment of a `step` and of a `scoring`.

    Of several processes they are those of the first. What evaluators train comes on top of what is held
    `without_gradients`. `recording` is when records make a row. `operations` are no bytes.
    """

    held: int
    step: int
    scoring: int
    without_gradients: int
    recording: int
    operations: Operations

    @property
    def peak(self) -> int:
        """Return the bytes at the worst moment of all."""
        return max(self.held, self.step, self.scoring, self.recording)


def on_meta(make: Callable[[], Any]) -> Any:
    """Return what a function makes on the meta device."""
    with torch.device("meta"):
        return make()


def method_on_meta(
    settings: Settings, backbone: Backbone, spec: DataSpec, division: Division = ONE_PROCESS
) -> MethodBase:
    """Return the method of a run with a backbone that has no values, as the first process of several has it.

    Raises:
        UserError: it refuses its settings.
    """
    teacher = teacher_of(settings.method)
    node = with_teacher(settings.method, None if teacher is None else without_weights(teacher))
    with assumed(division.processes):
        method: MethodBase = on_meta(lambda: build(node, "method")(backbone=backbone, spec=spec))
    if settings.grad_checkpointing:
        for tower in method.towers():
            recompute_blocks(tower)
    return method


def held(settings: Settings, method: MethodBase, trained: Iterable[Tensor], division: Division = ONE_PROCESS) -> int:
    """Return the bytes of weights, and of gradients and optimiser state of what is `trained`, on one process."""
    weights = division.size_of(method.parameters(), method) + size_of(method.buffers())
    return int(weights + division.size_of(trained, method) * (1 + _state_per_parameter(settings)))


def size_of(tensors: Any) -> int:
    """Return the bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def structure(network: Any) -> str:
    """Return a digest of the layers of a network, and of its tensors by name, type and shape."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    told = [(name, str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors]
    layers = [f"{type(layer).__module__}.{type(layer).__name__}" for layer in network.modules()]
    return hashlib.sha256(repr((layers, told)).encode()).hexdigest()


def _state_per_parameter(settings: Settings) -> float:
    """Return how many numbers the optimiser keeps for each trained one: it is asked to train a small matrix."""
    matrix = nn.Parameter(torch.zeros(64, 64))
    optimizer: torch.optim.Optimizer = build(settings.schedule.optimizer, "schedule.optimizer")(params=[matrix])
    matrix.grad = torch.zeros_like(matrix)
    optimizer.step()
    kept = [value for value in optimizer.state[matrix].values() if isinstance(value, torch.Tensor) and value.ndim > 0]
    return sum(value.numel() for value in kept) / matrix.numel()


def micro_batch(settings: Settings, num_images: int, division: Division = ONE_PROCESS) -> int:
    """Return how many images pass through a network of one process at once in training."""
    whole = part_size(used_batch_size(settings.schedule.batch_size, num_images), settings.schedule.accumulate)
    return part_size(whole, division.processes)


def needs(
    settings: Settings,
    method: MethodBase,
    spec: DataSpec,
    memory: int,
    activations: Activations,
    division: Division = ONE_PROCESS,
    *,
    images: int | None = None,
) -> Needs | None:
    """Return what a run needs besides the `memory` that it holds all the time; None: a part cannot do without values.

    The method is spoiled. What backbones take, of all runs that are asked for, is kept in `activations`. Of several
    processes it is what the first one needs, which also scores. `images` that a method trains on are all of `spec`, or
    so many as make the same batches.

    Raises:
        UserError: a part refuses its settings, or what it is given.
    """
    backbone: Any = method.towers()[0]
    evaluated = _name_of(settings, backbone)
    key = json.dumps([evaluated, settings.method.get("student")], sort_keys=True)
    teacher = teacher_of(settings.method)
    named = None if teacher is None else json.dumps(teacher, sort_keys=True)
    gradients = division.size_of((one for one in method.parameters() if one.requires_grad), method)
    copied = division.copied(method)
    training = division.whole_at_once(method) + division.gradients_at_once(method)
    cached = method.assume_cached()
    trunk, method.trunk = method.trunk, None  # what draws from a cache takes less than what computes it anew
    recorded = records_memory(settings, method)
    side, batch = backbone.input.size, micro_batch(settings, images or spec.num_images, division)
    several = division.processes > 1  # gradients then lie in memory of their own, from the first step on
    try:
        with batchnorm_told(), assumed(division.processes):
            cost = (
                activations.peak(key, method, spec, batch, settings.precision, teacher=named, gradients=not several)
                if method.trains
                else StepCost(0)
            )
        filled = [*((named, tower) for tower in cached), *([] if trunk is None else [(evaluated, backbone)])]
        step = max([cost.peak, *(_chunk(activations, *one, settings.precision) for one in filled)])
        scoring = activations.evaluation(evaluated, backbone, settings.evaluation.batch_size, side, settings.precision)
        frozen = 0 if trunk is None else activations.trunk(evaluated, trunk.split, side)
    except UserError:
        raise
    except Exception:  # what parts of one's own do with tensors that have no values is up to them
        return None
    kept = gradients if settings.schedule.accumulate > 1 or several else 0  # else they are among the activations
    # The features of a step are there until the next one's have been made; rows are measured when it is over.
    image = cost.peak // batch if recorded else 0  # of which one may be seen alone
    recording = image + cost.read + COPIES * cost.largest + max((one.moment for one in recorded), default=0)
    memory += sum(one.kept for one in recorded)
    rest = memory - gradients + cost.kept
    times = used_batch_size(settings.schedule.batch_size, images or spec.num_images) / batch  # in a step
    operations = Operations(
        *(cost.flops * times, cost.waiting * times, method.warmup_fraction),
        *(scoring.forward / settings.evaluation.batch_size, frozen, 0 if trunk is None else trunk.num_views),
    )
    most = rest + step + kept + training, rest + scoring.peak + copied, rest, rest + gradients + recording
    return Needs(memory, *most, operations)


def _name_of(settings: Settings, backbone: Any) -> str:
    """Return what tells a run's backbone, and what of it is trained, apart from others."""
    trained = [
        name for name, parameter in backbone.named_parameters() if parameter.requires_grad
    ]  # autocast keeps them
    parts = [settings.model, backbone.input.size, settings.grad_checkpointing, structure(backbone), trained]
    return json.dumps(parts, sort_keys=True)


def _chunk(activations: Activations, name: str | None, tower: nn.Module, precision: str) -> int:
    """Return the bytes at most of what is computed before the first step, chunk by chunk."""
    assert name is not None and isinstance(tower, Backbone)
    return activations.evaluation(name, tower, CHUNK, tower.input.size, precision).peak


def records_memory(settings: Settings, method: MethodBase) -> list[RecordMemory]:
    """Return what the records of a run take; the method, without values, then keeps the features that they ask for.

    Raises:
        UserError: a record refuses its settings.
    """
    return [
        build(node, f"record.{name}", Record)().memory(method)
        for name, node in settings.record.items()
        if method.trains
    ]
