"""The keys of a run's configuration and their checks. Imports no torch."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dinodiet.config import resolvers
from dinodiet.config.groups import CHOICES, EVALUATION_DATASET, RECORD, TEACHER, TEACHER_MODEL
from dinodiet.config.teacher import teacher_of
from dinodiet.errors import UserError

LONGEST = 255  # bytes of a folder's name
# Keys of a schedule that runs of older versions lack; null changes nothing.
LATER = ("layer_decay", "head_lr", "steps", "minutes", "decayed")
# What processes send each other, as runs have it that lack these keys; any other value is part of a run's name.
EXCHANGE: dict[str, Any] = {"sync_batchnorm": True, "reduce_dtype": "fp32"}
Ahead = Literal["plan", "measure", "fetch", "hold", "release"]  # modes that start no run
Mode = Literal["train", "views", "evaluate", "sanity", "export", "embed", "landscape", Ahead]
Origin = Literal["first", "mean", "nearest"]
Axes = Literal["raw", "orthonormal", "scaled"]
BatchNorms = Literal["recomputed", "first"]
Precision = Literal["fp32", "bf16", "fp16"]
StrategyName = Literal["ddp", "fsdp"]
ReduceDtype = Literal["fp32", "bf16"]
Tower = Literal["evaluated", "trained"]
Towers = Literal["evaluated", "both"]

resolvers.register()


@dataclass
class ScheduleConfig:
    """How long and how fast to train. `lr` and `weight_decay` are numbers or schedules (`dinodiet.schedules`)."""

    epochs: float = 100
    batch_size: int = 64
    accumulate: int = 1  # micro-batches a step: the same batch in less memory
    optimizer: dict[str, Any] = field(default_factory=lambda: {"_target_": "torch.optim.AdamW", "_partial_": True})
    lr: Any = 1e-3
    lr_reference_batch: int | None = (
        None  # lr is meant for this batch size and scales with batch_size; null: as written
    )
    weight_decay: Any = 0.05
    clip_grad: float | None = None
    clip_mode: str = "global"  # global: the norm over all parameters | per_tensor: each parameter on its own
    layer_decay: float | None = None  # factor of the backbone's lr from a block to the one before it; null: one rate
    head_lr: Any = None  # of all that is not the backbone, a number or a schedule; null: lr
    steps: int | None = None  # exactly so many; null: epochs says
    minutes: float | None = None  # so many steps as take so long by the rate that mode=measure found; null: epochs says
    decayed: str | None = None  # all: biases and norms decay too; null: matrices


@dataclass
class EmbedConfig:
    """What mode=embed writes, and where."""

    format: str = "parquet"
    rows: int = 8192
    splits: list[str] | None = None
    out: str | None = None


@dataclass
class ViewsConfig:
    """What mode=views shows."""

    images: int = 6


@dataclass
class LandscapeConfig:
    """Which plane mode=landscape looks at, and what at its points."""

    points: list[str] = field(default_factory=lambda: ["teacher", "student", "init"])
    origin: str = "nearest"
    axes: str = "orthonormal"
    x: list[float] | None = None
    y: list[float] | None = None
    head: bool = True
    batchnorm: str = "recomputed"
    k: int = 20
    linear: bool = False
    chunk: int = 32
    part: int | None = None


@dataclass
class RunConfig:
    """All keys of a run; `conf/config.yaml` gives their values and explains them."""

    name: str = "default"
    mode: str = "train"
    checkpoint: str | None = None
    tower: str = "evaluated"
    export: str | None = None
    export_dir: str | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    compile: bool = False
    deterministic: bool = False
    grad_checkpointing: bool = False
    processes: int | None = 1
    strategy: str = "ddp"
    sync_batchnorm: bool = True
    reduce_dtype: str = "fp32"
    num_workers: int = 0
    data_dir: str = "data"
    outputs_dir: str = "outputs"
    cache_dir: str | None = None
    decoded_gib: float = 4.0
    log_every: int = 10
    figures: bool = True
    checkpoint_minutes: float = 5.0
    plan: str = "grouped"
    retry: str | None = None
    detach: bool = False
    prune: bool = False
    check_inputs: bool = True
    trust_targets: bool = False
    keep_every_epochs: float | None = None
    views: ViewsConfig = field(default_factory=ViewsConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    landscape: LandscapeConfig = field(default_factory=LandscapeConfig)
    model: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    eval: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    tracker: dict[str, Any] = field(default_factory=dict)


def check(cfg: DictConfig) -> None:
    """Refuse unknown keys, also those added with `+`, and groups that name nothing to build.

    Raises:
        UserError: one line that names the key, what was found and the valid choices.
    """
    _known(cfg, RunConfig, "", (RECORD,))
    for group in ("model", "dataset", "method", "schedule", "eval", "tracker"):
        if not isinstance(cfg[group], DictConfig) or cfg[group]._is_none():
            raise UserError(f"{group}: {cfg[group]!r}; must be a choice of the group {group}")
        if group not in ("schedule", "eval") and "_target_" not in cfg[group]:
            raise UserError(f"{group}: no _target_ in its YAML file; it names the class or function to build")
    _known(cfg.schedule, ScheduleConfig, "schedule.", LATER)
    _known(cfg.views, ViewsConfig, "views.")
    _known(cfg.embed, EmbedConfig, "embed.")
    _known(cfg.landscape, LandscapeConfig, "landscape.")


def check_relations(plain: dict[str, Any]) -> None:
    """Refuse values that do not go with another value; raises as `check`."""
    schedule = plain["schedule"]
    if schedule["batch_size"] % schedule["accumulate"]:
        raise UserError(
            f"schedule.accumulate: {schedule['accumulate']} does not divide batch_size={schedule['batch_size']}"
        )
    if None not in (schedule.get("steps"), schedule.get("minutes")):
        raise UserError(f"schedule.minutes: given beside schedule.steps={schedule['steps']}; give one of the two")
    if plain["export"] is not None and plain["mode"] != "export":
        raise UserError(f"export: {plain['export']}, but mode={plain['mode']} writes no weights; add mode=export")
    _check_name(plain["name"])
    _check_paths(plain)
    _check_size(plain["model"], "model")
    _check_teacher(plain["method"])
    _check_labels(plain["eval"])


def own_choices(choices: Mapping[str, Any]) -> dict[str, str]:
    """Return the chosen group files that make up a run, without Hydra's own groups, and those that none was chosen of.

    Hydra says None of these; as text where choices were passed on.
    """
    chosen = {group: str(choices.get(group) or None) for group in (*CHOICES, EVALUATION_DATASET, TEACHER_MODEL)}
    return {group: choice for group, choice in chosen.items() if choice != "None"}


def _check_teacher(method: dict[str, Any]) -> None:
    """Refuse a teacher of a size that there is not, or without weights."""
    teacher = teacher_of(method)
    if teacher is None:
        return
    _check_size(teacher, TEACHER)
    if teacher.get("weights", "") in ("none", None):
        raise UserError(f"{TEACHER}.weights: {teacher['weights']}; give a file, folder, run, or hub")


def _check_size(model: dict[str, Any], key: str) -> None:
    """Refuse a size that a family of models does not have."""
    names = model.get("names")
    if isinstance(names, dict) and "size" in model and str(model["size"]) not in names:
        released = ", ".join(size for size, name in names.items() if name is not None)
        raise UserError(f"{key}.size: {str(model['size'])!r}; choose from: {released}")


def _check_name(name: str) -> None:
    if not name or name.startswith(("/", ".")) or ".." in name:
        raise UserError(f"name: {name!r} names the folder below outputs_dir; give a plain name such as my_study")
    if max(len(os.fsencode(part)) for part in name.split("/")) > LONGEST:
        raise UserError(f"name: {name[:40]!r}... names a folder, and a folder's name has up to {LONGEST} bytes")


def _check_labels(evaluation: dict[str, Any]) -> None:
    """Refuse budgets of labels that do not go together; runs of older versions say none."""
    per_class, fraction = evaluation.get("labels_per_class"), evaluation.get("label_fraction")
    for key, amounts, such in (("labels_per_class", per_class, "5, all"), ("label_fraction", fraction, "0.1, 1")):
        if amounts == []:
            raise UserError(f"eval.{key}: []; give budgets such as {such}, or null for all labels")
    if per_class is not None and fraction is not None:
        raise UserError("eval.label_fraction: given beside labels_per_class; give one of the two")
    if fraction is not None and evaluation.get("label_rule") == "balanced":
        raise UserError("eval.label_rule: balanced takes so many of each class: it goes with eval.labels_per_class")


def _check_paths(plain: dict[str, Any]) -> None:
    """Refuse paths with nothing in them, which would be the folder that one works in."""
    for key in ("data_dir", "outputs_dir", "cache_dir", "checkpoint"):
        if plain[key] is not None and not plain[key].strip():
            wanted = "a path, or null" if key in ("cache_dir", "checkpoint") else "the path of a folder"
            raise UserError(f"{key}: {plain[key]!r}; must be {wanted}")


def _known(node: DictConfig, schema: type, prefix: str, optional: Sequence[str] = ()) -> None:
    known = [entry.name for entry in fields(schema)]
    for key in map(str, node):
        if key not in known:
            raise UserError(f"{prefix}{key}: no such key; choose from: {', '.join(known)}")
    for key in known:
        if key not in node and key not in optional:
            raise UserError(f"{prefix}{key}: left out; a run needs it")


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration as plain Python values, interpolations resolved.

    Raises:
        UserError: an interpolation cannot be resolved or a mandatory value is missing.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'config'}: {str(error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    return typing.cast("dict[str, Any]", plain)
