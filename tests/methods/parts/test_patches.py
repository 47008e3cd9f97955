"""Patches of images, their normalisation, and which are hidden."""

import pytest
import torch

from dinodiet.methods.parts.patches import drawn, normalised, patches_of


def test_patches_are_counted_row_by_row() -> None:
    images = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6).float()
    patches = patches_of(images, 2)
    assert patches.shape == (2, 6, 12)
    for number, (top, left) in enumerate((top, left) for top in (0, 2) for left in (0, 2, 4)):
        expected = images[:, :, top : top + 2, left : left + 2].permute(0, 2, 3, 1).flatten(1)
        assert torch.equal(patches[:, number], expected)


def test_a_patch_is_normalised_by_its_unbiased_variance() -> None:
    found = normalised(torch.tensor([[0.0, 2.0], [3.0, 3.0]]))
    torch.testing.assert_close(found, torch.tensor([[-0.7071066, 0.7071066], [0.0, 0.0]]), atol=1e-6, rtol=0)
    assert found[0].square().mean().item() == pytest.approx(0.5, abs=1e-6)
    wide = normalised(torch.randn(5, 48, generator=torch.Generator().manual_seed(0)))
    assert wide.square().mean().item() == pytest.approx(47 / 48, abs=1e-5)


def test_every_patch_is_seen_or_hidden_once() -> None:
    visible, hidden = drawn(5, 196, 147, torch.Generator().manual_seed(0))
    assert (visible.shape, hidden.shape) == ((5, 49), (5, 147))
    assert torch.equal(torch.cat([visible, hidden], 1).sort(dim=1).values, torch.arange(196).expand(5, -1))
    assert len({tuple(row) for row in hidden.tolist()}) == 5
    assert all(row == sorted(row) for row in [*visible.tolist(), *hidden.tolist()])


def test_each_patch_is_hidden_equally_often() -> None:
    _, hidden = drawn(4000, 8, 6, torch.Generator().manual_seed(0))
    shares = hidden.flatten().bincount(minlength=8) / 4000
    assert torch.allclose(shares, torch.full((8,), 0.75), atol=0.03)
