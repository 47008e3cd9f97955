from pathlib import Path

import pytest

from dinodiet.config.schema import own_choices
from dinodiet.config.settings import settings_of
from dinodiet.errors import UserError
from tests.running import CHOICES, composed


def test_choices_of_a_run_are_those_of_its_groups() -> None:
    choices = {**CHOICES, "dataset@eval.dataset": None, "hydra/launcher": "local"}
    assert own_choices(choices) == CHOICES
    for nothing in (None, "None", ""):
        assert own_choices({**choices, "dataset@eval.dataset": nothing}) == CHOICES
    assert own_choices({**choices, "dataset@eval.dataset": "mnist"})["dataset@eval.dataset"] == "mnist"


@pytest.mark.parametrize("name", ["n" * 256, "studies/" + "é" * 128])
def test_a_name_that_no_folder_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^name: .*up to 255 bytes"):
        settings_of(composed(tmp_path, f"name='{name}'"), CHOICES)
    settings_of(composed(tmp_path, "name=studies/" + "n" * 255), CHOICES)
