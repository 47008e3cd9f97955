"""MAE: a transformer sees a quarter of an image, and a decoder predicts the pixels of the rest (He et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dinodiet.backbones.normalize import Normalize
from dinodiet.config.ranges import Between
from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.methods.parts.check_views import check_views
from dinodiet.methods.parts.decoder import Decoder
from dinodiet.methods.parts.diagnostics import effective_rank
from dinodiet.methods.parts.patch_layout import FAMILIES, patch_layout
from dinodiet.methods.parts.patches import drawn, normalised, patches_of
from dinodiet.processes.gathering import averaged
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Images, Maskable, ShownView, TokenLayout, Views


class MAE(MethodBase):
    """Masked autoencoders are scalable vision learners (arXiv:2111.06377).

    Hidden patches are left out before the first block; class token and registers stay, positions are those of the whole
    image. The loss is the mean squared error of the pixels of hidden patches, each patch normalised.

    Args:
        backbone: the encoder, a transformer that can leave patches out.
        spec: facts about the data.
        views: one of each image, from `input`, the backbone's specification of its input.
        trainable: what of the backbone is trained, see `dinodiet.backbones.freeze`.
        head: the decoder, from `in_dim`, `prefix`, `grid` and `pixels`.
        mask_ratio: the part of the patches that is hidden, rounded down.

    Raises:
        UserError: the backbone is no such transformer, a value is out of range, or nothing is hidden or seen.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        *,
        views: Callable[..., Views],
        trainable: str = "all",
        head: Callable[..., Decoder] = Decoder,
        mask_ratio: Between[float] = 0.75,
    ) -> None:
        layout, made = tokens_of(backbone), views(input=backbone.input)
        self._patch, grid = layout.patch, made.sides[0] // layout.patch
        decoder = head(in_dim=layout.width, prefix=layout.prefix, grid=grid, pixels=3 * self._patch**2)
        super().__init__(backbone, trainable=trainable, warmup_fraction=decoder.warmup_fraction)
        self.views, self.head = made, decoder
        check_views(self.views, backbone)
        self.normalize = Normalize(backbone.input)
        self._grid, self._patches, self._hidden = grid, grid**2, int(mask_ratio * grid**2)
        if not 0 < self._hidden < self._patches:
            found = f"{self._hidden} of {self._patches} patches are hidden"
            raise UserError(f"method.mask_ratio: {mask_ratio}: {found}; some must be, and some not")
        self._last: Tensor | None = None

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the loss, and `unexplained`: the loss over that of a prediction of flat patches."""
        images, visible, hidden = self._drawn(batch, clock)
        with self.phase(clock):
            tokens = self.backbone.visible_tokens(images, visible)  # type: ignore[operator]
        self._last = tokens.detach()[:, self.head.prefix :].mean(1)
        self._keep(len(batch), {"student/embeddings": self._last})
        patches = patches_of(self.normalize(images), self._patch)
        targets = normalised(patches.gather(1, hidden[:, :, None].expand(-1, -1, patches.shape[-1])))
        loss = (self.head(tokens, visible, hidden).float() - targets).square().mean()
        return {"loss": loss, "unexplained": averaged(loss.detach()) / averaged(targets.square().mean())}

    def _drawn(self, batch: Batch, clock: Clock) -> tuple[Tensor, Tensor, Tensor]:
        """Return the view of each image, and the numbers of its visible and of its hidden patches."""
        (images,) = self.views(batch.images, clock.generator("views"))
        numbers = drawn(len(images), self._patches, self._hidden, clock.generator("mask"))
        visible, hidden = (part.to(images.device, non_blocking=True) for part in numbers)
        return images, visible, hidden

    def shown_views(self, batch: Batch, clock: Clock, images: Images) -> list[ShownView]:
        """Return the view that the decoder predicts, and what the encoder sees of it."""
        view, visible, _ = self._drawn(batch, clock)
        hidden = torch.ones(len(view), self._patches, dtype=torch.bool, device=view.device)
        hidden = hidden.scatter(1, visible, value=False).unflatten(1, (self._grid, self._grid))
        return [ShownView("view", view), ShownView("visible", view, hidden)]

    def networks(self) -> dict[str, dict[str, nn.Module]]:
        """Return backbone and decoder."""
        return {"student": {"encoder": self.backbone, "head": self.head}}

    @property
    def draft_side(self) -> int | None:
        """Return that of the views."""
        return self.views.draft_side

    def guessing(self) -> dict[str, float]:
        """Return what predictions of flat patches leave unexplained: all."""
        return {"unexplained": 1.0}

    def diagnostics(self) -> dict[str, float]:
        """Return the effective rank of the means of visible tokens; a fall towards 1 is collapse."""
        return {} if self._last is None else {"effective_rank": effective_rank(self._last)}


def tokens_of(backbone: Backbone) -> TokenLayout:
    """Return how the tokens of a backbone look that can leave patches out.

    Raises:
        UserError: it cannot, or pools tokens by a layer that would have no gradient.
    """
    layout = patch_layout(backbone, Maskable)
    if layout is None:
        raise UserError(
            "method: MAE hides patches of a transformer, and this model's cannot be left out; choose a transformer of "
            f"timm: {FAMILIES}"
        )
    if layout.pooled:
        raise UserError(
            "model.feature: MAE trains tokens, and would leave the attention pooling that makes this model's embedding "
            "of them as it is; choose model.feature=mean_patch"
        )
    return layout
