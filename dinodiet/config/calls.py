"""Schedules on the command line: `schedule.lr=cosine(1,0)`, which Hydra would take for a function of its own."""

from __future__ import annotations

import re

_CASTS = ("int", "float", "str", "bool")
# Functions of Hydra's overrides; what has another name and brackets is text.
HYDRAS = ("choice", "range", "interval", "glob", "sort", "shuffle", "tag", "extend_list", "json_str", *_CASTS)
_CALL = re.compile(r"[a-zA-Z_]\w*(?=\()")
_BEGIN = "=,[(:"  # what an item of a value stands behind, spaces aside


def quote_calls(word: str) -> str:
    """Return a word of the command line with schedules in the quotes that make them text to Hydra.

    Items of a list, of several values (`a=cosine(1,0),linear(0,1)`) and of Hydra's own functions are quoted one by one.
    What has quotes, braces, backslashes or interpolations stays as it is.
    """
    key, equals, value = word.partition("=")
    if "(" not in value or set(value) & set("'\"\\{}$") or not re.fullmatch(r"[+~]{0,2}[\w@./]+", key):
        return word
    made, place = "", 0
    while (found := _CALL.search(value, place)) is not None:
        begin = found.start()
        made += value[place:begin]
        its_own = found[0] in HYDRAS or (equals + value[:begin]).rstrip()[-1:] not in _BEGIN
        place = found.end() if its_own else _end(value, found.end())
        made += found[0] if its_own else f'"{value[begin:place]}"'
    return f"{key}={made}{value[place:]}"


def _end(value: str, bracket: int) -> int:
    """Return the place behind the bracket that closes the one at `bracket`; the end where none does."""
    depth = 0
    for place in range(bracket, len(value)):
        depth += {"(": 1, ")": -1}.get(value[place], 0)
        if depth == 0:
            return place + 1
    return len(value)
