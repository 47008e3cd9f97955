"""DINO: self-distillation between views (Caron et al. 2021, arXiv:2104.14294)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dinodiet.config.ranges import NonNegative
from dinodiet.config.signature import Inlined
from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.methods.parts.check_views import check_views, sides_of
from dinodiet.methods.parts.diagnostics import effective_rank
from dinodiet.methods.parts.embed_views import embed_views
from dinodiet.methods.parts.heads import DINOHead
from dinodiet.methods.parts.koleo import koleo
from dinodiet.methods.parts.losses import Distillation
from dinodiet.methods.parts.pairs import Pairs
from dinodiet.methods.parts.patch_terms import PatchTerms, Terms
from dinodiet.methods.parts.prototype_head import PrototypeHead
from dinodiet.methods.parts.shown import named
from dinodiet.methods.parts.starts import Network, fresh_network
from dinodiet.methods.parts.student import Student
from dinodiet.methods.parts.teacher import Teacher
from dinodiet.schedules import Cosine, Exponential, HalfCosine, Linear, Scalar, at
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Images, Origins, Runtime, ShownView, Views


class DINO(MethodBase):
    """A student sees all views of an image, its slow teacher the global ones; the student predicts the teacher.

    The parts are callables that wait for what a run knows. Settings of theirs that are None are chosen from the size of
    the dataset and the length of the training (`parts.dino_defaults`).

    Args:
        backbone: the student's, trained in place.
        spec: facts about the data.
        views: global and local crops, from `input`, the backbone's specification of its input.
        trainable: what of the backbone is trained, see `dinodiet.backbones.freeze`.
        head: the logits of prototypes, from `in_dim` and `spec`.
        loss: between the logits of student and teacher, from `out_dim` and `spec`.
        teacher: follows the student, from `backbone`, `head` and `spec`.
        student: its drop path and what it begins with, from `backbone`.
        koleo: weight of KoLeo on the student's embeddings of each global view; DINOv2 has 0.1.
        patches: terms on patch tokens (iBOT, Gram), from `backbone`, `head` and `loss`; None: class tokens alone.

    Raises:
        UserError: a part refuses its settings or the backbone: terms on patches are for those that have some.
    """

    evaluates_teacher: ClassVar[bool] = True

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        *,
        views: Callable[..., Views],
        trainable: str = "all",
        head: Callable[..., PrototypeHead] = DINOHead,
        loss: Callable[..., Distillation] = Distillation,
        teacher: Callable[..., Teacher] = Teacher,
        student: Inlined[Callable[..., Student]] = Student,
        koleo: NonNegative[float] = 0.0,
        patches: Callable[..., PatchTerms] | None = None,
    ) -> None:
        head = functools.partial(head, spec=spec)
        prototypes = head(in_dim=backbone.embed_dim)
        super().__init__(backbone, trainable=trainable, warmup_fraction=prototypes.warmup_fraction)
        self.student = student(backbone=self.backbone)
        self.views = views(input=backbone.input)
        check_views(self.views, backbone)
        self.head = prototypes
        self.teacher = teacher(backbone=self.backbone, head=self.head, spec=spec)
        self.loss = loss(out_dim=self.head.out_dim, spec=spec)
        Pairs(self.loss.pairs, self.views.num_global, len(sides_of(self.views))).check()
        self.split = self.loss.given.split if self.loss.given else "pretext"
        self.koleo = koleo
        self.patches = patches(backbone=self.backbone, head=head, loss=self.loss) if patches else None
        if patches is not None and (self.student.init, self.teacher.start.init) != ("teacher", "model"):
            raise UserError(
                "patches: their terms begin with the model's weights; set student.init=teacher teacher.start.init=model"
            )
        fresh_head = functools.partial(head, in_dim=backbone.embed_dim)
        self._fresh = functools.partial(fresh_network, trainable=trainable, head=fresh_head)
        self._starts: dict[str, Any] = {}
        self._last: Tensor | None = None
        self._temp = 0.0

    def start(self, origins: Origins) -> dict[str, Any]:
        """Give teacher and student the weights that they begin with."""
        teacher, student = (
            Network(net["encoder"], net["head"]) for net in map(self.networks().__getitem__, ("teacher", "student"))
        )
        fresh = functools.partial(self._fresh, origins)
        of_teacher = self.teacher.start(teacher, fresh, origins)
        of_student = self.student.start(student, teacher, fresh, origins, of_teacher)
        self._starts = {role: told for role, told in (("teacher", of_teacher), ("student", of_student)) if told}
        return self._starts

    def prepare(self, images: Images, clock: Clock, runtime: Runtime) -> None:
        """Draw what given targets need of all images."""
        if self.loss.given is not None:
            self.loss.given.prepare(images)

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the loss, the teacher's entropies and KL(teacher || student)."""
        self.set_phase(clock)
        views = self.views(batch.images, clock.generator("views"))
        student, embeddings, terms = self._embedded(views, clock)
        with torch.no_grad():
            teacher_logits = self.teacher.head(embeddings)
        student_logits = self.head(student)
        made = {"student/embeddings": student, "student/projections": student_logits}
        self._keep(len(batch), {**made, "teacher/embeddings": embeddings, "teacher/projections": teacher_logits})
        self._last, self._temp = embeddings[: len(batch)], at(self.loss.teacher_temp, clock)
        logs: dict[str, Tensor] = self.loss(
            student_logits, teacher_logits, num_global=self.views.num_global, clock=clock, batch=batch
        )
        if self.koleo:
            rows = student[: self.views.num_global * len(batch)].split(len(batch))
            logs["koleo"] = torch.stack([koleo(view, batch.index) for view in rows]).sum()
            logs |= {"loss": logs["loss"] + self.koleo * logs["koleo"], "koleo": logs["koleo"].detach()}
        return terms.added_to(logs)

    def _embedded(self, views: list[Tensor], clock: Clock) -> tuple[Tensor, Tensor, Terms]:
        """Return the student's embeddings of all views, the teacher's of the global ones, and the terms on patches."""
        number, teacher = self.views.num_global, self.teacher
        if self.patches is None:
            with torch.no_grad():
                targets = embed_views(teacher.backbone, views[:number])
            return embed_views(lambda images: self.embed(images, clock), views), targets, Terms()
        with self.phase(clock):
            seen = self.patches.seen(views, number, self.backbone, teacher.backbone, clock)
        return seen.student, seen.teacher, self.patches.terms(seen, (self.head, teacher.head), clock)

    def shown_views(self, batch: Batch, clock: Clock, images: Images) -> list[ShownView]:
        """Return the global views, which both networks see, covered where the student's patches are, and local ones."""
        number, made = self.views.num_global, self.views(batch.images, clock.generator("views"))
        shown = named(made, number, who=" (both)", local=" (student)")
        hidden = None if self.patches is None else self.patches.hidden(made[:number], clock)
        if hidden is None:
            return shown
        covered = named(made[:number], number, who=" (student)", hidden=hidden)
        return [*named(made, number, who=" (teacher)")[:number], *covered, *shown[number:]]

    def before_step(self, clock: Clock) -> None:
        """Leave the last layer as it is at the start of the training."""
        self.head.drop_frozen_gradients(clock)
        if self.patches is not None:
            self.patches.before_step(clock)

    def after_step(self, clock: Clock) -> None:
        """Move the centres, and the teacher towards the student."""
        self.loss.update_centers(clock)
        self.teacher.follow(self.backbone, self.head, clock)
        if self.patches is not None:
            self.patches.after_step(self.teacher, clock)

    @property
    def encoder(self) -> nn.Module:
        """Return the teacher's backbone."""
        return self.teacher.backbone

    @property
    def steady(self) -> bool:
        """Return False with terms on patches: of a process's images none may be covered."""
        return super().steady and self.patches is None

    @property
    def compares_images(self) -> bool:
        """Return whether KoLeo spreads the images of a batch, or Sinkhorn-Knopp shares prototypes out among them."""
        return self.koleo > 0 or self.loss.centring == "sinkhorn"

    @property
    def draft_side(self) -> int | None:
        """Return that of the views."""
        return self.views.draft_side

    def logits(self, images: Tensor) -> Tensor | None:
        """Return the student's logits (B, labels) of images, where it learns the labels."""
        if self.loss.given is None or not self.loss.given.labels:
            return None
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def towers(self) -> list[nn.Module]:
        """Return the student's backbone, the teacher's, and those of terms on patches."""
        return [self.backbone, self.teacher.backbone, *(self.patches.towers() if self.patches is not None else ())]

    def networks(self) -> dict[str, dict[str, nn.Module]]:
        """Return backbone and head of the student and of the teacher."""
        teacher = {"encoder": self.teacher.backbone, "head": self.teacher.head}
        return {"student": {"encoder": self.backbone, "head": self.head}, "teacher": teacher}

    def readout(self, role: str, embeddings: Tensor, clock: Clock) -> dict[str, Tensor]:
        """Return the head's output, and the logits whose softmax is the prediction."""
        projections = self.networks()[role]["head"](embeddings)
        return {"projections": projections, "logits": self.loss.scaled(role, projections, clock)}

    @property
    def begins_alike(self) -> bool:
        """Return whether the student begins as its teacher."""
        return self.student.init == "teacher"

    def features(self, clock: Clock) -> dict[str, Tensor]:
        """Return embeddings, projections and logits of the last forward pass; logits by the centre as it is now."""
        kept = super().features(clock)
        names = {role: f"{role}/projections" for role in self.networks() if f"{role}/projections" in kept}
        return kept | {f"{role}/logits": self.loss.scaled(role, kept[name], clock) for role, name in names.items()}

    def hyperparameters(self, clock: Clock) -> dict[str, float]:
        """Return the teacher's momentum, and what the loss has."""
        return {"teacher_momentum": at(self.teacher.momentum, clock), **self.loss.hyperparameters(clock)}

    def guessing(self) -> dict[str, float]:
        """Return log(prototypes), the loss of a student or teacher that tells no images apart; with terms, of each."""
        if self.patches is None:
            return self.loss.guessing("loss")
        return {**self.loss.guessing("dino"), **self.patches.guessing()}

    def diagnostics(self) -> dict[str, float]:
        """Return the effective rank of the teacher's embeddings of the first global view, and its temperature."""
        if self._last is None:
            return {}
        return {"effective_rank": effective_rank(self._last), "teacher_temp": self._temp}

    def describe(self) -> dict[str, Any]:
        """Return what may have been chosen: prototypes, the ends of the teacher's schedules, drop path."""
        update = self.teacher.update
        return {
            "out_dim": self.head.out_dim,
            "teacher_temp": _ends(self.loss.teacher_temp),
            **({"teacher_momentum": _ends(self.teacher.momentum)} if update == "ema" else {"teacher_update": update}),
            "drop_path": self.student.drop_path,
            **{role: _told(told) for role, told in self._starts.items()},
        }


def _told(start: dict[str, Any]) -> str:
    return " ".join([start["init"], *(f"{name}={value}" for name, value in start.items() if name != "init")])


def _ends(value: Scalar) -> str:
    match value:
        case Linear(start=first, final=last) | Cosine(value=first, final=last):
            return f"{first:.3g} -> {last:.3g}"
        case HalfCosine(start=first, final=last) | Exponential(start=first, final=last):
            return f"{first:.3g} -> {last:.3g}"
    return type(value).__name__ if callable(value) else str(value)
