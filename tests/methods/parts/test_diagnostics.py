import math

import pytest
import torch

from dinodiet.methods.parts.diagnostics import effective_rank, entropy


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_equal_directions_count_fully(rank: int) -> None:
    embeddings = torch.linalg.qr(torch.randn(20, rank))[0] @ torch.linalg.qr(torch.randn(8, rank))[0].T
    assert effective_rank(embeddings) == pytest.approx(rank, rel=1e-3)


def test_unequal_directions_count_by_the_entropy_of_their_singular_values() -> None:
    parts = torch.tensor([0.7, 0.2, 0.1])
    expected = math.exp(-sum(p * math.log(p) for p in parts.tolist()))
    assert effective_rank(5 * torch.diag(parts)) == pytest.approx(expected, rel=1e-5)
    assert effective_rank((5 * torch.diag(parts)).bfloat16()) == pytest.approx(expected, rel=1e-2)


def test_nothing_has_rank_zero_and_what_is_not_finite_has_none() -> None:
    assert effective_rank(torch.zeros(4, 3)) == 0
    assert math.isnan(effective_rank(torch.full((4, 3), math.inf)))


def test_impossible_outcomes_add_no_entropy() -> None:
    torch.testing.assert_close(
        entropy(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])), torch.tensor([math.log(2), 0])
    )
