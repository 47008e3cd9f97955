"""Attentive probe: a classifier on tokens that it has learned to weigh, of a frozen encoder.

Encoders whose pretraining shapes patch tokens (MAE, I-JEPA, AIM) hold more than their embedding shows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.held_out import fifth
from dinodiet.evals.metrics import accuracy, macro_auroc, measured
from dinodiet.evals.solvers.pooling import Pooling, Probes
from dinodiet.evals.solvers.side_by_side import Candidate, Examples, ProbeTraining
from dinodiet.types import Backbone, DataSpec, EncoderSplits, Score, Tokened, TokenLayout, TokenTable

ROOM = 0.5  # of a GPU's free memory that tokens may take


@dataclass(frozen=True, kw_only=True)
class Attentive:
    """A probe on the tokens of the last layer, which are computed once and kept in a file.

    Learning rate and weight decay are chosen on val (accuracy; multi-label: macro AUROC; ties: the smaller ones), and
    test is scored once. Without val a seeded fifth of train, stratified by class, chooses, and the chosen probe is
    fitted again on all of train.

    `class_token` adds that token to the patches; `auto` adds it where the pretraining's loss reads it, as the model's
    file says (`trains_class_token`), never by a score. Registers are left out.
    """

    needs: ClassVar[Literal["encoder"]] = "encoder"
    pooling: Pooling
    training: ProbeTraining
    class_token: bool | Literal["auto"] = "auto"

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable where there is nothing to tell apart."""
        if not spec.labelled:
            raise NotApplicable("needs labels; this dataset has none")
        if spec.num_labels < 2 and not spec.multilabel:
            raise NotApplicable("needs two classes; this dataset has one")

    def suits(self, encoder: Backbone) -> None:
        """Refuse an encoder without tokens, or with tokens that the settings do not fit."""
        layout = _layout(encoder)
        self.pooling.check(layout.width)
        if self.class_token is True and not layout.class_token:
            raise UserError("class_token: true, but the model has no class token; choose from: auto, false")

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return the metrics on `test`, and the chosen settings.

        Raises:
            NotApplicable: the encoder has no tokens, the labels of `train` are all the same, or a split has none.
        """
        encoder, device = splits.encoder, splits.runtime.device
        assert isinstance(encoder, Backbone)
        self.suits(encoder)
        with_class = self._takes_class_token(encoder)
        examples = functools.partial(_examples, with_class=with_class, device=device)
        make = functools.partial(self._probes, _layout(encoder).width, splits.spec.num_labels)
        train, test = examples(splits.train_tokens), examples(splits.test_tokens)
        _refuse_one_label(train.labels)
        val = None if splits.val_tokens is None else examples(splits.val_tokens)
        chosen, probes, row = self._chosen(make, train, val, device)
        metrics = measured(self.training.scores(probes, test, device)[row], test.labels)
        settings = {**chosen._asdict(), "class_token": float(with_class)}
        return metrics | {name: Score(value, kind="setting") for name, value in settings.items()}

    def _chosen(
        self, make: Callable[..., Probes], train: Examples, val: Examples | None, device: torch.device
    ) -> tuple[Candidate, Probes, int]:
        """Return the best candidate, probes, and the row in which its own is; without val fitted on all of train."""
        candidates, fit = self.training.candidates, self.training.fit
        if val is None and len(candidates) == 1:
            return candidates[0], fit(make, train, candidates, device), 0
        fitted, held_out = (train, val) if val is not None else _parted(train, self.training.seed)
        probes = fit(make, fitted, candidates, device)
        labels = held_out.labels[held_out.rows]
        qualities = [_quality(scores, labels) for scores in self.training.scores(probes, held_out, device)]
        row = qualities.index(max(qualities))
        if val is not None:
            return candidates[row], probes, row
        return candidates[row], fit(make, train, [candidates[row]], device), 0

    def _takes_class_token(self, encoder: Backbone) -> bool:
        if self.class_token != "auto":
            return self.class_token
        return _layout(encoder).class_token and encoder.description.trains_class_token

    def _probes(self, width: int, num_labels: int, count: int, generator: torch.Generator) -> Probes:
        return self.pooling.probes(count, width, num_labels, generator)


def _layout(encoder: Backbone) -> TokenLayout:
    if not isinstance(encoder, Tokened):
        raise NotApplicable(f"needs the tokens of a transformer; {type(encoder).__name__} shows none")
    return encoder.token_layout()


def _examples(table: TokenTable, *, with_class: bool, device: torch.device) -> Examples:
    """Return the tokens that are pooled, on the device where they take at most half of its free memory."""
    if table.labels is None:
        raise NotApplicable("needs labels, which a split of this dataset lacks")
    tokens = table.values[:, int(table.class_token and not with_class) :]
    if device.type == "cuda" and tokens.nbytes < ROOM * torch.cuda.mem_get_info(device)[0]:
        tokens = tokens.to(device)
    return Examples(tokens, table.labels, torch.arange(len(table)))


def _parted(train: Examples, seed: int) -> tuple[Examples, Examples]:
    fitted, held_out = (rows.sort().values for rows in fifth(train.labels, seed))
    return Examples(train.tokens, train.labels, fitted), Examples(train.tokens, train.labels, held_out)


def _quality(scores: Tensor, labels: Tensor) -> float:
    value = macro_auroc(scores, labels) if labels.ndim == 2 else accuracy(scores, labels)
    return -math.inf if math.isnan(value) else value


def _refuse_one_label(labels: Tensor) -> None:
    if len(labels) < 2 or bool((labels == labels[0]).all()):
        raise NotApplicable("all training images have the same label")
