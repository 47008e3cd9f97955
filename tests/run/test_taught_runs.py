"""A run of method=supervised teaches another one by its classifier, by the real settings of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dinodiet.config.gate import gate
from dinodiet.errors import UserError
from dinodiet.methods.distill_logits import DistillLogits
from dinodiet.run.parts import build_parts
from dinodiet.run.weights import read_whole
from tests.running import CHOICES, composed, killed_after, run, scores

SMALL = "+method.teacher.model.model_args={depth: 2, embed_dim: 24, num_heads: 2}"
HEAD = ("method.head.hidden_dim=12", "method.head.norm=batch", "+method.head.input_scale=0.5")


def trained(tmp_path: Path, *words: str, method: str = "supervised") -> Path:
    choices = {**CHOICES, "method": method}
    results = run(composed(tmp_path, f"method={method}", *words), choices)
    return tmp_path / "default" / str(results["run_id"])


def taught(tmp_path: Path, place: Path, *words: str) -> Any:
    named = ("model@method.teacher.model=vit_tiny", SMALL, "method.teacher.model.patch_size=8")
    words = (*named, f"method.teacher.model.weights={place}", *words)
    return composed(tmp_path, "method=distill_logits", *words)


@pytest.mark.slow
def test_a_student_learns_from_the_classifier_of_a_run_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = trained(tmp_path / "teacher", *HEAD)
    config, choices = taught(tmp_path / "a", place, "method.label_weight=1"), {**CHOICES, "method": "distill_logits"}
    method = build_parts(gate(config, choices)).method
    assert isinstance(method, DistillLogits) and method.teacher.classes == 10
    images = torch.rand(3, 3, method.teacher.input.size, method.teacher.input.size)
    whole = {k.removeprefix("head."): v for k, v in read_whole(place / "weights.safetensors").items() if "head." in k}
    features = (0.5 * method.teacher(images) - whole["norm.running_mean"]) / (whole["norm.running_var"] + 1e-6).sqrt()
    hidden = torch.relu(features @ whole["layers.0.weight"].T + whole["layers.0.bias"])
    expected = hidden @ whole["layers.2.weight"].T + whole["layers.2.bias"]
    torch.testing.assert_close(method.teacher.logits(method.teacher(images)), expected, atol=1e-5, rtol=1e-5)
    undisturbed = run(config, choices)
    assert "classifier/accuracy" in undisturbed["final"]
    again = taught(tmp_path / "b", place, "method.label_weight=1", "checkpoint_minutes=0")
    with killed_after(5, monkeypatch):
        run(again, choices)
    assert scores(run(again, choices)) == scores(undisturbed)


def test_a_run_without_a_classifier_is_refused_in_one_line(tmp_path: Path) -> None:
    place = trained(tmp_path, method="diet")
    with pytest.raises(UserError, match=r"teacher.model.weights: .* is a run of method=diet, which trained no classif"):
        build_parts(gate(taught(tmp_path, place), {**CHOICES, "method": "distill_logits"}))
