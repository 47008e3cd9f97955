"""One fine-tuning: what is trained, from where, and that the same comes of the same."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dinodiet.backbones.freeze import set_trainable
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.finetune import FineTune
from dinodiet.evals.finetuning.finetuned import FineTuned, opened
from dinodiet.evals.finetuning.probe_start import start_from_probe
from dinodiet.evals.finetuning.settings import Head, Length, Optimiser, Regularisation
from dinodiet.evals.finetuning.training import Task
from dinodiet.evals.metrics import accuracy
from dinodiet.methods.parts.classifier import Classifier
from dinodiet.types import DataSpec, ParamGroup, Report
from tests.evals.finetuning.test_layer_decay import Twelve
from tests.evals.finetuning.tiny import SPEC, backbone, data, quick, splits
from tests.evals.synthetic import blobs


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def values(report: Report) -> dict[str, float]:
    return {name: score.value for name, score in report.test.items()}


@pytest.fixture(scope="module")
def report() -> Report:
    return quick()(splits())


def test_a_frozen_copy_is_trained_as_an_open_one_and_the_original_is_left_alone(report: Report) -> None:
    frozen = copy.deepcopy(backbone())
    set_trainable(frozen, "last_1_blocks")
    before, state = copy.deepcopy(frozen), torch.get_rng_state()
    found = quick()(splits(encoder=frozen))
    for key in ("trainable_parameters", "parameters", "first_loss", "last_loss"):
        assert found.protocol[key] == report.protocol[key]
    assert found.protocol["trainable_parameters"] == found.protocol["parameters"]
    assert values(found) == values(report)
    assert same(frozen, before)
    assert [p.requires_grad for p in frozen.parameters()] == [p.requires_grad for p in before.parameters()]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_first_block_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[nn.Module] = []
    groups = FineTuned.param_groups

    def noted(self: FineTuned) -> list[ParamGroup]:
        seen.append(self)
        return groups(self)

    monkeypatch.setattr(FineTuned, "param_groups", noted)
    frozen = copy.deepcopy(backbone())
    set_trainable(frozen, "last_1_blocks")
    quick()(splits(encoder=frozen))
    trained: Any = seen[0]
    first, moved = (part.freezable_blocks()[0][0].parameters() for part in (frozen, trained.backbone))
    assert all(not torch.equal(a, b) for a, b in zip(first, moved, strict=True))


def test_what_cannot_be_trained_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.evals.finetuning.finetuned.set_trainable", lambda model, part: None)
    monkeypatch.setattr("dinodiet.methods.base.set_trainable", lambda model, part: None)
    frozen = copy.deepcopy(backbone())
    set_trainable(frozen, "last_2_blocks")
    with pytest.raises(UserError, match=r"^model: fine-tuning trains all of it, but [\d,]+ of [\d,]+ numbers wait"):
        quick()(splits(encoder=frozen))


def test_the_first_loss_is_that_of_guessing(report: Report) -> None:
    (loss,) = report.protocol["first_loss"]
    assert math.isclose(loss, math.log(SPEC.num_labels), abs_tol=1e-3)


def test_two_trainings_of_a_seed_are_equal_and_other_seeds_differ(report: Report) -> None:
    again = quick(seeds=2)(splits())
    assert again.test["accuracy_seed0"].value == report.test["accuracy"].value
    assert again.protocol["last_loss"][0] == report.protocol["last_loss"][0] != again.protocol["last_loss"][1]
    singles = [again.test[f"accuracy_seed{seed}"].value for seed in (0, 1)]
    assert math.isclose(again.test["accuracy"].value, sum(singles) / 2)
    assert math.isclose(again.test["accuracy_sd"].value, abs(singles[0] - singles[1]) / math.sqrt(2))
    assert set(report.test) == set(report.val) and "accuracy_sd" not in report.test


@pytest.mark.slow
def test_it_learns_what_can_be_learned() -> None:
    gentle = Regularisation(label_smoothing=0.0, drop_path=0.0)
    found = quick(lr=3e-3, steps=60, regularisation=gentle, optimiser=Optimiser(layer_decay=1.0))(splits())
    assert found.test["accuracy"].value > 0.9
    assert found.protocol["last_loss"][0] < 0.5


@pytest.mark.parametrize("images", [4, 5, 33])
def test_few_images_give_a_step_an_epoch_at_least(images: int) -> None:
    found = quick(steps=None, length=Length(steps=1, least_epochs=2))(splits(data(images)))
    assert found.protocol["batch_size"] == min(images, 32)
    assert found.protocol["steps"] == (2 if images < 32 else 4)  # of 33 images the last batch is filled up
    dropped = quick(steps=None, length=Length(steps=1, least_epochs=2, last_batch="dropped"))(splits(data(images)))
    assert dropped.protocol["steps"] == 2


@pytest.mark.slow
def test_the_rate_is_the_best_on_val_and_test_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    original = Task.metrics

    def counted(self: Task, method: FineTuned, images: Any) -> dict[str, float]:
        looked.append(len(images))
        return original(self, method, images)

    monkeypatch.setattr(Task, "metrics", counted)
    found = FineTune(lr=[1e-6, 5e-3], seeds=2, steps=30)(splits())
    assert found.protocol["lr"] == found.test["lr"].value == 5e-3
    assert found.protocol["lr_chosen"] == "on val, with these weights"
    assert looked.count(16) == 2 * 2  # last and best of two seeds, and nothing of the rate that was not taken


@pytest.mark.slow
def test_a_rate_that_was_chosen_before_is_taken_over() -> None:
    given = splits()
    told = replace(given, work=replace(given.work, before={"lr": 1e-6}))
    assert FineTune(lr=[1e-6, 5e-3], seeds=1, steps=2)(told).protocol["lr"] == 1e-6
    each = FineTune(lr=[1e-6, 5e-3], seeds=1, steps=30, choose="each")
    assert each(told).protocol["lr"] == 5e-3
    assert FineTune().follows and not each.follows and not FineTune(lr=1e-3).follows


class Bursting(Twelve):
    """Features times exp(gain^2), which one step at a rate of 100 makes infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.1))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * self.gain.square().exp()


def test_rates_that_diverge_are_not_chosen() -> None:
    optimiser = Optimiser(clip_grad=None, warmup_fraction=0.0, layer_decay=1.0)
    plain = {"steps": 8, "head": Head(norm="none"), "optimiser": optimiser}
    torch.manual_seed(0)
    assert quick(lr=[1e-3, 100.0], **plain)(splits(encoder=Bursting())).protocol["lr"] == 1e-3
    with pytest.raises(UserError, match=r"^lr: \[50.0, 100.0\]; fine-tuning diverged with each: the loss is "):
        quick(lr=[50.0, 100.0], **plain)(splits(encoder=Bursting()))


def test_without_a_validation_split_a_fifth_of_train_is_held_out() -> None:
    given = splits()
    found = quick()(replace(given, reported="val"))
    assert found.protocol["validation"] == "8 of 40 train images, stratified"
    assert found.protocol["num_train"] == 32
    with pytest.raises(NotApplicable, match="none can be held out"):
        quick()(replace(splits(data(1)), reported="val"))


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_it_can_begin_with_the_linear_probe(norm: Any) -> None:
    settings = Head(norm=norm, start="probe")
    torch.manual_seed(0)
    head, test = Classifier(8, DataSpec("blobs", 90, 3), norm=norm), blobs(60, noise=0.3, seed=2)
    start_from_probe(head, blobs(90, noise=0.3), blobs(30, noise=0.3, seed=1), torch.device("cpu"))
    assert accuracy(head.eval()(test.features), test.labels) > 0.95
    started = quick(steps=1, head=settings)(splits())
    assert abs(started.protocol["first_loss"][0] - math.log(SPEC.num_labels)) > 0.01


def test_several_labels_are_scored_by_auroc() -> None:
    found = quick(steps=20)(splits(data(multilabel=True)))
    assert set(found.test) == {"auroc", "auroc_best", "lr", "steps", "seeds"}
    assert math.isclose(found.protocol["first_loss"][0], math.log(2), abs_tol=1e-3)


def test_data_without_labels_or_classes_is_left_out() -> None:
    for spec in (replace(SPEC, num_labels=0), replace(SPEC, num_labels=1)):
        with pytest.raises(NotApplicable):
            quick().applies(spec, 40)
    with pytest.raises(NotApplicable, match="needs labels"):
        quick()(splits(data(labelled=False)))
    quick().applies(DataSpec("set", 10, 1, multilabel=True), 10)


def test_stochastic_depth_is_said_where_it_is_not_there(report: Report) -> None:
    assert report.protocol["drop_path"] == 0.1
    assert opened(Twelve(), 0.1)[1] == 0.0
