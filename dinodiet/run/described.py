"""The block that a run prints before it starts."""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm

from dinodiet.config.identity import scored_towers
from dinodiet.config.settings import Settings
from dinodiet.data.labelled import classes_without_images
from dinodiet.io import machine
from dinodiet.io.units import count
from dinodiet.methods.base import MethodBase
from dinodiet.processes.batches import part_size
from dinodiet.processes.gathering import is_shared, size
from dinodiet.run import console
from dinodiet.run.parts import Parts, trained_images
from dinodiet.store.rundir import RunDir
from dinodiet.types import Clock, Data, Selection

MOST = 8  # classes without a label, by name


def describe(settings: Settings, parts: Parts, run_dir: RunDir) -> str:
    """Return the block that a run prints before it starts."""
    spec, clock, data, choices = parts.data.spec, parts.state.clock, parts.data, settings.choices
    parameters = list(parts.method.towers()[0].parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters)
    chosen = {"trainable": settings.method.get("trainable"), **parts.method.describe()}
    return console.block(
        f"{choices['model']} on {choices['dataset']} with {choices['method']}, seed {settings.seed}",
        {
            "backbone": f"{parts.backbone.embed_dim} features, {count(total)} parameters, "
            f"{count(trained)} trained ({_percent(trained, total)}), {parts.backbone.input.size} px",
            **{name: text for name, text in parts.backbone.description.details.items() if text},
            "data": f"{spec.name}: {_to_train_on(data, parts.method)}{_labelled(data)}",
            **({} if data.labelled is None else {"labels": _chosen_labels(data, data.labelled)}),
            "method": ", ".join(f"{name} {value}" for name, value in chosen.items() if value is not None)
            or choices["method"],
            "schedule": f"{_epochs(settings, clock):g} epochs, {clock.total_steps:,} steps of {_batch(settings, parts)}"
            if parts.method.trains
            else "none: nothing is trained",
            "device": f"{machine.describe_device(parts.runtime.device)}, {settings.precision}",
            "evaluation": (", ".join(parts.scorer.asked.evaluators) or "none") + _scored(settings),
            "writes to": str(run_dir.path),
        },
    )


def _scored(settings: Settings) -> str:
    """Return which backbones are scored, in words, where both towers are asked for."""
    if settings.evaluation.towers == "evaluated":
        return ""
    apart = len(scored_towers(settings)) > 1
    return ", of teacher and student" if apart else "; eval.towers=both: one backbone is trained and evaluated"


def _epochs(settings: Settings, clock: Clock) -> float:
    return settings.schedule.epochs if settings.schedule.steps is None else round(clock.total_epochs, 2)


def _batch(settings: Settings, parts: Parts) -> str:
    """Return the images of a step, and what its parts are where gradients are accumulated, in words."""
    images, part = parts.loader.batch_size, part_size(parts.loader.batch_size, settings.schedule.accumulate)
    own = not settings.sync_batchnorm and is_shared() and _trains_batchnorm(parts.method)
    told = f"; BatchNorm sees the {part // size()} of each process" if own else ""
    return f"{images}{told}" if part == images else f"{images} in parts of {part}{_seen_alone(parts.method)}{told}"


def _seen_alone(method: MethodBase) -> str:
    """Return what a part of a batch is a batch of its own to, in words; empty: the same training in less memory."""
    if method.compares_images:
        return "; the loss compares the images of a part alone"
    return "; BatchNorm sees a part at a time" if _trains_batchnorm(method) else ""


def _trains_batchnorm(method: MethodBase) -> bool:
    norms = [module for module in method.modules() if isinstance(module, _BatchNorm)]
    return any(parameter.requires_grad for norm in norms for parameter in norm.parameters())


def _percent(part: int, whole: int) -> str:
    """Return a share in words: 0 %, 0.4 %, 14 %."""
    share = 100 * part / max(whole, 1)
    return f"{share:.1f} %" if 0 < share < 1 else f"{share:.0f} %"


def _to_train_on(data: Data, method: MethodBase) -> str:
    return f"{len(trained_images(data, method)):,} images to train on, " if method.trains else ""


def _chosen_labels(data: Data, chosen: Selection) -> str:
    """Return how many training images keep their labels, and which classes have none, in words."""
    missing = classes_without_images(data.train.labels, data.spec)
    none = f"; none of {', '.join(missing[:MOST])}{', ...' if len(missing) > MOST else ''}" if missing else ""
    how = f", {chosen.rule}, seed {chosen.seed}"
    return f"{chosen.images:,} of {chosen.available:,} training images keep theirs{how}{none}"


def _labelled(data: Data) -> str:
    """Return the labelled splits in words."""
    if not data.spec.labelled:
        return "no labels"
    kind = "labels" if data.spec.multilabel else "classes"
    splits = f"{len(data.train):,} train / {len(data.val):,} val / {len(data.test):,} test"
    return f"{splits}, {data.spec.num_labels} {kind}"
