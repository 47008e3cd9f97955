"""Gram anchoring against the published code; what the anchor is, and what of it is kept."""

from __future__ import annotations

import copy
import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dinodiet.errors import UserError
from dinodiet.methods.dino import DINO
from dinodiet.methods.parts.gram import Gram, gram_loss
from dinodiet.methods.parts.patch_terms import PatchTerms
from tests.methods.parts.test_patch_terms import CLOCK, dino
from tests.methods.test_mae import DATA
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "gram.npz")
CASES: dict[str, dict[str, bool]] = json.loads(str(REFERENCE["settings_json"]))


def negative(case: dict[str, bool]) -> Any:
    return "cut" if case["remove_neg"] else "cut_in_target" if case["remove_only_teacher_neg"] else "kept"


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_the_published_ones(name: str) -> None:
    case = CASES[name]
    student, target = (torch.from_numpy(REFERENCE[key]) for key in ("student", "teacher"))
    student.requires_grad_()
    loss = gram_loss(
        student,
        target,
        within="image" if case["img_level"] else "batch",
        normalize=case["apply_norm"],
        negative=negative(case),
    )
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(float(REFERENCE[f"{name}.loss"]), rel=1e-6)
    assert student.grad is not None
    np.testing.assert_allclose(student.grad, REFERENCE[f"{name}.grad"], rtol=1e-5, atol=1e-6)


def with_gram(**settings: Any) -> DINO:
    method = dino(patches=partial(PatchTerms, gram=partial(Gram, **settings)))
    method.train()
    return method


def gram_of(method: DINO) -> Gram:
    assert method.patches is not None and method.patches.gram is not None
    return method.patches.gram


def moved(method: DINO) -> Tensor:
    """Move the student a little, and return what the term is then."""
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)
    found: Tensor = method(DATA, CLOCK)["gram"]
    return found


def test_it_is_0_at_the_start_and_pulls_the_student_back() -> None:
    method = with_gram(weight=3.0)
    assert method(DATA, CLOCK)["gram"].item() == pytest.approx(0, abs=1e-10)
    assert moved(method).item() > 1e-4
    logs = method(DATA, CLOCK)
    torch.testing.assert_close(logs["loss"].detach(), logs["dino"] + 3 * logs["gram"])


def test_the_anchor_is_a_tower_that_learns_nothing_and_stays_in_evaluation_mode() -> None:
    method = with_gram()
    anchor = gram_of(method).anchor
    assert anchor in method.towers()
    assert not any(parameter.requires_grad for parameter in anchor.parameters())
    assert not any(module.training for module in anchor.modules())
    before = copy.deepcopy(anchor.state_dict())
    method.after_step(CLOCK)
    assert all(torch.equal(value, before[name]) for name, value in anchor.state_dict().items())


def test_it_is_refreshed_from_the_teacher() -> None:
    method = with_gram(refresh_steps=17)
    moved(method)
    for step in range(16):
        gram_of(method).after_step(method.backbone, CLOCK.at(step))
    assert method(DATA, CLOCK)["gram"] > 1e-4
    gram_of(method).after_step(method.backbone, CLOCK.at(16))
    assert method(DATA, CLOCK)["gram"].item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("refresh", [None, 5])
def test_what_the_start_has_is_not_kept_twice(refresh: int | None) -> None:
    method, resumed = with_gram(refresh_steps=refresh), with_gram(refresh_steps=refresh)
    found = moved(method)
    state = method.state_dict()
    kept = [name for name in state if name.startswith("patches.gram.anchor.")]
    assert bool(kept) is (refresh is not None)
    resumed.load_state_dict(copy.deepcopy(state))
    assert torch.equal(resumed(DATA, CLOCK)["gram"], found)
    assert resumed.state_dict().keys() == state.keys()


def test_another_start_is_refused() -> None:
    method, other = with_gram(), with_gram()
    with torch.no_grad():
        next(gram_of(other).anchor.parameters()).add_(0.01)
    other = copy.deepcopy(other)
    gram_of(other).start = gram_of(other).start + 0.1
    with pytest.raises(UserError, match=r"^model.weights: they are not those that this training began with"):
        other.load_state_dict(method.state_dict())
