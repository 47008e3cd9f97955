"""Addresses of a live report: what they lead to, and that nothing outside a study's pictures is ever sent."""

import os
from pathlib import Path
from urllib.parse import quote

import pytest

from dinodiet.results.report.overview import LATER
from dinodiet.results.report.site import Answer, Site, address_of
from tests.results import studies
from tests.results.report.hostile import hostile_study, picture
from tests.results.report.test_page import Tags


@pytest.fixture
def site(tmp_path: Path) -> Site:
    content = studies.results() | {"run_id": "one"}
    run = studies.write(tmp_path / "study", content)
    folder = run / "artefacts" / "final" / "map" / "test"
    folder.mkdir(parents=True)
    picture(folder / "map.png")
    (run / "config.yaml").write_text("secret: 1\n")
    (folder / "notes.html").write_text("<script>")
    return Site([tmp_path / "study"])


def body(site: Site, address: str) -> bytes:
    found = site.answer(address)
    assert isinstance(found, Answer), address
    return found.body


def test_pages_and_pictures(site: Site) -> None:
    assert b"dinov2" in body(site, "/")
    assert b"secret: 1" in body(site, "/run/study/one")
    found = site.answer("/artefact/study/one/final/map/test/map.png")
    assert found is not None and found.kind == "image/png" and found.body.startswith(b"\x89PNG")
    for name in LATER:
        assert b"<section" in body(site, f"/section/{name}")
    script = site.answer("/plotly.js")
    assert script is not None and script.lasting and script.kind.startswith("text/javascript")


@pytest.mark.parametrize(
    "address",
    [
        "/run/study/two", "/run/other/one", "/section/runs", "/section/..", "/nothing", "/run/study/one/x",
        "/artefact/study/one", "/artefact/study/one/", "/artefact/study/one/final/map/test",
        "/artefact/study/one/../config.yaml", "/artefact/study/one/%2e%2e/config.yaml",
        "/artefact/study/one/..%2fconfig.yaml", "/artefact/study/one/%2fetc%2fpasswd",
        "/artefact/study/one//etc/passwd",
        "/artefact/study/one/final/map/test/notes.html", "/artefact/study/one/final/map/test/map.png%00",
        "/artefact/study/../one/final/map/test/map.png", "/artefact/study/%2e%2e/study/one/final/map/test/map.png",
    ],
)  # fmt: skip
def test_nothing_else_is_sent(site: Site, address: str) -> None:
    assert site.answer(address) is None


def test_links_that_leave_the_study_are_not_followed(site: Site, tmp_path: Path) -> None:
    outside, folder = picture(tmp_path / "outside.png"), tmp_path / "study" / "one" / "artefacts" / "final"
    (folder / "link.png").symlink_to(outside)
    (folder / "far").symlink_to(tmp_path)
    (folder / "near.png").symlink_to(folder / "map" / "test" / "map.png")
    assert site.answer("/artefact/study/one/final/link.png") is None
    assert site.answer("/artefact/study/one/final/far/outside.png") is None
    assert body(site, "/artefact/study/one/final/near.png").startswith(b"\x89PNG")
    elsewhere = studies.write(tmp_path / "elsewhere", studies.results(seed=1) | {"run_id": "two"})
    (elsewhere / "artefacts").mkdir()
    picture(elsewhere / "artefacts" / "a.png")
    (tmp_path / "study" / "two").symlink_to(elsewhere)
    fresh = Site(site.paths)
    assert b"two" in body(fresh, "/run/study/two")
    assert fresh.answer("/artefact/study/two/a.png") is None


def test_what_is_written_is_seen(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.results.report.site.FRESH_SECONDS", 0.0)
    assert b"seed7" not in body(site, "/")
    studies.write(Path(site.paths[0]), studies.results(seed=7))
    assert b"seed7" in body(site, "/")


def test_names_of_any_letters_have_an_address(tmp_path: Path) -> None:
    study = hostile_study(tmp_path)
    odd = os.fsdecode(b"odd \xff%2f?#")
    studies.write(study, studies.results(seed=9) | {"run_id": odd})
    site = Site([study])
    run = next(run for run in site.study().runs if run.name == odd)
    assert quote(b"odd \xff%2f?#", safe="") in address_of(run)
    assert b"odd \\xff%2f?#" in body(site, f"/run/{address_of(run)}")
    links = [attributes["href"] for tag, attributes in Tags(body(site, "/").decode()).tags if tag == "a"]
    pages = [body(site, str(link)) for link in links if link and link.startswith("/run/")]
    assert len(pages) == len(site.study().runs) + 1  # the failed run is in two tables
