"""Critical differences against the published table and example of Demsar (2006, JMLR 7, table 5a and section 3.2.2)."""

import math

import pytest

from dinodiet.results.report.ranking import alike, critical_difference

QUANTILES = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


def test_quantiles_are_those_of_the_published_table() -> None:
    for values, q in QUANTILES.items():
        assert critical_difference(values, 6) == pytest.approx(q * math.sqrt(values * (values + 1) / 36), abs=2e-3)


def test_the_published_example() -> None:
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)


def test_groups_are_the_largest_that_do_not_differ() -> None:
    ranks = {"c": 2.6, "a": 1.0, "b": 1.9, "d": 4.0}
    assert alike(ranks, 1.0) == [["a", "b"], ["b", "c"]]
    assert alike(ranks, 1.7) == [["a", "b", "c"], ["c", "d"]]
    assert alike(ranks, 0.5) == []
