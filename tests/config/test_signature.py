from collections.abc import Callable
from typing import Any, Literal

import pytest

from dinodiet.config.signature import check_arguments, describe, fits
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
