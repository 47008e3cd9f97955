"""The linear probe on frozen embeddings as the classifier to begin with (Kumar et al. 2022, arXiv:2202.10054)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from dinodiet.evals.linear import Linear
from dinodiet.methods.parts.classifier import Classifier
from dinodiet.types import Embeddings


@torch.no_grad()
def start_from_probe(head: Classifier, train: Embeddings, val: Embeddings, device: torch.device) -> None:
    """Set a head to the probe that is fitted on `train` and chosen on `val`, of what its norm makes of them.

    A label that `train` lacks gets no weight, and the lowest intercept.

    Raises:
        NotApplicable: the labels of `train` are all the same.
    """
    if isinstance(head.norm, nn.BatchNorm1d):
        features = train.features.to(device)
        assert head.norm.running_mean is not None and head.norm.running_var is not None
        head.norm.running_mean.copy_(features.mean(dim=0))
        head.norm.running_var.copy_(features.var(dim=0, correction=0))
    normed = [replace(part, features=_normed(head, part, device)) for part in (train, val)]
    with torch.enable_grad():
        probe = Linear(normalize="none").choose(normed[0], normed[1], device)
    head.last.weight.zero_()
    head.last.bias.fill_(probe.intercept.min())
    head.last.weight[probe.columns] = probe.weight.float()
    head.last.bias[probe.columns] = probe.intercept.float()


def _normed(head: Classifier, part: Embeddings, device: torch.device) -> torch.Tensor:
    head.norm.eval()
    return head.norm(part.features.to(device)).cpu()  # type: ignore[no-any-return]
