"""A method of a run, built without values, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dinodiet.config.build import build
from dinodiet.config.settings import Settings
from dinodiet.data.loader import used_batch_size
from dinodiet.run.activations import Activations
from dinodiet.run.copies import trained_copies, worst
from dinodiet.run.division import Division
from dinodiet.run.needs import Operations, held, method_on_meta, needs
from dinodiet.run.optimisation import build_optimisation
from dinodiet.types import Backbone, DataSpec, PlansTraining


@dataclass(frozen=True)
class Built:
    """What a method needs; numbers as in `Estimate`. It trains on a `split`, or `trains` nothing."""

    split: str
    trains: bool
    parameters: int
    trained: int
    memory: int
    peak: int | None = None
    operations: Operations | None = None


def numbers_of(settings: Settings, images: Mapping[str, int]) -> dict[str, int | None]:
    """Return how many images of each split a batch has, and how many evaluators train on (None: none of them trains).

    Args:
        settings: of a run.
        images: how many the splits `pretext` and `train` have.
    """
    batches = {split: used_batch_size(settings.schedule.batch_size, number) for split, number in images.items()}
    nodes = settings.evaluation.evaluators.items()
    training = any(isinstance(build(node, f"eval.{name}")(), PlansTraining) for name, node in nodes)
    return {**batches, "evaluated": images["train"] if training else None}


def build_whole(
    settings: Settings,
    backbone: Backbone,
    spec: DataSpec,
    numbers: Mapping[str, int | None],
    division: Division,
    activations: Activations,
    *,
    measure: bool,
) -> Built:
    """Build the method of a run and return what it needs. The backbone, which has no values, is spoiled.

    Args:
        settings: of a run.
        backbone: on the meta device.
        spec: of its data.
        numbers: see `numbers_of`.
        division: how many processes train it.
        activations: what backbones were seen to take.
        measure: whether the worst moment is looked for.

    Raises:
        UserError: a part refuses its settings.
    """
    method = method_on_meta(settings, backbone, spec, division)
    copies = trained_copies(settings, method.encoder, spec, numbers["evaluated"] or 0)
    images = numbers["pretext" if method.split == "pretext" else "train"]
    assert images is not None
    _, optimizer = build_optimisation(settings, method, images)
    memory = held(settings, method, (p for group in optimizer.param_groups for p in group["params"]), division)
    parameters = list(method.towers()[0].parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in parameters)
    built = Built(method.split, method.trains, total, trained, memory)
    if not measure:
        return built
    needed = needs(settings, method, spec, memory, activations, division, images=numbers["pretext"])
    if needed is None:
        return built
    tuning = worst(copies, settings.precision, activations)
    peak = max(needed.peak, needed.without_gradients + tuning)
    return Built(built.split, built.trains, total, trained, needed.held, peak, needed.operations)


def without_seeds(value: Any, seed: int) -> Any:
    """Return plain values in which what is the run's seed is 0, wherever parts know it."""
    if isinstance(value, list):
        return [without_seeds(item, seed) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {key: 0 if (key, item) == ("seed", seed) else without_seeds(item, seed) for key, item in value.items()}
