"""The READMEs as tests see them: command lines, and tables that a command writes between two comments.

`python -m tests.readmes` writes these tables anew.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from dinodiet.catalogue import __main__ as catalogue
from dinodiet.catalogue.choices import choices
from dinodiet.catalogue.models import Model, describe, models
from dinodiet.results.endings import Style
from tests.places import ROOT

README = ROOT / "README.md"
FOLDERS = ("conf", "dinodiet", "outputs", "sweeps", "tests", "tests/bench")
ALL = [README, *(ROOT / folder / "README.md" for folder in FOLDERS)]
PROGRAMS = ("python launch.py", "dinodiet", "python -m dinodiet.results", "python -m dinodiet.catalogue")
COMMAND = re.compile(rf"^(?:\$ )?({'|'.join(map(re.escape, PROGRAMS))})(?: (?!is |\()(.*))?$")
TABLE = re.compile(r"(<!-- python -m dinodiet\.catalogue ([^>]*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
STYLE: Style = "markdown"


def lines_of_code(text: str) -> Iterator[str]:
    """Yield the lines of code blocks without their comments, and what stands between single backticks elsewhere."""
    for number, part in enumerate(text.split("```")):
        if number % 2:
            yield from (line.partition(" #")[0].strip() for line in part.splitlines())
        else:
            yield from re.findall(r"`([^`\n]+)`", part)


@dataclass(frozen=True)
class Command:
    """A command line of this package in a README, and the error that is shown with it, if any."""

    program: str
    words: tuple[str, ...]
    error: str | None = None


def commands(path: Path) -> Iterator[Command]:
    """Yield the command lines of a README, each once."""
    lines = [*lines_of_code(path.read_text()), ""]
    found = []
    for line, after in pairwise(lines):
        if match := COMMAND.match(line):
            words = shlex.split((match[2] or "").replace("\\|", "|"))
            found.append(Command(match[1], tuple(words), after if after.startswith("error: ") else None))
    yield from dict.fromkeys(found)


def generated(words: str) -> str:
    """Return the table that the catalogue prints for the words of a command line, as Markdown."""
    kind, *options = words.split()
    if kind != "models":
        return compact(catalogue.choice_table(choices(kind), STYLE))
    assert options == ["--families"]
    entries = [describe(model, size) for model in families() for size in model.sizes]
    return compact(catalogue.family_table(entries, STYLE))


def families() -> list[Model]:
    """Return the models with sizes of their own: no presets, and not those that are asked for by a name."""
    return [model for model in models() if not model.preset and list(model.sizes) != [None]]


def compact(table: str) -> str:
    """Return a Markdown table without the spaces that align its columns."""
    rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in table.splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    cells[1] = ["---"] * len(cells[0])
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def write() -> None:
    """Write the generated tables of all READMEs anew."""
    for path in ALL:
        text = path.read_text()
        path.write_text(TABLE.sub(lambda found: f"{found[1]}{generated(found[2])}{found[4]}", text))


if __name__ == "__main__":
    write()
