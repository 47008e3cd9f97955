"""Scores of predictions against labels: accuracy, macro recall, F1 and AUROC, in float64.

What is undefined is NaN, never 0, and its score says why.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dinodiet.evals.intervals import bootstrap, wilson
from dinodiet.types import Score
from dinodiet.types.score import Kind

ROUNDING = 1e-6  # so far outside its range a metric may be computed: a perfect macro-F1 of float32 is 1.0000001


def measured(scores: Tensor, labels: Tensor) -> dict[str, Score]:
    """Return the metrics of `score` with their 95 % intervals, and the reason of one that is undefined.

    Wilson's interval of `accuracy`, a seeded bootstrap over the images of the others (`intervals`).
    """
    values, intervals = score(scores, labels), bootstrap(scores, labels)
    if "accuracy" in values and (interval := wilson(values["accuracy"] * len(labels), len(labels))) is not None:
        intervals["accuracy"] = interval
    reasons = {name: _reason(name, scores, labels) for name in values}
    return {name: bounded(value, interval=intervals.get(name), note=reasons[name]) for name, value in values.items()}


def bounded(
    value: float,
    low: float = 0.0,
    *,
    kind: Kind = "metric",
    interval: tuple[float, float] | None = None,
    note: str | None = None,
) -> Score:
    """Return the score of a metric that lies in [low, 1]: what rounding put outside is clipped, and noted.

    Raises:
        ArithmeticError: the value lies further outside.
    """
    if math.isnan(value) or low <= value <= 1.0:
        return Score(value, kind=kind, interval=interval, note=note)
    if not low - ROUNDING <= value <= 1.0 + ROUNDING:
        raise ArithmeticError(f"a metric is {value!r}, which is outside [{low:g}, 1]")
    return Score(min(1.0, max(low, value)), kind=kind, interval=interval, note=f"clipped from {value!r}")


def _reason(metric: str, scores: Tensor, labels: Tensor) -> str | None:
    """Return why a metric is undefined, or of which labels it is the mean where some are left out; None: neither."""
    if len(labels) == 0:
        return "there are no images"
    if not scores.isfinite().all():
        return "the scores are not finite"
    if metric != "auroc":
        return None
    columns = _both_values(scores, labels)
    if all(columns):
        return None
    if not any(columns):
        return "no label has positives and negatives"
    return f"of {sum(columns)} of {len(columns)} labels: the others lack positives or negatives"


def score(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the metrics of scores (N, num_labels), where larger means likelier.

    Labels (N,) are classes: `accuracy`, `recall` and `f1` of the class with the largest score, and `auroc`. Labels
    (N, num_labels) are 0 or 1, several to an image: only `auroc`, since there is no threshold to predict with.
    """
    auroc = {"auroc": macro_auroc(scores, labels)}
    if labels.ndim == 2:
        return auroc
    decided = {"accuracy": accuracy(scores, labels), "recall": macro_recall(scores, labels)}
    return {**decided, "f1": macro_f1(scores, labels), **auroc}


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Return the share of images (N,) whose class has the largest score; NaN without images or of undefined scores."""
    if len(labels) == 0 or not scores.isfinite().all():
        return math.nan
    return float(scores.argmax(dim=1).eq(labels).double().mean())


def macro_recall(scores: Tensor, labels: Tensor) -> float:
    """Return the mean over the classes that occur in the labels (N,) of the share of their images that are found.

    Others call it balanced accuracy, class-mean or macro accuracy. NaN without images or of undefined scores.
    """
    if len(labels) == 0 or not scores.isfinite().all():
        return math.nan
    hits, num_labels = scores.argmax(dim=1).eq(labels).double(), scores.shape[1]
    found = torch.bincount(labels, weights=hits, minlength=num_labels)
    return float((found / torch.bincount(labels, minlength=num_labels)).nanmean())


def macro_f1(scores: Tensor, labels: Tensor) -> float:
    """Return the mean F1 over the classes that occur in the labels (N,) or have the largest score of an image.

    One that is only predicted, or never, counts as 0. NaN without images or of undefined scores.
    """
    from sklearn.metrics import f1_score  # noqa: PLC0415 - takes a second

    if len(labels) == 0 or not scores.isfinite().all():
        return math.nan
    predicted = scores.argmax(dim=1).numpy(force=True)
    return float(f1_score(labels.numpy(force=True), predicted, average="macro", zero_division=0.0))


def macro_auroc(scores: Tensor, labels: Tensor) -> float:
    """Return the mean one-vs-rest AUROC over the labels that have both positives and negatives; NaN if none has.

    Of two classes it is the AUROC of the second, as the first's is the same. NaN of undefined scores. Arguments as in
    `score`.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - takes a second

    if not scores.isfinite().all():
        return math.nan
    columns = range(scores.shape[1])
    if labels.ndim == 1 and len(columns) == 2:
        columns = columns[1:]
    values, truth = scores.double().numpy(force=True), labels.numpy(force=True)
    areas = []
    for column in columns:
        positive = truth[:, column] == 1 if truth.ndim == 2 else truth == column
        if 0 < positive.sum() < len(positive):
            areas.append(roc_auc_score(positive, values[:, column]))
    return float(np.mean(areas)) if areas else math.nan


def _both_values(scores: Tensor, labels: Tensor) -> list[bool]:
    """Return for each label whether it has positives and negatives."""
    several = labels.ndim == 2
    positives = labels.eq(1).sum(dim=0) if several else torch.bincount(labels, minlength=scores.shape[1])
    return ((positives > 0) & (positives < len(labels))).tolist()
