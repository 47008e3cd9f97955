"""A GPU's counter of energy (`-m gpu`); in the slow suite there is none on a CPU."""

import time

import pytest
import torch

from dinodiet.io.energy import EnergyCounters
from tests.bench.rows import Note

SECONDS = 2.0
MOST_WATTS = 1000.0  # above what any one card draws


def multiply(seconds: float, device: torch.device) -> float:
    """Multiply matrices for so many seconds; return how many they were."""
    matrix, begun = torch.randn(4096, 4096, device=device), time.monotonic()
    while time.monotonic() - begun < seconds:
        for _ in range(20):
            matrix @ matrix
        torch.cuda.synchronize(device)
    return time.monotonic() - begun


def test_matrix_products_use_energy(device: torch.device, note: Note) -> None:
    if device.type != "cuda":
        assert EnergyCounters([])() is None
        return
    counters = EnergyCounters([str(torch.cuda.get_device_properties(device).uuid)])
    before = counters()
    if before is None:
        pytest.skip("this GPU does not count energy: a part of one (MIG), or an old one")
    seconds = multiply(SECONDS, device)
    used = (counters() or 0.0) - before
    assert 0 < used < MOST_WATTS * seconds
    note("watts drawn by matrix products", [used / seconds], ".0f")
