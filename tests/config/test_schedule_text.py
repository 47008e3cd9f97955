"""Schedules as text: what they mean, and what is said of a mistake and its place."""

import re
from typing import Any

import pytest

from dinodiet.config.schedule_text import schedule_node
from dinodiet.errors import UserError


def made(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"dinodiet.schedules.{target}", **arguments}


def test_a_text_is_the_nodes_that_it_means() -> None:
    warmup = made("Part", value=made("Linear", start=0, final=5e-4, fraction=1.0), epochs=10)
    expected = made("Concatenation", parts=[warmup, made("HalfCosine", start=5e-4, final=1e-6)])
    assert schedule_node("cat(linear(0,5e-4,10ep),cosine(5e-4,1e-6))", "lr") == expected
    assert schedule_node(" cat( linear(0, .5E-3, 10ep) , cosine(+5e-4, 1.e-6) ) ", "lr") == expected


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("constant(-1e-3, 5st)", -1e-3),
        ("exp(1,16,300st)", made("Exponential", start=1, final=16, steps=300)),
        ("linear(-1,-.5,12.5%)", made("Linear", start=-1, final=-0.5, fraction=0.125)),
        ("linear(0,1,57%)", made("Linear", start=0, final=1, fraction=0.57)),
        ("multistep(1,0.1,30ep,60ep)", made("MultiStep", value=1, factor=0.1, epochs=[30, 60])),
        (
            "cat(1,0.5ep)",
            made("Concatenation", parts=[made("Part", value=made("Concatenation", parts=[1]), epochs=0.5)]),
        ),
    ],
)
def test_numbers_units_and_durations(text: str, node: Any) -> None:
    assert schedule_node(text, "lr") == node


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "cat(linear(0,1,10ep),cosne(1,0))",
            "'cosne' at position 22; must be one of: cat, constant, cosine, exp,",
        ),
        ("linear(0,1,10)", "'linear' at position 1 has 3; must have 2 numbers"),
        ("linear(0)", "'linear' at position 1 has 1; must have 2 numbers"),
        (
            "linear(0,1,10min)",
            "'10min' at position 12; must be a number with one of the units ep (epochs), st",
        ),
        ("linear(0,1,-1ep)", "'-1ep' at position 12; must be a duration of at least 0"),
        ("linear(10ep,0,1)", "'10ep' at position 8; must be a number; a duration comes last"),
        (
            "linear(0,cosine(1,0))",
            "'cosine' at position 10; must be a number: only cat takes schedules",
        ),
        ("linear(0,1", "the end at position 11; must be , or )"),
        ("linear(0,1) 3", "'3' at position 13; must be the end"),
        ("linear(0;1)", "';' at position 9; must be a number, or a name with arguments in brackets"),
        ("linear", "the end at position 7; must be ( behind linear"),
        ("cat()", "')' at position 5; must be a number, or one of: cat"),
        ("cat(10ep)", "'cat' at position 1 has 0; must have one schedule or more"),
        ("cat(1,cat(linear(0,1),2,5ep))", "'cat' at position 7 has 2 parts without a duration; must be at most one"),
        ("multistep(1,0.1,3)", "'3' at position 17; must be a duration, such as 10ep, 300st or 20%"),
        ("10ep", "'10ep' at position 1; must be a number without a unit, or a schedule"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UserError, match="^lr: " + re.escape(f"{text!r}: {said}")):
        schedule_node(text, "lr")
