"""Which pictures a run's page shows."""

from __future__ import annotations

from pathlib import Path

from dinodiet.results.report.run_page import pictures


def test_a_picture_of_both_phases_takes_the_place_of_theirs(tmp_path: Path) -> None:
    for place in ("map/test/map", "outliers/train/apart", "map/test/thumbnails"):
        for phase in ("initial", "final"):
            (path := tmp_path / phase / f"{place}.png").parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "before_after/map/test").mkdir(parents=True)
    (tmp_path / "before_after/map/test/map.png").touch()
    assert [picture.title for picture in pictures(tmp_path)] == [
        *("map, before_after", "outliers, apart, train, initial", "outliers, apart, train, final")
    ]
