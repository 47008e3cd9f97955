"""A teacher that is a model of its own and never changes, and its features computed once where views are fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from dinodiet.backbones.layout import prefer_channels_last
from dinodiet.backbones.split import Split
from dinodiet.errors import UserError
from dinodiet.features.trunk_cache import TrunkCache
from dinodiet.methods.parts.unsaved import leave_unsaved
from dinodiet.types import Backbone, Classifying, Clock, DataSpec, Images, InputSpec, Runtime, Views


class FrozenTeacher(nn.Module):
    """Views (B, 3, s, s) in 0..1 -> features (B, embed_dim) of a pretrained model, in evaluation mode.

    It resizes views to the side that its own node names and normalises them itself. It draws no random number that
    others would, stays in evaluation mode whatever `.train()` says, and has no state: it comes from its weights again.

    Args:
        spec: facts about the data; its image size is the student's and not used.
        model: any backbone, from `spec`.
        normalization: by the mean and deviation of its weights (`checkpoint`), or as `dataset.normalization` says.

    Raises:
        UserError: the model refuses its settings, or its weights are missing.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        model: Callable[..., Backbone],
        normalization: Literal["checkpoint", "dataset"] = "checkpoint",
    ) -> None:
        super().__init__()
        statistics = spec.statistics if normalization == "dataset" else None
        with torch.random.fork_rng(devices=[]):  # the student's heads begin alike, whoever teaches
            backbone = model(spec=replace(spec, image_size=None, statistics=statistics))
        prefer_channels_last(backbone)
        assert isinstance(backbone, nn.Module)
        self.backbone: nn.Module = backbone.requires_grad_(False).eval()
        leave_unsaved(self, "backbone")
        self.embed_dim, self.input, self.description = backbone.embed_dim, backbone.input, backbone.description

    @torch.no_grad()
    def forward(self, views: Tensor) -> Tensor:
        """Return the features (B, embed_dim) of views (B, 3, s, s) in 0..1, without gradients."""
        features: Tensor = self.backbone(seen_by(self.input, views))
        return features

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stay in evaluation mode: its BatchNorms keep their statistics, and nothing is dropped."""
        super().train(False)
        return self

    def cache(self, views: Views) -> TrunkCache:
        """Return a cache of the features of fixed views, one of each image: `TrunkCache.draw` gives them."""
        backbone = self.backbone
        assert isinstance(backbone, Backbone)
        split = Split(backbone, len(backbone.freezable_blocks()))
        return TrunkCache(split, SeenViews(views, self.input), num_views=1, noise=0.0, dtype="fp32", seed=0)

    def __str__(self) -> str:
        """Return what it is, in words."""
        told = self.description
        name = "-".join(str(part) for part in (told.family, told.size) if part) or type(self.backbone).__name__
        return f"{name} ({self.embed_dim} features, {self.input.size} px)"


class ClassifyingTeacher(FrozenTeacher):
    """A frozen teacher with the classifier that its weights were trained with; it is no part of the state either.

    Args:
        spec: as of `FrozenTeacher`.
        model: a backbone of timm, with weights that have a classifier: a run of method=supervised, or published ones.
        normalization: as of `FrozenTeacher`.

    Raises:
        UserError: the weights have none, or the model cannot have one.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        model: Callable[..., Backbone],
        normalization: Literal["checkpoint", "dataset"] = "checkpoint",
    ) -> None:
        super().__init__(spec, model=model, normalization=normalization)
        if not isinstance(self.backbone, Classifying):
            kind = type(self.backbone).__name__
            raise UserError(f"teacher.model: {kind} has no classifier; choose a model of timm, or method=distill")
        try:
            with torch.random.fork_rng(devices=[]):
                classifier = self.backbone.classifier()
        except UserError as error:
            raise UserError(f"teacher.model.{error}") from error
        self.classifier: nn.Module = classifier.requires_grad_(False).eval()
        leave_unsaved(self, "classifier")
        with torch.no_grad():
            device = next(self.classifier.parameters()).device
            self.classes = self.classifier(torch.zeros(1, self.embed_dim, device=device)).shape[1]

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (B, classes) of features (B, embed_dim), in float32 at least."""
        logits: Tensor = self.classifier(features)
        return logits if logits.element_size() > 4 else logits.float()

    def __str__(self) -> str:
        """Return what it is, in words."""
        return f"{super().__str__()[:-1]}, {self.classes} classes)"


class AssumedCache:
    """Stands for a cache of features (embed_dim) of a teacher, where a run is planned: rows without values."""

    ready = True

    def __init__(self, embed_dim: int) -> None:
        self.embed_dim = embed_dim

    def prepare(self, images: Images, clock: Clock, runtime: Runtime) -> None:
        """Compute nothing."""

    def draw(self, index: Tensor, clock: Clock) -> tuple[Tensor, ...]:
        """Return a row for each index."""
        return (torch.empty(len(index), self.embed_dim),)


def seen_by(input: InputSpec, views: Tensor) -> Tensor:
    """Return views (B, 3, s, s) in 0..1 at the side that a backbone expects, resized by its own interpolation."""
    if views.shape[-1] == input.size:
        return views
    resized: Tensor = tvf.resize(views, [input.size] * 2, InterpolationMode(input.interpolation), antialias=True)
    return resized.clamp(0, 1)


class SeenViews:
    """Fixed views as a teacher sees them; `repr` tells its input and the settings of the views."""

    def __init__(self, views: Views, input: InputSpec) -> None:
        self.views, self.input = views, input
        self.num_global, self.sides, self.draft_side, self.fixed = 1, [input.size], views.draft_side, True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.views}, {self.input})"

    def __call__(self, images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Return the views of `Batch.images`."""
        return [seen_by(self.input, view) for view in self.views(images, generator)]
