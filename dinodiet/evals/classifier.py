"""Scores of the classifier that a method has trained, as it is: nothing is fitted."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from dinodiet.backbones.modes import eval_mode
from dinodiet.evals.metrics import measured
from dinodiet.features.embed import embed
from dinodiet.types import Data, Images, InputSpec, Method, Runtime, Score

NAME = "classifier"  # of its scores, beside those of evaluators


class Logits(nn.Module):
    """A method as a module that returns its classifier's logits."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.read = method

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, labels) of images (B, 3, s, s)."""
        logits = self.read.logits(images)
        assert logits is not None
        return logits


@torch.no_grad()
def has_classifier(method: Method, input: InputSpec, device: torch.device) -> bool:
    """Return whether a method trains a classifier: it is asked about one blank image."""
    with eval_mode(Logits(method)):
        return method.logits(torch.zeros(1, 3, input.size, input.size, device=device)) is not None


def classifier_scores(
    method: Method, data: Data, input: InputSpec, runtime: Runtime, splits: Collection[str] = ("test", "val")
) -> dict[str, dict[str, Score]]:
    """Return the metrics of a method's classifier on labelled splits, by the split's name.

    Of one label an image they are those of the softmax, whose values can be compared between images, as AUROC does.
    Images are preprocessed as for embeddings.
    """
    chosen: dict[str, Images] = {name: getattr(data, name) for name in splits}
    return {name: _scores(Logits(method), data, images, input, runtime) for name, images in chosen.items()}


def _scores(module: nn.Module, data: Data, images: Images, input: InputSpec, runtime: Runtime) -> dict[str, Score]:
    spec = data.spec
    found = embed(module, images, input, runtime, num_labels=spec.num_labels, multilabel=spec.multilabel)
    logits = found.features.double()
    return measured(logits if spec.multilabel else logits.softmax(dim=1), found.labels)
