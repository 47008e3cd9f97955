"""iBOT: the student predicts what the teacher makes of patches that are covered in its own view (Zhou et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.config.ranges import Between, Items, NonNegative, Range
from dinodiet.errors import UserError
from dinodiet.methods.parts.centring import Centred
from dinodiet.methods.parts.covering import Covering, draw_covering
from dinodiet.methods.parts.diagnostics import entropy
from dinodiet.methods.parts.losses import Distillation
from dinodiet.methods.parts.prototype_head import PrototypeHead
from dinodiet.methods.parts.teacher import Teacher, teacher_of, update_ema_
from dinodiet.processes.gathering import size
from dinodiet.schedules import Scalar, at
from dinodiet.types import Backbone, Clock, TokenLayout

COVERED = [0.1, 0.5]
Ratio = Annotated[list[float], Items((Between[float], Between[float]), rising=True)]


class IBOT(nn.Module):
    """Image BERT pre-training with online tokenizer (arXiv:2111.07832, section 3.2), as DINOv2 has it.

    Some patches of the student's global views are covered by a token that is learned where the whole backbone is
    trained, and stays 0 where it is not. The teacher sees them uncovered. Temperatures and centring are those of the
    loss of class tokens; the centre is its own.

    Args:
        backbone: the student's.
        head: makes a head from `in_dim`.
        loss: of class tokens.
        layout: of the backbone's tokens.
        weight: of the term; a number or a schedule.
        covered: of a view's patches, at least and at most; each covered view has its own part.
        covered_views: of the global views.
        own_head: the patches have a head of their own; else the class tokens' is used.

    Raises:
        UserError: the shared head does not fit the patches, or the loss does not learn from the teacher.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Callable[..., PrototypeHead],
        loss: Distillation,
        layout: TokenLayout,
        *,
        weight: NonNegative[Scalar] = 1.0,
        covered: Ratio = COVERED,
        covered_views: Annotated[float, Range(0, 1, open_low=True)] = 0.5,
        own_head: bool = False,
    ) -> None:
        super().__init__()
        if not own_head and layout.width != backbone.embed_dim:
            found = f"embeddings have {backbone.embed_dim} numbers, patches {layout.width}"
            raise UserError(f"own_head: false, but {found}: one head cannot take both; set it to true")
        if loss.given is not None:
            raise UserError("ibot: its patches learn from the teacher, and loss.targets gives others; choose one")
        assert isinstance(backbone, nn.Module)
        self.weight, self.covered, self.covered_views = weight, tuple(covered), covered_views
        # Below frozen blocks it would need a backward pass through all of them.
        whole = all(parameter.requires_grad for parameter in backbone.parameters())
        self.token = nn.Parameter(torch.zeros(layout.width), requires_grad=whole)
        self.head = head(in_dim=layout.width) if own_head else None
        self.teacher_head = teacher_of(self.head) if self.head is not None else None
        self.loss = PatchDistillation(loss, loss.center.shape[1])
        self._guess: float | None = None

    def draw(self, views: int, grid: tuple[int, int], clock: Clock, *, num_global: int = 1) -> Covering:
        """Draw which patches of so many views are covered, `num_global` of each image."""
        generator = clock.generator("covering")
        return draw_covering(views, grid, self.covered, self.covered_views, generator, blocks=num_global)

    def forward(
        self, student: Tensor, teacher: Tensor, covering: Covering, heads: tuple[nn.Module, nn.Module], clock: Clock
    ) -> dict[str, Tensor]:
        """Return the loss `ibot` and the entropies of the teacher's predictions of covered patches.

        Args:
            student: patch tokens (V, N, D) of the views with covered patches.
            teacher: patch tokens (V, N, D) of the same views, uncovered.
            covering: which patches are covered.
            heads: of the class tokens, the student's and the teacher's.
            clock: when it is.
        """
        own, slow = (self.head, self.teacher_head) if self.head is not None else heads
        assert slow is not None
        with torch.no_grad():
            targets = slow(teacher.flatten(0, 1)[covering.index])
        logits = own(student.flatten(0, 1)[covering.index])
        views = len(student) * size()
        self._guess = max(int(views * self.covered_views), 1) / views
        return self.loss(logits, targets, covering.share, len(student), clock)  # type: ignore[no-any-return]

    def before_step(self, clock: Clock) -> None:
        """Leave the last layer of a head of its own as it is at the start of the training."""
        if self.head is not None:
            self.head.drop_frozen_gradients(clock)

    def after_step(self, teacher: Teacher, clock: Clock) -> None:
        """Move the centre, and the teacher's head of its own."""
        self.loss.update_center(clock)
        if self.head is not None and self.teacher_head is not None:
            update_ema_(self.teacher_head.parameters(), self.head.parameters(), at(teacher.momentum, clock))

    def guessing(self) -> dict[str, float]:
        """Return the loss of predictions that tell no patches apart: views without covered ones count 0."""
        return {} if self._guess is None else {"ibot": self._guess * math.log(self.loss.center.shape[1])}


class PatchDistillation(Centred):
    """The cross-entropy of covered patches, with the temperatures and the centring of a loss of class tokens."""

    def __init__(self, like: Distillation, out_dim: int) -> None:
        settings = {name: getattr(like, name) for name in ("teacher_temp", "center_momentum", "centring")}
        super().__init__(out_dim, **settings)
        self.student_temp = like.student_temp

    def forward(self, student: Tensor, teacher: Tensor, share: Tensor, views: int, clock: Clock) -> dict[str, Tensor]:
        """Return the loss `ibot`, and `ibot_entropy` and `ibot_marginal_entropy` as those of class tokens, in float32.

        The loss is the mean over a view's covered patches, then over all `views`: those without any count 0. `student`
        and `teacher` are logits (T, out_dim), `share` (T,) is 1 over the number of covered patches of the same view.
        """
        targets = self.targets(teacher.detach().float(), clock)
        logs = F.log_softmax(student.float() / at(self.student_temp, clock), dim=-1)
        self.see(teacher, clock)
        return {
            "ibot": -((targets * logs).sum(-1) * share).sum() / views,
            "ibot_entropy": entropy(targets).mean(),
            "ibot_marginal_entropy": entropy(targets.mean(0)),
        }
