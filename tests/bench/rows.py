"""What benchmarks found, as rows of tests/bench/README.md. `pytest -m bench --write-rows` writes those of what ran."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Protocol

import pytest

from dinodiet.io.files import write_atomically, write_text
from tests.places import ROOT

README = ROOT / "tests" / "bench" / "README.md"
BEGIN, END = "<!-- rows -->\n", "<!-- end -->"
PROPERTY = "row"  # under which a report carries a row, also from a process of pytest-xdist
SIZES = ("BENCH_FULL", "BENCH_REPEATS", "DINODIET_BENCH_VIT", "DINODIET_BENCH_IMAGES")  # variables that set sizes


@dataclass(frozen=True)
class Row:
    """What was measured, its median, its quartiles or extremes, how to repeat it, and where it was measured."""

    what: str
    figure: str
    spread: str
    command: str
    machine: str


class Note(Protocol):
    """Notes a figure of the benchmark at hand: its values, or a text where there is but one."""

    def __call__(self, what: str, values: Sequence[float] | str, form: str = ".2f") -> None: ...


def row_of(what: str, values: Sequence[float] | str, form: str, command: str) -> Row:
    """Return the row of some values: quartiles of four and more, extremes of fewer."""
    if isinstance(values, str):
        return Row(what, values, "", command, machine())
    quarters = statistics.quantiles(values, n=4) if len(values) > 3 else (min(values), 0.0, max(values))
    figure, low, high = (format(value, form) for value in (statistics.median(values), quarters[0], quarters[2]))
    return Row(what, figure, f"{low} to {high} ({len(values)})" if len(values) > 1 else "", command, machine())


def command_of(file: str) -> str:
    """Return the command that repeats a file of benchmarks, with the variables that set sizes."""
    given = [f"{name}={os.environ[name]}" for name in SIZES if os.environ.get(name)]
    return f"`{' '.join([*given, 'pytest -m bench -s', file])}`"


def machine() -> str:
    """Return the processor's name and the number of cores."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


class Recorder:
    """A plugin that collects the rows of the benchmarks that passed, and at the end writes them into a README."""

    def __init__(self, readme: Path = README) -> None:
        self._readme, self._rows = readme, list[Row]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the rows of a benchmark."""
        if report.when == "call" and report.passed:
            self._rows += [Row(*map(str, value)) for name, value in report.user_properties if name == PROPERTY]  # type: ignore[call-overload]

    def pytest_sessionfinish(self) -> None:
        """Write the rows; those of benchmarks that did not run stay."""
        before, table, after = split(self._readme.read_text())
        text = before + render(merged(parse(table), self._rows)) + after
        write_atomically(self._readme, lambda stream: write_text(stream, text))


def split(text: str) -> tuple[str, str, str]:
    """Return what stands before the table of rows, the table, and what stands after it."""
    before, _, rest = text.partition(BEGIN)
    table, _, after = rest.partition(END)
    return before + BEGIN, table, END + after


def parse(table: str) -> list[Row]:
    """Return the rows of a table."""
    lines = [line for line in table.splitlines()[2:] if line.startswith("|")]
    return [Row(*(cell.strip() for cell in line.strip().strip("|").split("|"))) for line in lines]


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Return old and new rows by command; of two that tell of the same the new one."""
    rows = {(row.command, row.what): row for row in [*old, *new]}
    return [rows[key] for key in sorted(rows)]


def render(rows: Iterable[Row]) -> str:
    """Return the table of rows, as Markdown."""
    header = [field.name for field in fields(Row)]
    lines = [header, ["---"] * len(header), *(list(astuple(row)) for row in rows)]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def properties(row: Row) -> tuple[str, list[str]]:
    """Return a row as a report carries it."""
    return PROPERTY, list(asdict(row).values())
