"""Scores of predictions against labels: accuracy, macro-F1 and macro AUROC. What is undefined is NaN, never 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def score(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the metrics of scores (N, num_labels), where larger means likelier.

    Labels (N,) are classes: `accuracy` and `f1` of the class with the largest score, and `auroc`. Labels
    (N, num_labels) are 0 or 1, several to an image: only `auroc`, since there is no threshold to predict with.
    """
    auroc = {"auroc": macro_auroc(scores, labels)}
    if labels.ndim == 2:
        return auroc
    if len(labels) == 0 or not scores.isfinite().all():
        return {"accuracy": math.nan, "f1": math.nan, "auroc": math.nan}
    return {
        "accuracy": accuracy(scores, labels),
        "f1": macro_f1(labels, scores.argmax(dim=1).to(labels.device), scores.shape[1]),
        **auroc,
    }


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Return the share of images (N,) whose class has the largest score; NaN without images or of undefined scores."""
    if len(labels) == 0 or not scores.isfinite().all():
        return math.nan
    return float(scores.argmax(dim=1).eq(labels).double().mean())


def macro_f1(labels: Tensor, predicted: Tensor, num_classes: int) -> float:
    """Return the mean F1 over the classes that occur in the labels (N,) or are predicted.

    One that is only predicted, or never, counts as 0.
    """
    true, found = labels.bincount(minlength=num_classes), predicted.bincount(minlength=num_classes)
    right = labels[labels == predicted].bincount(minlength=num_classes)
    occurs = true + found > 0
    return float((2 * right[occurs] / (true + found)[occurs].double()).mean())


def macro_auroc(scores: Tensor, labels: Tensor) -> float:
    """Return the mean one-vs-rest AUROC over the labels that have both positives and negatives; NaN if none has.

    Of two classes it is the AUROC of the second, as the first's is the same. Arguments as in `score`.
    """
    columns = range(scores.shape[1])
    if labels.ndim == 1 and len(columns) == 2:
        columns = columns[1:]
    values, truth = scores.double().numpy(force=True), labels.numpy(force=True)
    areas = []
    for column in columns:
        positive = truth[:, column] == 1 if truth.ndim == 2 else truth == column
        if 0 < positive.sum() < len(positive):
            areas.append(_auroc(values[:, column], positive))
    return float(np.mean(areas)) if areas else math.nan


def _auroc(scores: NDArray[Any], positive: NDArray[Any]) -> float:
    """Return the share of (positive, negative) pairs in the right order, ties counting half (Mann-Whitney)."""
    if np.isnan(scores).any():  # which would be sorted as the largest
        return math.nan
    num_positive = int(positive.sum())
    num_pairs = num_positive * (len(positive) - num_positive)
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = counts.cumsum() - (counts - 1) / 2  # from 1; equal scores share the mean of theirs
    rank_sum = float(ranks[place][positive].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2) / num_pairs
