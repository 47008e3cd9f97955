"""Schedules in tables: one short text each, or the numbers that are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dinodiet.config.schedule_text import schedule_node
from dinodiet.results import collect
from dinodiet.results.__main__ import main
from dinodiet.results.options import names
from dinodiet.results.runs import read
from dinodiet.results.summary import table
from dinodiet.store.grid import write_grid
from tests.results import studies

CAT = "cat(linear(0,5e-4,10ep),cosine(5e-4,1e-6))"
COSINES = "cosine(0.1,0,3ep)", "cosine(0.2,0,3ep)"
KEY = "method.loss.student_temp"
PLAIN = {"_target_": "dinodiet.schedules.Cosine", "value": 0.3, "final": 0.0}  # it has no short text


def results(value: Any, seed: int = 0, final: float = 0.9) -> dict[str, Any]:
    made = schedule_node(value, KEY) if isinstance(value, str) else value
    return studies.results(method="dino", seed=seed, final=final, overrides={KEY: made})


def study(folder: Path, *values: Any) -> Path:
    for number, value in enumerate(values):
        for seed in (0, 1):
            studies.write(folder, results(value, seed, 0.5 + number / 10))
    return folder


def lines(folder: Path, **options: Any) -> list[list[str]]:
    text, _ = table(read([folder]), phases=["final"], **options)
    return [line.split() for line in text.splitlines()[1:] if not line.startswith("--")]


def test_a_schedule_is_one_column_of_short_texts(tmp_path: Path) -> None:
    header, *rows = lines(study(tmp_path, CAT, 0.1, COSINES[0]))
    assert header == [KEY, "model", "pathmnist"]
    assert [row[0] for row in rows] == ["0.1", CAT, COSINES[0]]
    assert [row[2] for row in rows] == ["0.600", "0.500", "0.700"]
    for _ in range(2):  # of the files, and of what is kept of them
        assert set(collect(tmp_path)[KEY]) == {CAT, 0.1, COSINES[0]}


def test_a_setting_of_a_group_is_no_number_of_a_schedule(tmp_path: Path) -> None:
    for epochs in (1, 2):
        content = results(CAT)
        content["config"]["schedule"] = {"epochs": epochs, "lr": schedule_node(CAT, "lr")}
        studies.write(tmp_path, content | {"run_id": f"{content['run_id']}{epochs}"})
    assert lines(tmp_path)[0] == ["schedule.epochs", "model", "pathmnist"]


def test_one_without_a_text_keeps_its_keys(tmp_path: Path) -> None:
    header, *rows = lines(study(tmp_path, CAT, PLAIN))
    told = [dict(zip(header, row, strict=False)) for row in rows]
    assert {KEY, f"{KEY}._target_", f"{KEY}.value"} <= set(header) and f"{KEY}.parts" not in header
    assert {(row[KEY], row[f"{KEY}.value"]) for row in told} == {(CAT, "null"), ("null", "0.3")}


def test_runs_are_chosen_by_any_text_that_means_the_same(tmp_path: Path) -> None:
    folder = study(tmp_path, CAT, COSINES[0])
    wanted = "cat(linear(0, 0.0005, 10ep), cosine(0.0005, 0.000001))"
    assert set(collect(folder, where={KEY: wanted})["run"]) == {results(CAT, seed)["run_id"] for seed in (0, 1)}
    assert names(f"{CAT},0.1, knn(k=5, t=[1,2])/f1") == [CAT, "0.1", "knn(k=5, t=[1,2])/f1"]


def test_numbers_of_schedules_can_be_placed_and_compared(tmp_path: Path, capsys: Any) -> None:
    folder = study(tmp_path, *COSINES)
    assert lines(folder)[0] == [KEY, "model", "pathmnist"]
    header, *rows = lines(folder, rows=["student_temp.start"])
    assert header == [f"{KEY}.start", "pathmnist"] and [row[0] for row in rows] == ["0.1", "0.2"]
    assert main([str(folder), "--compare", "student_temp.start"]) == 0
    assert main([str(folder), "--compare", f"{KEY}={','.join(COSINES)}"]) == 0
    assert "pairs" in capsys.readouterr().out


def test_unfinished_cells_are_told_by_the_same_text(tmp_path: Path) -> None:
    study(tmp_path, CAT)
    cells = [studies.cell(results(value), f"{KEY}={written}") for value, written in ((CAT, CAT), (0.1, "0.1"))]
    cells.append(studies.cell(results(COSINES[0]), f"{KEY}='cosine(1e-1, 0, 3ep)'"))
    write_grid(tmp_path, cells)
    header, *rows = lines(tmp_path)
    assert header == [KEY, "model", "pathmnist"]
    assert [[row[0], row[2]] for row in rows] == [["0.1", "missing"], [CAT, "0.500"], [COSINES[0], "missing"]]


def test_an_unfinished_cell_that_changes_a_number_has_the_text_of_its_own(tmp_path: Path) -> None:
    study(tmp_path, COSINES[0])
    changed = [studies.cell(results(COSINES[1]), f"{KEY}.start=0.2"), studies.cell(results(COSINES[0]))]
    write_grid(tmp_path, changed)
    assert [[row[0], row[2]] for row in lines(tmp_path)[1:]] == [[COSINES[0], "0.500"], [COSINES[1], "missing"]]
