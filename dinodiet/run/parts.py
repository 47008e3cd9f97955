"""The parts of a run, built from its configuration before the first step: mistakes show in the first seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from dinodiet.backbones.recompute import recompute_blocks
from dinodiet.config.build import build
from dinodiet.data.cache.decoded import keep_decoded
from dinodiet.data.loader import TrainLoader, used_batch_size, without_pixels
from dinodiet.data.views.drafts import drafted
from dinodiet.errors import UserError
from dinodiet.evals.scorer import Scorer
from dinodiet.io import machine as environment
from dinodiet.io.units import count
from dinodiet.methods.base import MethodBase
from dinodiet.run import console as report
from dinodiet.run.trackers import Guarded
from dinodiet.schedules import Scalar, scale_peak
from dinodiet.store.rundir import RunDir
from dinodiet.training.loop import Optimisation
from dinodiet.training.optim import build_fused
from dinodiet.types import Backbone, Clock, Data, Images, Runtime, Tracker, World

EVAL_SETTINGS = ("every_epochs", "batch_size", "validation")  # keys of `eval` that are not evaluators


@dataclass
class Parts:
    """Everything a run consists of."""

    device: torch.device
    data: Data
    backbone: Backbone
    method: MethodBase
    loader: TrainLoader
    optimizer: Optimizer
    optimisation: Optimisation
    clock: Clock
    scorer: Scorer
    tracker: Tracker


def build_parts(cfg: DictConfig) -> Parts:
    """Build data, backbone, evaluators, method, optimiser and tracker, in that order.

    Raises:
        UserError: one of them refuses its settings.
    """
    device = environment.pick_device(cfg.device)
    tracker = Guarded(build(cfg.tracker, "tracker")())
    data, backbone = open_backbone(cfg)
    scorer = build_scorer(cfg, data, backbone, device)
    method: MethodBase = build(cfg.method, "method")(backbone=backbone, spec=data.spec)
    if cfg.grad_checkpointing:
        for tower in method.towers():
            recompute_blocks(tower)
    method.to(device)
    if cfg.compile and not method.reads_images:
        raise UserError(
            "compile: true compiles whole forward passes, of which a trunk cache (method.trunk) leaves a part; use one"
        )
    optimisation, optimizer = build_optimisation(cfg, method, len(data.pretext))
    pictures = pictures_of(data, method)
    data = decode_once(cfg, scorer)
    pictures = pictures or (data.pretext if method.reads_images else without_pixels(data.pretext))
    loader = TrainLoader(pictures, cfg.schedule.batch_size, cfg.seed, cfg.num_workers, device.type == "cuda")
    clock = Clock(0, round(cfg.schedule.epochs * loader.steps_per_epoch), loader.steps_per_epoch, seed=cfg.seed)
    if cfg.compile:
        for tower in method.towers():
            tower.compile()
    return Parts(device, data, backbone, method, loader, optimizer, optimisation, clock, scorer, tracker)


def pictures_of(data: Data, method: MethodBase) -> Images | None:
    """Return the pictures to train on where the views want them decoded smaller, else None.

    Raises:
        UserError: they are no image files, or the training does not see them.
    """
    side = method.draft_side
    if side is None:
        return None
    if not method.reads_images:
        raise UserError("method.views.draft: true, but a trunk cache (method.trunk) decodes every image once; use one")
    return drafted(data.pretext, side)


def open_backbone(cfg: DictConfig) -> tuple[Data, Backbone]:
    """Open the dataset and build the backbone for it.

    Raises:
        UserError: one of them refuses its settings, or its files are missing or broken.
    """
    data: Data = build(cfg.dataset, "dataset")()
    torch.manual_seed(cfg.seed)  # of a backbone that starts from scratch, and of the heads that follow
    backbone: Backbone = build(cfg.model, "model", Backbone)(spec=data.spec)
    assert isinstance(backbone, nn.Module)
    prefer_channels_last(backbone)
    return data, backbone


def prefer_channels_last(module: nn.Module) -> None:
    """Lay convolutional networks out channels-last: faster on CPUs (3-5 x for small ones) and on GPUs alike.

    A transformer's single patch convolution gains nothing and is left alone.
    """
    if sum(isinstance(part, nn.Conv2d) for part in module.modules()) > 2:
        module.to(memory_format=torch.channels_last)


def build_scorer(cfg: DictConfig, data: Data, backbone: Backbone, device: torch.device) -> Scorer:
    """Return what evaluates an encoder: all evaluators of the `eval` group, with the embedding cache."""
    evaluators = {
        str(name): build(node, f"eval.{name}")() for name, node in cfg.eval.items() if name not in EVAL_SETTINGS
    }
    return Scorer(
        evaluators,
        data,
        backbone.input,
        Runtime(World(device=device), cfg.precision, cfg.num_workers, cfg.eval.batch_size, cache_folder(cfg)),
        validation=cfg.eval.validation,
    )


def decode_once(cfg: DictConfig, scorer: Scorer) -> Data:
    """Have the scorer's image files decoded, and return the data for others.

    This may take minutes: it comes when all else is built, since mistakes show in the first seconds.
    """
    threads = max(cfg.num_workers, torch.get_num_threads())
    scorer.data = keep_decoded(scorer.data, cache_folder(cfg) / "decoded", cfg.decoded_gib, threads)
    return scorer.data


def cache_folder(cfg: DictConfig) -> Path:
    """Return the folder of what runs share."""
    return Path(cfg.cache_dir or Path(cfg.outputs_dir) / ".cache").expanduser()


def build_optimisation(cfg: DictConfig, method: MethodBase, num_images: int) -> tuple[Optimisation, Optimizer]:
    """Return the loop's settings and the optimiser over the method's parameter groups.

    A learning rate that is meant for another batch size is scaled by the number of images that a step really sees.
    """
    schedule = cfg.schedule
    lr = _scalar(schedule.lr, "schedule.lr")
    if schedule.lr_reference_batch is not None:
        lr = scale_peak(lr, used_batch_size(schedule.batch_size, num_images) / schedule.lr_reference_batch)
    optimisation = Optimisation(
        lr=lr,
        weight_decay=_scalar(schedule.weight_decay, "schedule.weight_decay"),
        clip_grad=schedule.clip_grad,
        clip_mode=schedule.clip_mode,
        accumulate=schedule.accumulate,
        precision=cfg.precision,
    )
    groups = [group.as_dict() for group in method.param_groups()]
    if not groups:
        raise UserError("method.trainable: nothing is left to train")
    return optimisation, build_fused(build(schedule.optimizer, "schedule.optimizer"), groups)


def _scalar(value: Any, key: str) -> Scalar:
    """Return a number, or the schedule that a node describes."""
    if isinstance(value, DictConfig):
        schedule: Scalar = build(value, key)()
        return schedule
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{key}: {value!r}; must be a number or a schedule (a node with a _target_)")
    return float(value)


def describe(cfg: DictConfig, choices: dict[str, str], parts: Parts, run_dir: RunDir) -> str:
    """Return the block that a run prints before it starts."""
    spec, clock, data = parts.data.spec, parts.clock, parts.data
    parameters = list(parts.method.towers()[0].parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters)
    chosen = {"trainable": cfg.method.get("trainable"), **parts.method.describe()}
    return report.block(
        f"{choices['model']} on {choices['dataset']} with {choices['method']}, seed {cfg.seed}",
        {
            "backbone": f"{parts.backbone.embed_dim} features, {count(total)} parameters, "
            f"{count(trained)} trained, {parts.backbone.input.size} px",
            "data": f"{spec.name}: {len(data.pretext):,} images to train on, {_labelled(data)}",
            "method": ", ".join(f"{name} {value}" for name, value in chosen.items() if value is not None),
            "schedule": f"{cfg.schedule.epochs:g} epochs, {clock.total_steps:,} steps of {parts.loader.batch_size}",
            "device": f"{environment.describe_device(parts.device)}, {cfg.precision}",
            "evaluation": ", ".join(parts.scorer.evaluators) or "none",
            "writes to": str(run_dir.path),
        },
    )


def _labelled(data: Data) -> str:
    """Return the labelled splits in words."""
    if not data.spec.labelled:
        return "no labels"
    kind = "labels" if data.spec.multilabel else "classes"
    splits = f"{len(data.train):,} train / {len(data.val):,} val / {len(data.test):,} test"
    return f"{splits}, {data.spec.num_labels} {kind}"
