"""Values of a sweep file that belong together: alternatives of several keys each, and parts of a study."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dinodiet.errors import UserError

Cells = list[list[str]]  # words, such as model=dinov3 and model.size=base
Words = Callable[[str, Any], list[str]]  # the words that a key with its values means, one for each value
WHOLE = "all"  # the parts of a study


def cells_of(alternatives: Any, key: str, words: Words) -> Cells:
    """Return the cells of alternatives: those of each, which are all combinations of its keys' values.

    Args:
        alternatives: one mapping of keys to values (`{model: dinov3, model.size: "base,large"}`), or a list of them.
        key: where they stand, for what is refused.
        words: see `Words`.

    Raises:
        UserError: they are neither, or one says nothing.
    """
    found: Cells = []
    for one in alternatives if isinstance(alternatives, list) else [alternatives]:
        if not isinstance(one, Mapping) or not one:
            raise UserError(f"{key}: {one!r}; must be keys with values, {{model: dinov3, model.size: base}}, or a list")
        found += [list(cell) for cell in itertools.product(*(words(str(name), value) for name, value in one.items()))]
    return found


def part_cells(parts: Mapping[str, Any], chosen: Any, words: Words) -> Cells | None:
    """Return the cells of the chosen parts of a study, one after another; None: it has no parts.

    Raises:
        UserError: there is no such part, or none is chosen.
    """
    names = [chosen] if isinstance(chosen, str) else chosen
    if names is None and not parts:
        return None
    key, there = "hydra.sweeper.part", ", ".join(parts)
    if not parts:
        raise UserError(f"{key}: {chosen!r}, but the sweep has no parts; leave it out")
    if not isinstance(names, Sequence) or not names or not {*map(str, names)} <= {*parts, WHOLE}:
        raise UserError(f"{key}: {chosen!r}; choose from: {there}, several as [{there}], or {WHOLE}")
    kept = [name for name in parts if name in names or WHOLE in names]
    return [cell for name in kept for cell in cells_of(parts[name], f"hydra.sweeper.parts.{name}", words)]


def narrowed(cells: Cells, key: str, values: Sequence[str]) -> tuple[Cells, bool]:
    """Return cells with what the command line says of a key, and whether the cells now say it.

    The first word of a cell names it: `model=dinov3` keeps the cells of that model with their other words, and a model
    that has none becomes a cell of its own. Other words of the key are left out, as the command line replaces them.
    """
    if any(_key(cell[0]) == key for cell in cells):
        kept = [[cell for cell in cells if cell[0] == value] or [[value]] for value in values]
        return [cell for some in kept for cell in some], True
    left = [[word for word in cell if _key(word) != key] for cell in cells]
    return [cell for number, cell in enumerate(left) if cell not in left[:number]], False


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")
