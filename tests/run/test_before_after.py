"""Before and after beside each other: after a run, after later scores, and never of other settings."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dinodiet.evals.pictures.thumbnails import THUMBNAILS
from dinodiet.run.before_after import FOLDER, put_beside
from dinodiet.run.trackers import NoTracker, show_artefacts
from tests.running import CHOICES, composed, run


class Shown(NoTracker):
    """Remembers the figures that it is shown."""

    figures: ClassVar[set[str]] = set()

    def figure(self, name: str, path: Path) -> None:
        Shown.figures.add(name)


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def assert_beside(artefacts: Path, place: str) -> None:
    """Hold a picture against the two that it is made of."""
    whole, one, other = (pixels(artefacts / phase / place) for phase in (FOLDER, "initial", "final"))
    assert not np.array_equal(one, other)
    top, width = len(whole) - len(one), one.shape[1]
    assert np.array_equal(whole[top:, :width], one)
    assert np.array_equal(whole[top:, -width:], other)
    titles = whole[:top]
    assert all((half < 128).any() for half in (titles[:, :width], titles[:, -width:]))


@pytest.mark.slow
def test_pictures_of_a_run_and_of_later_scores_stand_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shown, "figures", set())
    words = ("schedule.epochs=1", f"tracker._target_={__name__}.Shown", "dataset.limit=32")
    first = run(composed(tmp_path, *words, "eval=neighbours", "eval.neighbours.images=2"))
    artefacts = tmp_path / "default" / first["run_id"] / "artefacts"
    assert_beside(artefacts, "neighbours/test/neighbours.png")
    assert "before_after/neighbours/val/neighbours" in Shown.figures
    run(composed(tmp_path, *words, "eval=attention", "eval.attention.images=2"))
    assert_beside(artefacts, "attention/test/attention.png")
    assert "before_after/attention/test/attention" in Shown.figures
    before = pixels(artefacts / FOLDER / "attention/test/attention.png")
    again = ("mode=evaluate", "trust_targets=true", f"checkpoint={artefacts.parent}")
    other = (*again, "eval=attention", "eval.attention.images=4")
    run(composed(tmp_path, *other), CHOICES, other)  # of other settings, and only after the training
    assert len(pixels(artefacts / "final/attention/test/attention.png")) > len(before)
    assert np.array_equal(pixels(artefacts / FOLDER / "attention/test/attention.png"), before)


def test_what_one_phase_lacks_or_is_no_picture_is_left_out(tmp_path: Path) -> None:
    for phase, names in (("initial", ("a", "b", "c")), ("final", ("a", "c", "d"))):
        for name in names:
            (folder := tmp_path / phase / "student" / f"{name}+5x0" / "test").mkdir(parents=True)
            Image.new("RGB", (4, 6)).save(folder / "one.png")
    (tmp_path / "final/student/c+5x0/test/one.png").write_text("no picture")
    assert put_beside(tmp_path, ["b", "c"]) == []
    assert put_beside(tmp_path) == [tmp_path / FOLDER / "student/a+5x0/test/one.png"]
    assert put_beside(tmp_path / "initial") == []


def test_trackers_are_shown_pictures_and_no_thumbnails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shown, "figures", set())
    for name in ("map.png", THUMBNAILS):
        (tmp_path / name).touch()
    show_artefacts(Shown(), tmp_path)
    assert Shown.figures == {"map"}
