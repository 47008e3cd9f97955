"""Products with dense matrices and in blocks are the same, and both are the sum over the weights."""

import pytest
import torch
from torch import Tensor

from dinodiet.data.views.resample import (
    blur_weights,
    in_blocks,
    line_weights,
    matrix,
    num_weights,
    resample_blocks,
    separable,
    workspace,
)
from dinodiet.data.views.sending import send
from dinodiet.types import Interpolation

START, LENGTH = torch.tensor([0, 3, 20]), torch.tensor([40, 9, 20])


def pixels(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("target", [7, 33, 64, 97])
def test_bands_are_the_dense_product(interpolation: Interpolation, target: int) -> None:
    images = pixels(3, 3, 40, 40)
    first, weights = line_weights(START, LENGTH, 40, target, interpolation, num_weights(40, target, interpolation))
    assert weights.sum(1).allclose(torch.ones(3, target))
    lines = matrix(first, weights, 40)
    dense = torch.empty(3, 3, target, target)
    separable(images, lines, lines, out=dense)
    blocks = in_blocks(first, weights, LENGTH / target)
    space = workspace(blocks, blocks)
    for n, image in enumerate(images):  # the space is used again
        got = torch.empty(3, target, target)
        resample_blocks(image, blocks, blocks, n, space, out=got)
        torch.testing.assert_close(got, dense[n], atol=2e-6, rtol=0)


def test_what_is_outside_the_line_has_no_weight() -> None:
    first, weights = line_weights(START, LENGTH, 40, 16, "bicubic", num_weights(40, 16, "bicubic"))
    lines = matrix(first, weights, 40)
    for line, start, length in zip(lines, START.tolist(), LENGTH.tolist(), strict=True):
        assert line[:start].eq(0).all()
        assert line[start + length :].eq(0).all()
        assert line[start].ne(0).any()
        assert line[start + length - 1].ne(0).any()


@pytest.mark.parametrize(("size", "reach"), [(5, 4), (9, 3), (40, 8)])
def test_blur_is_the_sum_over_the_mirrored_line(size: int, reach: int) -> None:
    sigma = torch.tensor([0.4, 2.0])
    lines = matrix(*blur_weights(sigma, size, reach), size)
    offset = torch.arange(-reach, reach + 1)
    for line, s in zip(lines, sigma.tolist(), strict=True):
        kernel = torch.softmax(-0.5 * (offset / s) ** 2, 0)
        expected = torch.zeros(size, size)
        for target in range(size):
            for weight, place in zip(kernel, (target + offset).tolist(), strict=True):
                mirrored = abs(place)
                mirrored = mirrored if mirrored < size else 2 * (size - 1) - mirrored
                expected[mirrored, target] += weight
        torch.testing.assert_close(line, expected, atol=1e-6, rtol=0)


def test_sending_to_the_cpu_copies_nothing() -> None:
    assert send(START, torch.device("cpu")) is START
