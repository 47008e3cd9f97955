"""Schedules as short text: `cat(linear(0, 5e-4, 10ep), cosine(5e-4, 1e-6))` becomes nodes of `dinodiet.schedules`.

    schedule  = number | name(argument, ...)
    duration  = number and unit, without a space: 10ep epochs, 300st steps, 20% of the training

    linear(a, b), cosine(a, b), exp(a, b)    from a to b, both included
    constant(v)                              v
    multistep(v, factor, duration, ...)      v, multiplied by the factor after each of the durations
    cat(schedule, ...)                       one after another

All but multistep take a duration as their last argument: how long they last, within the `cat` that they are in. Outside
of one the last value follows, so that `linear(0, 1, 10ep)` is a warm-up. In a `cat` one part may do without, and takes
what the others leave; `%` is there a part of that `cat`. Numbers may be negative, and 1e-3 is one. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dinodiet.errors import UserError

Number = int | float
Node = dict[str, Any]

MODULE = "dinodiet.schedules"
RAMPS: dict[str, tuple[str, Node]] = {  # the class, and what says that it takes all of its time
    "linear": ("Linear", {"fraction": 1.0}),
    "cosine": ("HalfCosine", {}),
    "exp": ("Exponential", {}),
}
NAMES = tuple(sorted((*RAMPS, "cat", "constant", "multistep")))
UNITS = {"ep": "epochs", "st": "steps", "%": "fraction"}
_LISTS = {"epochs": "epochs", "steps": "steps", "fraction": "fractions"}  # of milestones
_WORD = re.compile(
    r"\s*(?P<word>(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?P<unit>[a-zA-Z]+|%)?"
    r"|(?P<name>[a-zA-Z_]\w*)|[(),]|(?P<other>.)|$)",
    re.DOTALL,
)
_END = "the end"


@dataclass(frozen=True)
class _Word:
    """A piece of the text; `place` counts its characters from 1."""

    text: str
    place: int
    number: Number | None = None
    unit: str | None = None
    is_name: bool = False


@dataclass(frozen=True)
class _Duration:
    """So many of a unit, by the name of the argument that takes it."""

    unit: str
    amount: Number


@dataclass(frozen=True)
class _Call:
    """A form with its arguments; `last` is the duration behind them."""

    name: _Word
    arguments: tuple[Number | _Duration | _Call, ...]
    last: _Duration | None


def schedule_node(text: str, key: str) -> Node | Number:
    """Return the node, or number, that a text means.

    Raises:
        UserError: one line that names the key, what was found, its place in the text, and what may stand there.
    """
    try:
        words = list(_words(text))
        argument, rest = _argument(words)
        if rest[0].text != _END:
            raise _wrong(rest[0], "the end")
        if isinstance(argument, _Duration):
            raise _wrong(words[0], "a number without a unit, or a schedule")
        made: Node | Number = _node(argument)
    except UserError as error:
        raise UserError(f"{key}: {text!r}: {error}") from error
    return made


def _wrong(word: _Word, wanted: str) -> UserError:
    found = word.text if word.text == _END else repr(word.text)
    return UserError(f"{found} at position {word.place}; must be {wanted}")


def _words(text: str) -> Iterator[_Word]:
    """Yield the pieces of a text, and an end."""
    for found in _WORD.finditer(text):
        place = found.start("word") + 1
        if found["other"] is not None:
            raise _wrong(_Word(found["other"], place), "a number, or a name with arguments in brackets")
        number = None if found["number"] is None else _number(found["number"])
        yield _Word(found["word"] or _END, place, number, found["unit"], found["name"] is not None)


def _number(text: str) -> Number:
    return int(text) if text.lstrip("+-").isdigit() else float(text)


def _argument(words: Sequence[_Word]) -> tuple[Number | _Duration | _Call, Sequence[_Word]]:
    """Return the argument that the words begin with, and the words behind it."""
    first = words[0]
    if first.number is not None:
        return (first.number if first.unit is None else _duration(first)), words[1:]
    if not first.is_name:
        raise _wrong(first, "a number, or one of: " + ", ".join(NAMES))
    if first.text not in NAMES:
        raise _wrong(first, "one of: " + ", ".join(NAMES))
    if words[1].text != "(":
        raise _wrong(words[1], f"( behind {first.text}")
    return _call(first, words[2:])


def _duration(word: _Word) -> _Duration:
    """Return a number with a unit; percents as exactly the part that they are."""
    number, unit = word.number, UNITS.get(word.unit or "")
    if number is None or unit is None:
        raise _wrong(word, "a number with one of the units ep (epochs), st (steps), %, or none")
    if number < 0:
        raise _wrong(word, "a duration of at least 0")
    return _Duration(unit, float(Decimal(str(number)) / 100) if unit == "fraction" else number)


def _call(name: _Word, words: Sequence[_Word]) -> tuple[_Call, Sequence[_Word]]:
    """Return a form whose arguments the words begin with, and the words behind its bracket."""
    arguments: list[Number | _Duration | _Call] = []
    places: list[_Word] = []
    while True:
        places.append(words[0])
        argument, words = _argument(words)
        arguments.append(argument)
        if words[0].text not in (",", ")"):
            raise _wrong(words[0], ", or )")
        separator, words = words[0], words[1:]
        if separator.text == ")":
            return _checked(name, arguments, places), words


def _checked(name: _Word, arguments: list[Number | _Duration | _Call], places: Sequence[_Word]) -> _Call:
    """Return a form whose arguments are of the right kind and number."""
    if name.text == "multistep":
        _check(name, arguments[:2], places, numbers=2)
        if early := [
            word for word, one in zip(places[2:], arguments[2:], strict=True) if not isinstance(one, _Duration)
        ]:
            raise _wrong(early[0], "a duration, such as 10ep, 300st or 20%")
        return _Call(name, tuple(arguments), None)
    last = arguments[-1] if isinstance(arguments[-1], _Duration) else None
    given = arguments[:-1] if last else arguments
    _check(name, given, places, numbers={"cat": None, "constant": 1}.get(name.text, 2))
    return _Call(name, tuple(given), last)


def _check(name: _Word, given: Sequence[Any], places: Sequence[_Word], *, numbers: int | None) -> None:
    """Refuse arguments that are not so many numbers; None: any number of schedules, but no durations."""
    for word, argument in zip(places, given, strict=False):
        if isinstance(argument, _Duration):
            raise _wrong(word, "a number; a duration comes last" if numbers else "a schedule; a duration comes last")
        if numbers is not None and isinstance(argument, _Call):
            raise _wrong(word, f"a number: only cat takes schedules, and not {name.text}")
    if not given or (numbers is not None and len(given) != numbers):
        wanted = "one schedule or more" if numbers is None else f"{numbers} number{'s' * (numbers > 1)}"
        raise UserError(f"{name.text!r} at position {name.place} has {len(given)}; must have {wanted}")


def _node(argument: Number | _Duration | _Call) -> Any:
    """Return what an argument means by itself."""
    if not isinstance(argument, _Call):
        return argument
    match argument.name.text:
        case "constant":
            return argument.arguments[0]
        case "multistep":
            return _multistep(argument)
        case "cat":
            parts = [_part(one) for one in _reduced(argument)]
            _check_one_rest(argument, parts)
            return _made("Concatenation", parts=parts)
        case name:
            target, whole = RAMPS[name]
            start, final = argument.arguments
            return _made(
                target, start=start, final=final, **(whole if argument.last is None else _lasting(argument.last))
            )


def _reduced(call: _Call) -> tuple[Any, ...]:
    """Return the parts of a `cat`; one with a duration of its own is the only part of another."""
    return call.arguments if call.last is None else (call,)


def _part(argument: Number | _Duration | _Call) -> Any:
    """Return a part of a `cat`: what has a duration lasts so long."""
    if isinstance(argument, _Call) and argument.last is not None:
        whole = _Call(argument.name, argument.arguments, None)
        return _made("Part", value=_node(whole), **_lasting(argument.last))
    return _node(argument)


def _check_one_rest(call: _Call, parts: Sequence[Any]) -> None:
    rest = sum(not isinstance(part, dict) or not str(part["_target_"]).endswith(".Part") for part in parts)
    if rest > 1:
        raise UserError(
            f"'cat' at position {call.name.place} has {rest} parts without a duration; must be at most one, which "
            "takes what the others leave: linear(0, 1, 10ep), constant(1, 20%)"
        )


def _multistep(call: _Call) -> Node:
    value, factor, *durations = call.arguments
    milestones: dict[str, list[Number]] = {}
    for one in durations:
        assert isinstance(one, _Duration)
        milestones.setdefault(_LISTS[one.unit], []).append(one.amount)
    return _made("MultiStep", value=value, factor=factor, **milestones)


def _lasting(duration: _Duration) -> Node:
    return {duration.unit: duration.amount}


def _made(target: str, **arguments: Any) -> Node:
    return {"_target_": f"{MODULE}.{target}", **arguments}
