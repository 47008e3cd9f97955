"""Which cases of many alike are left to the nightly suite."""

from typing import Any

import pytest

from tests.contracts.choices import names
from tests.kinds import after_nightly, kinds_nightly, rest_nightly, target


def nightly(values: list[Any]) -> list[Any]:
    return [value.values[0] for value in values if hasattr(value, "marks")]


def test_all_cases_stay_and_the_rest_is_nightly() -> None:
    found = rest_nightly("abc", "b")
    assert found[1] == "b" and nightly(found) == ["a", "c"]
    with pytest.raises(ValueError, match=r"^d: is none of"):
        rest_nightly("abc", "bd")


def test_a_preset_is_of_the_kind_of_its_file() -> None:
    assert target("method", "dino_gram") == target("method", "dino") == "dinodiet.methods.dino.DINO"
    assert target("eval", "finetune_cpr") == target("eval", "finetune")
    assert target("dataset", "mnist") == target("dataset", "cifar10") != target("dataset", "dtd")
    found = kinds_nightly("method", names("method"))
    assert "dino" in found and "dino_gram" in nightly(found) and len(found) == len(names("method"))


def test_a_value_with_a_mark_keeps_it_and_its_parts() -> None:
    first, second = after_nightly(1, [pytest.param("a", 1), pytest.param("b", 2, marks=pytest.mark.skip, id="two")])
    assert (first.values, first.marks) == (("a", 1), ())
    assert (second.values, second.id, [mark.name for mark in second.marks]) == (("b", 2), "two", ["skip", "nightly"])
