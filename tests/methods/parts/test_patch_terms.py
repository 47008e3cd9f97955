"""Terms on patches within DINO: which passes there are, what is covered in them, and what the loss is made of."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from dinodiet.backbones import timm_backbone
from dinodiet.data.views import MultiCrop
from dinodiet.errors import UserError
from dinodiet.methods.dino import DINO
from dinodiet.methods.parts.ibot import IBOT
from dinodiet.methods.parts.patch_terms import PatchTerms
from dinodiet.schedules import at
from dinodiet.types import Clock, DataSpec
from tests.methods import assemble
from tests.methods.test_mae import DATA, SPEC, backbone
from tests.small import Encoder

CLOCK = Clock(50, 100, 10)
SMALL: dict[str, Any] = {
    **{"head__out_dim": 16, "head__hidden_dims": [24], "head__bottleneck_dim": 8},
    **{"student__drop_path": 0.0, "loss__teacher_temp": 0.07},
}


def dino(encoder: Any = None, views: str = "2+2x16", **settings: Any) -> DINO:
    torch.manual_seed(0)
    made = partial(MultiCrop, crops=views)
    return assemble.dino(encoder or backbone(), SPEC, views=made, **{**SMALL, **settings})


def with_ibot(**settings: Any) -> DINO:
    terms = {name: settings.pop(name) for name in list(settings) if name in ("weight", "covered", "own_head")}
    return dino(patches=partial(PatchTerms, ibot=partial(IBOT, **terms)), **settings)


def ibot_of(method: DINO) -> IBOT:
    assert method.patches is not None and method.patches.ibot is not None
    return method.patches.ibot


def test_a_term_of_weight_0_changes_nothing_but_what_is_covered() -> None:
    plain, seen = dino(), with_ibot(weight=0.0)
    term = ibot_of(seen)
    draw = term.draw
    term.draw = lambda *_, **__: _uncovered(draw(*_))  # type: ignore[method-assign]
    there, here = plain(DATA, CLOCK), seen(DATA, CLOCK)
    for name in there:
        torch.testing.assert_close(here[name], there[name], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(here["dino"], there["loss"].detach(), rtol=1e-6, atol=1e-7)


def _uncovered(covering: Any) -> Any:
    covering.covered.zero_()
    return covering


def test_the_loss_is_the_sum_of_its_terms() -> None:
    logs = with_ibot(weight=0.5, koleo=0.1)(DATA, CLOCK)
    expected = logs["dino"] + 0.5 * logs["ibot"]
    torch.testing.assert_close(logs["loss"].detach(), expected)
    assert [name for name, value in logs.items() if value.requires_grad] == ["loss"]
    assert {"dino", "koleo", "ibot", "ibot_entropy", "ibot_marginal_entropy"} <= logs.keys()


def test_after_a_step_the_teachers_head_of_the_patches_follows_and_the_centre_moves() -> None:
    method = with_ibot(own_head=True)
    method(DATA, CLOCK)
    term = ibot_of(method)
    assert term.head is not None and term.teacher_head is not None
    with torch.no_grad():
        for parameter in term.head.parameters():
            parameter.add_(1.0)
    before, centre = [parameter.clone() for parameter in term.teacher_head.parameters()], term.loss.center.clone()
    method.after_step(CLOCK)
    kept = at(method.teacher.momentum, CLOCK)
    for old, new, student in zip(before, term.teacher_head.parameters(), term.head.parameters(), strict=True):
        torch.testing.assert_close(new, kept * old + (1 - kept) * student)
    assert kept < 1 and not torch.equal(term.loss.center, centre)


def test_the_student_sees_covered_patches_and_the_teacher_none() -> None:
    method = with_ibot()
    given: dict[str, list[Any]] = {"student": [], "teacher": []}
    for name, network in (("student", method.backbone), ("teacher", method.teacher.backbone)):
        usual = network.embedding_and_patches

        def told(*args: Any, usual: Any = usual, name: str = name) -> Any:
            given[name].append(args)
            return usual(*args)

        network.embedding_and_patches = told  # type: ignore[assignment]
    method(DATA, CLOCK)
    ((images, covered, _),), ((same,),) = given["student"], given["teacher"]
    assert torch.equal(images, same)
    assert covered.any(1).sum() == 3  # half of 2 views of 3 images


def test_the_token_and_the_patches_have_gradients_and_the_teacher_none() -> None:
    method = with_ibot(own_head=True)
    method.train()
    torch.autograd.backward(method(DATA, CLOCK)["loss"])
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) is parameter.requires_grad, name
    gradient = ibot_of(method).token.grad
    assert gradient is not None
    assert gradient.any()


def test_a_waiting_backbone_has_no_gradient_and_the_head_of_the_patches_has() -> None:
    method = with_ibot(own_head=True, head__warmup_fraction=0.6)
    method.train()
    torch.autograd.backward(method(DATA, CLOCK)["loss"])
    assert all(parameter.grad is None for parameter in method.backbone.parameters())
    term = ibot_of(method)
    assert term.head is not None
    assert all(parameter.grad is not None for parameter in term.head.parameters() if parameter.requires_grad)
    assert term.token.grad is None


def test_there_need_be_no_local_views() -> None:
    assert with_ibot(views="2")(DATA, CLOCK)["loss"].isfinite()


def test_guesses_are_told_of_each_term() -> None:
    method = with_ibot()
    method(DATA, CLOCK)
    assert method.guessing().keys() == {"dino", "ibot"}
    assert dino().guessing().keys() == {"loss"}


@pytest.mark.parametrize("name", ["test_resnet", "swin_tiny_patch4_window7_224", "beit_base_patch16_224"])
def test_a_network_without_patches_to_cover_is_refused_by_its_name(name: str) -> None:
    many = DataSpec("test", num_images=8, num_labels=2)
    with torch.device("meta"):
        other = timm_backbone(many, size="a", names={"a": name}, feature="pooled", weights="none", family="mine")
        with pytest.raises(UserError, match=r"^patches: .*mine shows no patches that can be covered; choose vit"):
            dino(other, views="2", patches=partial(PatchTerms, ibot=IBOT))


def test_a_module_without_tokens_is_refused() -> None:
    with pytest.raises(UserError, match=r"^patches: .*Encoder shows no patches"):
        dino(Encoder(), patches=partial(PatchTerms, ibot=IBOT))
