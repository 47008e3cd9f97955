"""From a source's official splits to the `Data` of a run: validation split, limit, checks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dinodiet.config.ranges import AtLeastOne, Between, Fraction, Seed, Side
from dinodiet.data.images import HeldOut, Subset, TensorImages, files_of
from dinodiet.data.labelled import fraction, nested_per_class
from dinodiet.data.shared import tell_shared
from dinodiet.data.splits import grouped_split
from dinodiet.data.splits import limit as limit_positions
from dinodiet.data.statistics import chosen_statistics
from dinodiet.errors import UserError
from dinodiet.types import Data, DataSpec, Images, Rule, Selection, Statistics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawSplits:
    """What a source returns: the splits as they were published.

    `val` is None where there is no official validation split. `pretext` is a separate split for self-supervised
    training (its labels may be None); None: the training images serve. `num_labels`, `multilabel` and `classes` as in
    `DataSpec`; `statistics` are the published ones of the pixels. `left_out` counts broken images that are in no split.
    """

    name: str
    train: Images
    test: Images
    num_labels: int
    val: Images | None = None
    pretext: Images | None = None
    multilabel: bool = False
    classes: tuple[str, ...] | None = None
    statistics: Statistics | None = None
    left_out: int = 0

    @property
    def splits(self) -> dict[str, Images | None]:
        """Return the images by split."""
        return {"train": self.train, "val": self.val, "test": self.test, "pretext": self.pretext}


def unlabelled(name: str, images: Images) -> RawSplits:
    """Return what a source returns that has images without labels and nothing else; nothing of them is held out."""
    none = Subset(images, torch.empty(0, dtype=torch.int64))
    return RawSplits(name, train=images, val=none, test=none, num_labels=0)


def open_dataset(
    source: RawSplits,
    *,
    limit: AtLeastOne[int | None] = None,
    balanced: bool | Literal["proportional"] = False,
    val_fraction: Between[float] = 0.1,
    split_seed: Seed[int] = 0,
    image_size: Side[int | None] = None,
    normalization: Literal["checkpoint", "dataset"] | dict[str, list[Fraction[float]]] = "checkpoint",
    label_fraction: Fraction[float | None] = None,
    labels_per_class: AtLeastOne[int | None] = None,
) -> Data:
    """Return the source as a run uses it.

    The validation split is the official one, or `val_fraction` of train, stratified by class; the test split is left
    as it is. Images of that part that another split holds too are told. `limit` then takes that many images for
    self-supervised training. Usually these are training images, and the probes are fitted on the same ones (as
    DIET-CP, arXiv:2509.06990); a separate pretext split is limited alone and train stays whole. Neither limit nor its
    seed changes which images are validation images of one `split_seed`. `balanced` chooses them by their labels:
    equally many of each class, or in proportion (`splits.limit`).
    `normalization` is explained in `statistics.chosen_statistics`.

    `label_fraction` and `labels_per_class` then leave that many images of train, by `dinodiet.data.labelled`: all that
    a run learns from labels, its evaluators too, it learns from these. Pretext keeps its images, but no labels to use.

    Raises:
        UserError: there are fewer images than `limit` or labels than asked for, or labels that cannot be.
    """
    _check(source)
    train, val = source.train, source.val
    if val is None:
        assert train.labels is not None
        rest, part = grouped_split(train.labels, files_of(train), val_fraction, split_seed)
        train, val = Subset(train, rest), Subset(train, part, HeldOut(val_fraction, split_seed))
        tell_shared(source.name, {**source.splits, "train": train, "val": val}, new="val")
    pretext = train if source.pretext is None else source.pretext
    statistics = chosen_statistics(normalization, source.statistics, pretext, split_seed, source.name)
    selection, whole = None, pretext
    if limit is not None:
        rule: Rule = "proportional" if balanced == "proportional" else "balanced" if balanced else "random"
        selection = Selection(rule, limit, len(pretext), split_seed)
        pretext = Subset(pretext, limit_positions(pretext.labels, len(pretext), limit, split_seed, balanced))
    train, labelled = _labelled(
        source, pretext if source.pretext is None else train, _Amount(label_fraction, labels_per_class), split_seed
    )
    unseen = train if source.pretext is not None else None if labelled else _others(whole, pretext)
    if source.num_labels and not source.multilabel:
        _check_classes(source.name, train)
    spec = DataSpec(
        name=source.name,
        num_images=len(pretext),
        num_labels=source.num_labels,
        multilabel=source.multilabel,
        pretext_labelled=pretext.labels is not None and labelled is None,
        image_size=image_size,
        native_size=native_size([pretext, train, val, source.test]),
        classes=source.classes,
        statistics=statistics,
    )
    return Data(spec, pretext, train, val, source.test, selection, labelled, source.left_out, unseen)


@dataclass(frozen=True)
class _Amount:
    """How many training images keep their labels: a fraction, so many of each class, or (both None) all."""

    fraction: float | None
    per_class: int | None


def _labelled(source: RawSplits, train: Images, amount: _Amount, seed: int) -> tuple[Images, Selection | None]:
    """Return the training images that keep their labels, and how they were chosen; None: all do."""
    if amount.fraction is None and amount.per_class is None:
        return train, None
    if amount.fraction is not None and amount.per_class is not None:
        raise UserError(
            f"label_fraction: {amount.fraction:g}, and labels_per_class: {amount.per_class}; set one of them"
        )
    if train.labels is None or not source.num_labels:
        given = "label_fraction" if amount.per_class is None else "labels_per_class"
        raise UserError(f"{given}: {source.name} has no labels to choose from; set it to null")
    if amount.per_class is not None:
        rule: Rule = "balanced"
        chosen = nested_per_class(train.labels, amount.per_class, seed, source.classes)
    else:
        rule = "random" if source.multilabel else "proportional"
        chosen = fraction(train.labels, amount.fraction or 0.0, seed)
    return Subset(train, chosen), Selection(rule, len(chosen), len(train), seed)


def _others(whole: Images, chosen: Images) -> Images | None:
    """Return the images that are not among those chosen of `whole`; None where there are none."""
    if not isinstance(chosen, Subset) or chosen is whole:
        return None
    places = whole.positions if isinstance(whole, Subset) else torch.arange(len(whole))
    left = torch.isin(places, chosen.positions, invert=True).nonzero()[:, 0]
    return Subset(whole, left) if len(left) else None


def native_size(splits: Sequence[Images]) -> int | None:
    """Return the one side of all images, None where they are not square, differ, or are files that may differ."""
    sizes: set[int] = set()
    for split in splits:
        images = split.images if isinstance(split, Subset) else split
        if not isinstance(images, TensorImages):
            return None
        sizes.update(images.images.shape[2:])
    return sizes.pop() if len(sizes) == 1 else None


def _check(source: RawSplits) -> None:
    if source.classes is not None and len(source.classes) != source.num_labels:
        raise UserError(f"{source.name}: {len(source.classes)} names of classes for {source.num_labels} labels")
    for split, images in source.splits.items():
        where = f"{source.name}, split {split}"
        if images is not None and len(images) == 0 and (source.num_labels or split == "train"):
            raise UserError(f"{where}: no images")
        if images is not None and source.num_labels and split != "pretext":
            _check_labels(where, images.labels, len(images), source)


def _check_labels(where: str, labels: Tensor | None, count: int, source: RawSplits) -> None:
    if labels is None:
        raise UserError(f"{where}: no labels")
    shape = (count, source.num_labels) if source.multilabel else (count,)
    if tuple(labels.shape) != shape or labels.dtype != torch.int64:
        raise UserError(f"{where}: labels are {labels.dtype} {tuple(labels.shape)}, expected torch.int64 {shape}")
    low, high, top = int(labels.min()), int(labels.max()), 1 if source.multilabel else source.num_labels - 1
    if low < 0 or high > top:
        raise UserError(f"{where}: labels from {low} to {high}, expected 0 to {top}")


def _check_classes(name: str, train: Images) -> None:
    assert train.labels is not None
    if train.labels.min() == train.labels.max():
        raise UserError(f"{name}: all {len(train)} training images are of one class; 2 are needed")


def hold_out(train: Images, fraction: float, title: str) -> tuple[Images, Images]:
    """Split a labelled set that has no test images of its own into (train, test), stratified, the same in every run.

    Raises:
        UserError: a part would be empty.
    """
    assert train.labels is not None
    rest, test = grouped_split(train.labels, files_of(train), fraction, seed=0)
    log.info("%s has no test split: %d of the %d training images are held out", title, len(test), len(train))
    return Subset(train, rest), Subset(train, test, HeldOut(fraction, seed=0))
