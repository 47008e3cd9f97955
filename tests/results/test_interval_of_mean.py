"""Intervals of a mean over values that vary by run and by draw."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dinodiet.results.interval_of_mean import interval_of_mean

WAYS = (["run"], ["draw"])


def frame(runs: list[float], draws: list[float]) -> pd.DataFrame:
    """Return values that are the sum of what a run and what a draw bring."""
    rows = [
        {"run": run, "draw": draw, "value": runs[run] + draws[draw]}
        for run, draw in itertools.product(range(len(runs)), range(len(draws)))
    ]
    return pd.DataFrame(rows)


def test_of_one_draw_it_is_students_interval_over_runs_and_the_other_way_round() -> None:
    values = [0.7, 0.72, 0.77]
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert interval_of_mean(frame(values, [0.0]), WAYS) == pytest.approx(expected)
    assert interval_of_mean(frame([0.0], values), WAYS) == pytest.approx(expected)


def test_draws_that_all_runs_share_are_no_new_values() -> None:
    """Three runs, five equal draws: what is known of the runs is what one draw says."""
    few, many = (interval_of_mean(frame([0.7, 0.72, 0.77], [0.0] * draws), WAYS) for draws in (1, 5))
    assert many == pytest.approx(few)


def test_both_ways_add_by_hand() -> None:
    """Runs 0 and 2 (squared error 1), draws 0, 3, 6 (squared error 3): total 4, freedom 16 / (1 / 1 + 9 / 2)."""
    half = stats.t.ppf(0.975, 16 / 5.5) * 2
    assert interval_of_mean(frame([0.0, 2.0], [0.0, 3.0, 6.0]), WAYS) == pytest.approx((4 - half, 4 + half))


def test_nothing_is_known_of_one_value_and_equal_values_have_no_width() -> None:
    assert all(math.isnan(end) for end in interval_of_mean(frame([0.5], [0.0]), WAYS))
    assert interval_of_mean(frame([0.5, 0.5], [0.0]), WAYS) == (0.5, 0.5)


def test_all_labels_have_no_draw() -> None:
    values = frame([0.5, 0.7], [0.0]).assign(draw=None)
    expected = stats.t.interval(0.95, 1, loc=0.6, scale=stats.sem([0.5, 0.7]))
    assert interval_of_mean(values, WAYS) == pytest.approx(expected)


@pytest.mark.slow
def test_it_holds_the_true_mean_in_at_least_nine_of_ten_studies() -> None:
    """300 studies of 4 runs and 5 draws, whose draws vary as much as their runs: pooled values hold it in 5 of 10."""
    generator, held = np.random.default_rng(0), []
    for _ in range(300):
        table = frame([*generator.normal(0, 1, 4)], [*generator.normal(0, 1, 5)])
        low, high = interval_of_mean(table.assign(value=table["value"] + generator.normal(0, 0.3, 20)), WAYS)
        held.append(low < 0 < high)
    assert 0.9 < np.mean(held) <= 1.0
