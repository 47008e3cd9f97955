"""Linear probe: logistic regression on frozen embeddings, its strength chosen on the validation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from dinodiet.config.ranges import Between, Range, Seed
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.held_out import fifth
from dinodiet.evals.metrics import accuracy, bounded, macro_auroc, measured
from dinodiet.evals.normalize import Normalize, normalizer
from dinodiet.evals.solvers.logistic import LogisticRegression
from dinodiet.types import DataSpec, Embeddings, Score, Splits

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """L2-regularised logistic regression by L-BFGS to convergence; `C` is the inverse strength, as in scikit-learn.

    Fitted on train for each C from the strongest regularisation on, each from the solution before; the C with the best
    accuracy on val (multi-label: macro AUROC; ties: the smaller C) is scored on test. Without val a seeded fifth of
    train, stratified by class, chooses C, and the probe is fitted again on all of train. Val is never fitted on: a
    probe sees the same images whether or not val exists.

    `pretext_overlap` says which labelled images it is fitted on: `all` of train, or `none` of those that the pretext
    training saw, to tell apart whether features of other images gained too.

    `train_accuracy` (multi-label: `train_auroc`) is on the images that it was fitted on; far above that on test, the
    probe knows them by heart. `normalize` puts features on the unit sphere (DIET-CP), standardises them by train's mean
    and deviation, or neither. Two classes have one logit. Multi-label: one-vs-rest with one C; a label that is constant
    in train gets a constant score.

    Raises:
        UserError: the list of C is empty.
    """

    needs: ClassVar[Literal["embeddings"]] = "embeddings"
    fits_labels: ClassVar[bool] = True
    C: Annotated[float | list[float], Range(1e-12, 1e12)] = field(default_factory=lambda: list(STRENGTHS))
    normalize: Normalize = "l2"
    seed: Seed[int] = 0
    tolerance: Between[float] = 1e-9
    pretext_overlap: Literal["all", "none"] = "all"

    def __post_init__(self) -> None:
        if not self.strengths:
            raise UserError("C: []; give a positive number, or a list of them")

    @property
    def strengths(self) -> list[float]:
        """Return every C in rising order."""
        return sorted(self.C) if isinstance(self.C, list) else [self.C]

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable where there is nothing to tell apart."""
        if not spec.labelled:
            raise NotApplicable("needs labels; this dataset has none")
        if spec.num_labels < 2 and not spec.multilabel:
            raise NotApplicable("needs two classes; this dataset has one")

    def __call__(self, splits: Splits) -> dict[str, Score]:
        """Return the metrics on `test`, the chosen `C`, and the accuracy on the images that the probe was fitted on.

        Raises:
            NotApplicable: the labels of `train` are all the same, or a split has none; with `pretext_overlap` none, the
                pretext training saw all labelled images.
        """
        return self.scores(splits, splits.train if self.pretext_overlap == "all" else _unseen(splits))

    def scores(self, splits: Splits, train: Embeddings, views: Sequence[Embeddings] = ()) -> dict[str, Score]:
        """Return the scores of a probe fitted on `train` and on views of its images, in the same order."""
        val, test, device = splits.val, splits.test, splits.runtime.device
        expected = test.labels
        everything = [train, *views]
        if val is not None:
            chosen = self.choose(_joined(everything), val, device)
        else:
            fitted, held_out = fifth(train.labels, self.seed)
            chosen = self.choose(_joined([rows(part, fitted) for part in everything]), rows(train, held_out), device)
            chosen = _Problem(_joined(everything), self.normalize, device).fit(chosen.C, self.tolerance)
        beside = {"C": Score(chosen.C, kind="setting"), **_on_train(chosen, train)}
        return measured(chosen.scores(test.features), expected) | beside

    def choose(self, train: Embeddings, held_out: Embeddings, device: torch.device) -> _Probe:
        """Return the probe fitted on `train` that is best on `held_out`."""
        labels, problem = held_out.labels, _Problem(train, self.normalize, device)
        inputs = problem.inputs(held_out.features)

        def quality(probe: _Probe) -> float:
            scores = probe.scores_of(inputs)
            value = macro_auroc(scores, labels) if held_out.multilabel else accuracy(scores, labels)
            return -math.inf if math.isnan(value) else value

        return max((problem.fit(C, self.tolerance) for C in self.strengths), key=quality)


class _Problem:
    """A train set on the device, to be fitted with one C after another."""

    def __init__(self, train: Embeddings, normalize: Normalize, device: torch.device) -> None:
        features = train.features.to(device)
        self._device, self._normalizer = device, normalizer(normalize, features)
        self._num_labels, self._multilabel = train.num_labels, train.multilabel
        self._columns, targets = _targets(train)
        self._regression = LogisticRegression(self._normalizer(features), targets.to(device))

    def inputs(self, features: Tensor) -> Tensor:
        """Return features as probes take them."""
        return self._normalizer(features.to(self._device)).double()

    def fit(self, C: float, tolerance: float) -> _Probe:  # noqa: N803
        weight, intercept = self._regression.fit(C, tolerance=tolerance)
        if len(weight) < len(self._columns):  # two classes on one logit z are a softmax of -z / 2 and z / 2
            weight, intercept = torch.cat([-weight, weight]) / 2, torch.cat([-intercept, intercept]) / 2
        return _Probe(C, weight, intercept, self.inputs, self._columns, self._num_labels, self._multilabel)


@dataclass(frozen=True)
class _Probe:
    """A fitted probe; its outputs stand for the labels `columns`."""

    C: float
    weight: Tensor
    intercept: Tensor
    inputs: Callable[[Tensor], Tensor]
    columns: Tensor
    num_labels: int
    multilabel: bool

    def scores(self, features: Tensor) -> Tensor:
        """Return (N, num_labels): probabilities of classes, or logits of labels; 0 where train does not vary."""
        return self.scores_of(self.inputs(features))

    def scores_of(self, inputs: Tensor) -> Tensor:
        """Return the scores of features that were made inputs once for several probes."""
        logits = inputs @ self.weight.T + self.intercept
        scores = torch.zeros(len(inputs), self.num_labels, dtype=logits.dtype)
        scores[:, self.columns] = (logits if self.multilabel else logits.softmax(dim=1)).cpu()
        return scores


def _targets(train: Embeddings) -> tuple[Tensor, Tensor]:
    """Return the labels that train tells apart, and targets for as many outputs (two classes: for one)."""
    labels = train.labels
    if train.multilabel:
        frequency = labels.double().mean(dim=0)
        columns = ((frequency > 0) & (frequency < 1)).nonzero()[:, 0]
        targets = labels[:, columns].double()
    else:
        columns, targets = torch.unique(labels, return_inverse=True)
        if len(columns) == 2:
            targets = targets[:, None].double()
    if len(columns) < 2 - train.multilabel:
        raise NotApplicable("all training images have the same label")
    return columns, targets


def rows(images: Embeddings, positions: Tensor) -> Embeddings:
    """Return the embeddings at these positions."""
    return replace(images, features=images.features[positions], labels_or_none=images.labels[positions])


def _joined(parts: Sequence[Embeddings]) -> Embeddings:
    if len(parts) == 1:
        return parts[0]
    features, labels = torch.cat([part.features for part in parts]), torch.cat([part.labels for part in parts])
    return replace(parts[0], features=features, labels_or_none=labels)


def _unseen(splits: Splits) -> Embeddings:
    if splits.unseen is None:
        raise NotApplicable(
            "pretext_overlap is none, but the pretext training saw all labelled training images; "
            "limit its images, or give it a pretext split of its own"
        )
    return splits.unseen


def _on_train(probe: _Probe, train: Embeddings) -> dict[str, Score]:
    scores = probe.scores(train.features)
    if train.multilabel:
        return {"train_auroc": bounded(macro_auroc(scores, train.labels), kind="diagnostic")}
    return {"train_accuracy": bounded(accuracy(scores, train.labels), kind="diagnostic")}
