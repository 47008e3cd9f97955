import copy
import functools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from dinodiet.data.images import TensorImages
from dinodiet.errors import UserError
from dinodiet.methods.dino import DINO
from dinodiet.methods.parts.koleo import koleo
from dinodiet.methods.parts.label_targets import Labels
from dinodiet.schedules import Linear
from dinodiet.types import Clock, DataSpec, Runtime
from tests.methods import assemble
from tests.small import SPEC, CutViews, Encoder, FixedViews, batch

CLOCK = Clock(0, 8, 4)


def dino(views: Any = FixedViews, spec: DataSpec = SPEC, **settings: Any) -> DINO:
    torch.manual_seed(0)
    small: dict[str, Any] = {"head__out_dim": 16, "head__hidden_dims": [24, 24], "head__bottleneck_dim": 8}
    method = assemble.dino(Encoder(), spec, views=views, **{**small, "student__drop_path": 0.0, **settings})
    method.train()
    return method


def step(method: DINO, optimizer: torch.optim.Optimizer, clock: Clock, parts: int = 1) -> None:
    for part, micro in enumerate(batch().split(parts)):
        torch.autograd.backward(method(micro, replace(clock, part=part))["loss"] / parts)
    method.before_step(clock)
    optimizer.step()
    method.after_step(clock)
    optimizer.zero_grad(set_to_none=True)


def adamw(method: DINO) -> torch.optim.Optimizer:
    return torch.optim.AdamW([group.as_dict() for group in method.param_groups()], lr=0.01)


def count(method: DINO, optimizer: torch.optim.Optimizer, name: str) -> int:
    """Return how many steps AdamW counted for a parameter."""
    state = optimizer.state.get(dict(method.named_parameters())[name], {})
    return int(state["step"]) if "step" in state else 0


def encoder(module: nn.Module) -> Encoder:
    assert isinstance(module, Encoder)
    return module


def test_there_is_one_forward_pass_per_resolution_and_the_teacher_sees_global_views_only() -> None:
    method = dino(functools.partial(FixedViews, local=6))
    encoder(method.backbone).inputs.clear()  # it was asked whether it takes the views
    method(batch(), CLOCK)
    assert encoder(method.backbone).inputs == [(8, 3, 16, 16), (24, 3, 8, 8)]
    assert encoder(method.encoder).inputs[-1:] == [(8, 3, 16, 16)]


def test_a_frozen_last_layer_has_no_gradient_and_does_not_count_as_trained() -> None:
    method = dino(head__freeze_epochs=0.5)
    optimizer = adamw(method)
    prototypes = method.head.get_parameter("last_layer.weight_v")
    before = prototypes.detach().clone()
    for at in range(4):
        step(method, optimizer, CLOCK.at(at))
        assert torch.equal(prototypes, before) is (at < 2)
    assert count(method, optimizer, "head.last_layer.weight_v") == 2
    assert count(method, optimizer, "head.mlp.0.weight") == 4


def test_a_waiting_backbone_moves_in_nothing_and_its_teacher_waits_too() -> None:
    method = dino(head__warmup_fraction=0.25)
    optimizer = adamw(method)
    start = {name: value.clone() for name, value in method.state_dict().items()}
    for at in range(3):
        step(method, optimizer, CLOCK.at(at))
        state = method.state_dict()
        for part in ("backbone.", "teacher.backbone."):
            moved = {name for name in state if name.startswith(part) and not torch.equal(state[name], start[name])}
            assert bool(moved) is (at == 2), (at, moved)
    assert count(method, optimizer, "backbone.conv.weight") == 1


def test_blocks_that_are_not_trained_stay_the_same_in_student_and_teacher() -> None:
    method = dino(trainable="last_1_blocks")
    optimizer = adamw(method)
    start = {name: value.clone() for name, value in method.state_dict().items()}
    step(method, optimizer, CLOCK)
    state = method.state_dict()
    moved = {name for name in state if not torch.equal(state[name], start[name])}
    assert {name for name in moved if ".conv." in name or ".norm." in name} == set()
    assert {"backbone.linear.weight", "teacher.backbone.linear.weight", "loss.center"} <= moved


def test_batchnorm_statistics_of_the_teacher_are_its_own() -> None:
    method = dino()
    step(method, adamw(method), CLOCK)
    student, teacher = encoder(method.backbone).norm, encoder(method.encoder).norm
    globals_ = torch.cat(FixedViews(encoder(method.encoder).input).crops[:2])
    fresh = dino()  # the teacher as it was: its statistics are those of its own pass over the global views
    encoder(fresh.encoder)(globals_)
    torch.testing.assert_close(teacher.running_mean, encoder(fresh.encoder).norm.running_mean)
    assert student.num_batches_tracked == 2
    assert teacher.num_batches_tracked == 1


def test_gradient_accumulation_moves_centre_and_teacher_once_from_the_whole_batch() -> None:
    whole, parts = dino(CutViews), dino(CutViews)
    for method, count in ((whole, 1), (parts, 2)):
        for norm in (encoder(method.backbone).norm, encoder(method.encoder).norm):
            norm.eval()  # batch statistics depend on the parts, the rest must not
        step(method, adamw(method), CLOCK, count)
    torch.testing.assert_close(parts.loss.center, whole.loss.center)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_a_resumed_training_is_the_uninterrupted_one() -> None:
    """Centre, teacher and statistics are in the state dict; nothing else is carried from step to step."""
    method, resumed = dino(), dino()
    optimizer = adamw(method)
    for at in range(2):
        step(method, optimizer, CLOCK.at(at))
    resumed.load_state_dict(copy.deepcopy(method.state_dict()))
    resumed_optimizer = adamw(resumed)
    resumed_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for run, its_optimizer in ((method, optimizer), (resumed, resumed_optimizer)):
        for at in range(2, 4):
            step(run, its_optimizer, CLOCK.at(at))
    for name, value in method.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_teacher_is_what_is_evaluated_and_no_gradient_reaches_it() -> None:
    method = dino()
    torch.autograd.backward(method(batch(), CLOCK)["loss"])
    assert method.encoder is method.teacher.backbone
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert not {id(p) for p in method.teacher.parameters()} & {id(p) for g in method.param_groups() for p in g.params}


def test_logs_are_detached_and_diagnostics_are_numbers() -> None:
    method = dino(loss__teacher_temp=Linear(0.04, 0.07, epochs=2, per="epoch"))
    assert method.diagnostics() == {}
    logs = method(batch(), CLOCK.at(4))
    assert [name for name, value in logs.items() if value.requires_grad] == ["loss"]
    assert all(value.ndim == 0 for value in logs.values())
    diagnostics = method.diagnostics()
    assert 1 <= diagnostics["effective_rank"] <= 4
    assert diagnostics["teacher_temp"] == 0.07


def test_what_is_not_set_is_chosen_from_the_size_of_the_dataset() -> None:
    small = dino(head__out_dim=None, student__drop_path=None)
    assert small.describe() == {
        "out_dim": 1024,
        "teacher_temp": "0.02 -> 0.02",
        "teacher_momentum": "0.99 -> 1",
        "drop_path": 0.0,
    }
    assert small.head.frozen_steps(Clock(0, 1000, 10)) == 10
    large = DataSpec("large", num_images=1_281_167, num_labels=2)
    chosen = dino(spec=large, teacher__momentum=0.9).describe()
    assert (chosen["teacher_temp"], chosen["teacher_momentum"]) == ("0.04 -> 0.07", "0.9")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"student__drop_path": 0.2}, "^drop_path: 0.2, "),
        ({"head__freeze_epochs": 1.0, "head__freeze_steps": 5}, "freeze_steps and freeze_epochs"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dino(**settings)


def test_half_precision_gives_nearly_the_same_loss() -> None:
    method = dino()
    exact = method(batch(), CLOCK)["loss"].item()
    with torch.autocast("cpu", torch.bfloat16):
        half = method(batch(), CLOCK)["loss"]
    assert half.dtype == torch.float32
    assert math.isclose(half.item(), exact, rel_tol=0.02)


def test_koleo_is_added_for_each_global_view() -> None:
    plain, spread = dino()(batch(), CLOCK), dino(koleo=0.1)(batch(), CLOCK)
    assert spread["loss"].item() == pytest.approx(plain["loss"].item() + 0.1 * spread["koleo"].item(), rel=1e-5)
    method = dino(koleo=0.1)
    rows = method.backbone(torch.cat(FixedViews(method.backbone.input).crops[:2])).split(4)  # type: ignore[arg-type]
    expected = sum(koleo(view, torch.arange(4)).item() for view in rows)
    assert spread["koleo"].item() == pytest.approx(expected, rel=1e-4)


def test_sinkhorn_takes_the_place_of_the_centre() -> None:
    method = dino(loss__centring="sinkhorn", loss__teacher_temp=0.07)
    method.loss.center.fill_(5.0)
    found = method(batch(), CLOCK)["loss"].item()
    method = dino(loss__centring="sinkhorn", loss__teacher_temp=0.07)
    assert method(batch(), CLOCK)["loss"].item() == pytest.approx(found)
    assert dino(loss__teacher_temp=0.07)(batch(), CLOCK)["loss"].item() != pytest.approx(found, rel=1e-4)


def test_a_single_view_is_compared_with_itself_or_refused() -> None:
    one = functools.partial(FixedViews, number=1, local=0)
    with pytest.raises(UserError, match=r"loss.pairs: opposite .* choose same or all"):
        dino(one)
    method = dino(one, loss__pairs="same")
    assert method(batch(), CLOCK)["loss"].isfinite()


def test_given_labels_are_learned_and_the_head_is_their_classifier() -> None:
    labelled = replace(batch(), label=torch.tensor([1, 0, 1, 0]))
    method = dino(loss__targets=Labels, loss__pairs="all", head__out_dim="labels")
    assert method.split == "train"
    logs = method(labelled, CLOCK)
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(1.0)
    assert torch.equal(method(labelled, CLOCK)["loss"], logs["loss"])  # the teacher has no part in it
    assert 0 <= logs["train_accuracy"] <= 1
    images = torch.rand(3, 3, 16, 16)
    logits = method.eval().logits(images)
    assert logits is not None
    torch.testing.assert_close(logits, method.head(method.backbone(images)))
    assert dino().logits(images) is None


def test_wrong_labels_are_drawn_before_the_first_step() -> None:
    method = dino(loss__targets=functools.partial(Labels, noise=1.0), loss__pairs="all", head__out_dim="labels")
    labelled = [replace(batch(), label=torch.full((4,), label)) for label in (0, 1)]
    images = TensorImages(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(4).long())
    method.prepare(images, CLOCK, Runtime())
    first, second = (method(one, CLOCK)["loss"] for one in labelled)
    assert torch.equal(first, second)  # none of their labels is what is learned


def test_a_teacher_in_evaluation_mode_waits_and_trains_in_it() -> None:
    method = dino(teacher__mode="eval", teacher__update="none")
    assert not method.teacher.training
    assert method.backbone.training
