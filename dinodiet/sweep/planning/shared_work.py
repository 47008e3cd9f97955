"""The work of a grid in floating-point operations: with what its runs share, and of every run alone.

Shared are embeddings by the frozen backbone, once for a backbone and a split of images, and what frozen blocks make of
the views of a trunk cache, once for a backbone, images and views. Runs are taken to find in the caches whatever another
run of the grid has in common with them. Whether two splits are the same images is told from the configuration: those of
train, and of a validation split that is drawn, belong to their seed; a published one, and test, to the data set.
Decoding images, which runs share too, is no floating-point work. What is counted of a run says `run_work`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dinodiet.io.units import operations
from dinodiet.sweep.planning.run_work import RunWork
from dinodiet.sweep.task import Task

SEED = "${seed}"
DRAWN = ("val_fraction", "split_seed")  # keys of a data set by which a validation split is drawn


@dataclass(frozen=True)
class SharedWork:
    """Floating-point operations of a grid.

    Attributes:
        runs: that are counted.
        shared: of all runs, where each finds what others computed.
        alone: of every run with empty caches.
        without_caches: of every run, if nothing were kept: trunks in every step.
    """

    runs: int
    shared: float
    alone: float
    without_caches: float

    def told(self, left_out: int = 0) -> str:
        """Return the line of a plan; `left_out` runs are not counted."""
        if not self.runs:
            return "work unknown: the operations of no run could be counted"
        found = (
            f"work of {operations(self.shared)} with what runs share, {operations(self.alone)} if each ran alone "
            f"({self.shared / self.alone:.2f})"
        )
        if self.without_caches != self.alone:
            found += (
                f", {operations(self.without_caches)} without trunk caches ({self.shared / self.without_caches:.2f})"
            )
        return f"{found}; runs not counted: {left_out}" if left_out else found


def shared_work(runs: Iterable[tuple[Task, RunWork]]) -> SharedWork:
    """Return the work of the runs of a grid."""
    number, own, alone, without, kept = 0, 0.0, 0.0, 0.0, dict[str, float]()
    for task, work in runs:
        number, own = number + 1, own + work.own
        alone, without = alone + work.alone, without + work.without_caches
        kept.update(_kept(task.config, work))
    return SharedWork(number, own + sum(kept.values()), alone, without)


def told(runs: Iterable[tuple[Task, RunWork | None]]) -> str:
    """Return the line of a plan that tells the work of a grid; None: that of a run is unknown."""
    pairs = list(runs)
    known = [(task, work) for task, work in pairs if work is not None]
    return shared_work(known).told(len(pairs) - len(known))


def _kept(config: Mapping[str, Any], work: RunWork) -> Iterator[tuple[str, float]]:
    """Yield the names of what caches keep of a run, and the operations that it takes to compute it."""
    network, data = [config["model"], config["precision"], _start(config)], dict(config["dataset"])
    for split, number in work.frozen.items():
        yield _named(config, "embeddings", network, _images(data, split, published=work.published_val)), number
    trunk = config["method"].get("trunk")
    parts = [config["method"].get(key) for key in ("trainable", "views")]
    for view in range(work.views):
        yield _named(config, "view", view, network, data, parts, {**trunk, "views": None, "noise": None}), work.view


def _images(data: dict[str, Any], split: str, *, published: bool) -> list[Any]:
    """Return what the images of a split depend on, and how a backbone sees them."""
    if split == "train" or data.get("normalization") == "dataset":
        return [split, data]
    kept = {"source", "image_size", "normalization", *(DRAWN if split == "val" and not published else ())}
    return [split, {key: value for key, value in data.items() if key in kept}]


def _start(config: Mapping[str, Any]) -> Any:
    """Return what decides the weights that are scored before the training, beside the model."""
    start = (config["method"].get("teacher") or {}).get("start") or {}
    random = SEED if config["model"].get("weights") == "none" else None
    return [start if start.get("init", "model") != "model" else None, random]


def _named(config: Mapping[str, Any], *parts: Any) -> str:
    """Return the name of something; where it depends on the seed, it says which."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return text.replace(SEED, str(config["seed"]))
