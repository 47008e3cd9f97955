"""Slopes of backbones whose answer is known, by hand and by scipy."""

import random

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from dinodiet.results.forecast_slopes import SETS, slopes, slopes_told


def cells(slope: dict[str, float], noise: float = 0.01, sets: int = 15, seed: int = 0) -> pd.DataFrame:
    """Return two cells a data set and backbone, whose gains follow `a` by the backbone's slope, and `b` by nothing."""
    draw = random.Random(seed)
    rows = []
    for model, factor in slope.items():
        for number in range(sets):
            a, b = draw.gauss(0, 1), draw.gauss(0, 1)
            for size in (100, 1000):
                gain = factor * a + draw.gauss(0, noise)
                what = {"model": model, "dataset": f"set{number}", "method": "diet", "limit": size}
                rows.append({**what, "a": a, "b": b, "c": 1.0, "gain": gain})
    return pd.DataFrame(rows)


def test_slopes_of_each_backbone_are_found_over_its_data_sets() -> None:
    drawn = cells({"clip": 0.05, "mae": -0.03})
    found = {(one.model, one.measure): one for one in slopes(drawn, ["a", "b", "c"])}
    assert found.keys() == {("clip", "a"), ("clip", "b"), ("mae", "a"), ("mae", "b")}  # c does not vary
    for model, sign in {"clip": 1, "mae": -1}.items():
        one, means = found[model, "a"], drawn[drawn["model"] == model].groupby("dataset")[["a", "gain"]].mean()
        assert (one.sets, one.sign) == (15, sign)
        assert one.ranks[0] == pytest.approx(spearmanr(means["a"], means["gain"]).statistic)
        fitted = np.polyfit(means["a"] / means["a"].std(), means["gain"], 1)[0]
        assert one.slope[0] == pytest.approx(fitted)
        for value, (low, high) in (one.ranks, one.slope):
            assert low <= value <= high
    assert "a: some rise with it and others fall" in slopes_told(drawn, ["a", "b"])[-1]


def test_noise_is_outside_of_its_intervals_as_rarely_as_said() -> None:
    told = [one for seed in range(40) for one in slopes(cells({"m": 0.05}, sets=12, seed=seed), ["b"])]
    outside = [not one.slope[1][0] <= 0 <= one.slope[1][1] for one in told]
    assert len(told) == 40 and sum(outside) <= 6  # 2 are expected of 40; 7 or more have 0.3 %
    assert sum(one.sign != 0 for one in told) <= 6
    apart = slopes(cells({"m": 0.05}, noise=0.05, sets=12), ["a"])[0].slope[1]
    assert apart[1] - apart[0] > 0.01


def test_too_few_data_sets_have_no_slope() -> None:
    assert slopes(cells({"m": 0.05}, sets=SETS - 1), ["a"]) == []
    (line,) = slopes_told(cells({"m": 0.05}, sets=SETS - 1), ["a"])
    assert f"too few data sets, {SETS - 1} at the most; needed are {SETS}" in line
    mixed = pd.concat([cells({"m": 0.05}), cells({"few": 0.05}, sets=SETS - 1)])
    assert {one.model for one in slopes(mixed, ["a"])} == {"m"}
