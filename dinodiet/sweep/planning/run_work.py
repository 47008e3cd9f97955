"""The floating-point operations of one run: what it computes itself, and what other runs may have computed before it.

Counted are passes through networks, see `dinodiet.run.flops`. Left out are evaluators' own work on embeddings (k-NN,
k-means, probes) and what they train, what a teacher computes once before the first step, diagnostics and records.
Embeddings of a run are counted once before the training and once after it, whatever the number of evaluators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dinodiet.config.identity import scored_towers
from dinodiet.config.settings import Settings
from dinodiet.data.loader import used_batch_size
from dinodiet.run.needs import Operations


@dataclass(frozen=True)
class Counts:
    """How many images are trained on, and how many the splits have that are scored; whether val was published."""

    trained: int
    train: int
    val: int
    test: int
    published_val: bool = True


@dataclass(frozen=True)
class RunWork:
    """Floating-point operations of a run.

    Attributes:
        own: of its training steps, without what a trunk cache gives them, and of its scores after that.
        frozen: of embedding each split with the backbone as it was before the training.
        view: of the frozen blocks on one view of all images, where a trunk cache keeps what they make of it; else 0.
        views: that such a cache keeps.
        drawn: of the frozen blocks in all steps, if there were no such cache; else 0.
        published_val: whether the validation split is a published one, which no seed draws.
    """

    own: float
    frozen: Mapping[str, float]
    view: float = 0.0
    views: int = 0
    drawn: float = 0.0
    published_val: bool = True

    @property
    def alone(self) -> float:
        """Return those of the run with caches that were empty."""
        return self.own + sum(self.frozen.values()) + self.views * self.view

    @property
    def without_caches(self) -> float:
        """Return those of the run if nothing were kept."""
        return self.own + sum(self.frozen.values()) + self.drawn


def work_of(settings: Settings, operations: Operations, images: Counts, steps: int) -> RunWork:
    """Return the operations of a run of so many steps; 0: nothing is trained, and its scores stand for both phases."""
    batch = used_batch_size(settings.schedule.batch_size, images.trained)
    epochs = steps * batch / images.trained
    waiting = round(operations.warmup * steps)
    training = waiting * operations.waiting + (steps - waiting) * operations.step
    splits = {"train": images.train, "test": images.test}
    if settings.evaluation.validation:
        splits["val"] = images.val
    frozen = {split: number * operations.image for split, number in splits.items()}
    every = settings.evaluation.every_epochs
    validated = 0 if every is None else int(epochs // every) * images.val * operations.image
    final = len(scored_towers(settings)) * sum(frozen.values()) if steps else 0
    drawn = steps * batch * operations.trunk
    return RunWork(
        own=training - drawn + validated + final,
        frozen=frozen,
        view=images.trained * operations.trunk,
        views=min(operations.views, max(1, math.ceil(epochs))) if steps else 0,
        drawn=drawn,
        published_val=images.published_val,
    )
