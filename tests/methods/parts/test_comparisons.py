"""Losses of self-distillation against published values: safelix/dinopl cd39e7801397, and hand values."""

import json
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dinodiet.methods.parts.comparisons import COMPARISONS, Targets
from dinodiet.methods.parts.label_targets import Labels
from dinodiet.methods.parts.losses import Distillation
from dinodiet.methods.parts.pairs import Pairing, Pairs
from dinodiet.types import Batch, Clock, DataSpec
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "dinopl/losses.npz")
SETTINGS: dict[str, Any] = json.loads(str(REFERENCE["settings_json"]))
NAMES = {"CE": "ce", "KL": "kl", "MSE": "mse", "H_pred": "entropy"}
PAIRINGS: list[Pairing] = ["all", "same", "opposite"]
CLOCK = Clock(0, 10, 1)


def array(case: str, name: str) -> Tensor:
    return torch.from_numpy(REFERENCE[f"{case}.{name}"])


def expected() -> list[tuple[str, str, str, Pairing]]:
    """Return all (case, source of the targets, loss, pairing) that there are."""
    found = product(SETTINGS, ("", "labels.", "target_logits."), NAMES, PAIRINGS)
    return [one for one in found if f"{one[0]}.{one[1]}{one[2]}.{one[3]}.loss" in REFERENCE.files]


def targets_of(case: str, source: str) -> Targets:
    views = SETTINGS[case]["teacher_views"]
    if source == "labels.":
        one_hot = torch.eye(8, dtype=torch.float64)[array(case, "labels")].expand(views, -1, -1)
        return Targets(one_hot, one_hot)
    logits = array(case, "teacher_logits") if not source else array(case, "target_logits").expand(views, -1, -1)
    return Targets(logits.double(), logits.double().softmax(-1))


@pytest.mark.parametrize(("case", "source", "loss", "pairing"), expected())
def test_values_and_gradients_are_the_published_ones(case: str, source: str, loss: str, pairing: Pairing) -> None:
    predictions = array(case, "student_logits").double().requires_grad_()
    targets = targets_of(case, source)
    value = COMPARISONS[NAMES[loss]](targets, predictions, Pairs(pairing, len(targets.logits), len(predictions)))  # type: ignore[index]
    torch.autograd.backward(value)
    name = f"{source}{loss}.{pairing}"
    torch.testing.assert_close(value.detach(), array(case, f"{name}.loss").double(), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(predictions.grad, array(case, f"{name}.grad_logits").double(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(("case", "loss", "pairing"), [(c, k, p) for c, source, k, p in expected() if not source])
def test_the_whole_loss_centres_divides_and_moves_its_centres_as_published(case: str, loss: str, pairing: str) -> None:
    settings, views = SETTINGS[case], SETTINGS[case]["teacher_views"]
    distillation = Distillation(
        8,
        DataSpec("test", 4, 2),
        student_temp=settings["student_temperature"],
        teacher_temp=settings["teacher_temperature"],
        center_momentum=settings["teacher_center_momentum"],
        student_center_momentum=settings["student_center_momentum"],
        kind=NAMES[loss],  # type: ignore[arg-type]
        pairs=pairing,  # type: ignore[arg-type]
    )
    distillation.center.copy_(array(case, "teacher_center"))
    if distillation.student_centre is not None:
        distillation.student_centre.center.copy_(array(case, "student_center"))
    student, teacher = (array(case, f"{who}_projections").flatten(0, 1) for who in ("student", "teacher"))
    logs = distillation(student, teacher, num_global=views, clock=CLOCK)
    distillation.update_centers(CLOCK)
    torch.testing.assert_close(logs["loss"], array(case, f"{loss}.{pairing}.loss"), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logs["teacher_entropy"], array(case, "entropy_teacher").mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(distillation.center[0], array(case, "teacher_center_after"))
    if distillation.student_centre is not None:
        torch.testing.assert_close(distillation.student_centre.center[0], array(case, "student_center_after"))


@pytest.mark.parametrize("loss", ["CE", "KL", "MSE"])
def test_the_whole_loss_learns_labels_as_published(loss: str) -> None:
    case = "g2l4"
    distillation = Distillation(
        8,
        DataSpec("test", 4, 8),
        kind=NAMES[loss],  # type: ignore[arg-type]
        pairs="all",
        targets=Labels,
    )
    student, teacher = (array(case, f"{who}_projections").flatten(0, 1) for who in ("student", "teacher"))
    batch = Batch(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), array(case, "labels"), torch.arange(4))
    logs = distillation(student, teacher, num_global=2, clock=CLOCK, batch=batch)
    torch.testing.assert_close(logs["loss"], array(case, f"labels.{loss}.all.loss"), rtol=1e-5, atol=1e-5)


def test_hand_values() -> None:
    teacher, student = torch.tensor([[[0.0, math.log(3)]]]), torch.zeros(1, 1, 2)
    targets, pairs = Targets(teacher, teacher.softmax(-1)), Pairs("same", 1, 1)
    values = {"ce": 0.693147, "kl": 0.130812, "mse": 0.603474, "entropy": 0.693147}
    for kind, value in values.items():
        found = COMPARISONS[kind](targets, student, pairs)  # type: ignore[index]
        assert found.item() == pytest.approx(value, abs=1e-6), kind
    assert targets.entropy().item() == pytest.approx(0.562335, abs=1e-6)
    for kind, value in {"ce": 0.562335, "kl": 0.0, "mse": 0.0}.items():  # the same logits on both sides
        assert COMPARISONS[kind](targets, teacher, pairs).item() == pytest.approx(value, abs=1e-6), kind  # type: ignore[index]
    label = torch.tensor([[[0.0, 1.0]]])
    assert COMPARISONS["ce"](Targets(label, label), teacher, pairs).item() == pytest.approx(0.287682, abs=1e-6)
