"""DINO: self-distillation between views (Caron et al. 2021, arXiv:2104.14294)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.errors import UserError
from dinodiet.methods.base import Method
from dinodiet.methods.parts import dino_defaults
from dinodiet.methods.parts.diagnostics import effective_rank
from dinodiet.methods.parts.dino_head import DINOHead
from dinodiet.methods.parts.dino_loss import DINOLoss
from dinodiet.methods.parts.teacher import teacher_of, update_ema_
from dinodiet.schedules import Cosine, Linear, Scalar, at, duration
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Views


class DINO(Method):
    """A student sees all views of an image, its slow teacher the global ones; the student predicts the teacher.

    What is None is chosen: `out_dim`, `teacher_temp`, `momentum` (of the teacher) and the freeze of the last layer from
    the size of the dataset and the length of the training (`dino_defaults`); `drop_path` (of the student) is what the
    backbone has, else 0.1. `views` is a partial that waits for `input`.

    Raises:
        UserError: a value is out of range, or `drop_path` is set for a backbone that has no residual blocks to drop.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        *,
        views: Callable[..., Views],
        trainable: str = "all",
        head_only_fraction: float = 0.0,
        out_dim: int | None = None,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        use_bn: bool = False,
        norm_last_layer: bool = True,
        freeze_last_layer_epochs: float | None = None,
        freeze_last_layer_steps: int | None = None,
        student_temp: float = 0.1,
        teacher_temp: Scalar | None = None,
        momentum: Scalar | None = None,
        center_momentum: float = 0.9,
        drop_path: float | None = None,
    ) -> None:
        super().__init__(backbone, trainable=trainable, head_only_fraction=head_only_fraction)
        for name, value in (("out_dim", out_dim), ("student_temp", student_temp), ("teacher_temp", teacher_temp)):
            if isinstance(value, (int, float)) and value <= 0:
                raise UserError(f"{name}: {value}; must be above 0")
        num_images = spec.num_images
        self.out_dim = out_dim if out_dim is not None else dino_defaults.out_dim(num_images)
        self.student_temp = student_temp
        self.teacher_temp = teacher_temp if teacher_temp is not None else dino_defaults.teacher_temp(num_images)
        self.momentum = momentum if momentum is not None else dino_defaults.momentum(num_images)
        self.freeze_epochs, self.freeze_steps = freeze_last_layer_epochs, freeze_last_layer_steps
        self.frozen_last_layer_steps(Clock(0, 1, 1))  # refuses two durations
        self.drop_path = choose_drop_path(self.backbone, drop_path)
        self.views = views(input=backbone.input)
        self.head = DINOHead(
            backbone.embed_dim,
            self.out_dim,
            hidden_dim=hidden_dim,
            bottleneck_dim=bottleneck_dim,
            use_bn=use_bn,
            norm_last_layer=norm_last_layer,
        )
        self.teacher = nn.ModuleDict({"backbone": teacher_of(self.backbone), "head": teacher_of(self.head)})
        self.criterion = DINOLoss(self.out_dim, center_momentum=center_momentum)
        self._last: tuple[Tensor, float] | None = None

    @property
    def encoder(self) -> nn.Module:
        """Return the teacher's backbone."""
        return self.teacher["backbone"]

    def loss(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the loss, the teacher's entropies and KL(teacher || student)."""
        self.set_phase(clock)
        views = self.views(batch.images, clock.generator("views"))
        with torch.no_grad():
            embeddings = embed_views(self.teacher["backbone"], views[: self.views.num_global])
            teacher_logits = self.teacher["head"](embeddings)
        student_logits = self.head(embed_views(lambda images: self.embed(images, clock), views))
        teacher_temp = at(self.teacher_temp, clock)
        self._last = embeddings[: len(batch)], teacher_temp
        logs: dict[str, Tensor] = self.criterion(
            student_logits,
            teacher_logits,
            num_global=self.views.num_global,
            student_temp=self.student_temp,
            teacher_temp=teacher_temp,
            first_part=clock.part == 0,
        )
        return logs

    def before_step(self, clock: Clock) -> None:
        """Drop the last layer's gradients at the start of the training: absent, AdamW neither decays nor counts."""
        if clock.step < self.frozen_last_layer_steps(clock):
            for parameter in self.head.last_layer.parameters():
                parameter.grad = None

    def after_step(self, clock: Clock) -> None:
        """Move the centre, and the teacher towards the student as it is now: its parameters, not its buffers."""
        self.criterion.update_center()
        student = itertools.chain(self.backbone.parameters(), self.head.parameters())
        update_ema_(self.teacher.parameters(), student, at(self.momentum, clock))

    def frozen_last_layer_steps(self, clock: Clock) -> int:
        """Return for how many steps the last layer is not trained."""
        if self.freeze_epochs is None and self.freeze_steps is None:
            return dino_defaults.freeze_last_layer_steps(clock)
        return duration(
            clock, steps=self.freeze_steps, epochs=self.freeze_epochs, fraction=None, name="freeze_last_layer"
        )

    def diagnostics(self) -> dict[str, float]:
        """Return the effective rank of the teacher's embeddings of the first global view, and its temperature."""
        if self._last is None:
            return {}
        embeddings, teacher_temp = self._last
        return {"effective_rank": effective_rank(embeddings), "teacher_temp": teacher_temp}

    def describe(self) -> dict[str, Any]:
        """Return what may have been chosen: prototypes, the ends of the teacher's schedules, drop path."""
        return {
            "out_dim": self.out_dim,
            "teacher_temp": _ends(self.teacher_temp),
            "teacher_momentum": _ends(self.momentum),
            "drop_path": self.drop_path,
        }


def embed_views(backbone: Callable[[Tensor], Tensor], views: list[Tensor]) -> Tensor:
    """Return the embeddings (views x B, embed_dim) in the views' order, with one forward pass per resolution."""
    groups = (list(group) for _, group in itertools.groupby(views, key=lambda view: view.shape[-1]))
    return torch.cat([backbone(torch.cat(group)) for group in groups])


def choose_drop_path(backbone: nn.Module, rate: float | None) -> float:
    """Set the student's drop path, and return its largest rate; None: what the backbone has, else 0.1 if it can."""
    if rate is None and (present := _drop_path_rate(backbone)) > 0:
        return present
    try:
        set_drop_path(backbone, 0.1 if rate is None else rate)
    except UserError as error:
        if rate is None:
            return 0.0
        raise UserError(str(error).removeprefix("model.")) from error  # it is the method's key here
    return _drop_path_rate(backbone)


def _drop_path_rate(backbone: nn.Module) -> float:
    return max((module.drop_prob for module in backbone.modules() if isinstance(module, DropPath)), default=0.0)


def _ends(value: Scalar) -> str:
    match value:
        case Linear(start=first, final=last) | Cosine(value=first, final=last):
            return f"{first:.3g} -> {last:.3g}"
    return str(value)
