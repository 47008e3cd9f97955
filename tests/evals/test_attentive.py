from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dinodiet.config.budgets import Budget
from dinodiet.data.images import Subset, TensorImages
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.attentive import Attentive
from dinodiet.evals.last_blocks import LastBlocks
from dinodiet.evals.linear import Linear
from dinodiet.evals.scorer import Scored, Scorer
from dinodiet.evals.solvers.pooling import ABMILP, EfficientProbing
from dinodiet.evals.solvers.side_by_side import ProbeTraining
from dinodiet.types import Data, DataSpec, Description, Evaluator, Runtime
from tests.backbones.toy import Toy
from tests.evals.tokened import Squares, data

TRAINING = ProbeTraining(lr=[1e-4, 3e-2], weight_decay=0.0, epochs=1, min_steps=60, batch_size=64)
PROBE = Attentive(pooling=EfficientProbing(queries=4), training=TRAINING)
SPEC = DataSpec("set", 100, 2)


def scorer(folder: Path | None = None, given: Data | None = None, **evaluators: Evaluator) -> Scorer:
    encoder = Squares()
    runtime = Runtime(batch_size=32, cache=folder)
    chosen = evaluators or {"attentive": PROBE}
    return Scorer(chosen, given or data(), encoder.input, runtime, validation=True, backbone=encoder)


def scored(encoder: Squares | None = None, **settings: Any) -> Scored:
    evaluator = replace(PROBE, **settings)
    return scorer(attentive=evaluator)(encoder or Squares())["attentive"]


def value(found: Scored, name: str) -> float:
    return found.test[name].value


def test_it_finds_what_the_mean_over_tokens_hides() -> None:
    found = scorer(attentive=PROBE, linear=Linear(C=1.0))(Squares())
    assert value(found["attentive"], "accuracy") > 0.9
    assert value(found["linear"], "accuracy") < 0.8
    assert found["attentive"].test.keys() == {"accuracy", "recall", "f1", "auroc", "lr", "weight_decay", "class_token"}


def test_the_rate_that_is_best_on_val_is_reported_with_or_without_val() -> None:
    found = scored()
    assert found.val is not None  # scored without a validation split: a fifth of train has chosen
    for scores in (found.test, found.val):
        assert scores["lr"].value == 3e-2 and scores["lr"].kind == "setting"
        assert scores["accuracy"].value > 0.9


def test_several_labels_to_an_image_are_scored_by_auroc() -> None:
    found = scorer(given=data(multilabel=True))(Squares())["attentive"]
    assert found.test.keys() == {"auroc", "lr", "weight_decay", "class_token"}
    assert value(found, "auroc") > 0.9 and value(found, "lr") == 3e-2


def test_one_candidate_is_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[int] = []
    fit = ProbeTraining.fit
    monkeypatch.setattr(
        ProbeTraining,
        "fit",
        lambda self, *given: fits.append(len(given[1].rows)) or fit(self, *given),  # type: ignore[func-returns-value]
    )
    scored(training=replace(TRAINING, lr=1e-3))
    assert fits == [160, 160]  # for test, and for val
    fits.clear()
    scored()
    assert fits == [160, 128, 160]  # for val a fifth of train chooses


@pytest.mark.parametrize(
    ("setting", "trained", "there", "expected"),
    [
        ("auto", True, True, 1),
        ("auto", False, True, 0),
        ("auto", True, False, 0),
        (True, False, True, 1),
        (False, True, True, 0),
    ],
)
def test_the_class_token_is_among_the_tokens_as_the_objective_says(
    setting: Any, trained: bool, there: bool, expected: int
) -> None:
    encoder = Squares(class_token=there)
    encoder.description = Description(trains_class_token=trained)
    quick = replace(TRAINING, lr=1e-3, min_steps=1)
    found = scored(encoder, class_token=setting, training=quick)
    assert found.test["class_token"].value == expected
    other = scored(encoder, class_token=False, training=quick)
    assert (found.test["auroc"] == other.test["auroc"]) == (expected == 0)


def test_the_encoder_and_global_randomness_stay_as_they_are() -> None:
    encoder = Squares().train()
    before = torch.random.get_rng_state()
    scored(encoder)
    assert encoder.training and torch.equal(torch.random.get_rng_state(), before)
    assert not any(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.slow
def test_tokens_and_scores_of_a_frozen_encoder_are_computed_once(tmp_path: Path) -> None:
    encoder = Squares()
    expected = scorer(tmp_path)(encoder, cached=True)
    images = 160 + 60 + 60
    assert encoder.seen == images + 3  # one more of each split tells the size
    again = Squares()
    assert scorer(tmp_path)(again, cached=True) == expected
    assert again.seen == 0
    scorer(tmp_path, attentive=replace(PROBE, pooling=ABMILP()))(again, cached=True)
    assert again.seen == 3
    assert scorer()(Squares()) == expected


def test_tokens_of_the_final_encoder_leave_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = Squares()
    scorer(tmp_path)(encoder)
    assert encoder.seen == 160 + 60 + 60 + 3  # for test and val together
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    told = capsys.readouterr().out
    assert f"tokens of 160 images of train: {160 * 17 * 12 * 2 / 1024:.1f} KiB in {tmp_path / 'tokens'}" in told


def test_what_it_cannot_score_is_left_out_or_refused_before_the_first_step() -> None:
    for spec, words in ((DataSpec("set", 9, 0), "labels"), (DataSpec("set", 9, 1), "two classes")):
        with pytest.raises(NotApplicable, match=words):
            PROBE.applies(spec, 9)
    for wrong, words in (
        (replace(PROBE, pooling=EfficientProbing()), "eval.attentive.pooling: queries 32 do not divide the width 12"),
        (replace(PROBE, class_token=True), "eval.attentive.class_token: true, but the model has no class token"),
    ):
        with pytest.raises(UserError, match=words):
            encoder = Squares(class_token=False)
            Scorer({"attentive": wrong}, data(), encoder.input, Runtime(), validation=True, backbone=encoder)
    toy = Toy(3, 8)
    found = Scorer({"attentive": PROBE}, data(), toy.input, Runtime(), validation=True, backbone=toy)
    assert found.asked.skipped == {"attentive": "needs the tokens of a transformer; Toy shows none"}


def test_splits_that_cannot_be_scored_are_left_out() -> None:
    given = data()
    same = TensorImages(torch.zeros(8, 3, 8, 8).byte(), torch.ones(8).long())
    assert "same label" in str(scorer(given=replace(given, train=same))(Squares())["attentive"].skipped)
    without = TensorImages(torch.zeros(8, 3, 8, 8).byte(), None)
    assert "needs labels" in str(scorer(given=replace(given, test=without))(Squares())["attentive"].skipped)


def test_a_candidate_that_diverges_is_not_chosen() -> None:
    assert value(scored(training=replace(TRAINING, lr=[3e-2, 1e30])), "lr") == 3e-2


def test_of_a_budget_of_labels_only_its_images_are_fitted() -> None:
    last = LastBlocks(blocks=2, evaluator=Linear(C=1.0, normalize="none"))
    evaluators: dict[str, Evaluator] = {"last": last, "attentive": PROBE}
    images, encoder, few = data(), Squares(), Budget("per_class", 2, "balanced", 0)
    make = partial(Scorer, evaluators, input=encoder.input, runtime=Runtime(batch_size=32), validation=False)
    whole = make(images, budgets=[None, few])
    found = dict(whole.scores(Squares(), whole.asked))
    alone = make(replace(images, train=Subset(images.train, whole.asked.subsets[few].positions)))(Squares())
    for name in evaluators:
        assert found[name, few].test == alone[name].test != found[name, None].test
