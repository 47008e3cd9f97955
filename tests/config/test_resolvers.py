"""The area of DINO's global crops follows their form, and an explicit one wins."""

from pathlib import Path

import pytest

from dinodiet.config.identity import run_id
from dinodiet.config.resolvers import global_area
from tests.contracts.choices import settings


@pytest.mark.parametrize(
    ("crops", "area"),
    [
        *(("2x128+4x96", [0.4, 1.0]), ("2+8", [0.4, 1.0]), ("1x32+4x32", [0.4, 1.0])),
        *(("2x32", [0.14, 1.0]), (2, [0.14, 1.0]), ("12x28", [0.14, 1.0]), (10, [0.14, 1.0])),
        *(("1x28", [1.0, 1.0]), (1, [1.0, 1.0]), (" 1 x 64", [1.0, 1.0]), ("nonsense", [0.14, 1.0])),
    ],
)
def test_the_form_of_the_crops_says_their_area(crops: str | int, area: list[float]) -> None:
    assert global_area(crops) == area


def test_dino_follows_the_form_unless_an_area_is_given(tmp_path: Path) -> None:
    def dino(*words: str) -> tuple[list[float], list[float], str]:
        made = settings(tmp_path, "method=dino", *(f"method.views.{word}" for word in words))
        views = made.method["views"]
        return views["global_scale"], views["local_scale"], run_id(made)

    assert dino()[:2] == ([0.4, 1.0], [0.05, 0.4])
    two, two_at = dino("crops=2x32"), dino("crops=2x32", "global_scale=[0.4,1]")
    assert (two[0], two_at[0]) == ([0.14, 1.0], [0.4, 1])
    assert two[2] != two_at[2]
    assert two[2] == dino("crops=2x32", "global_scale=[0.14,1]")[2]
    assert dino("crops=1x32")[0] == [1.0, 1.0]
