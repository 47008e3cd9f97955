"""k-NN by the number of neighbours: the same numbers as of an evaluator with that k, a table and a chart."""

from pathlib import Path

from dinodiet.config.settings import settings_of
from dinodiet.run.backbone import build_backbone
from dinodiet.run.over_k import Line, curve_lines, draw, figure, over_k, table
from dinodiet.run.parts import build_scorer, open_data, runtime_of
from tests.running import CHOICES, composed

PASSED = Line("a on digits", "knn/accuracy", 0.8, {1: 0.7, 20: 0.8}, 0.75, True)
MISSED = Line("b on digits", "knn/accuracy", 0.6, {1: 0.5, 5: 0.6}, 0.75, False)
UNSCORED = Line("b on digits", "linear/accuracy", None, {}, 0.9, False)
FREE = Line("c on digits", "knn/accuracy", 0.4, {1: 0.4}, None, None)


def scored(tmp_path: Path, *words: str) -> dict[str, dict[int, float]]:
    settings = settings_of(composed(tmp_path, *words), CHOICES)
    data = open_data(settings.dataset)
    backbone = build_backbone(settings, data.spec)
    scorer = build_scorer(settings, data, backbone, runtime_of(settings))
    return over_k(scorer, backbone, {"knn/f1": 0.1})  # type: ignore[arg-type]


def test_each_k_scores_as_an_evaluator_with_it(tmp_path: Path) -> None:
    curves = scored(tmp_path, "eval.knn.k=7", "dataset.limit=24")
    assert list(curves) == ["knn/accuracy", "knn/f1"]
    assert list(curves["knn/accuracy"]) == [1, 5, 7, 10, 20]  # of 24 images no more are neighbours
    alone = scored(tmp_path, "eval.knn.k=10", "dataset.limit=24")
    assert all(alone[metric][10] == curve[10] for metric, curve in curves.items())


def test_without_neighbours_there_is_nothing(tmp_path: Path) -> None:
    assert scored(tmp_path, "eval=kmeans") == {}
    assert curve_lines({}) == []


def test_lines_are_aligned() -> None:
    k, values = curve_lines({"knn/accuracy": {1: 0.5, 20: 0.25}})
    assert k.split() == ["k", "1", "20"] and values.split() == ["knn/accuracy", "0.500", "0.250"]
    assert k.index("20") == values.index("0.250")


def test_several_backbones_are_one_table() -> None:
    rows = [line.split() for line in table([PASSED, MISSED, UNSCORED, FREE]).splitlines()]
    assert rows[0][2:] == ["k=1", "k=5", "k=20", "score", "published", "verdict"]
    assert rows[2][3:] == ["knn/accuracy", "0.700", "-", "0.800", "0.800", ">=", "0.75", "pass"]
    assert rows[3][3:] == ["knn/accuracy", "0.500", "0.600", "-", "0.600", ">=", "0.75", "FAIL"]
    assert rows[4][3:] == ["linear/accuracy", "-", "-", "-", "-", ">=", "0.90", "FAIL"]
    assert rows[5][-3:] == ["nothing", "to", "check"]


def test_the_chart_shows_scores_and_thresholds(tmp_path: Path) -> None:
    (ax,) = figure([PASSED, FREE]).axes
    curve, threshold, other = ax.get_lines()
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == ([1, 20], [0.7, 0.8])
    assert set(threshold.get_ydata()) == {0.75} and threshold.get_color() == curve.get_color() != other.get_color()
    draw([PASSED, UNSCORED], tmp_path / "chart.svg")
    assert "<svg" in (tmp_path / "chart.svg").read_text()
    draw([UNSCORED], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
