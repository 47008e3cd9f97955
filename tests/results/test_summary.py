"""What is said about a study besides its numbers: states, gaps, settings that differ."""

import time
from pathlib import Path
from typing import Any

import pytest

from dinodiet.results import main_table
from dinodiet.results.runs import read
from dinodiet.results.summary import cells_of, status
from dinodiet.store.grid import write_grid
from tests.results import studies


def test_states_are_counted_and_what_is_not_done_is_named(tmp_path: Path) -> None:
    contents = [studies.results(seed=seed) for seed in range(6)]
    write_grid(tmp_path, [studies.cell(content) for content in contents])
    done, failed, running, stopped, broken, missing = (content["run_id"] for content in contents)
    studies.write(tmp_path, contents[0])
    directory = studies.write_status(
        tmp_path, failed, state="failed", reason="CUDA out of memory", step=40, total_steps=310
    )
    (directory / "log.txt").touch()
    studies.write_status(tmp_path, running, state="running", heartbeat=time.time(), step=7, total_steps=1310)
    studies.write_status(tmp_path, stopped, state="preempted", reason="SIGTERM at step 9")
    (studies.write(tmp_path, contents[4]) / "results.json").write_text('{"format": 1')
    lines = status(tmp_path, read([tmp_path])).splitlines()
    assert lines[0] == f"{tmp_path}: 6 runs: 1 done, 1 running, 1 failed, 1 stopped, 1 missing, 1 unreadable"
    told = {line.split()[0]: line for line in lines[1:]}
    assert len(told) == 5 and done not in "".join(lines)
    assert f"{running}  step 7 of 1,310" in told["running"]
    assert f"{failed}  step 40 of 310; CUDA out of memory; {directory / 'log.txt'}" in told["failed"]
    assert f"{stopped}  SIGTERM at step 9; {tmp_path / stopped / 'status.json'}" in told["stopped"]
    assert missing in told["missing"]
    assert broken in told["unreadable"] and "run the same command again" in told["unreadable"]


def test_the_main_table_shows_the_student_where_all_runs_scored_it(tmp_path: Path) -> None:
    for seed, final in enumerate((0.5, 0.6)):
        content = studies.results(seed=seed, final=final)
        content["final"]["student/knn/accuracy"] = final + 0.1
        studies.write(tmp_path, content)
    cells, plan, _ = cells_of(read([tmp_path]), phases=["final"])
    assert plan.metrics == ("knn/accuracy", "student/knn/accuracy") and "metric" in plan.rows
    assert dict(zip(cells["metric"], cells["mean"], strict=True)) == pytest.approx(
        {"knn/accuracy": 0.55, "student/knn/accuracy": 0.65}
    )
    studies.write(tmp_path, studies.results(seed=2))  # the evaluated alone
    assert cells_of(read([tmp_path]))[1].metrics == ("knn/accuracy",)


def test_long_lists_are_cut_unless_asked_for(tmp_path: Path) -> None:
    write_grid(tmp_path, [studies.cell(studies.results(seed=seed)) for seed in range(30)])
    studies.write(tmp_path, studies.results(seed=0))
    found = read([tmp_path])
    assert "missing    and 9 more; --status names all" in status(tmp_path, found)
    assert len(status(tmp_path, found, most=None).splitlines()) == 30


def test_the_main_table(tmp_path: Path) -> None:
    for dataset, finals in {"pathmnist": (0.9, 0.92), "dermamnist": (0.7,)}.items():
        for seed, final in enumerate(finals):
            studies.write(tmp_path, studies.results("mae", dataset, seed=seed, final=final))
    waiting = studies.results("dinov2-base", "pathmnist")
    write_grid(tmp_path, [studies.cell(waiting)])
    text = main_table(tmp_path)
    first, second, third = text.split("\n\n")
    assert first.startswith("knn/accuracy, initial: mean ± sd over seed (n)")
    assert second.splitlines()[1].split() == ["model", "dermamnist", "pathmnist"]
    assert second.splitlines()[3].split() == ["dinov2-base", "-", "missing"]
    assert second.splitlines()[4].split() == ["mae", "0.700", "(1)", "0.910", "±", "0.014", "(2)"]
    assert third.splitlines()[4].split() == ["mae", "-0.100", "(1)", "+0.110", "±", "0.014", "(2)"]


def test_the_main_table_of_nothing_is_a_line(tmp_path: Path) -> None:
    assert "no runs there" in main_table(tmp_path)
    write_grid(tmp_path, [studies.cell(studies.results())])
    assert main_table(tmp_path) == f"no finished run in {tmp_path}"


def test_without_knn_the_first_accuracy_is_shown(tmp_path: Path) -> None:
    content = studies.results()
    for scores in (content["initial"], content["final"], *content["validation"].values()):
        for name in [name for name in scores if name.startswith("knn")]:
            del scores[name]
    studies.write(tmp_path, content)
    assert main_table(tmp_path).startswith("linear/accuracy, initial")


def notes_of(study: Path, **options: Any) -> list[str]:
    return cells_of(read([study]), **options)[2]


def test_settings_that_differ_are_told(tmp_path: Path) -> None:
    for k in (10, 20):
        for seed in (0, 1):
            studies.write(tmp_path, studies.results(seed=seed, overrides={"eval.knn.k": k}))
    cells, plan, notes = cells_of(read([tmp_path]), phases=["final"])
    assert plan.rows == ("eval.knn.k", "model") and cells["n"].tolist() == [2, 2]
    assert notes == ["scores were measured with different settings, which are kept apart: eval.knn.k = 10, 20"]
    assert notes_of(tmp_path, over=["seed", "eval.knn.k"]) == [
        "scores with different knn/k (10, 20) are averaged in: dinov2-base, pathmnist"
    ]
    assert notes_of(tmp_path, metrics=["kmeans/ari"]) == []


def test_a_setting_that_only_the_scores_tell_is_told(tmp_path: Path) -> None:
    for seed, temperature in enumerate((0.07, 0.1)):
        content = studies.results(seed=seed)
        content["settings"]["final"]["knn/temperature"] = temperature
        studies.write(tmp_path, content)
    assert notes_of(tmp_path) == [
        "scores with different knn/temperature (0.07, 0.1) are averaged in: dinov2-base, pathmnist"
    ]


def test_the_penalty_that_each_run_chooses_is_no_difference(tmp_path: Path) -> None:
    for seed in (0, 1):
        studies.write(tmp_path, studies.results(seed=seed))
    runs = read([tmp_path]).runs
    assert runs[0].record["setting/linear/C"] != runs[1].record["setting/linear/C"]
    assert notes_of(tmp_path, metrics=["linear/accuracy"]) == []


def test_gaps_are_explained(tmp_path: Path) -> None:
    content = studies.results(dataset="chestmnist") | {"skipped": {"kmeans": "images have several labels"}}
    for phase in ("initial", "final"):
        del content[phase]["kmeans/ari"]
    studies.write(tmp_path, content)
    lost = studies.results()
    lost["final"]["kmeans/ari"] = None
    studies.write(tmp_path, lost)
    studies.write(tmp_path, studies.results(seed=1))
    cells, _, notes = cells_of(read([tmp_path]), metrics=["kmeans/ari"], phases=["final"])
    assert notes == [
        f"no finite kmeans/ari in {lost['run_id']}: not in the means",
        "kmeans is left out on chestmnist: images have several labels",
    ]
    assert cells.set_index("dataset")["state"].to_dict() == {"chestmnist": "missing", "pathmnist": "done"}
    assert cells.set_index("dataset").loc["pathmnist", "n"] == 1


@pytest.mark.parametrize("missing", ["results", "choices"])
def test_an_incomplete_file_is_left_out_with_what_lacks(missing: str, tmp_path: Path) -> None:
    content = studies.results()
    if missing == "results":
        content = {"format": 2, "run_id": content["run_id"]}
    else:
        del content["choices"]
    (tmp_path / "run").mkdir()
    studies.write(tmp_path, content)
    (message,) = read([tmp_path]).messages()
    assert "no 'choices' in it" in message
