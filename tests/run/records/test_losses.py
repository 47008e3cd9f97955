"""Losses and accuracies of logits against values by hand and dinopl's tracker."""

from __future__ import annotations

import math

import pytest
import torch

from dinodiet.run.records.losses import right, said
from tests.run.records.published import ARRAYS, tensor, value


def test_values_by_hand() -> None:
    teacher, student = torch.tensor([[[0.0, math.log(3)]]]), torch.zeros(1, 1, 2)
    found = said({"teacher": teacher, "student": student})
    expected = {"ce/all": 0.693147, "kl/all": 0.130812, "teacher/entropy": 0.562335, "student/entropy": 0.693147}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found["ce/same"] == found["ce/all"] == found["ce/student_view0"]
    assert "ce/opposite" not in found  # one view has no pair of different ones
    alike = said({"teacher": teacher, "student": teacher})
    assert alike["kl/all"] == pytest.approx(0, abs=1e-7)
    assert alike["ce/all"] == pytest.approx(alike["teacher/entropy"])


def test_pairs_of_views() -> None:
    views = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = said({"teacher": views[:2], "student": views})
    targets, logs = views[:2].softmax(-1), views.log_softmax(-1)
    crosses = {(i, j): -(targets[i] * logs[j]).sum(-1).mean().item() for i in range(2) for j in range(4)}
    mean = {
        "ce/all": list(crosses.values()),
        "ce/same": [crosses[0, 0], crosses[1, 1]],
        "ce/opposite": [cross for (i, j), cross in crosses.items() if i != j],
        "ce/student_view3": [crosses[0, 3], crosses[1, 3]],
    }
    for name, values in mean.items():
        assert found[name] == pytest.approx(sum(values) / len(values), rel=1e-12), name


def test_accuracies_are_the_published_ones() -> None:
    logits = {role: tensor(f"accuracy.{role}_logits") for role in ("teacher", "student")}
    assert said(logits)["accuracy/teacher"] == pytest.approx(value("accuracy.teacher_targets"))
    labels = torch.from_numpy(ARRAYS["accuracy.labels"])
    assert right(logits["student"], labels) == pytest.approx({"accuracy/labels": value("accuracy.labels_targets")})
