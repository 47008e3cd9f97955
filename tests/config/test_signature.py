from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest

from dinodiet.config.describe import describe
from dinodiet.config.fits import fits
from dinodiet.config.precheck import hints_of
from dinodiet.config.ranges import BelowOne, Finite, Fraction, Items, NonNegative, Positive, Range, Seed
from dinodiet.config.signature import Neutral, check_arguments
from dinodiet.errors import UserError
from dinodiet.schedules import Cosine, Scalar


class Target:
    def __init__(
        self, backbone: object, *, rate: float = 0.1, kind: Literal["a", "b"] = "a", many: list[int] | None = None
    ) -> None: ...


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (True, float, False),
        (float("nan"), float, False),
        (float("inf"), float | None, False),
        ([0.5, float("nan")], list[float], False),
        ("1", float, False),
        (1.5, int, False),
        (True, int, False),
        (None, int | None, True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ([1, 2], list[int], True),
        ([1, "2"], list[int], False),
        ([0.1, 1], tuple[float, float], True),
        ({"a": 1}, dict[str, int], True),
        ({"a": "x"}, dict[str, int], False),
        (0.5, Scalar, True),
        ("fast", Scalar, False),
        ({"_target_": "x"}, Scalar, True),
        ({"_target_": "x"}, Callable[..., Any], True),
        (3, Callable[..., Any], False),
        (object(), Any, True),
    ],
)
def test_fits(value: Any, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rte": 1}, "method.rte: no such key; choose from: rate, kind, many"),
        ({"rate": "fast"}, "method.rate: 'fast'; must be a finite"),
        ({"kind": "c"}, "method.kind: 'c'; must be one of"),
        ({"many": 3}, "method.many: 3; must be a list"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refusal:
        check_arguments(Target, arguments, "method")
    assert str(refusal.value).startswith(words)


def test_right_arguments_pass() -> None:
    check_arguments(Target, {"rate": 1, "kind": "b", "many": [1]}, "method")
    check_arguments(Cosine, {"value": 1e-3, "warmup_steps": None}, "schedule.lr")


def test_describe_unions() -> None:
    assert describe(int | None) == "a whole number or null"


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (0, Positive[float], False),
        (1e-9, Positive[float], True),
        (0, NonNegative[int], True),
        (-1, Annotated[int | None, Range(0)], False),
        (None, Annotated[int | None, Range(1)], True),
        (1, BelowOne[float], False),
        ([0.5, 1.5], Fraction[list[float]], False),
        ([0.5, 1.5], Annotated[float | list[float], Range(0, 1)], False),
        (True, Fraction[float], False),
        ({"_target_": "x"}, Fraction[float], False),
        ({"_target_": "x"}, Annotated[Scalar, Range(0)], True),
        (-1, Annotated[Scalar, Range(0)], False),
        (-1, Neutral[NonNegative[int]], False),
        ([1, 2], Annotated[list[float], Items((Fraction[float], Positive[float]))], True),
        ([2, 2], Annotated[list[float], Items((Fraction[float], Positive[float]))], False),
        ([0.5], Annotated[list[float], Items((Fraction[float], Positive[float]))], False),
        ([0.5, 0.4], Annotated[list[float], Items((Fraction[float], Fraction[float]), rising=True)], False),
        ([0.9], tuple[float, float], False),
        (10**400, float, False),
        (float("nan"), Any, False),
        ({"a": [float("inf")]}, dict[str, Any], False),
    ],
)
def test_numbers_are_held_to_their_range(value: Any, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Annotated[float | None, Range(0, open_low=True)], "a finite number above 0 or null"),
        (Fraction[list[float]], "a list of a finite number from 0 to 1"),
        (BelowOne[float], "a finite number of at least 0 and below 1"),
        (Seed[int], "a whole number from 0 to 4294967295"),
        (Annotated[float, Range(0, 0.5)], "a finite number from 0 to 0.5"),
        (Finite[float], "a finite number"),
    ],
)
def test_a_range_is_described(hint: Any, words: str) -> None:
    assert describe(hint) == words


def warm(start: Fraction[Scalar]) -> None: ...


@pytest.mark.parametrize(
    ("schedule", "key"),
    [
        ({"_target_": "dinodiet.schedules.Cosine", "value": 0.996, "final": 2}, "method.start.final: 2; must be"),
        ({"_target_": "dinodiet.schedules.Staged", "values": [0.5, -1]}, "method.start.values: [0.5, -1]; must be"),
    ],
)
def test_the_numbers_of_a_schedule_are_held_to_the_range_of_what_it_is_for(schedule: Any, key: str) -> None:
    with pytest.raises(UserError) as refusal:
        check_arguments(warm, {"start": schedule}, "method", hints_of)
    assert str(refusal.value) == f"{key} a finite number from 0 to 1"
    check_arguments(warm, {"start": {**schedule, "final": 1, "values": [0, 1]}}, "method", hints_of)
