"""The page of a run: scores, curves, maps and pictures; files that are broken are left out, and the rest is shown."""

from pathlib import Path

import pytest

from dinodiet.evals.pictures.map import TABLE
from dinodiet.evals.pictures.thumbnails import COLUMNS, THUMBNAILS, TILE
from dinodiet.results.report import overview, run_page
from dinodiet.results.report.elements import Lines, Picture, Plot, Section, Table
from dinodiet.results.report.page import Links, Page, asset, document
from dinodiet.results.report.study import read_study
from dinodiet.run.before_after import FOLDER
from tests.results import studies
from tests.results.report.hostile import picture
from tests.results.test_untrusted import GARBAGE

LINKS = Links(run=lambda run: None, picture=lambda path: None)
MAP = "image,file,label,x,y\n0,a.png,cat,0.5,1\n1,b.png,dog,2,3\n"


def page(study: Path) -> dict[str, Section]:
    read = read_study([study])
    return {section.name: section for section in run_page.sections(read, read.runs[0])}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = studies.write(tmp_path / "study", studies.results(initial=0.5, final=0.75))
    for phase in ("initial", "final"):
        folder = made / "artefacts" / phase / "map" / "test"
        folder.mkdir(parents=True)
        (folder / "map.csv").write_text(MAP)
        picture(folder / "map.png"), picture(folder / "thumbnails.png", (2000, 40))
    rows = [f'{{"step": {at}, "epoch": {at / 10}, "loss": {3 - at / 30}}}\n' for at in range(31)]
    (made / "metrics.jsonl").write_text("".join(rows))
    (made / "log.txt").write_text("the end\n")
    return made


def test_scores_curves_maps_and_pictures(run: Path) -> None:
    found = page(run.parent)
    table = found["run-scores"].elements[0]
    assert isinstance(table, Table)
    assert [cell.text for cell in table.rows[0]][:4] == ["knn/accuracy", "0.500", "0.750", "+0.250"]
    plots = {plot.name: plot for plot in found["run-curves"].elements if isinstance(plot, Plot)}
    assert plots["curve-loss"].numbers[-1] == (3.0, 2.0)
    maps = [plot for plot in found["maps"].elements if isinstance(plot, Plot)]
    assert [plot.title for plot in maps] == ["map, initial", "map, final"]
    assert {name["name"] for name in maps[0].traces} == {"cat", "dog"} and maps[0].thumbnails is not None
    assert [trace["customdata"] for trace in maps[0].traces] == [[0], [1]]
    pictures = [one.title for one in found["pictures"].elements if isinstance(one, Picture)]
    assert pictures == ["map, initial", "map, final"]
    both = run / "artefacts" / "before_after" / "map" / "test"
    both.mkdir(parents=True)
    picture(both / "map.png")
    pictures = [one.title for one in page(run.parent)["pictures"].elements if isinstance(one, Picture)]
    assert pictures == ["map, before and after"]
    logs = [one for one in found["log"].elements if isinstance(one, Lines)]
    assert logs[0].text == "the end"


def test_scores_that_were_not_measured_alike_have_no_change(tmp_path: Path) -> None:
    studies.write(tmp_path / "study", studies.results() | {"refused": {"knn": "other labels"}})
    table = page(tmp_path / "study")["run-scores"].elements[0]
    assert isinstance(table, Table)
    changes = {row[0].text: row[3].text for row in table.rows}
    assert changes["knn/accuracy"] == "" and changes["kmeans/ari"] == "+0.050"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["map.csv", "thumbnails.png", "metrics.jsonl", "config.yaml", "status.json", "log.txt"]
)
def test_a_broken_file_is_left_out_and_the_rest_shown(run: Path, name: str) -> None:
    path = next(run.rglob(name), run / name)
    for content in (*GARBAGE, b"image,file,label,x,y\n0,a,b,nan,1\n", b"image,file,label,x,y\n0,a,b,1e999,1\n1,c\n"):
        path.write_bytes(content)
        study = read_study([run.parent])
        sections = run_page.sections(study, study.runs[0])
        assert document(
            [Page("overview", "s", overview.sections(study)), Page("run-0", "r", sections)], LINKS, made="now"
        )
        assert {"about", "run-scores"} <= {section.name for section in sections}


def test_thumbnails_are_read_as_they_are_written() -> None:
    assert (run_page.MAP, f"{run_page.THUMBNAILS}.jpg") == (TABLE, THUMBNAILS)
    assert f"const TILE = {TILE}, ACROSS = {COLUMNS}," in asset("report.js")
    assert run_page.BOTH == FOLDER
