"""Sinkhorn-Knopp against the published code."""

import numpy as np
import pytest
import torch

from dinodiet.methods.parts.sinkhorn import sinkhorn_knopp
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "dinov2_losses.npz")
TEACHER = torch.from_numpy(REFERENCE["sinkhorn.teacher"])


@pytest.mark.parametrize(
    ("key", "rows", "temperature", "iterations"),
    [
        *(
            (key, 12, float(key.rpartition("_")[2]), 3)
            for key in ("assignment_0.04", "assignment_0.07", "assignment_0.1")
        ),
        ("assignment_1_iteration", 12, 0.07, 1),
    ],
)
def test_assignments_are_the_published_ones(key: str, rows: int, temperature: float, iterations: int) -> None:
    found = sinkhorn_knopp(TEACHER[:rows] / temperature, iterations)
    np.testing.assert_allclose(found, REFERENCE[f"sinkhorn.{key}"], rtol=1e-4, atol=1e-6)


def test_rows_sum_to_one_and_all_prototypes_are_used() -> None:
    found = sinkhorn_knopp(TEACHER / 0.5, iterations=50)
    torch.testing.assert_close(found.sum(1), torch.ones(12))
    torch.testing.assert_close(found.sum(0), torch.full((16,), 12 / 16), rtol=1e-3, atol=1e-3)


def test_large_logits_do_not_overflow() -> None:
    found = sinkhorn_knopp(TEACHER * 1e4)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(1), torch.ones(12))
