"""Whether a run can fit into the memory that there is, before anything of it is made."""

from __future__ import annotations

import json
from typing import Any

import torch

from dinodiet.backbones.meta import backbone_on_meta
from dinodiet.config.groups import TEACHER
from dinodiet.config.settings import Settings
from dinodiet.config.teacher import teacher_of
from dinodiet.errors import UserError
from dinodiet.io.memory import most_memory
from dinodiet.io.units import byte_size
from dinodiet.methods.base import MethodBase
from dinodiet.run.activations import Activations
from dinodiet.run.copies import TrainedCopy, trained_copies
from dinodiet.run.division import ONE_PROCESS, Division, division_here
from dinodiet.run.needs import held, method_on_meta, micro_batch, needs, records_memory, size_of
from dinodiet.types import Backbone, DataSpec

MARGIN = 1.25  # what is estimated of activations may be so much above what they take
SMALL = 4000  # bytes that no usual network holds for a pixel, of patches of 16 pixels and in one view
MOST_VIEWS = 12
LESS = "lower one of them, raise schedule.accumulate or set grad_checkpointing=true"

_seen = Activations()  # of the backbones of all runs of this process


def memory_of(device: torch.device) -> int | None:
    """Return the bytes that a run on a device can have at most; None where nothing tells."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return most_memory()


def check_fits(settings: Settings, spec: DataSpec, device: torch.device, num_train: int | None = None) -> None:
    """Refuse a run of which a process needs more memory than its device, or this machine, can give at all.

    `num_train` are the images that evaluators train on; None: all. Parts that cannot be made without values are not
    estimated: building them tells what is wrong with them.

    Raises:
        UserError: one line that names the key, the estimate and what there is.
    """
    most = memory_of(device)
    if most is None:
        return
    try:
        division = division_here(settings)
        backbone = backbone_on_meta(settings.model, spec)
        method = method_on_meta(settings, backbone, spec, division)
        trained = (parameter for group in method.param_groups() for parameter in group.params)
        memory, side = held(settings, method, trained, division), backbone.input.size
        recorded = sum(one.kept for one in records_memory(settings, method))
        largest = max(tower.input.size for tower in method.towers() if isinstance(tower, Backbone))
        copies = trained_copies(settings, method.encoder, spec, num_train or spec.num_images)
    except Exception:
        return
    there = _there(device, most, division)
    if memory > most:
        raise UserError(
            f"{_heaviest(method, settings)}: weights, gradients and optimiser state take {byte_size(memory)}, {there}"
        )
    if memory + recorded > most:
        raise UserError(
            f"record: what records keep takes {byte_size(recorded)}, beside {byte_size(memory)} of weights, gradients "
            f"and optimiser state, {there}; leave one out, or set record.parameters.from_start=false"
        )
    gradients = division.size_of((one for one in method.parameters() if one.requires_grad), method)
    held_beside = recorded + memory - gradients
    if not settings.compile and not _is_small(settings, spec, largest, most, division):
        _check_activations(settings, method, spec, memory, side, most, there, division)
    _check_copies(settings, copies, held_beside, side, most, there)


def check_scoring_fits(settings: Settings, spec: DataSpec, device: torch.device, num_train: int | None = None) -> None:
    """Refuse an evaluation of a backbone alone that needs more memory than there is; as `check_fits`.

    Args:
        settings: of a run that is not trained.
        spec: of the dataset that is scored.
        device: where.
        num_train: the images that evaluators train on; None: none is called that trains.

    Raises:
        UserError: one line that names the key, the estimate and what there is.
    """
    most = memory_of(device)
    if most is None:
        return
    try:
        backbone: Any = backbone_on_meta(settings.model, spec)
        memory, side = size_of((*backbone.parameters(), *backbone.buffers())), backbone.input.size
        key = json.dumps([settings.model, spec.image_size, spec.native_size], sort_keys=True)
        small = _is_small(settings, spec, side, most)
        batch = settings.evaluation.batch_size
        scoring = 0 if small else _seen.evaluation(key, backbone, batch, side, settings.precision).peak
        copies = [] if num_train is None else trained_copies(settings, backbone, spec, num_train)
    except Exception:
        return
    if memory > most:
        raise UserError(f"model: its weights take {byte_size(memory)}, {_there(device, most)}")
    _check_scoring(settings, side, memory + scoring, most, _there(device, most))
    _check_copies(settings, copies, memory, side, most, _there(device, most))


def _there(device: torch.device, most: int, division: Division = ONE_PROCESS) -> str:
    told = division.told()
    has = f"{'the GPU' if device.type == 'cuda' else 'this machine'} has {byte_size(most)}"
    return has if told is None else f"on {told}, {has}"


def _check_activations(
    settings: Settings,
    method: MethodBase,
    spec: DataSpec,
    memory: int,
    side: int,
    most: int,
    there: str,
    division: Division,
) -> None:
    needed = needs(settings, method, spec, memory, _seen, division)
    if needed is None:
        return
    of = f"images of {side} px (dataset.image_size)"
    if needed.step > MARGIN * most:
        images = micro_batch(settings, spec.num_images, division)
        raise UserError(
            f"schedule.batch_size: a step on {images} {of} takes about {byte_size(needed.step)}, {there}; {LESS}"
        )
    _check_scoring(settings, side, needed.scoring, most, there)


def _check_scoring(settings: Settings, side: int, needed: int, most: int, there: str) -> None:
    if needed > MARGIN * most:
        of = f"images of {side} px (dataset.image_size)"
        raise UserError(
            f"eval.batch_size: {settings.evaluation.batch_size} {of} take about {byte_size(needed)}, {there}; "
            "lower one of them"
        )


def _check_copies(settings: Settings, copies: list[TrainedCopy], beside: int, side: int, most: int, there: str) -> None:
    for copy in copies:
        small = settings.compile or _are_few(settings, copy.images, side, most)
        needed = beside + ((copy.held if small else copy.peak(settings.precision, _seen)) or 0)
        if needed > (1 if small else MARGIN) * most:
            raise UserError(
                f"eval.{copy.name}: training a copy of the whole model on {copy.images} images of {side} px "
                f"(dataset.image_size) takes about {byte_size(needed)}, {there}; lower its batch size or the side, "
                "or leave it out"
            )


def _is_small(settings: Settings, spec: DataSpec, side: int, most: int, division: Division = ONE_PROCESS) -> bool:
    """Return whether activations are far from the limit, so that the second that their estimate takes is saved."""
    images = max(micro_batch(settings, spec.num_images, division) * MOST_VIEWS, settings.evaluation.batch_size)
    return _are_few(settings, images, side, most)


def _are_few(settings: Settings, images: int, side: int, most: int) -> bool:
    named = settings.model.get("patch_size", 16)
    patch = named if isinstance(named, int) else 4  # `auto` may come to that
    return images * side**2 * SMALL * max(16 / patch, 1) ** 2 < most


def _heaviest(method: MethodBase, settings: Settings) -> str:
    """Return the key of what has the most weights: the model, its teacher, or a part of the method."""
    first, *others = [size_of(tower.parameters()) for tower in method.towers()]
    if teacher_of(settings.method) is not None and sum(others) > first:
        return TEACHER
    towers = {id(parameter) for tower in method.towers() for parameter in tower.parameters()}
    parts = {
        name: size_of(p for p in part.parameters() if id(p) not in towers) for name, part in method.named_children()
    }
    name = max(parts, key=lambda part: parts[part])
    if size_of(p for p in method.parameters() if id(p) in towers) > parts[name]:
        return "model"
    return f"method.{name}" if isinstance(settings.method.get(name), dict) else "method"
