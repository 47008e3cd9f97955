"""Networks that begin elsewhere, in whole runs: fresh, between the two, and from what another run left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dinodiet.config.identity import run_id
from dinodiet.errors import UserError
from dinodiet.run.parts import build_parts
from dinodiet.run.weights import read_whole
from tests.contracts.choices import settings
from tests.running import CHOICES, composed, run

SMALL = ("method=dino", "method.head.hidden_dims=[8]", "method.head.out_dim=16", "method.views.crops=2+1")
SHORT = (*SMALL, "schedule.epochs=1")
DINO = {**CHOICES, "method": "dino"}


def networks(folder: Path, *words: str) -> dict[str, dict[str, Tensor]]:
    """Return the state of teacher and student as a training begins."""
    method: Any = build_parts(settings(folder, *SMALL, *words)).method
    return {
        role: {f"{part}.{key}": value for part, module in both.items() for key, value in module.state_dict().items()}
        for role, both in method.networks().items()
    }


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_random_teacher_differs_from_the_model_and_its_student_from_it_unless_seeds_are_equal(tmp_path: Path) -> None:
    model = networks(tmp_path)
    assert alike(model["teacher"], model["student"])
    random = ("method.teacher.start.init=random", "method.teacher.start.seed=5")
    taught = networks(tmp_path, *random)
    after = torch.random.get_rng_state()
    networks(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), after)  # fresh weights take none of the run's random numbers
    assert alike(taught["teacher"], taught["student"]) and not alike(taught["teacher"], model["teacher"])
    own = networks(tmp_path, *random, "method.student.init=random")
    assert alike(own["teacher"], taught["teacher"]) and not alike(own["student"], own["teacher"])
    same = networks(tmp_path, *random, "method.student.init=random", "method.student.seed=5")
    assert alike(same["student"], same["teacher"])


@pytest.mark.slow
def test_a_student_between_the_teacher_and_a_fresh_one(tmp_path: Path) -> None:
    fresh = networks(tmp_path, "method.student.init=random", "method.student.seed=3")
    for alpha, expected in ((0.0, fresh["teacher"]), (1.0, fresh["student"])):
        found = networks(
            tmp_path, "method.student.init=interpolated", f"method.student.alpha={alpha}", "method.student.seed=3"
        )
        moved = {key: value for key, value in found["student"].items() if not key.endswith("weight_g")}
        assert all(torch.equal(value, expected[key]) for key, value in moved.items())
    near = networks(
        tmp_path, "method.student.init=neighbourhood", "method.student.epsilon=0.5", "method.student.seed=3"
    )
    key = "head.mlp.0.weight"
    torch.testing.assert_close(near["student"][key], fresh["teacher"][key] + 0.5 * fresh["student"][key])
    assert torch.equal(near["student"]["head.last_layer.weight_g"], fresh["teacher"]["head.last_layer.weight_g"])


@pytest.mark.slow
def test_a_run_begins_where_another_ended_wherever_that_lies(tmp_path: Path) -> None:
    first = run(composed(tmp_path / "first", *SHORT), DINO)
    assert "starts" not in first
    place = tmp_path / "first" / "default" / first["run_id"]
    left = read_whole(place / "weights.safetensors")
    words = ("method.student.init=checkpoint", f"method.student.checkpoint={place}")
    found = networks(tmp_path, *words)
    assert all(
        torch.equal(value, left[f"backbone.{k.removeprefix('encoder.')}" if k.startswith("encoder.") else k])
        for k, value in found["student"].items()
    )
    taught = ("method.teacher.start.init=checkpoint", f"method.teacher.start.checkpoint={place}")
    key = "head.mlp.0.weight"
    assert torch.equal(networks(tmp_path, *taught)["student"][key], left[f"teacher.{key}"])
    cfg = composed(tmp_path / "second", *SHORT, *taught)
    second = run(cfg, DINO)
    assert second["starts"]["teacher"]["parent"]["run_id"] == first["run_id"]
    assert second["initial"]["knn/accuracy"] == first["final"]["knn/accuracy"]
    moved = place.rename(tmp_path / "moved")
    again = settings(tmp_path, *SHORT, *taught[:1], f"method.teacher.start.checkpoint={moved}")
    assert run_id(again) == second["run_id"]
    with pytest.raises(UserError, match=r"^method.teacher.start.checkpoint: .* holds no weights.safetensors"):
        build_parts(settings(tmp_path, *SMALL, *taught))
    with pytest.raises(UserError, match=r"does not fit this model and head.*of another shape"):
        networks(tmp_path, *taught[:1], f"method.teacher.start.checkpoint={moved}", "method.head.hidden_dims=[9]")


def test_what_is_scored_later_is_scored_as_it_began(tmp_path: Path) -> None:
    words = (
        *SHORT,
        "method.teacher.start.init=random",
        "method.student.init=neighbourhood",
        "method.student.epsilon=0.1",
    )
    cfg = composed(tmp_path, *words)
    first = run(cfg, DINO)
    for path in tmp_path.glob("*/*/scores/initial_*"):
        path.unlink()
    (results,) = tmp_path.glob("*/*/results.json")
    results.write_text(json.dumps({**json.loads(results.read_text()), "evaluations": {}}))
    assert run(cfg, DINO)["initial"] == first["initial"]


def test_terms_on_patches_begin_with_the_models_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^method.patches: their terms begin with the model's weights"):
        networks(tmp_path, "method=dino_ibot", "method.teacher.start.init=random")
