"""A copy of an encoder and a classifier on top of it, all of it trained on labels, with learning rates by depth."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable

from torch import nn

from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.backbones.freeze import set_trainable
from dinodiet.errors import UserError
from dinodiet.evals.finetuning.layer_decay import layer_groups
from dinodiet.evals.finetuning.settings import Recipe
from dinodiet.methods.parts.classifier import Classifier
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mix
from dinodiet.methods.supervised import Supervised
from dinodiet.types import Backbone, DataSpec, ParamGroup


class FineTuned(Supervised):
    """Supervised training of a whole backbone, by a recipe.

    Args:
        backbone: to be trained, all of it.
        spec: facts about the data.
        recipe: how.
        num_images: that are trained on; decides on mixing.
    """

    def __init__(self, backbone: Backbone, spec: DataSpec, recipe: Recipe, num_images: int) -> None:
        regularisation = recipe.regularisation
        super().__init__(
            backbone,
            spec,
            views=recipe.augmentation.views,
            head=functools.partial(Classifier, norm=recipe.head.norm, init_std=recipe.head.init_std),
            loss=CrossEntropy(label_smoothing=regularisation.label_smoothing),
            mix=Mix(**regularisation.alphas(num_images)),
        )
        self.recipe = recipe

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
