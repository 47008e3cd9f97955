"""Schedules in records: one short text under the key of the schedule, beside the numbers of its node by dotted key."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from dinodiet.config.schedule_short import short_text
from dinodiet.config.schedule_text import schedule_node
from dinodiet.errors import UserError
from dinodiet.results.cache import Record, Scalar


def normalized(value: Scalar) -> Scalar:
    """Return a schedule's text as records have it, however it was written; any other value as it is."""
    if not isinstance(value, str) or "(" not in value:
        return value
    try:
        node = schedule_node(value, "")
    except UserError:
        return value
    return short_text(node) if isinstance(node, dict) else node


def put(record: Record, key: str, value: Scalar) -> None:
    """Set a key of a record, in place: a number or text replaces a node, a number of a node changes its text."""
    for leaf in _leaves(record, key):
        del record[leaf]
    record[key] = normalized(value)
    parent = key.rpartition(".")[0]
    if "." in parent and isinstance(record.get(parent), str) and f"{parent}._target_" in record:
        record[parent] = short_text({leaf[len(parent) + 1 :]: _read(record[leaf]) for leaf in _leaves(record, parent)})


def _leaves(record: Record, key: str) -> list[str]:
    return [leaf for leaf in record if leaf.startswith(f"{key}.")]


def _read(value: Scalar) -> Any:
    return json.loads(value) if isinstance(value, str) and value.startswith(("[", "{")) else value


def told_twice(keys: Collection[str], records: Sequence[Record], used: Iterable[str]) -> set[str]:
    """Return the keys that say what others say: the numbers of schedules that have a text.

    Where a number of a schedule is `used` by itself, its text is the one that is left out.
    """
    used = list(used)
    found: set[str] = set()
    parents = {leaf.rpartition(".")[0] for leaf in keys} & set(keys)
    for parent in filter(lambda key: "." in key, parents):  # others are groups: method, schedule
        leaves = [leaf for leaf in keys if leaf.startswith(f"{parent}.")]
        nodes = [record for record in records if f"{parent}._target_" in record]
        if any(leaf in used for leaf in leaves):
            if len(nodes) == sum(parent in record for record in records):
                found.add(parent)
        else:
            found.update(
                leaf
                for leaf in leaves
                if all(isinstance(record.get(parent), str) for record in nodes if leaf in record)
            )
    return found
