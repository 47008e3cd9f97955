import pytest
import torch

from dinodiet.backbones.architectures.mambavision_layers import MambaMixer, from_windows, to_windows


def test_windows_go_image_by_image_and_row_by_row() -> None:
    maps = torch.arange(2 * 4 * 6).view(2, 1, 4, 6)
    windows = to_windows(maps, 2)
    assert windows.shape == (12, 4, 1)
    assert windows[0].flatten().tolist() == [0, 1, 6, 7]
    assert windows[1].flatten().tolist() == [2, 3, 8, 9]
    assert windows[3].flatten().tolist() == [12, 13, 18, 19]
    assert windows[6].flatten().tolist() == [24, 25, 30, 31]


@pytest.mark.parametrize(("height", "width", "side"), [(4, 6, 2), (5, 7, 3), (1, 1, 4), (3, 9, 8)])
def test_windows_are_put_back_without_their_padding(height: int, width: int, side: int) -> None:
    maps = torch.randn(2, 3, height, width)
    windows = to_windows(maps, side)
    assert windows.abs().sum() == pytest.approx(float(maps.abs().sum()), rel=1e-5)  # zeros, nothing else
    assert torch.equal(from_windows(windows, side, height, width), maps)


def test_a_mixer_sees_both_sides_by_one_token_and_all_before() -> None:
    mixer = MambaMixer(16)
    tokens = torch.randn(1, 9, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(mixer(tokens)[0, 4].sum(), tokens)
    assert (gradient[0].abs().sum(dim=-1) > 0).tolist() == [True] * 6 + [False] * 3
