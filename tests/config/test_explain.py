"""Errors of Hydra and OmegaConf become one line with the key."""

import pytest
from hydra.errors import ConfigCompositionException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dinodiet.config.explain import explain
from dinodiet.config.schema import ScheduleConfig
from dinodiet.errors import UserError
from dinodiet.sweep.main import register


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


def test_a_mistake_of_ours_is_told_as_it_is() -> None:
    assert explain(UserError("seed: -1;\n must be at least 0"), []) == "seed: -1; must be at least 0"


def test_an_unknown_choice_is_answered_with_the_choices() -> None:
    error = ConfigCompositionException(
        "Could not find 'model/mea'\n\nAvailable options in 'model':\n\t_base\n\tmae\n\tvit"
    )
    assert explain(error, []) == "model: no choice 'mea'; choose from: mae, vit"


@pytest.mark.parametrize(
    ("key", "words", "told"),
    [
        ("method.typo", ["method=diet"], "method.typo: no such key 'typo' here; choose from: head, loss"),
        ("method.typo", ["method=dino"], "method.typo: no such key 'typo' here; choose from: drop_path, head"),
        ("nowhere.typo", [], "nowhere.typo: no such key"),
    ],
)
def test_an_unknown_key_is_answered_with_its_neighbours(key: str, words: list[str], told: str) -> None:
    assert explain(ConfigCompositionException(f"Could not override '{key}'."), words).startswith(told)


def test_a_value_of_the_wrong_type_is_told_by_its_key() -> None:
    with pytest.raises(OmegaConfBaseException) as caught:
        OmegaConf.structured(ScheduleConfig).batch_size = "many"
    assert explain(caught.value, []).startswith("batch_size: Value 'many'")


def test_a_word_that_cannot_be_read_is_told_with_what_to_write() -> None:
    assert explain(OverrideParseException("x=[", "no viable alternative"), []).startswith("x=[: cannot be read")
