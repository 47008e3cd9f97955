"""Every method on a GPU gives the CPU's losses; in the slow suite the CPU is held against itself.

Tolerances are relative. In float32 the first loss differs by the order of sums alone, later ones also by what Adam
makes of gradients near zero. bfloat16 has 8 bits of mantissa, float16 11.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.contracts.test_methods import METHODS

from .training import losses, on_cpu

FIRST, LATER = 1e-4, 2e-3
NARROWER = {"bf16": 5e-2, "fp16": 2e-2}
UNSTEADY = ("byol_scratch",)  # LARS takes whole steps along gradients that are rounding alone
FEW = ("diet", "dino", "mae")  # on a CPU these are enough to run the code of the tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def skip_most(method: str, device: torch.device) -> None:
    if device.type == "cpu" and method not in FEW:
        pytest.skip("contracts run every method on the CPU")


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_of_the_cpu(method: str, device: torch.device, folder: Path) -> None:
    skip_most(method, device)
    found, expected = losses(folder, method, device), on_cpu(folder, method)
    assert found[0] == pytest.approx(expected[0], rel=FIRST)
    if method not in UNSTEADY:
        assert found == pytest.approx(expected, rel=LATER)


@pytest.mark.parametrize("precision", NARROWER)
@pytest.mark.parametrize("method", METHODS)
def test_narrower_numbers_stay_near(method: str, precision: str, device: torch.device, folder: Path) -> None:
    skip_most(method, device)
    found = losses(folder, method, device, f"precision={precision}")
    assert all(map(torch.isfinite, torch.tensor(found)))
    assert found[0] == pytest.approx(on_cpu(folder, method)[0], rel=NARROWER[precision])
