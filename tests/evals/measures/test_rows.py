from __future__ import annotations

import math

import pytest
import torch

from dinodiet.errors import NotApplicable
from dinodiet.evals.measures.rows import chosen, evenly, measurable, on_sphere


def test_a_seed_draws_the_same_images_every_time() -> None:
    before = torch.random.get_rng_state()
    drawn = chosen(1000, 50, seed=42)
    assert torch.equal(drawn, chosen(1000, 50, seed=42)) and not torch.equal(drawn, chosen(1000, 50, seed=43))
    assert len(set(drawn.tolist())) == 50 and drawn.tolist() == sorted(drawn.tolist())
    assert torch.equal(chosen(30, 50, seed=42), torch.arange(30))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_so_many_images_are_taken_from_the_first_on() -> None:
    assert evenly(10, 4).tolist() == [0, 2, 5, 7]
    assert evenly(10, 40).tolist() == list(range(10))
    assert evenly(0, 4).tolist() == []


def test_they_are_drawn_evenly() -> None:
    counts = torch.stack([chosen(20, 5, seed) for seed in range(400)]).flatten().bincount(minlength=20)
    assert int(counts.min()) > 60 and int(counts.max()) < 140


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_what_has_no_direction_is_refused_by_number(value: float) -> None:
    rows = torch.ones(5, 3)
    rows[1:3] = value
    with pytest.raises(NotApplicable, match=r"^2 of 5 embeddings are zero or not finite"):
        measurable(rows, torch.device("cpu"))


def test_one_row_has_no_pairs() -> None:
    with pytest.raises(NotApplicable, match="2 embeddings"):
        measurable(torch.ones(1, 3), torch.device("cpu"))


def test_rows_are_doubles_of_length_one_however_small() -> None:
    rows = measurable(torch.tensor([[3e-30, 4e-30], [3.0, 4.0]]), torch.device("cpu"))
    assert rows.dtype == torch.float64
    assert torch.allclose(on_sphere(rows), torch.tensor([0.6, 0.8], dtype=torch.float64), atol=1e-7)
