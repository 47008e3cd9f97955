"""Pages as HTML: all text is text, numbers are finite, and plots are what plotly knows."""

import json
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest

from dinodiet.results.report import overview, run_page
from dinodiet.results.report.elements import Lines, Picture, Plot, Section, Table, cells, scored
from dinodiet.results.report.page import Links, Page, data, document, fragment
from dinodiet.results.report.plots import plain
from dinodiet.results.report.study import Study, read_study
from tests.results import studies
from tests.results.report.hostile import NAMES, hostile_study

LINKS = Links(run=lambda run: None, picture=lambda path: None)


class Tags(HTMLParser):
    """Collects tags with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return read_study([hostile_study(tmp_path_factory.mktemp("hostile"))])


@pytest.fixture(scope="module")
def plain_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("plain") / "study"
    studies.grid(folder, datasets=("dermamnist", "pathmnist", "bloodmnist"))
    return read_study([folder])


def test_hostile_names_are_text(hostile: Study) -> None:
    pages = [Page("overview", hostile.title, overview.sections(hostile))]
    pages += [Page(f"run-{place}", run.name, run_page.sections(hostile, run)) for place, run in enumerate(hostile.runs)]
    text = document(pages, LINKS, made="now")
    found = Tags(text.replace(text[text.index("</article>\n</main>") :], ""))  # without the programs at the end
    names = {tag for tag, _ in found.tags}
    assert not names & {"img", "svg", "b", "iframe"}
    assert [attributes for tag, attributes in found.tags if tag == "script" and "type" not in attributes] == []
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    for name in (*NAMES[:3], NAMES[4], "line\\nbreak \\u202e\\x00 猫 é"):
        assert name in found.text


def test_what_plotly_reads_as_tags_is_escaped() -> None:
    assert plain("<b>x</b> & y") == "&lt;b&gt;x&lt;/b&gt; &amp; y"
    assert plain("a\nb") == "a\\nb"
    assert len(plain("x" * 300)) == 40


def test_numbers_in_a_script_are_finite_and_hold_no_tag() -> None:
    plot = Plot("p", "p", [{"x": [float("nan"), 1.0], "name": "</script>"}], {"y": float("inf")}, ["x"], [[1]], "p")
    assert "<" not in data(plot)
    assert json.loads(data(plot)) == {"traces": [{"x": [None, 1.0], "name": "</script>"}], "layout": {"y": None}}


@pytest.mark.slow
def test_plots_are_what_plotly_knows(plain_study: Study, hostile: Study) -> None:
    names = set()
    for study in (plain_study, hostile):
        sections = [*overview.sections(study), *run_page.sections(study, study.runs[0])]
        for plot in (element for section in sections for element in section.elements if isinstance(element, Plot)):
            go.Figure(plot.traces, plot.layout)  # refuses what it does not know
            assert plot.numbers and all(len(row) == len(plot.heads) for row in plot.numbers), plot.name
            names.add(plot.name)
    assert {"change", "changes", "ranks-model", "val-knn-accuracy-0", "map-final"} <= names


def test_elements_as_html() -> None:
    table = Table(
        "t", "A table", ["name", "value"], [[*cells("a"), scored(0.5)], [*cells("b"), scored(None)]], search=True
    )
    section = Section("s", "S", [table, Lines("log", "<x>"), Picture("a picture", Path("p.png"))])
    text = fragment(section, Links(run=lambda run: None, picture=lambda path: "data:,x"))
    tags = Tags(text).tags
    assert ("td", {"data-order": "0.5"}) in tags and ("th", {"scope": "row"}) in tags
    assert ("img", {"loading": "lazy", "alt": "a picture", "src": "data:,x"}) in tags
    assert ("th", {"scope": "col", "aria-sort": "none"}) in tags and "&lt;x&gt;" in text
    assert "left out of this file" in fragment(section, LINKS)
