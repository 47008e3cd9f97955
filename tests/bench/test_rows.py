from pathlib import Path

import pytest

from tests.bench.rows import Recorder, properties, row_of, split

README = "# Benchmarks\n\n<!-- rows -->\n| what |\n| --- |\n<!-- end -->\nmore\n"


def report(what: str, values: list[float] | str, *, passed: bool = True) -> pytest.TestReport:
    row = row_of(what, values, ".2f", "`pytest -m bench -s tests/bench/test_a.py`")
    outcome = "passed" if passed else "failed"
    return pytest.TestReport("a", ("a", 0, "a"), {}, outcome, None, "call", user_properties=[properties(row)])  # type: ignore[arg-type]


def written(readme: Path, *reports: pytest.TestReport) -> list[list[str]]:
    recorder = Recorder(readme)
    for one in reports:
        recorder.pytest_runtest_logreport(one)
    recorder.pytest_sessionfinish()
    before, table, after = split(readme.read_text())
    assert before.startswith("# Benchmarks") and after.endswith("more\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_rows_of_what_ran_are_written_and_others_stay(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README)
    many = [0.9, 1.0, 1.1, 1.2, 1.3]
    first = written(readme, report("steps", many), report("heads", "32 MiB"), report("broken", many, passed=False))
    assert [row[:3] for row in first] == [["heads", "32 MiB", ""], ["steps", "1.10", "0.95 to 1.25 (5)"]]
    assert first[0][3] == "`pytest -m bench -s tests/bench/test_a.py`"
    again = written(readme, report("steps", [2.0, 3.0]))
    assert [row[:3] for row in again] == [first[0][:3], ["steps", "2.50", "2.00 to 3.00 (2)"]]
