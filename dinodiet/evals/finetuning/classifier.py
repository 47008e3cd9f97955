"""A backbone and a classifier on top of it, trained together on labels: a method of the one training loop."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.backbones.freeze import set_trainable
from dinodiet.errors import UserError
from dinodiet.evals.finetuning.layer_decay import layer_groups
from dinodiet.evals.finetuning.settings import Head, Recipe
from dinodiet.methods.base import MethodBase
from dinodiet.methods.parts.check_views import check_views
from dinodiet.methods.parts.mix import Mix
from dinodiet.types import Backbone, Batch, Clock, DataSpec, ParamGroup


class Classifier(MethodBase):
    """Cross-entropy of a linear head on the embedding; of several labels to an image, the binary one of each.

    Args:
        backbone: to be trained, all of it.
        spec: facts about the data.
        recipe: how.
        num_images: that are trained on; decides on mixing.
    """

    split = "train"

    def __init__(self, backbone: Backbone, spec: DataSpec, recipe: Recipe, num_images: int) -> None:
        super().__init__(backbone, trainable="all")
        self.recipe, self.multilabel = recipe, spec.multilabel
        self.head = LinearHead(backbone.embed_dim, spec.num_labels, recipe.head)
        self.views = recipe.augmentation.views(backbone.input)
        check_views(self.views, backbone)
        self.mix = Mix(**recipe.regularisation.alphas(num_images))

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the `loss`."""
        assert batch.label is not None
        (images,) = self.views(batch.images, clock.generator("views"))
        mixed = self.mix(images, clock.generator("mix"))
        logits = self.head(self.embed(mixed.images, clock)).float()
        return {"loss": mixed.loss(functools.partial(self._criterion, logits), batch.label)}

    def _criterion(self, logits: Tensor, label: Tensor) -> Tensor:
        if self.multilabel:
            return F.binary_cross_entropy_with_logits(logits, label.float())
        return F.cross_entropy(logits, label, label_smoothing=self.recipe.regularisation.label_smoothing)

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits (B, labels) of images (B, 3, s, s)."""
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def param_groups(self) -> list[ParamGroup]:
        """Return all parameters, by depth.

        Raises:
            UserError: one of them cannot be trained.
        """
        assert isinstance(self.backbone, Backbone)
        optimiser = self.recipe.optimiser
        groups = layer_groups(self.backbone, self.head, optimiser.layer_decay, exempt=optimiser.exempt)
        trained = count(parameter for group in groups for parameter in group.params if parameter.requires_grad)
        if trained != (total := count(self.parameters())):
            raise UserError(f"model: fine-tuning trains all of it, but {total - trained:,} of {total:,} numbers wait")
        return groups


class LinearHead(nn.Module):
    """Embeddings (B, in_dim) -> logits (B, num_labels)."""

    def __init__(self, in_dim: int, num_labels: int, settings: Head) -> None:
        super().__init__()
        self.norm = _NORMS[settings.norm](in_dim)
        self.linear = nn.Linear(in_dim, num_labels)
        if settings.init_std is not None:
            nn.init.trunc_normal_(self.linear.weight, std=settings.init_std)
            nn.init.zeros_(self.linear.bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.linear(self.norm(embeddings))
        return logits


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": functools.partial(nn.LayerNorm, eps=1e-6),
    "batch": functools.partial(nn.BatchNorm1d, affine=False, eps=1e-6),
    "none": lambda width: nn.Identity(),
}


class Logits(nn.Module):
    """A classifier as the module (B, 3, s, s) -> (B, labels) that evaluation runs."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier.logits(images)


def opened(encoder: nn.Module, drop_path: float) -> tuple[Backbone, float]:
    """Return a copy of an encoder with every parameter open, whatever was frozen, and its rate of stochastic depth.

    That is 0 where the model has no place for it.
    """
    twin = copy.deepcopy(encoder)
    assert isinstance(twin, Backbone)
    set_trainable(twin, "all")
    try:
        set_drop_path(twin, drop_path)
    except UserError:
        drop_path = 0.0
    return twin, drop_path


def count(parameters: Iterable[nn.Parameter]) -> int:
    """Return how many numbers parameters hold, each parameter once."""
    unique = {id(parameter): parameter for parameter in parameters}
    return sum(parameter.numel() for parameter in unique.values())
