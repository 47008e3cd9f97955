"""Statistics of features against dinopl's trackers, and values by hand."""

from __future__ import annotations

import math

import pytest
import torch

from dinodiet.run.records.statistics import NAMES, between, rank, singular_values, statistics
from tests.run.records.published import tensor, value

THEIRS = {
    **{f"{a}/{b}": f"{{}}.{a}().{b}()".replace("sd", "std") for a in ("mean", "sd") for b in ("mean", "sd")},
    "rank": "{}.rank()",
    **{f"components/{share}": f"{{}}.nPC(var_explained={share})" for share in (0.95, 0.99, 0.999)},
    "correlation/mean": "{}.corr().mean()",
    "correlation/rank": "{}.corr().rank()",
    "distance": "{}.pdist().mean()",
}
BETWEEN = {"l2": "l2(t_x,s_x).mean()", "rms": "rmse(t_x,s_x).mean()", "cosine": "cos(t_x,s_x).mean()"}


@pytest.mark.parametrize("case", ["features", "low_rank"])
@pytest.mark.parametrize("kind", ["embeddings", "projections", "logits"])
def test_statistics_are_the_published_ones(case: str, kind: str) -> None:
    for role, short in (("teacher", "t_x"), ("student", "s_x")):
        rows = tensor(f"{case}.{kind}.{role}").flatten(0, 1)
        found = statistics(rows)
        single = statistics(rows.float())  # ranks of numbers that are float32
        assert tuple(found) == NAMES and set(found) == set(THEIRS)
        for name, pattern in THEIRS.items():
            expected = value(f"{case}:{kind[:5]}/{pattern.format(short)}")
            own = single[name] if "rank" in name else found[name]
            assert own == pytest.approx(expected, rel=2e-7, abs=6e-8), (role, name)


@pytest.mark.parametrize("case", ["features", "low_rank"])
@pytest.mark.parametrize("kind", ["embeddings", "projections", "logits"])
def test_distances_of_teacher_and_student_are_the_published_ones(case: str, kind: str) -> None:
    teacher, student = (tensor(f"{case}.{kind}.{role}") for role in ("teacher", "student"))
    found = between(teacher.flatten(0, 1), student[: len(teacher)].flatten(0, 1))
    for name, theirs in BETWEEN.items():
        expected = value(f"{case}:{kind[:5]}/{theirs}")  # float32
        assert found[name] == pytest.approx(expected, rel=2e-7, abs=6e-8), name


def test_values_by_hand() -> None:
    assert between(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])) == pytest.approx(
        {"l2": math.sqrt(2), "rms": 1.0, "cosine": 0.0, "angle": math.pi / 2}
    )
    for true in (1, 3, 5):
        factors = torch.randn(40, true, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert rank(factors @ factors[:9].T) == true
    assert math.isnan(statistics(torch.full((3, 4), math.nan))["rank"])
    assert math.isnan(statistics(torch.ones(1, 4))["rank"])


def test_wide_matrices_have_the_same_singular_values() -> None:
    matrix = torch.randn(6, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(singular_values(matrix), torch.linalg.svdvals(matrix))
