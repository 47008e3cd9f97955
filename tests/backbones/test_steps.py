"""One training step of DIET and of DINO on every family of timm's: exactly the chosen part moves, statistics too."""

import re
from typing import Any

import pytest

from tests.kinds import rest_nightly
from tests.methods.steps import moved

from .small import SMALL, build_small
from .test_freeze import LAST_TWO, TRANSFORMER


@pytest.mark.parametrize("method", ["diet", "dino"])
@pytest.mark.parametrize("model", rest_nightly(SMALL, list(SMALL)[::4]))
def test_a_step_moves_the_last_two_blocks_and_what_follows(model: str, method: Any) -> None:
    backbone = build_small(model)
    pattern = re.compile(r"model\.(" + LAST_TWO.get(model, TRANSFORMER) + ")")
    expected = {name for name in backbone.state_dict() if pattern.match(name)}
    assert moved(backbone, method, "last_2_blocks") == expected
