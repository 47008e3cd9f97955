"""The first page: its numbers are those of the tables of the command, and what is missing is named."""

from pathlib import Path

import pytest

from dinodiet.results.compare import compare
from dinodiet.results.report import overview, progress, scores
from dinodiet.results.report.elements import Lines, Note, Plot, Section, Table
from dinodiet.results.report.study import Study, read_study
from dinodiet.results.summary import table as printed
from dinodiet.store.grid import write_grid
from tests.results import studies


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Read 54 runs of which 51 are finished, one failed, one runs, one has not begun."""
    folder = tmp_path_factory.mktemp("overview") / "study"
    contents = studies.grid(folder, datasets=("dermamnist", "pathmnist", "bloodmnist"))
    write_grid(folder, [studies.cell(content) for content in contents])
    for content, status in zip(
        contents,
        ({"state": "failed", "reason": "no memory"}, {"state": "failed", "traceback": "a\nMemoryError"}, None),
        strict=False,
    ):
        run = folder / content["run_id"]
        (run / "results.json").unlink()
        if status is None:
            run.rmdir()
        else:
            studies.write_status(folder, run.name, **status)
    (folder / contents[0]["run_id"] / "log.txt").write_text("\n".join(f"line {at}" for at in range(40)) + "\n")
    return read_study([folder])


def table(section: Section | None, name: str) -> list[list[str]]:
    assert section is not None
    found = next(one for one in section.elements if isinstance(one, Table) and one.name == name)
    return [list(found.heads), *([cell.text for cell in row] for row in found.rows)]


def test_progress_counts_states_and_names_what_is_not_done(study: Study) -> None:
    section = progress.progress(study)
    assert section.elements[0] == Note("54 runs: 51 done, 2 failed, 1 missing.")
    assert [row[1] for row in table(section, "not-done")[1:]] == ["failed", "failed", "missing"]


def test_failures_have_their_last_lines(study: Study) -> None:
    section = progress.failures(study)
    assert section is not None and isinstance(first := section.elements[0], Lines)
    assert first.title.endswith("failed: no memory")
    assert first.text.split("\n") == [f"line {at}" for at in range(25, 40)]
    assert isinstance(second := section.elements[1], Lines) and second.text == "a\nMemoryError"


def test_scores_are_those_of_the_printed_table(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    text, _ = printed(study.found)
    rows = table(scores.headline(study), "scores-final")
    for row in rows[1:]:
        assert all(cell in text for cell in row)
    assert len(rows) == 1 + 6 and "failed" in rows[1]  # none of the three runs of its cell is finished


def test_changes_have_the_interval_of_the_paired_test(study: Study) -> None:
    frame = scores.change_frame(study, study.scores)  # type: ignore[arg-type]
    found = compare(study.done, "phase", metric="knn/accuracy").pairs
    both = frame.merge(found, on=["model", "dataset", "method"], suffixes=("", "_tested"))
    assert len(both) == len(frame) == 17
    assert both["mean"].tolist() == pytest.approx(both["difference"].tolist())
    assert both["low"].tolist() == pytest.approx(both["low_tested"].tolist(), nan_ok=True)
    assert both["high"].tolist() == pytest.approx(both["high_tested"].tolist(), nan_ok=True)


@pytest.mark.slow
def test_tests_compare_phases_methods_and_models(study: Study) -> None:
    section = scores.tests(study)
    assert section is not None
    names = [element.name for element in section.elements if isinstance(element, (Table, Plot))]
    assert names == ["tests-phase", "tests-method", "ranks-method", "tests-model", "ranks-model", "ranks-model"]


@pytest.mark.slow
def test_many_values_are_compared_over_all_cells_alone(tmp_path: Path) -> None:
    studies.grid(tmp_path / "s", models=[f"m{at}" for at in range(6)], methods=["diet"])
    section = scores.tests(read_study([tmp_path / "s"]))
    assert len(table(section, "tests-model")) == 1 + 15


def test_cost_sums_hours_by_device_and_processes(tmp_path: Path) -> None:
    for seed, (device, processes) in enumerate([("cuda (H100)", 4), ("cuda:0 (H100)", 1), ("cpu (2 threads)", 1)]):
        content = studies.results(seed=seed) | {"device": device, "processes": processes, "train_seconds": 3600.0}
        studies.write(tmp_path / "s", content)
    heads, *rows = table(progress.costs(read_study([tmp_path / "s"])), "cost")
    row = dict(zip(heads, rows[0], strict=True))
    assert row["GPU hours"] == "5.00" and row["CPU hours"] == "1.00" and row["runs"] == "3"
    assert rows[-1][0] == "all"


def test_a_study_without_scores_has_a_page(tmp_path: Path) -> None:
    studies.write_status(tmp_path / "s", "a_b_c_seed0_x", state="running")
    sections = overview.sections(read_study([tmp_path / "s"]))
    assert [section.name for section in sections] == ["progress", "failures", "scores", "runs"]
    assert sections[2].elements[0] == Note("No finished run has a score yet.")


def test_runs_are_kept_by_where(study: Study) -> None:
    kept = read_study(list(study.found.studies), {"method": ["dino"]})
    rows = table(progress.all_runs(kept), "runs")
    assert {row[4] for row in rows[1:]} == {"dino"} and len(rows) == 1 + 27


def test_the_last_line_of_a_bar_is_what_stands_in_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("begin\n 10%|#\r 50%|###\r100%|#####\nend\r\n")
    assert progress.last_lines(tmp_path) == "begin\n100%|#####\nend"
