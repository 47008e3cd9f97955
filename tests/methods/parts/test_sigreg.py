"""SIGReg and LeJEPA's loss against values by hand."""

import pytest
import torch
from torch import Tensor

from dinodiet.methods.parts.sigreg import LeJEPALoss, SIGReg, statistic
from dinodiet.types import Clock

CLOCK = Clock(7, 100, 10)


def quantiles(number: int) -> list[float]:
    """Return the standard normal's quantiles in the middle of `number` equal parts."""
    ranks = (torch.arange(number, dtype=torch.float64) + 0.5) / number
    return (2**0.5 * torch.erfinv(2 * ranks - 1)).tolist()


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ([0.0], 0.4020476),
        ([0.0] * 4, 1.6081903),
        ([0.0] * 256, 102.92419),
        ([1.0], 1.1860058),
        ([5.0], 3.9399603),
        ([1.0, -1.0], 0.2056592),
        ([0.0, 1.0, 2.0, 3.0], 2.9453447),
        (quantiles(64), 8.342e-4),
        (quantiles(16), 4.380e-3),
    ],
)
def test_the_statistic_is_that_by_hand(sample: list[float], expected: float) -> None:
    rows = torch.tensor(sample, dtype=torch.float64)[:, None]
    assert statistic(rows).item() == pytest.approx(expected, rel=1e-4 if expected < 0.01 else 1e-6)
    assert statistic(-rows).item() == pytest.approx(statistic(rows).item())


def test_a_normal_sample_has_the_expectation_whatever_its_size() -> None:
    generator = torch.Generator().manual_seed(0)
    for number in (64, 1024):
        samples = torch.randn(number, 3000, generator=generator)
        assert statistic(samples).mean().item() == pytest.approx(1.052464, rel=0.04)


def test_directions_have_unit_length_and_depend_on_the_step_alone() -> None:
    sigreg, rows = SIGReg(directions=32), torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    same = sigreg(rows, Clock(7, 50, 5, seed=3, part=1))
    assert sigreg(rows, CLOCK) == same
    assert sigreg(rows, CLOCK.at(8)) != same
    assert torch.allclose(sigreg._directions(8, CLOCK).norm(dim=0), torch.ones(32))


def test_a_column_is_a_direction() -> None:
    rows = torch.randn(16, 1, generator=torch.Generator().manual_seed(0))
    assert SIGReg(directions=5)(rows, CLOCK).item() == pytest.approx(statistic(rows).item(), rel=1e-5)


def views(*rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows)


def test_equal_views_have_no_distance_and_opposite_ones_their_square() -> None:
    loss = LeJEPALoss(weight=0.0)
    assert loss(views([[1.0, 2.0]], [[1.0, 2.0]]), 2, CLOCK)["loss"] == 0
    assert loss(views([[3.0, 3.0]], [[-3.0, -3.0]]), 2, CLOCK)["loss"] == 9
    assert loss(views([[3.0, 1.0]], [[-3.0, 1.0]]), 2, CLOCK)["variance"] == pytest.approx(4.5)


def test_the_centre_of_the_global_views() -> None:
    loss = LeJEPALoss(weight=0.0, centre="global")
    assert loss(views([[0.0]], [[3.0]]), 1, CLOCK)["loss"] == pytest.approx(4.5)


def test_the_parts_are_summed_in_two_ways() -> None:
    rows = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    mixed = LeJEPALoss(weight=0.25)(rows, 2, CLOCK)
    added = LeJEPALoss(weight=0.25, sum="added")(rows, 2, CLOCK)
    assert mixed["loss"].item() == pytest.approx(0.75 * mixed["distance"].item() + 0.25 * mixed["sigreg"].item())
    assert added["loss"].item() == pytest.approx(added["distance"].item() + 0.25 * added["sigreg"].item())


def test_views_are_samples_of_their_own_or_one() -> None:
    sigreg, rows = SIGReg(directions=16), torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    of_views = LeJEPALoss(sigreg=sigreg)(rows, 2, CLOCK)["sigreg"].item()
    assert of_views == pytest.approx(sum(sigreg(view, CLOCK).item() for view in rows) / 2)
    pooled = LeJEPALoss(samples="pooled", sigreg=sigreg)(rows, 2, CLOCK)["sigreg"].item()
    assert pooled == pytest.approx(sigreg(rows.flatten(0, 1), CLOCK).item())
