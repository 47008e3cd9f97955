"""What a run would need: everything is built as for training, but on the meta device, without weights or images."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dinodiet.backbones.meta import backbone_on_meta
from dinodiet.backbones.weights.files import run_file
from dinodiet.config.budgets import budgets
from dinodiet.config.build import build, declared
from dinodiet.config.groups import PHASES, TEACHER
from dinodiet.config.identity import LENGTH, scored_towers
from dinodiet.config.parent import check_starts
from dinodiet.config.precheck import constant_of
from dinodiet.config.settings import Settings, from_plain
from dinodiet.config.teacher import teacher_of
from dinodiet.data.dataset import RawSplits
from dinodiet.data.held_out import is_held_out
from dinodiet.data.loader import TrainLoader
from dinodiet.data.sources.planned import unknown
from dinodiet.errors import NotOnDisk, UserError, one_line
from dinodiet.io.assets import ASSETS, COUNTS, LABELS
from dinodiet.io.machine import pick_device
from dinodiet.processes.rows import Share
from dinodiet.run.activations import Activations
from dinodiet.run.division import Division, division_of
from dinodiet.run.guarded import Guarded
from dinodiet.run.needs import structure
from dinodiet.run.parts import build_scorer, clock_of
from dinodiet.run.scheduled import check_scheduled
from dinodiet.sweep.planning.asked import BySpec
from dinodiet.sweep.planning.built import Built, build_whole, numbers_of, without_seeds
from dinodiet.sweep.planning.pace import Pace
from dinodiet.sweep.planning.run_work import Counts, RunWork, work_of
from dinodiet.types import Backbone, Clock, Data, DataSpec, Images, Runtime, Tracker

# What changes neither the size of a run nor whether it can be built.
IRRELEVANT = (
    *("name", "mode", "checkpoint", "seed", "outputs_dir", "cache_dir", "log_every", "figures", "checkpoint_minutes"),
)
UNKNOWN_COUNT = 1000
UNBUILT = (("split", "pretext"), ("trains", True))  # what the steps depend on of a method that cannot be built here


@dataclass(frozen=True)
class Estimate:
    """What a run needs; None is unknown.

    Of several processes, memory is that of the first, which holds the most and scores.

    Attributes:
        steps: optimiser steps.
        parameters, trained: of the backbone, whole.
        memory: bytes of weights, gradients and optimiser state, the method's heads and teacher included.
        peak: bytes at the worst moment of a training step or of an evaluation, activations included. What a CPU run's
            process holds besides, about 1 GiB of libraries, comes on top.
        note: what the numbers could not be taken from, in one line.
        evaluations: evaluators times budgets of labels times scored backbones, before and after the training.
        each: whose memory it is, in words; None: that of the one process there is.
        seconds: of the training, where a rate is known.
        pace: of runs like this, where one is known.
        work: its floating-point operations, where they can be counted.
    """

    steps: int | None
    parameters: int | None = None
    trained: int | None = None
    memory: int | None = None
    peak: int | None = None
    note: str | None = None
    evaluations: int | None = None
    each: str | None = None
    seconds: float | None = None
    pace: Pace | None = None
    work: RunWork | None = None


@dataclass(frozen=True)
class _Opened:
    data: Data
    note: str | None = None
    counted: bool = True
    sized: bool = True  # the numbers of images are those of the set


class Estimator:
    """Estimates configurations; what several of them share is opened and built once. Seeds are taken for alike."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}
        self._activations, self._by_spec = Activations(), BySpec()

    def __call__(self, settings: Settings) -> Estimate:
        """Return what a run needs.

        Raises:
            UserError: it cannot be built; one line.
        """
        pick_device("auto" if settings.device.startswith("cuda") else settings.device)  # a GPU may be elsewhere
        division = division_of(settings)
        alike = {**without_seeds(settings.plain, settings.seed), "dataset": settings.dataset}
        plain = {**alike, "seed": 0, "device": "auto", "processes": division.processes}
        relevant = {key: value for key, value in plain.items() if key not in IRRELEVANT}
        planned = from_plain(plain, settings.choices)
        found: Estimate = self._once("run", relevant, lambda: self._estimate(planned, division))
        return replace(found, each=division.told())

    def _once(self, kind: str, what: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` returned, or raise what it raised, when it was first called for `what`."""
        key = f"{kind} {json.dumps(what, sort_keys=True, default=repr)}"
        if key not in self._kept:
            try:
                self._kept[key] = make()
            except UserError as error:
                self._kept[key] = error
        if isinstance(self._kept[key], UserError):
            raise self._kept[key]
        return self._kept[key]

    def _estimate(self, settings: Settings, division: Division) -> Estimate:
        self._once("tracker", settings.tracker, lambda: Guarded(build(settings.tracker, "tracker", Tracker)))
        opened: _Opened = self._once("data", settings.dataset, lambda: open_data(settings.dataset))
        constants = (constant_of(str(settings.method["_target_"]), name, default) for name, default in UNBUILT)
        steps = _clock(settings, opened.data, division, *constants).total_steps if opened.counted else None
        _check_file(settings.model.get("weights"), "model")
        _check_file((teacher_of(settings.method) or {}).get("weights"), TEACHER)
        check_starts(settings.method)
        known = _on_known_labels(settings, opened)
        try:
            backbone = self._backbone(settings.model, opened.data.spec)
            scorer = build_scorer(known, opened.data, backbone, Runtime())
            built = self._build(settings, opened, backbone, division)
        except NotOnDisk as error:  # the configuration of a model of the hub
            return Estimate(steps, note=one_line(error))
        except (NotImplementedError, RuntimeError) as error:  # parts of one's own that look at their values
            return Estimate(steps, note=f"cannot be built without values ({type(error).__name__})")
        clock = _clock(settings, opened.data, division, built.split, trains=built.trains)
        self._once("schedules", [settings.schedule, settings.method, clock], lambda: check_scheduled(settings, clock))
        steps = clock.total_steps if opened.counted else None
        each = len(PHASES) * len(scored_towers(settings))
        evaluations = each * len(list(scorer.asked)) if known is settings else None
        memory, peak = (built.memory, built.peak) if opened.counted else (None, None)
        return Estimate(
            *(steps, built.parameters, built.trained, memory, peak, opened.note, evaluations),
            work=_work(settings, opened, built, steps),
        )

    def _build(self, settings: Settings, opened: _Opened, backbone: Backbone, division: Division) -> Built:
        """Return what a method needs: of all runs that differ in nothing that it depends on, it is built once."""
        data, images = opened.data, {name: len(getattr(opened.data, name)) for name in ("pretext", "train")}
        numbers = numbers_of(settings, images)
        plain = {key: value for key, value in settings.plain.items() if key not in (*IRRELEVANT, "dataset", "schedule")}
        schedule = {key: value for key, value in settings.plain["schedule"].items() if key not in LENGTH}
        network = [structure(backbone), backbone.embed_dim, backbone.input.size, backbone.input.divisor]
        what = [plain, schedule, numbers, network, opened.counted]
        key = json.dumps(what, sort_keys=True, default=repr)
        return self._by_spec.once(
            key,
            data.spec,
            lambda spec: build_whole(
                settings, copy.deepcopy(backbone), spec, numbers, division, self._activations, measure=opened.counted
            ),
        )

    def _backbone(self, node: dict[str, Any], spec: DataSpec) -> Backbone:
        kept = [node, spec.image_size, spec.native_size]
        backbone: Backbone = self._once("model", kept, lambda: backbone_on_meta(node, spec))
        return backbone


def _work(settings: Settings, opened: _Opened, built: Built, steps: int | None) -> RunWork | None:
    """Return the floating-point operations of a run; None where images or operations cannot be counted."""
    elsewhere = settings.evaluation_dataset != settings.dataset
    if built.operations is None or steps is None or not opened.sized or elsewhere:
        return None
    data = opened.data
    trained, train, val, test = (len(getattr(data, split)) for split in (built.split, "train", "val", "test"))
    images = Counts(trained, train, val, test, published_val=not is_held_out(data.val))
    return work_of(settings, built.operations, images, steps if built.trains else 0)


def _on_known_labels(settings: Settings, opened: _Opened) -> Settings:
    """Return settings without budgets of labels where the labels are made up: classes may be smaller or larger."""
    if opened.note is None or budgets(settings.evaluation) == [None]:
        return settings
    return replace(settings, evaluation=replace(settings.evaluation, labels_per_class=None, label_fraction=None))


def open_data(node: dict[str, Any]) -> _Opened:
    """Open a dataset of which nothing is downloaded and, where there is a way, no image read.

    Raises:
        UserError: it refuses its settings, or its files are broken.
    """
    source, key = node["source"], "dataset.source"
    opening = build({name: value for name, value in node.items() if name != "source"}, "dataset")
    try:
        return _Opened(opening(source=_on_disk(source, key)))
    except NotOnDisk:
        pass
    for counts in declared(source, key, COUNTS, nested=False):
        try:
            return _Opened(opening(source=counts()), "data not found, sizes as published")
        except NotOnDisk:
            pass
    limit = node.get("limit")
    made_up = opening(source=unknown(limit or UNKNOWN_COUNT))
    return _Opened(made_up, "data not found", counted=limit is not None, sized=False)


def _on_disk(source: dict[str, Any], key: str) -> RawSplits:
    """Return a source's splits from what is on disk; raises NotOnDisk where its assets are not."""
    waiting = build(source, key)  # its keys and values are held against its signature
    for assets in declared(source, key, ASSETS):
        for asset in assets():
            if asset.get is not None and asset.find() is None:
                raise NotOnDisk(f"{asset.name}: {asset.place} not found")
    labels = declared(source, key, LABELS, nested=False)
    splits: RawSplits = (labels[0] if labels else waiting)()
    return splits


def _check_file(weights: Any, key: str) -> None:
    """Refuse weights that are not there, and those of a run that is not finished, by its name."""
    if isinstance(weights, str) and os.sep in weights and not Path(weights).expanduser().exists():
        raise UserError(
            f"{key}.weights: no file {Path(weights).absolute()}; choose from: hub, none, or a file that exists"
        )
    if isinstance(weights, str) and Path(weights).expanduser().is_dir():
        try:
            run_file(weights)
        except UserError as error:
            raise UserError(f"{key}.{error}") from error


def _clock(settings: Settings, data: Data, division: Division, split: str, trains: bool) -> Clock:
    images: Images = getattr(data, split)
    share, schedule = Share(size=division.processes), settings.schedule
    loader = TrainLoader(images, schedule.batch_size, seed=0, share=share, parts=schedule.accumulate)
    return clock_of(settings, loader, trains=trains)
