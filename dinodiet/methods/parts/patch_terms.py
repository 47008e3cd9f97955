"""Terms of a loss on patch tokens, beside one on class tokens: iBOT and Gram anchoring, from the same passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dinodiet.errors import UserError
from dinodiet.methods.parts.covering import Covering
from dinodiet.methods.parts.embed_views import embed_views
from dinodiet.methods.parts.gram import Gram
from dinodiet.methods.parts.ibot import IBOT
from dinodiet.methods.parts.losses import Distillation
from dinodiet.methods.parts.patch_layout import FAMILIES, patch_layout
from dinodiet.methods.parts.prototype_head import PrototypeHead
from dinodiet.methods.parts.teacher import Teacher
from dinodiet.schedules import at
from dinodiet.types import Backbone, Clock, Coverable, TokenLayout


@dataclass(frozen=True)
class Seen:
    """What student and teacher make of V global views of B images, and the student of local ones.

    `student` and `teacher` are embeddings, of all views and of the global ones; `patches` and `targets` patch tokens
    (V x B, N, D) of the global ones, `images`, of which the student saw those with a `covering` covered.
    """

    images: Tensor
    student: Tensor
    teacher: Tensor
    patches: Tensor
    targets: Tensor
    covering: Covering | None


@dataclass(frozen=True)
class Terms:
    """What is added to a loss, each with its weight, and what is logged of it."""

    weighted: list[Tensor] = field(default_factory=list)
    logs: dict[str, Tensor] = field(default_factory=dict)

    def added_to(self, logs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what is logged of the whole: `loss` is the sum then, and `dino` what it was without the terms."""
        if not self.weighted:
            return logs
        return {**logs, **self.logs, "dino": logs["loss"].detach(), "loss": sum(self.weighted, logs["loss"])}


class PatchTerms(nn.Module):
    """Terms on patch tokens; each may be None.

    Args:
        backbone: the student's.
        head: makes a head of the method from `in_dim`.
        loss: of class tokens, whose temperatures and centring are shared.
        ibot: the loss of covered patches (DINOv2), from `backbone`, `head`, `loss` and `layout`.
        gram: the anchor of similarities between patches (DINOv3), from `backbone`.

    Raises:
        UserError: the backbone has no patch tokens, or a term refuses its settings.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Callable[..., PrototypeHead],
        loss: Distillation,
        *,
        ibot: Callable[..., IBOT] | None = None,
        gram: Callable[..., Gram] | None = None,
    ) -> None:
        super().__init__()
        layout = layout_of(backbone)
        self.side = layout.patch
        self.ibot = ibot(backbone=backbone, head=head, loss=loss, layout=layout) if ibot else None
        self.gram = gram(backbone=backbone) if gram else None

    def seen(self, views: list[Tensor], num_global: int, student: nn.Module, teacher: nn.Module, clock: Clock) -> Seen:
        """Return what both backbones make of the views, global ones first; the teacher without gradients."""
        images = torch.cat(views[:num_global])
        covering = self._covering(images, clock, num_global)
        with torch.no_grad():
            slow, targets = teacher.embedding_and_patches(images)  # type: ignore[operator]
        covered, token = (None, None) if covering is None or self.ibot is None else (covering.covered, self.ibot.token)
        fast, patches = student.embedding_and_patches(images, covered, token)  # type: ignore[operator]
        local = [embed_views(student, views[num_global:])] if len(views) > num_global else []
        return Seen(images, torch.cat([fast, *local]), slow, patches, targets, covering)

    def _covering(self, images: Tensor, clock: Clock, num_global: int = 1) -> Covering | None:
        if self.ibot is None:
            return None
        grid = images.shape[-2] // self.side, images.shape[-1] // self.side
        return self.ibot.draw(len(images), grid, clock, num_global=num_global).to(images.device)

    def hidden(self, views: list[Tensor], clock: Clock) -> list[Tensor] | None:
        """Return the student's covered patches of each global view, bool (B, rows, columns); None: none ever are."""
        images = torch.cat(views)
        covering = self._covering(images, clock, len(views))
        if covering is None:
            return None
        covered = covering.covered.unflatten(1, (images.shape[-2] // self.side, images.shape[-1] // self.side))
        return list(covered.chunk(len(views)))

    def terms(self, seen: Seen, heads: tuple[nn.Module, nn.Module], clock: Clock) -> Terms:
        """Return the terms; `heads` are those of the class tokens, the student's and the teacher's."""
        weighted, logs = [], {}
        if self.ibot is not None and seen.covering is not None:
            logs = self.ibot(seen.patches, seen.targets, seen.covering, heads, clock)
            weighted.append(at(self.ibot.weight, clock) * logs["ibot"])
        if self.gram is not None:
            logs = {**logs, "gram": self.gram(seen.images, seen.patches)}
            weighted.append(at(self.gram.weight, clock) * logs["gram"])
        return Terms(weighted, {name: value.detach() for name, value in logs.items()})

    def before_step(self, clock: Clock) -> None:
        """Run what terms do before the optimiser's step."""
        if self.ibot is not None:
            self.ibot.before_step(clock)

    def after_step(self, teacher: Teacher, clock: Clock) -> None:
        """Run what terms do after it, when the teacher has followed the student."""
        if self.ibot is not None:
            self.ibot.after_step(teacher, clock)
        if self.gram is not None:
            self.gram.after_step(teacher.backbone, clock)

    def towers(self) -> list[nn.Module]:
        """Return the backbones that terms hold."""
        return [] if self.gram is None else [self.gram.anchor]

    def guessing(self) -> dict[str, float]:
        """Return the value that terms have as long as nothing is learned, by name."""
        return {} if self.ibot is None else self.ibot.guessing()


def layout_of(backbone: Backbone) -> TokenLayout:
    """Return how the tokens of a backbone look whose patches can be covered.

    Raises:
        UserError: it has none.
    """
    layout = patch_layout(backbone, Coverable)
    if layout is None:
        name = backbone.description.family or type(getattr(backbone, "model", backbone)).__name__
        raise UserError(
            f"patches: terms on patch tokens need a transformer of timm, and {name} shows no patches that can be "
            f"covered; choose {FAMILIES}, or method.patches=null"
        )
    return layout
