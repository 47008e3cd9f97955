"""Features while a run trains: spread, rank, and how far the student's lie from the teacher's and from the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from dinodiet.config.ranges import AtLeastOne, NonNegative
from dinodiet.run.records.base import RecordBase
from dinodiet.run.records.statistics import between, statistics
from dinodiet.run.records.validation import chosen_kinds, features_of, features_size, first_images
from dinodiet.types import Batch, Clock, Method, Recorded, RecordMemory, Row

COPIES = 4  # of features, at most, while they are measured
Kind = Literal["embeddings", "projections", "logits"]


class Features(RecordBase):
    """Statistics of features of the training batch, and of a fixed set of validation images.

    Columns `batch/<kind>/<role>/<statistic>` and `validation/...` with those of `statistics`, and
    `.../teacher_student/<statistic>` with those of `between`: the teacher's views beside the student's first ones.
    `validation/<kind>/<role>/moved` is the mean Euclidean distance from the same image's features at the start. Those
    of the batch are what the step computed, all views of its first images, in training mode; with accumulated gradients
    of the last part. Validation images are seen in evaluation mode, after the step.

    Args:
        every_steps: steps from one row to the next.
        kinds: embeddings, projections (what the head makes of them), logits (whose softmax is the prediction); None:
            all that the method has.
        batch: images of the training batch; 0: none.
        images: validation images, the first ones; 0: none.

    Raises:
        UserError: the method has no features of a kind, or there are no validation images.
    """

    def __init__(
        self,
        *,
        every_steps: AtLeastOne[int] = 100,
        kinds: list[Kind] | None = None,
        batch: NonNegative[int] = 64,
        images: NonNegative[int] = 64,
    ) -> None:
        super().__init__(every_steps=every_steps)
        self._kinds: list[str] | None = None if kinds is None else list(kinds)
        self.batch, self.images = batch, images
        self._start: dict[str, Tensor] = {}
        self._row: dict[str, float] = {}

    def memory(self, method: Method) -> RecordMemory:
        """Return the validation images' features of the start; those of a batch are kept by the method."""
        if self.batch:
            method.keep_features()
        kept = features_size(method, self._kinds, self.images)
        return RecordMemory(kept, COPIES * kept)

    def prepare(self, run: Recorded) -> None:
        """Ask for the features of each step, and choose the validation images."""
        super().prepare(run)
        self.kinds = chosen_kinds(run, self._kinds)
        self._images = first_images(run, self.images) if self.images else None
        if self.batch:
            run.method.keep_features()

    def begin(self) -> Sequence[Row]:
        """Keep the features of the validation images, and return what they are like."""
        if self._images is None:
            return []
        self._start = features_of(self.run, self._images, self.kinds, self.run.clock)
        return [self._of_validation(self._start)]

    @torch.no_grad()
    def on_gradients(self, clock: Clock, batch: Batch) -> None:
        """Measure the features of the step, before the centre of a loss moves."""
        made = self.run.method.features(clock) if self.batch else {}
        views = {name: features[:, : self.batch] for name, features in made.items() if _kind(name) in self.kinds}
        self._row = {}
        for name, features in views.items():
            self._row |= _named(f"batch/{_kind(name)}/{_role(name)}", statistics(features.flatten(0, 1)))
        for kind in self.kinds:
            pair = [views.get(f"{role}/{kind}") for role in ("teacher", "student")]
            self._row |= _pair(f"batch/{kind}/teacher_student", *pair)

    def on_step(self, clock: Clock, logs: Mapping[str, Tensor]) -> Sequence[Row]:
        """Return the row of a step."""
        if self._images is None:
            return [self._row]
        return [self._row | self._of_validation(features_of(self.run, self._images, self.kinds, clock))]

    def _of_validation(self, found: Mapping[str, Tensor]) -> dict[str, float]:
        row: dict[str, float] = {}
        for name, features in found.items():
            place = f"validation/{_kind(name)}/{_role(name)}"
            row |= _named(place, statistics(features))
            if name in self._start:
                row[f"{place}/moved"] = between(features, self._start[name])["l2"]
        for kind in self.kinds:
            pair = [
                None if (own := found.get(f"{role}/{kind}")) is None else own[None] for role in ("teacher", "student")
            ]
            row |= _pair(f"validation/{kind}/teacher_student", *pair)
        return row

    def state(self) -> dict[str, Any]:
        """Return the features of the validation images at the start."""
        return self._start

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them up."""
        self._start = dict(state)


def _role(name: str) -> str:
    return name.partition("/")[0]


def _kind(name: str) -> str:
    return name.partition("/")[2]


def _named(place: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{place}/{name}": value for name, value in values.items()}


def _pair(place: str, teacher: Tensor | None, student: Tensor | None) -> dict[str, float]:
    """Return how the teacher's views (V, N, D) lie to the student's first ones; nothing where there are not both."""
    if teacher is None or student is None or teacher.shape[2] != student.shape[2]:
        return {}
    first = student[: len(teacher)]
    return _named(place, between(teacher.flatten(0, 1), first.flatten(0, 1)))
