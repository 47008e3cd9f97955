from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.geometry import Geometry
from dinodiet.evals.measures.rows import chosen
from dinodiet.evals.measures.spectrum import decay, effective_rank, singular_values
from dinodiet.evals.splits import GivenSplits
from dinodiet.types import DataSpec, Embeddings, Score
from tests.evals.synthetic import blobs, values


def wide(count: int = 300, dim: int = 60, seed: int = 0) -> Embeddings:
    """Embeddings without labels, whose variance falls from direction to direction and whose mean is not 0."""
    draw = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return Embeddings(draw * torch.arange(1, dim + 1) ** -0.5 + 0.2, None, 0)


def test_each_measure_is_of_the_rows_that_it_names() -> None:
    found, rows = values(Geometry(), wide(), blobs(5)), wide().features.double()
    directions = rows / rows.norm(dim=1, keepdim=True)
    distances = torch.pdist(directions).square()
    assert found["uniformity"] == pytest.approx(math.log(float((-2 * distances).exp().mean())), abs=1e-9)
    assert found["mean_cosine"] == pytest.approx(float((1 - distances / 2).mean()), abs=1e-9)
    assert found["rankme"] == pytest.approx(effective_rank(singular_values(rows), 1e-7), abs=1e-9)
    assert found["rankme_l2"] == pytest.approx(effective_rank(singular_values(directions)), abs=1e-9)
    centered = singular_values(rows, centered=True)
    assert found["effective_rank"] == pytest.approx(effective_rank(centered), abs=1e-9)
    assert found["alpha_req"] == pytest.approx(decay(centered**2, 12, 50, weighted=True)[0], abs=1e-9)
    assert found["norm_variation"] == pytest.approx(float(rows.norm(dim=1).std(correction=0) / rows.norm(dim=1).mean()))
    assert (found["rows"], found["alpha_first_rank"], found["alpha_last_rank"]) == (300, 12, 50)


def test_settings_reach_their_measures() -> None:
    usual = values(Geometry(), wide(), blobs(5))
    for changed, names in (
        (Geometry(t=1.0), {"uniformity"}),
        (Geometry(epsilon=1e-5), {"rankme"}),
        (Geometry(first_rank=4), {"alpha_req", "alpha_first_rank"}),
        (Geometry(last_rank=40), {"alpha_req", "alpha_last_rank"}),
        (Geometry(weighted=False), {"alpha_req"}),
    ):
        found = values(changed, wide(), blobs(5))
        assert {name for name in found if found[name] != usual[name]} == names


def test_the_same_rows_are_measured_of_any_embeddings() -> None:
    made = Geometry(rows=50, seed=3)
    before, after = wide(seed=0), wide(seed=1)
    for embeddings in (before, after):
        part = replace(embeddings, features=embeddings.features[chosen(300, 50, 3)])
        assert values(made, embeddings, blobs(5)) == values(replace(made, rows=5000), part, blobs(5))
    assert values(made, before, blobs(5))["rows"] == 50
    assert values(made, before, blobs(5)) != values(replace(made, seed=4), before, blobs(5))


def test_labels_and_other_splits_play_no_part_and_global_randomness_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    labelled = replace(wide(), labels_or_none=torch.arange(300) % 3, num_labels=3)
    none = Embeddings(torch.empty(0, 0), None, 0)
    assert Geometry()(GivenSplits(labelled, blobs(9), blobs(7))) == Geometry()(GivenSplits(wide(), none))
    assert torch.equal(torch.random.get_rng_state(), state)
    Geometry().applies(DataSpec("unlabelled", 300, 0), 300)


def test_directions_are_said_where_there_is_one() -> None:
    found = Geometry()(GivenSplits(wide(), wide()))
    better = {name: score.better for name, score in found.items() if score.kind == "metric"}
    assert {name for name in better if better[name] == "lower"} == {"uniformity", "mean_cosine"}
    assert {name for name in better if better[name] == "none"} == {"alpha_req", "norm_variation"}
    assert found["rows"] == Score(300, kind="setting")


def test_collapsed_embeddings_have_one_direction() -> None:
    collapsed = Embeddings(torch.full((40, 30), 0.1), None, 0)
    found = values(Geometry(), collapsed, blobs(5))
    assert found["uniformity"] == pytest.approx(0.0, abs=1e-9) and found["mean_cosine"] == pytest.approx(1.0)
    assert found["rankme_l2"] == pytest.approx(1.0) and found["rankme"] == pytest.approx(1.0, abs=1e-3)
    assert math.isnan(found["effective_rank"]) and math.isnan(found["alpha_req"])
    notes = {name: score.note for name, score in Geometry()(GivenSplits(collapsed, collapsed)).items() if score.note}
    ranks = "there are 0 ranks, and it starts at first_rank=12"
    assert notes == {"effective_rank": "all embeddings are alike", "alpha_req": ranks}


def test_what_cannot_be_measured_says_why() -> None:
    broken = wide()
    broken.features[7] = 0
    with pytest.raises(NotApplicable, match=r"1 of 300 embeddings are zero"):
        values(Geometry(), broken, blobs(5))
    with pytest.raises(NotApplicable, match="2 train images"):
        Geometry().applies(DataSpec("one", 1, 0), 1)
    with pytest.raises(UserError, match=r"^last_rank: 12; must be above first_rank=12"):
        Geometry(last_rank=12)
