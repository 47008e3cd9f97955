"""Losses of single steps, their parts by view, and the values that schedules have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.ranges import AtLeastOne
from dinodiet.methods.parts.diagnostics import entropy
from dinodiet.run.records.base import RecordBase
from dinodiet.run.records.statistics import wide
from dinodiet.types import Batch, Clock, Method, Recorded, RecordMemory, Row


class Losses(RecordBase):
    """What a method logs of a step, learning rates and decay, its hyper-parameters, and what its logits say.

    Of logits of teacher and student, as in a loss between their predictions: `ce/all`, `ce/same`, `ce/opposite` (pairs
    of a teacher's and a student's view: all, those of the same view, of different ones), `kl/...` the same without the
    teacher's entropy, `ce/student_view<j>` and `kl/student_view<j>` as means over the teacher's views,
    `<role>/entropy` and `<role>/entropy_view<i>`, and `accuracy/teacher`: how often the student's mean prediction of an
    image is the teacher's. Of a classifier of labels alone: entropies and `accuracy/labels`. With accumulated gradients
    these are of the last part of the batch.

    Args:
        every_steps: steps from one row to the next.
    """

    def __init__(self, *, every_steps: AtLeastOne[int] = 10) -> None:
        super().__init__(every_steps=every_steps)
        self._row: dict[str, float] = {}

    def memory(self, method: Method) -> RecordMemory:
        """Let the method keep its features: they are all that is taken."""
        method.keep_features()
        return RecordMemory()

    def prepare(self, run: Recorded) -> None:
        """Ask for the logits of each step."""
        super().prepare(run)
        run.method.keep_features()

    @torch.no_grad()
    def on_gradients(self, clock: Clock, batch: Batch) -> None:
        """Look at logits, rates and hyper-parameters of a step."""
        made = self.run.method.features(clock)
        logits = {role: made[name] for role in ("teacher", "student") if (name := f"{role}/logits") in made}
        rates: dict[str, float] = {}
        for group in self.run.optimizer.param_groups:
            rates |= {f"lr/{group['name']}": group["lr"], f"weight_decay/{group['name']}": group["weight_decay"]}
        self._row = {**rates, **self.run.method.hyperparameters(clock), **said(logits)}
        if self.run.method.split == "train" and "student" in logits and batch.label is not None:
            self._row |= right(logits["student"], batch.label)

    def on_step(self, clock: Clock, logs: Mapping[str, Tensor]) -> Sequence[Row]:
        """Return the row of a step."""
        return [{**{name: value.item() for name, value in logs.items()}, **self._row}]


def said(logits: Mapping[str, Tensor]) -> dict[str, float]:
    """Return what the logits (views, B, C) of roles say; see `Losses`."""
    found: dict[str, Tensor] = {}
    for role, own in logits.items():
        entropies = entropy(F.softmax(wide(own), dim=-1)).mean(1)
        found[f"{role}/entropy"] = entropies.mean()
        found |= {f"{role}/entropy_view{view}": value for view, value in enumerate(entropies)}
    if "teacher" in logits and "student" in logits:
        found |= compared(wide(logits["teacher"]), wide(logits["student"]))
    return _read(found)


def compared(teacher: Tensor, student: Tensor) -> dict[str, Tensor]:
    """Return cross-entropies and divergences of predictions from logits (views, B, C), the teacher's as targets."""
    targets, log_predictions = F.softmax(teacher, dim=-1), F.log_softmax(student, dim=-1)
    crosses = -torch.einsum("ibc,jbc->ij", targets, log_predictions) / teacher.shape[1]
    divergences = crosses - entropy(targets).mean(1)[:, None]
    same = torch.eye(*crosses.shape, dtype=torch.bool, device=crosses.device)
    found: dict[str, Tensor] = {}
    for name, pairs in (("ce", crosses), ("kl", divergences)):
        found |= {f"{name}/all": pairs.mean(), f"{name}/same": pairs[same].mean()}
        found |= {} if same.all() else {f"{name}/opposite": pairs[~same].mean()}
        found |= {f"{name}/student_view{view}": value for view, value in enumerate(pairs.mean(0))}
    agree = targets.mean(0).argmax(1) == log_predictions.exp().mean(0).argmax(1)
    return {**found, "accuracy/teacher": wide(agree).mean()}


def right(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return how often the mean prediction of logits (views, B, C) is the label of the batch's last images."""
    if labels.ndim > 1:
        return {}
    predicted = F.softmax(wide(logits), dim=-1).mean(0).argmax(1)
    return _read({"accuracy/labels": wide(predicted == labels[-len(predicted) :]).mean()})


def _read(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return values, read from their device at once."""
    numbers = torch.stack([value.double() for value in values.values()]).tolist() if values else []
    return dict(zip(values, numbers, strict=True))
