"""Scores of predictions against labels: accuracy, macro-F1 and macro AUROC. What is undefined is NaN, never 0."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor


def score(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the metrics of scores (N, num_labels), where larger means likelier.

    Labels (N,) are classes: `accuracy` and `f1` of the class with the largest score, and `auroc`. Labels
    (N, num_labels) are 0 or 1, several to an image: only `auroc`, since there is no threshold to predict with.
    """
    auroc = {"auroc": macro_auroc(scores, labels)}
    if labels.ndim == 2:
        return auroc
    return {"accuracy": accuracy(scores, labels), "f1": macro_f1(scores, labels), **auroc}


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Return the share of images (N,) whose class has the largest score; NaN without images or of undefined scores."""
    if len(labels) == 0 or not scores.isfinite().all():
        return math.nan
    return float(scores.argmax(dim=1).eq(labels).double().mean())


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
