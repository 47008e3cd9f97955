from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler, normalize

from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.held_out import fifth
from dinodiet.evals.linear import Linear, rows
from dinodiet.evals.splits import GivenSplits
from dinodiet.types import DataSpec, Embeddings
from tests.evals.synthetic import blobs, tags, values


def three(num_labels: int = 4, noise: float = 2.0, count: int = 120) -> list[Embeddings]:
    return [blobs(count, num_labels, dim=10, noise=noise, seed=seed) for seed in range(3)]


@pytest.mark.parametrize("num_labels", [2, 4])
@pytest.mark.parametrize("how", ["l2", "standardize", "none"])
def test_scores_are_scikit_learns_at_the_same_C(num_labels: int, how: str) -> None:
    train, test, _ = three(num_labels)
    fit, report = train.features.double().numpy(), test.features.double().numpy()
    if how == "l2":
        fit, report = normalize(fit), normalize(report)
    if how == "standardize":
        scaler = StandardScaler().fit(fit)
        fit, report = scaler.transform(fit), scaler.transform(report)
    model = LogisticRegression(C=3.0, tol=1e-8, max_iter=1000).fit(fit, train.labels.numpy())
    probabilities = model.predict_proba(report)
    metrics = values(Linear(C=3.0, normalize=how), train, test)  # type: ignore[arg-type]
    assert 0.4 < metrics["accuracy"] < 0.99
    assert metrics["accuracy"] == pytest.approx(model.score(report, test.labels.numpy()))
    scores = probabilities[:, 1] if num_labels == 2 else probabilities
    assert metrics["auroc"] == pytest.approx(roc_auc_score(test.labels, scores, multi_class="ovr"), abs=1e-4)
    assert metrics["C"] == 3.0 and set(metrics) == {"accuracy", "recall", "f1", "auroc", "C", "train_accuracy"}


def test_C_is_the_best_on_val_and_the_smaller_of_equals() -> None:
    train, test, val = three(noise=3.0)
    grid = [1000.0, 0.001, 1.0, 0.1]
    accuracy = {C: values(Linear(C=C), train, val)["accuracy"] for C in sorted(grid)}
    best = max(accuracy, key=accuracy.__getitem__)
    assert len(set(accuracy.values())) > 1
    chosen = values(Linear(C=grid), train, test, val)
    assert chosen["C"] == best
    assert chosen == pytest.approx(values(Linear(C=best), train, test), abs=1e-3)
    easy = three(noise=0.1)
    assert values(Linear(C=[10.0, 1.0, 100.0]), *easy)["C"] == 1.0


def test_test_has_no_part_in_the_choice() -> None:
    train, test, val = three(noise=3.0)
    shuffled = replace(test, labels_or_none=test.labels.flip(0))
    assert values(Linear(), train, test, val)["C"] == values(Linear(), train, shuffled, val)["C"]


def test_without_val_a_stratified_fifth_of_train_chooses() -> None:
    train, test, _ = three(noise=3.0)
    fitted, held_out = (rows(train, part) for part in fifth(train.labels, seed=0))
    assert len(fitted) == 96 and held_out.labels.bincount().tolist() == [6, 6, 6, 6]
    assert not (fitted.features[:, None] == held_out.features[None]).all(-1).any()
    expected = values(Linear(C=[0.01, 1.0, 100.0]), fitted, held_out, held_out)["C"]
    metrics = values(Linear(C=[0.01, 1.0, 100.0]), train, test)
    assert metrics == pytest.approx(values(Linear(C=expected), train, test))  # fitted again on all of train
    assert not torch.equal(fifth(train.labels, seed=1)[1], fifth(train.labels, seed=0)[1])
    assert torch.equal(fifth(train.labels, seed=0)[1], fifth(train.labels, seed=0)[1])


def test_a_class_that_train_lacks_is_never_predicted() -> None:
    train, test, val = three(num_labels=4)
    for missing in ([2], [0, 2]):  # three classes are left, then two
        rows = ~torch.isin(train.labels, torch.tensor(missing))
        metrics = values(Linear(C=10.0), Embeddings(train.features[rows], train.labels[rows], 4), test, val)
        assert metrics["accuracy"] < 1 - len(missing) / 4 + 1e-9 and np.isfinite(metrics["auroc"])
        known = torch.isin(test.labels, train.labels[rows])
        alone = values(
            Linear(C=10.0),
            Embeddings(train.features[rows], train.labels[rows], 4),
            Embeddings(test.features[known], test.labels[known], 4),
        )
        assert metrics["accuracy"] == pytest.approx(alone["accuracy"] * (1 - len(missing) / 4))


def test_multilabel_is_one_vs_rest_and_chosen_by_auroc() -> None:
    train, test, val = (tags(150, noise=2.0, seed=seed) for seed in range(3))
    metrics = values(Linear(C=[0.01, 1.0, 100.0], normalize="none"), train, test, val)
    assert set(metrics) == {"auroc", "C", "train_auroc"}
    by_label = [
        roc_auc_score(
            test.labels[:, label],
            LogisticRegression(C=metrics["C"], tol=1e-8, max_iter=1000)
            .fit(train.features.numpy(), train.labels[:, label])
            .decision_function(test.features.numpy()),
        )
        for label in range(3)
    ]
    assert metrics["auroc"] == pytest.approx(np.mean(by_label), abs=1e-3)
    on_val = {C: values(Linear(C=C, normalize="none"), train, val)["auroc"] for C in (0.01, 1.0, 100.0)}
    assert metrics["C"] == max(on_val, key=on_val.__getitem__)


def test_a_label_that_is_constant_in_train_gets_a_constant_score() -> None:
    train, test = tags(150), tags(80, seed=1)
    constant = replace(train, labels_or_none=train.labels.clone().index_fill_(1, torch.tensor([1]), 1))
    usual = values(
        Linear(C=1.0),
        replace(train, labels_or_none=train.labels[:, [0, 2]], num_labels=2),
        replace(test, labels_or_none=test.labels[:, [0, 2]], num_labels=2),
    )
    assert values(Linear(C=1.0), constant, test)["auroc"] == pytest.approx((2 * usual["auroc"] + 0.5) / 3, abs=1e-4)


def test_constant_features_do_no_harm() -> None:
    train, test, _ = three()
    padded = [
        replace(part, features=torch.cat([part.features, torch.full((120, 2), 3.3)], dim=1)) for part in (train, test)
    ]
    plain = values(Linear(C=1.0, normalize="standardize"), train, test)
    assert values(Linear(C=1.0, normalize="standardize"), *padded) == pytest.approx(plain, abs=1e-6)


def test_what_cannot_be_probed_is_refused() -> None:
    for num_labels, lack in enumerate(("needs labels", "needs two classes")):
        with pytest.raises(NotApplicable, match=lack):
            Linear().applies(DataSpec("alike", 100, num_labels), 100)
    same = Embeddings(torch.randn(10, 4), torch.ones(10, dtype=torch.int64), 3)
    with pytest.raises(NotApplicable, match="same label"):
        values(Linear(), same, blobs(6, dim=4))
    with pytest.raises(NotApplicable, match="same label"):
        values(Linear(C=1.0), Embeddings(torch.randn(10, 4), torch.ones(10, 2).long(), 2, True), tags(6, 2, 4))


def test_no_strength_at_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"^C: \[\]; .*positive"):
        Linear(C=[])


def test_the_accuracy_on_the_fitted_images_stands_beside_and_is_no_metric() -> None:
    train, test, val = three(noise=3.0)
    fitted = Linear(C=1000.0)(GivenSplits(train, test, val))["train_accuracy"]
    assert fitted.kind == "diagnostic" and fitted.value == values(Linear(C=1000.0), train, train, val)["accuracy"]
    several = Linear(C=1.0)(GivenSplits(tags(60), tags(60, seed=1), tags(60, seed=2)))
    assert "train_accuracy" not in several and several["train_auroc"].value > several["auroc"].value


def test_without_overlap_the_probe_is_fitted_on_images_that_the_training_did_not_see() -> None:
    train, test, val = three(noise=3.0)
    others = blobs(150, num_labels=4, dim=train.features.shape[1], noise=3.0, seed=7)
    apart = Linear(pretext_overlap="none")
    assert apart(GivenSplits(train, test, val, unseen=others)) == Linear()(GivenSplits(others, test, val))
    assert Linear()(GivenSplits(train, test, val, unseen=others)) == Linear()(GivenSplits(train, test, val))
    with pytest.raises(NotApplicable, match="saw all labelled training images; limit its images"):
        apart(GivenSplits(train, test, val))
