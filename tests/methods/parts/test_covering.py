"""Which patches are covered."""

import numpy as np
import pytest
import torch

from dinodiet.methods.parts.covering import Covering, draw_covering


def drawn(views: int = 64, side: int = 14, seed: int = 0, part: float = 0.5) -> Covering:
    return draw_covering(views, (side, side), (0.1, 0.5), part, torch.Generator().manual_seed(seed))


def test_half_of_the_views_have_a_tenth_to_a_half_covered() -> None:
    counts = drawn().covered.sum(1)
    parts = (counts[counts > 0] / 196).sort().values
    assert len(parts) == 32
    assert 0.08 < parts[0] < parts[-1] <= 0.5
    steps = torch.linspace(0.1, 0.5, 33)  # each view has a step of its own; blocks may leave a few patches uncovered
    assert ((parts <= steps[1:]) & (parts > steps[:-1] - 0.03)).all()


def test_what_is_covered_are_blocks() -> None:
    """Scattered at random, a covered patch would have its right neighbour covered as often as patches are."""
    mask = drawn().covered.view(64, 14, 14)
    beside = (mask[:, :, 1:] & mask[:, :, :-1]).sum() / mask[:, :, :-1].sum()
    assert beside > 1.5 * mask[mask.any(2).any(1)].float().mean()


def test_numbers_and_shares_are_those_of_the_mask() -> None:
    found = drawn(views=6, side=4)
    assert torch.equal(found.index, found.covered.flatten().nonzero().flatten())
    counts = found.covered.sum(1)
    assert found.share.sum().item() == pytest.approx(3)
    np.testing.assert_allclose(found.share, 1 / counts[found.index // 16])


@pytest.mark.parametrize(("views", "side", "part"), [(1, 1, 0.5), (2, 2, 0.01), (3, 3, 1.0)])
def test_something_is_covered_however_small_it_all_is(views: int, side: int, part: float) -> None:
    for seed in range(20):
        counts = drawn(views, side, seed, part).covered.sum(1)
        assert (counts > 0).sum() == max(int(views * part), 1)


def test_it_is_a_function_of_the_generator() -> None:
    assert torch.equal(drawn().covered, drawn().covered)
    assert not torch.equal(drawn().covered, drawn(seed=1).covered)
