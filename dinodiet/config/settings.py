"""The gate: a composed configuration becomes plain typed settings, once. Below it nothing knows OmegaConf."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf

from dinodiet.config.groups import NODES, RECORD, SCORED
from dinodiet.config.precheck import check_nodes, hints_of
from dinodiet.config.ranges import AtLeastOne, BelowOne, Finite, NonNegative, Positive, Range, Seed
from dinodiet.config.schema import (
    Axes,
    BatchNorms,
    Mode,
    Origin,
    Precision,
    ReduceDtype,
    StrategyName,
    Tower,
    Towers,
    check,
    check_relations,
    own_choices,
    resolved,
)
from dinodiet.config.signature import Node, check_value
from dinodiet.config.written import spell_out
from dinodiet.errors import UserError

T = TypeVar("T")
Rate = Annotated[T, Range(0, 100)]  # of learning and decay; what is larger overflows in a few steps
Count = Annotated[T, Range(1, 2**20)]
Share = Annotated[T, Range(0, 1, open_low=True)]
KINDS: dict[str, Any] = {"plan": Literal["grouped", "full"]}  # of a key that settings do not keep
# What torch and timm call the settings of optimisers.
OPTIMIZER: dict[str, Any] = {
    **dict.fromkeys(("lr", "eps", "weight_decay", "lr_decay", "dampening"), Rate[float]),
    **dict.fromkeys(("momentum", "alpha", "rho", "momentum_decay"), BelowOne[float]),
    "betas": tuple[BelowOne[float], BelowOne[float]],
}
LabelRule = Literal["balanced", "proportional"]
# Keys of `eval` that are not evaluators.
EVALUATION = ("every_epochs", "batch_size", "validation", "dataset", *SCORED)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; see `ScheduleConfig`. Rates are numbers or schedules (`dinodiet.schedules`)."""

    epochs: Annotated[float, Range(0, 1e6)]
    batch_size: Count[int]
    accumulate: Count[int]
    optimizer: Node
    lr: Rate[float | Node]
    lr_reference_batch: Count[int | None]
    weight_decay: Rate[float | Node]
    clip_grad: Positive[float | None]
    clip_mode: Literal["global", "per_tensor"]
    layer_decay: Share[float | None] = None
    head_lr: Rate[float | Node | None] = None
    steps: Annotated[int | None, Range(1, 1e9)] = None
    minutes: Annotated[float | None, Range(0, 1e6, open_low=True)] = None
    decayed: Literal["all"] | None = None


@dataclass(frozen=True)
class Evaluation:
    """What is scored: evaluators by name, how often during training, on which dataset (None: the trained one).

    `towers`: the evaluated encoder alone, or beside a teacher that is evaluated the student too (`both`).

    The keys of labels say how many of train's evaluators are given, see `config.budgets`; None of both: all.
    """

    evaluators: dict[str, Node]
    every_epochs: Positive[float | None] = None
    batch_size: Count[int] = 256
    validation: bool = True
    dataset: Node | None = None
    labels_per_class: list[AtLeastOne[int] | Literal["all"]] | None = None
    label_fraction: Share[list[float] | None] = None
    label_rule: LabelRule | None = None
    label_seeds: Count[int] = 5
    towers: Towers = "evaluated"


@dataclass(frozen=True)
class Embed:
    """What mode=embed writes: the format, images of a file, splits (None: all), and the folder (None: the study's)."""

    format: Literal["parquet", "npz"]
    rows: Count[int]
    splits: list[Literal["train", "val", "test", "pretext"]] | None
    out: str | None


@dataclass(frozen=True)
class Shown:
    """What mode=views shows: so many images, at most as many as a batch has."""

    images: Annotated[int, Range(1, 256)] = 6


@dataclass(frozen=True)
class Landscape:
    """Which plane mode=landscape looks at, and what at its points; see `dinodiet.run.landscape`.

    `x` and `y` are [min, max, step]; None: around the three points. `part` is the cell that a process computes; None:
    all of them, `chunk` points each.
    """

    points: list[str] = field(default_factory=lambda: ["teacher", "student", "init"])
    origin: Origin = "nearest"
    axes: Axes = "orthonormal"
    x: Finite[list[float] | None] = None
    y: Finite[list[float] | None] = None
    head: bool = True
    batchnorm: BatchNorms = "recomputed"
    k: AtLeastOne[int] = 20
    linear: bool = False
    chunk: Count[int] = 32
    part: NonNegative[int | None] = None


@dataclass(frozen=True)
class Settings:
    """All settings of a run. `plain` is the whole resolved configuration, `choices` the chosen group files by name."""

    choices: dict[str, str]
    plain: dict[str, Any]
    schedule: Schedule
    evaluation: Evaluation
    views: Shown
    embed: Embed
    landscape: Landscape
    name: str
    mode: Mode
    checkpoint: str | None
    tower: Tower
    export: str | None
    export_dir: str | None
    seed: Seed[int]
    device: str
    precision: Precision
    compile: bool
    deterministic: bool
    grad_checkpointing: bool
    processes: Annotated[int | None, Range(1, 4096)]
    strategy: StrategyName
    sync_batchnorm: bool
    reduce_dtype: ReduceDtype
    num_workers: Annotated[int, Range(0, 1024)]
    data_dir: str
    outputs_dir: str
    cache_dir: str | None
    decoded_gib: NonNegative[float]
    log_every: AtLeastOne[int]
    figures: bool
    checkpoint_minutes: NonNegative[float]
    keep_every_epochs: Positive[float | None]
    retry: Literal["failed"] | None
    detach: bool
    prune: bool
    check_inputs: bool
    trust_targets: bool
    model: Node
    dataset: Node
    method: Node
    tracker: Node
    record: dict[str, Node]

    @property
    def study(self) -> Path:
        """Return the folder of the run's study, `outputs_dir/name`."""
        return Path(self.outputs_dir).expanduser() / self.name

    @property
    def cache(self) -> Path:
        """Return the folder of what runs share."""
        return Path(self.cache_dir or Path(self.outputs_dir) / ".cache").expanduser()

    @property
    def evaluation_dataset(self) -> Node:
        """Return the dataset that is scored."""
        return self.evaluation.dataset or self.dataset


GROUPS = ("schedule", "eval", "views", "embed", "landscape")  # keys that hold keys
# Keys with types of their own.
PREFIXES: dict[str, type] = {
    "": Settings,
    "schedule.": Schedule,
    "eval.": Evaluation,
    "views.": Shown,
    "embed.": Embed,
    "landscape.": Landscape,
}


def settings_of(cfg: DictConfig, choices: Mapping[str, Any]) -> Settings:
    """Return a composed configuration as settings, checked.

    Raises:
        UserError: a key is unknown, a value is out of range, or an interpolation cannot be resolved.
    """
    check(cfg)
    return check_resolved(resolved(cfg), choices)


def check_resolved(plain: dict[str, Any], choices: Mapping[str, Any]) -> Settings:
    """Return resolved values, which become the `plain` of settings, as settings, checked; raises as `settings_of`."""
    plain.setdefault(RECORD, {})
    spell_out(plain, hints_below("schedule."))
    check_plain(plain)
    return from_plain(plain, choices)


def check_plain(plain: dict[str, Any]) -> None:
    """Hold resolved values against the types and ranges of the settings, and of what the nodes name.

    Raises:
        UserError: one line that names the key, what was found and what is valid.
    """
    for prefix in PREFIXES:
        values, hints = plain[prefix[:-1]] if prefix else plain, hints_below(prefix)
        for name, value in values.items():
            if prefix or name not in GROUPS:
                check_value(value, hints.get(name, Node), prefix + name, hints_of)
    _check_optimizer(plain["schedule"]["optimizer"])
    check_relations(plain)
    for group in (*NODES, RECORD):
        check_nodes(plain[group], group)
    for name, node in plain[RECORD].items():
        if not isinstance(node, dict) or "_target_" not in node:
            raise UserError(f"{RECORD}.{name}: no _target_; {RECORD}=[NAME] chooses a file of the group {RECORD}")


def hints_below(prefix: str) -> dict[str, Any]:
    """Return the types of the keys with a prefix: "", "schedule." or "eval."; none below any other."""
    hints = _hints_of(PREFIXES[prefix]) if prefix in PREFIXES else {}
    return {**hints, **(KINDS if prefix == "" else {})}


@functools.cache
def _hints_of(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _check_optimizer(node: Node) -> None:
    """Hold the settings of an optimiser against their ranges, which optimisers from elsewhere do not tell."""
    for name in OPTIMIZER.keys() & node.keys():
        check_value(node[name], OPTIMIZER[name], f"schedule.optimizer.{name}")


def from_unresolved(config: Mapping[str, Any], choices: Mapping[str, Any]) -> Settings:
    """Return plain values that may hold interpolations as settings; paths then follow the machine at hand.

    Raises:
        UserError: as `settings_of`.
    """
    return settings_of(OmegaConf.create(dict(config)), choices)


def from_plain(plain: dict[str, Any], choices: Mapping[str, Any]) -> Settings:
    """Return resolved plain values as settings; they were checked before."""
    return Settings(
        choices=own_choices(choices),
        plain=plain,
        schedule=Schedule(**plain["schedule"]),
        evaluation=_evaluation(plain["eval"]),
        views=Shown(**plain["views"]),
        embed=Embed(**plain["embed"]),
        landscape=Landscape(**plain["landscape"]),
        **{key: value for key, value in plain.items() if key in Settings.__dataclass_fields__ and key not in GROUPS},
    )


def _evaluation(node: Node) -> Evaluation:
    evaluators = {name: value for name, value in node.items() if name not in EVALUATION}
    return Evaluation(evaluators, **{name: node[name] for name in EVALUATION if name in node})
