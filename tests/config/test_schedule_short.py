"""Schedules written short: the text reads back as the same nodes, and what has no text has none."""

from __future__ import annotations

from typing import Any

import pytest

from dinodiet.config.schedule_short import short_text
from dinodiet.config.schedule_text import schedule_node


def node(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"dinodiet.schedules.{target}", **arguments}


@pytest.mark.parametrize(
    "text",
    [
        "cat(linear(0,5e-4,10ep),cosine(5e-4,1e-6))",
        "cat(constant(0.04,30ep),exp(1,2,20%),3)",
        "cat(cat(1,cosine(2,3,5ep),10st),exp(1e-10,123456789))",
        "multistep(1,0.1,30ep,60ep,300st,12.5%)",
        "linear(-1,-0.5,57%)",
        "linear(0,1)",
        "cosine(1000,1e-3,0.5ep)",
        "exp(1e22,2)",
    ],
)
def test_the_text_of_a_node_is_the_one_that_it_was_read_from(text: str) -> None:
    assert short_text(schedule_node(text, "lr")) == text


@pytest.mark.parametrize("text", ["cat(1,0.5ep)", " linear( 0.0005 , +1, 100% )", "cat(cat(2,3st),exp(1,2.50,1ep))"])
def test_any_way_to_write_it_reads_back_as_the_same_nodes(text: str) -> None:
    made = schedule_node(text, "lr")
    short = short_text(made)
    assert short is not None and " " not in short
    assert schedule_node(short, "lr") == made


def test_arguments_that_say_nothing_are_left_out() -> None:
    given = node("Linear", start=0.0, final=1, steps=None, epochs=3, max_fraction=1.0, per="step")
    assert short_text(given) == "linear(0,1,3ep)"


@pytest.mark.parametrize(
    "other",
    [
        0.1,
        None,
        {"lr": 0.1},
        node("Cosine", value=1e-3, warmup_epochs=10),
        node("Linear", start=0, final=1),  # of no length: 1 from the first step
        node("Linear", start=0, final=1, epochs=3, per="epoch"),
        node("Linear", start=0, final=1, epochs=3, max_fraction=0.5),
        node("HalfCosine", start=0, final=1, epochs=3, steps=4),
        node("HalfCosine", start=0, final="much"),
        node("HalfCosine", start=0, final=True),
        node("HalfCosine", start=0),
        node("HalfCosine", start=0, final=1, fraction=1.0),  # a text would leave its duration out
        node("MultiStep", value=1, factor=0.1),
        node("Part", value=1, epochs=3),
        node("Concatenation", parts=[node("Part", value=node("Linear", start=0, final=1, steps=3), steps=5)]),
        node("Concatenation", parts=[{"_target_": "mine.Linear", "start": 0, "final": 1, "fraction": 1.0}]),
        {"_target_": "mine.Linear", "start": 0, "final": 1, "fraction": 1.0},
    ],
)
def test_what_has_no_text_has_none(other: Any) -> None:
    assert short_text(other) is None
