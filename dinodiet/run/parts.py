"""The parts of a run, built from its settings before the first step: mistakes show in the first seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dinodiet.backbones.recompute import recompute_blocks
from dinodiet.config.budgets import budgets
from dinodiet.config.build import build
from dinodiet.config.parent import check_starts
from dinodiet.config.settings import Settings
from dinodiet.config.several import FP16_ROWS, check_several
from dinodiet.config.signature import Node
from dinodiet.data.cache.decoded import keep_decoded
from dinodiet.data.cache.place import kept_in
from dinodiet.data.loader import TrainLoader, without_pixels
from dinodiet.data.views.drafts import drafted
from dinodiet.errors import UserError
from dinodiet.evals.scorer import Scorer
from dinodiet.io import machine
from dinodiet.methods.base import MethodBase
from dinodiet.processes.batches import part_size
from dinodiet.processes.gathering import is_shared, rank, size
from dinodiet.run.backbone import build_backbone
from dinodiet.run.fits import check_fits
from dinodiet.run.guarded import Guarded
from dinodiet.run.optimisation import build_optimisation
from dinodiet.run.origins import start
from dinodiet.run.recording import build_records
from dinodiet.run.scheduled import check_scheduled
from dinodiet.run.weights import Stored
from dinodiet.training.exchange import exchange_of
from dinodiet.training.loop import Optimisation
from dinodiet.training.state import TrainState
from dinodiet.training.strategy import Strategy, strategy_of
from dinodiet.types import (
    Backbone,
    Clock,
    Data,
    Images,
    Method,
    Record,
    Recorded,
    Runtime,
    Tracker,
    World,
)


@dataclass
class Parts:
    """Everything that a run consists of."""

    runtime: Runtime
    data: Data
    backbone: Backbone
    method: MethodBase
    loader: TrainLoader
    optimisation: Optimisation
    state: TrainState
    strategy: Strategy
    scorer: Scorer
    tracker: Tracker
    starts: dict[str, Any]
    records: dict[str, Record]


def build_parts(settings: Settings, stored: Stored | None = None) -> Parts:
    """Build tracker, data, backbone, evaluators, method, optimiser and records, in that order.

    `stored` is what the training goes on from, where nothing needs the weights that it began with: these may be gone.

    Raises:
        UserError: one of them refuses its settings.
    """
    runtime = runtime_of(settings)
    check_starts(settings.method)
    tracker = Guarded(build(settings.tracker, "tracker", Tracker))
    data = open_data(settings.dataset, cache=settings.cache)
    check_fits(settings, data.spec, runtime.device, len(data.train))
    backbone = build_backbone(settings, data.spec, stored)
    scored = data if settings.evaluation.dataset is None else open_scored(settings)
    scorer = build_scorer(settings, scored, backbone, runtime)
    method: MethodBase = build(settings.method, "method", Method)(backbone=backbone, spec=data.spec)
    starts = start(method, settings, backbone, data.spec)
    if settings.grad_checkpointing:
        for tower in method.towers():
            recompute_blocks(tower)
    method.to(runtime.device)
    if settings.compile and not method.reads_images:
        raise UserError(
            "compile: true compiles whole forward passes, of which a trunk cache (method.trunk) leaves a part; use one"
        )
    optimisation, optimizer = build_optimisation(settings, method, len(trained_images(data, method)))
    drafts = images_for_views(data, method)
    decoded = decode_once(settings, data)
    scorer.data = decoded if scored is data else decode_once(settings, scored)
    loader = _loader(settings, decoded, method, drafts, runtime)
    check_compared(method, loader.batch_size, settings.schedule.accumulate)
    clock = clock_of(settings, loader, trains=method.trains)
    check_scheduled(settings, clock)
    if settings.compile:
        for tower in method.towers():
            tower.compile()
    check_together(settings, method)
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=settings.precision == "fp16")
    state = TrainState(method, optimizer, scaler, clock)
    strategy = strategy_of(
        settings.strategy,
        method,
        optimizer,
        runtime.device,
        exchange_of(settings),
        accumulate=settings.schedule.accumulate,
    )
    look = Recorded(method, optimizer, data.val, backbone.input, runtime, clock, settings.schedule.accumulate)
    records = build_records(settings.record, look)
    return Parts(
        runtime, decoded, backbone, method, loader, optimisation, state, strategy, scorer, tracker, starts, records
    )


def clock_of(settings: Settings, loader: TrainLoader, *, trains: bool) -> Clock:
    """Return the clock at the first step of a training.

    Raises:
        UserError: so small a part of an epoch is no step.
    """
    epochs = settings.schedule.epochs if trains else 0
    given = settings.schedule.steps if trains else None
    steps = round(epochs * loader.steps_per_epoch) if given is None else given
    if epochs and not steps:
        raise UserError(f"schedule.epochs: {epochs:g} of {loader.steps_per_epoch} steps is no step; choose more")
    return Clock(0, steps, loader.steps_per_epoch, seed=settings.seed, share=loader.share)


def runtime_of(settings: Settings) -> Runtime:
    """Return how a run computes on this machine.

    Raises:
        UserError: there is no such device here.
    """
    return Runtime(
        World(rank(), size(), device_of(settings)),
        settings.precision,
        settings.num_workers,
        settings.evaluation.batch_size,
        settings.cache,
    )


def device_of(settings: Settings) -> torch.device:
    """Return the device of this process; of several on GPUs, the one that it was given.

    Raises:
        UserError: there is no such device here.
    """
    device = machine.pick_device(settings.device)
    if device.type == "cuda" and is_shared():
        return torch.device("cuda", torch.cuda.current_device())
    return device


def open_data(node: Node, key: str = "dataset", *, cache: Path | None = None) -> Data:
    """Open a dataset; what is computed of its images for that is kept in `cache`, if one is given.

    Raises:
        UserError: it refuses its settings, or its files are missing or broken.
    """
    with kept_in(cache):
        data: Data = build(node, key)()
    return data


def open_scored(settings: Settings) -> Data:
    """Open the dataset that is scored; raises as `open_data`."""
    other = settings.evaluation.dataset
    node, key = (settings.dataset, "dataset") if other is None else (other, "eval.dataset")
    return open_data(node, key, cache=settings.cache)


def build_scorer(settings: Settings, data: Data, backbone: Backbone, runtime: Runtime) -> Scorer:
    """Return what scores encoders: all evaluators of the group `eval`."""
    nodes = settings.evaluation.evaluators
    evaluators = {name: build(node, f"eval.{name}")() for name, node in nodes.items()}
    return Scorer(
        evaluators,
        data,
        backbone.input,
        runtime,
        validation=settings.evaluation.validation,
        budgets=budgets(settings.evaluation),
        backbone=backbone,
    )


def decode_once(settings: Settings, data: Data) -> Data:
    """Have the image files of a dataset decoded, where they fit, and return it with their pixels mapped.

    This may take minutes: it comes when all else is built, since mistakes show in the first seconds.
    """
    threads = max(settings.num_workers, torch.get_num_threads())
    return keep_decoded(data, settings.cache / "decoded", settings.decoded_gib, threads)


def trained_images(data: Data, method: MethodBase) -> Images:
    """Return the split that a method trains on."""
    return data.pretext if method.split == "pretext" else data.train


def _loader(settings: Settings, data: Data, method: MethodBase, drafts: Images | None, runtime: Runtime) -> TrainLoader:
    """Return the training batches: of `drafts` where there are any, else of the split that the method trains on."""
    images = trained_images(data, method) if drafts is None else drafts
    images = images if method.reads_images else without_pixels(images)
    on_gpu = runtime.device.type == "cuda"
    return TrainLoader(
        images,
        settings.schedule.batch_size,
        settings.seed,
        settings.num_workers,
        on_gpu,
        share=runtime.world.share,
        parts=settings.schedule.accumulate,
    )


def images_for_views(data: Data, method: MethodBase) -> Images | None:
    """Return the images to train on where the views want them decoded smaller, else None.

    Raises:
        UserError: they are no image files, or the training does not read them.
    """
    side = method.draft_side
    if side is None:
        return None
    if not method.reads_images:
        raise UserError("method.views.draft: true, but a trunk cache (method.trunk) decodes every image once; use one")
    return drafted(trained_images(data, method), side)


def check_together(settings: Settings, method: MethodBase) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        UserError: there are several, and the settings ask for that.
    """
    check_several(settings.plain, size())
    if settings.precision == "fp16" and method.own_parameters():
        raise UserError(FP16_ROWS)


def check_compared(method: MethodBase, batch_size: int, parts: int) -> None:
    """Refuse parts of a batch in which a loss that compares images finds one alone.

    Raises:
        UserError: there is such a part.
    """
    size = part_size(batch_size, parts)
    smallest = batch_size % size or size
    if method.compares_images and smallest < 2:
        raise UserError(
            f"schedule.batch_size: steps of {batch_size} images have a part of 1 (schedule.accumulate={parts}), and "
            "this loss compares the images of a part; choose parts of 2 images or more"
        )
