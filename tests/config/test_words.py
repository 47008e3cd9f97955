"""Words of the command line whose letters Hydra takes in quotes alone."""

import os

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from dinodiet.config.words import check_one, quoted
from dinodiet.errors import UserError

NAMES = ("/data/Blätter", "/data/x\udcff", "日本/語", "é", "/a b/ü c", "ü:=#%~;é", os.fsdecode(b"\xc3\xff"))


@pytest.mark.parametrize("value", NAMES)
@pytest.mark.parametrize("key", ["dataset.source.root", "+a/b@c.d", "++x"])
def test_letters_beyond_ascii_need_no_quotes(key: str, value: str) -> None:
    word = quoted(f"{key}={value}")
    (override,) = OverridesParser.create().parse_overrides([word])
    assert override.key_or_group == key.lstrip("+").partition("@")[0] and override.value() == value
    assert quoted(word) == word


@pytest.mark.parametrize(
    "word",
    [
        *("seed=0,1", "a=b", "root=/x y", "é=1", "--config-dir=é", "a=[é]", "a={b: é}", "a='é'", 'a="é"', "a=é,b"),
        *("a=choice(é)", "a=${é}", "a=\\é", "a=", "é", "a=é ", "~a=é"),
    ],
)
def test_what_may_be_more_than_a_value_stays(word: str) -> None:
    assert quoted(word) == word


@pytest.mark.parametrize("word", ["sweeps=[smoke]", "hydra/launcher=[local,slurm]", "tuned=[none]"])
def test_a_list_where_one_choice_is_needed(word: str) -> None:
    with pytest.raises(UserError, match=rf"^{word.partition('=')[0]}: \[.*one choice is needed"):
        check_one(["seed=3", word])
    check_one(["eval=[knn]", "sweeps=smoke", "schedule.optimizer.betas=[0.9,0.99]"])
