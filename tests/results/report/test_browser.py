"""Reports in Chromium, without a network: what is drawn, sorted, found, shown and saved; nothing else is asked for."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import presence_of_element_located as located
from selenium.webdriver.support.ui import WebDriverWait

from dinodiet.results.__main__ import main
from dinodiet.results.report.site import Site
from tests.results import studies
from tests.results.report.hostile import NAMES, TAG, hostile_study
from tests.results.report.test_serve import served
from tests.results.report.test_write import large_study

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver"),
]
WIDTHS = (320, 768, 1440, 3840)
SECONDS = 20  # that a busy machine is waited for


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Start Chromium, headless, which resolves no name but this machine's."""
    service = Service(str(DRIVER), env={**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("chromium"))})
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-background-networking"):
        options.add_argument(f"--{argument}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=service)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a report of 36 runs."""
    folder = tmp_path_factory.mktemp("file")
    studies.grid(folder / "study", datasets=("dermamnist", "pathmnist", "bloodmnist"))
    assert main([str(folder / "study"), "--html", str(folder / "study.html")]) == 0
    return folder / "study.html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_study(tmp_path_factory.mktemp("hostile"))


def logged(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return found


def opened(browser: webdriver.Chrome, address: str) -> float:
    """Open a page anew and return the seconds that it took."""
    browser.get("about:blank")
    logged(browser, "browser"), logged(browser, "performance")
    since = time.monotonic()
    browser.get(address)
    return time.monotonic() - since


def until(browser: webdriver.Chrome, true: str) -> Any:
    """Wait until an expression is true and return it."""

    def found(driver: webdriver.Chrome) -> Any:
        return driver.execute_script(f"return {true}")

    return WebDriverWait(browser, SECONDS).until(found)


def complaints(browser: webdriver.Chrome) -> list[str]:
    return [str(entry["message"]) for entry in logged(browser, "browser")]


def requested(browser: webdriver.Chrome) -> set[str]:
    """Return the addresses that were asked for since a page was opened."""
    messages = [json.loads(str(entry["message"]))["message"] for entry in logged(browser, "performance")]
    return {one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"}


def drawn(browser: webdriver.Chrome) -> None:
    """Scroll to every plot of the page that is shown, and wait until it is drawn."""
    for figure in browser.find_elements(By.CSS_SELECTOR, ".page:not([hidden]) figure.plot"):
        browser.execute_script("arguments[0].scrollIntoView()", figure)
        WebDriverWait(figure, SECONDS).until(located((By.CSS_SELECTOR, "svg.main-svg")))


def column(browser: webdriver.Chrome, name: str, place: int) -> list[str]:
    """Return the texts of a column of a table, of rows that are shown."""
    script = """return [...document.querySelector(`[data-name="${arguments[0]}"]`).querySelectorAll("tbody tr")]
        .filter((row) => !row.hidden).map((row) => row.cells[arguments[1]].textContent.trim())"""
    found: list[str] = browser.execute_script(script, name, place)
    return found


def table(browser: webdriver.Chrome, name: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, f'[data-name="{name}"]')


def test_a_file_is_drawn_without_a_network(chromium: webdriver.Chrome, file: Path) -> None:
    opened(chromium, file.as_uri())
    drawn(chromium)
    assert len(chromium.find_elements(By.CSS_SELECTOR, "svg.main-svg")) >= 8
    assert complaints(chromium) == []
    assert {url for url in requested(chromium) if not url.startswith(("data:", "blob:"))} == {file.as_uri()}


def test_tables_are_sorted_searched_and_filtered(chromium: webdriver.Chrome, file: Path) -> None:
    opened(chromium, file.as_uri())
    runs = table(chromium, "runs")
    heads = [head.text for head in runs.find_elements(By.CSS_SELECTOR, "thead button")]
    after = heads.index("final")
    button = runs.find_elements(By.CSS_SELECTOR, "thead button")[after]
    for turn in ("ascending", "descending"):
        chromium.execute_script("arguments[0].click()", button)
        values = [float(value) for value in column(chromium, "runs", after)]
        assert values == sorted(values, reverse=turn == "descending") and len(values) == 54
        assert runs.find_elements(By.CSS_SELECTOR, "thead th")[after].get_attribute("aria-sort") == turn
    runs.find_element(By.CSS_SELECTOR, ".words").send_keys("mae DINO")
    assert set(column(chromium, "runs", heads.index("model"))) == {"mae"} and "9 of 54 rows" in runs.text
    lists = runs.find_elements(By.CSS_SELECTOR, "select")
    chromium.execute_script(
        "arguments[0].value = '=pathmnist'; arguments[0].dispatchEvent(new Event('change'))", lists[2]
    )
    assert set(column(chromium, "runs", heads.index("dataset"))) == {"pathmnist"} and "3 of 54 rows" in runs.text


def test_a_run_has_a_page_and_the_way_back(chromium: webdriver.Chrome, file: Path) -> None:
    opened(chromium, file.as_uri())
    link = table(chromium, "runs").find_element(By.CSS_SELECTOR, "tbody a")
    name = link.get_attribute("textContent")
    chromium.execute_script("arguments[0].click()", link)
    until(chromium, "document.querySelector('.page:not([hidden])').id !== 'overview'")
    assert chromium.find_element(By.CSS_SELECTOR, ".page:not([hidden]) h1").text == name
    drawn(chromium)
    chromium.back()
    until(chromium, "document.querySelector('.page:not([hidden])').id === 'overview'")
    assert complaints(chromium) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_every_width(chromium: webdriver.Chrome, file: Path, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        opened(chromium, file.as_uri())
        drawn(chromium)
        assert chromium.execute_script("return innerWidth") == width
        assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_light_and_dark(chromium: webdriver.Chrome, file: Path) -> None:
    opened(chromium, file.as_uri())
    colours = []
    for _ in range(2):
        colours.append(chromium.execute_script("return getComputedStyle(document.body).backgroundColor"))
        chromium.find_element(By.ID, "theme").click()
    assert set(colours) == {"rgb(255, 255, 255)", "rgb(21, 24, 28)"}
    assert complaints(chromium) == []


def test_plots_and_tables_are_saved(chromium: webdriver.Chrome, file: Path) -> None:
    opened(chromium, file.as_uri())
    asked = """window.saved = []; const old = HTMLAnchorElement.prototype.click;
        HTMLAnchorElement.prototype.click = function () {
            if (this.download) saved.push(this.download); else old.call(this); };"""
    chromium.execute_script(asked)
    plot = table(chromium, "change")
    for kind in ("csv", "svg", "png"):
        chromium.execute_script("arguments[0].click()", plot.find_element(By.CSS_SELECTOR, f"button.{kind}"))
    until(chromium, "saved.length >= 3")
    assert set(chromium.execute_script("return saved")) == {"change.csv", "change.svg", "change.png"}
    numbers = chromium.execute_script(
        "return JSON.parse(document.querySelector('[data-name=change] .numbers').textContent)"
    )
    assert numbers.startswith("method,model,dataset,n,mean,low,high\n") and numbers.count("\n") == 19
    assert complaints(chromium) == []


def test_hostile_names_do_nothing(chromium: webdriver.Chrome, hostile: Path, tmp_path: Path) -> None:
    assert main([str(hostile), "--html", str(tmp_path / "study.html")]) == 0
    address = (tmp_path / "study.html").as_uri()
    for page in ("", "#run-0", "#run-10"):
        opened(chromium, address + page)
        drawn(chromium)
        assert chromium.execute_script("return window.hacked") is None
        assert complaints(chromium) == []
    opened(chromium, address)
    shown = chromium.find_element(By.TAG_NAME, "main").text
    assert TAG in shown and NAMES[2] in shown and "<script>window.hacked=1<" in shown
    drawn(chromium)
    ticks = chromium.execute_script(
        "return [...document.querySelectorAll('.ytick, .xtick, .legendtext')].map((one) => one.textContent)"
    )
    assert any("<b>bold</b>" in tick for tick in ticks)  # letter by letter


def test_an_image_is_shown_where_the_pointer_is(chromium: webdriver.Chrome, hostile: Path, tmp_path: Path) -> None:
    assert main([str(hostile), "--html", str(tmp_path / "study.html")]) == 0
    opened(chromium, (tmp_path / "study.html").as_uri() + "#run-0")
    drawn(chromium)
    plot = chromium.find_element(By.CSS_SELECTOR, ".page:not([hidden]) figure.plot[data-thumbnails]")
    chromium.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    points = plot.find_elements(By.CSS_SELECTOR, ".scatterlayer path.point")
    tile = chromium.find_element(By.ID, "thumbnail")
    assert len(points) == 5 and not tile.is_displayed()
    ActionChains(chromium).move_to_element(points[0]).perform()
    WebDriverWait(chromium, SECONDS).until(lambda _: tile.is_displayed())
    assert tile.size["width"] == 120
    assert "data:image/png" in tile.value_of_css_property("background-image")
    ActionChains(chromium).move_to_element(chromium.find_element(By.CSS_SELECTOR, ".page:not([hidden]) h1")).perform()
    WebDriverWait(chromium, SECONDS).until(lambda _: not tile.is_displayed())


def test_a_live_page_follows_the_disk(
    chromium: webdriver.Chrome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dinodiet.results.report.site.REFRESH_SECONDS", 1)
    monkeypatch.setattr("dinodiet.results.report.site.FRESH_SECONDS", 0.0)
    studies.grid(tmp_path / "study", models=("mae", "resnet50"), methods=("diet", "dino"))
    with served(Site([tmp_path / "study"]), "127.0.0.1") as server:
        opened(chromium, server.address)
        words = table(chromium, "runs").find_element(By.CSS_SELECTOR, ".words")
        words.send_keys("mae")
        drawn(chromium)
        studies.write(tmp_path / "study", studies.results(model="mae", dataset="bloodmnist", seed=77))
        until(chromium, "document.querySelector('#runs').textContent.includes('seed77')")
        kept = table(chromium, "runs").find_element(By.CSS_SELECTOR, ".words").get_attribute("value")
        assert kept == "mae" and set(column(chromium, "runs", 2)) == {"mae"}
        asked_for = {url for url in requested(chromium) if not url.startswith(("data:", "blob:"))}
        assert all(url.startswith(server.address) for url in asked_for)
        assert complaints(chromium) == []
        chromium.get("about:blank")


def test_a_large_study_opens_in_time(chromium: webdriver.Chrome, tmp_path: Path) -> None:
    study = large_study(tmp_path)
    assert main([str(study), "--html", str(tmp_path / "study.html")]) == 0
    seconds = opened(chromium, (tmp_path / "study.html").as_uri())
    print(f"\na file of {(tmp_path / 'study.html').stat().st_size / 1e6:.1f} MB opened in {seconds:.1f} s")
    assert seconds < 10  # 3 on an idle machine
    drawn(chromium)
    assert complaints(chromium) == []
