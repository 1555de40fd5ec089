"""The report in a real browser: Chromium without a window, on the file as a reader opens it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium")
from selenium.webdriver import ActionChains

from leadspan.study.report import write_report
from leadspan.study.report.traces_page import build_traces_page
from leadspan.traces.inspect import Inspection
from tests.traces.test_inspect import inspection  # noqa: F401 (a fixture)

from .made_up_sweep import build_demo_sweep

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(build_demo_sweep(tmp_path_factory.mktemp("demo")))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("no chromium with chromedriver here (Debian: chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(CHROMEDRIVER))
    browser.set_script_timeout(60)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def opened(chromium: Any, report: Path) -> Any:
    """The page, opened once: drawing a dozen figures is what costs."""
    show_as(chromium, width=1280)
    chromium.get("about:blank")  # the browser's own first page asks for things too
    chromium.get_log("performance")
    chromium.get(report.as_uri())
    return chromium


@pytest.fixture
def page(opened: Any) -> Iterator[Any]:
    yield opened
    errors = opened.get_log("browser")
    assert errors == []


def show_as(browser: Any, width: int, theme: str = "light") -> None:
    """Window width and the reader's settings; without smooth scrolling, which clicks outrun."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
    settings = [{"name": name, "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": settings})


def requests(browser: Any) -> list[str]:
    """Addresses that the page asked for since the log was last read."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


def test_no_error_and_no_outside_request(page: Any, report: Path) -> None:
    assert page.title.startswith("What truncation cost")
    assert len(page.find_elements("css selector", ".plot > svg")) >= 13
    asked = requests(page)
    assert report.as_uri() in asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.execute_script("return window.broken") is None


def test_a_legend_entry_switches_its_series(page: Any) -> None:
    drawn = (
        "return [...document.querySelectorAll('#figure-accuracy .plot [data-entry]')]"
        ".filter((part) => part.getClientRects().length).length"
    )
    before = page.execute_script(drawn)
    button = page.find_element("css selector", "#figure-accuracy .legend button")
    assert button.get_attribute("aria-pressed") == "true"
    button.send_keys("\n")  # by keyboard
    assert button.get_attribute("aria-pressed") == "false"
    assert 0 < page.execute_script(drawn) < before - 6, "six points, their line and bars"
    button.click()
    assert page.execute_script(drawn) == before


def test_a_point_tells_its_value(page: Any) -> None:
    point = page.find_element("css selector", "#figure-accuracy .hit[data-hover^='lsp 0.5: 0.99']")
    ActionChains(page).move_to_element(point).perform()
    tip = page.find_element("id", "tip")
    assert tip.text.startswith("lsp 0.5: 0.99 [")
    button = page.find_element("id", "theme")
    ActionChains(page).move_to_element(button).perform()
    assert not tip.is_displayed()


def test_points_on_one_spot_are_all_told(page: Any) -> None:
    point = page.find_element("css selector", "#figure-cost .hit[data-hover^='lsp 1.0: 100 %']")
    ActionChains(page).move_to_element(point).perform()
    lines = page.find_element("id", "tip").text.splitlines()
    assert [line.partition(" of the ")[2] for line in lines] == [
        "training time",
        "peak memory",
        "memory of the step alone",
        "training FLOPs",
    ]


def test_marks_lie_on_the_drawn_points(page: Any) -> None:
    """The circles that are pointed at are placed by this library, the markers by matplotlib."""
    centers = """
        const middle = (part) => { const box = part.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2]; };
        const plot = document.querySelector("#figure-accuracy .plot");
        return [[...plot.querySelectorAll(".hit[data-entry='0']")].map(middle),
          [...plot.querySelectorAll("g.entry[data-entry='0'] use")].map(middle)];
    """
    hits, drawn = page.execute_script(centers)
    assert len(hits) == 6
    for x, y in hits:
        assert min(abs(x - a) + abs(y - b) for a, b in drawn) < 1.0


def test_the_first_screen_is_painted_at_once(page: Any) -> None:
    painted = page.execute_script("return performance.getEntriesByName('first-contentful-paint')")
    assert len(painted) == 1
    closed = "return document.querySelectorAll('details.part[open], details.numbers[open]').length"
    assert page.execute_script(closed) == 0


def test_a_run_leads_to_its_samples_and_the_cut_is_marked(page: Any) -> None:
    page.find_element("css selector", "#runs > summary").click()
    opener = page.find_element("xpath", "//button[text()='lsp-0.4_seed-1']")
    opener.click()
    diff = page.find_element("id", opener.get_attribute("aria-controls"))
    assert "truncation.lsp" in diff.text
    page.find_element("css selector", "[data-run='lsp-0.4_seed-1']").click()
    assert page.find_element("id", "sample-run").get_property("value") == "lsp-0.4_seed-1"
    samples = page.find_elements("css selector", "#sample-list > details")
    assert len(samples) > 1
    samples[0].find_element("tag name", "summary").click()
    page.implicitly_wait(5)
    assert samples[0].find_element("class name", "cut").text == "✂ cut from here"
    assert samples[0].find_element("class name", "dropped").text


def test_hostile_text_is_shown_as_text(page: Any) -> None:
    page.execute_script(
        "document.querySelectorAll('#sample-list > details').forEach((d) => { d.open = true; })"
    )
    page.implicitly_wait(5)
    page.find_element("xpath", "//pre[contains(., '<script>window.broken')]")
    assert page.execute_script("return window.broken") is None


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_light_and_dark(page: Any, theme: str) -> None:
    show_as(page, 1280, theme)
    ground = "return getComputedStyle(document.body).backgroundColor"
    line = (
        "return getComputedStyle("
        "document.querySelector('#figure-accuracy g.entry[data-entry=\"0\"] path')).stroke"
    )
    first = page.execute_script(ground), page.execute_script(line)
    page.find_element("id", "theme").click()
    second = page.execute_script(ground), page.execute_script(line)
    assert first[0] != second[0]
    assert {first[1], second[1]} == {"rgb(0, 114, 178)", "rgb(86, 180, 233)"}
    assert (first[1] == "rgb(0, 114, 178)") == (theme == "light")
    page.execute_script("localStorage.clear(); delete document.documentElement.dataset.theme")


def test_nothing_is_wider_than_a_telephone(page: Any) -> None:
    show_as(page, 390)
    page.refresh()
    page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    assert page.execute_script("return document.querySelector('.plot svg').clientWidth") < 390


def test_the_table_of_runs_fits_a_laptop(page: Any) -> None:
    show_as(page, 1280)
    page.execute_script("document.getElementById('runs').open = true")
    hidden = "const t = document.querySelector('#runs .tall'); return t.scrollWidth - t.clientWidth"
    assert page.execute_script(hidden) <= 0


def test_the_page_of_traces_fits_a_telephone_too(
    page: Any,
    inspection: Inspection,  # noqa: F811
    tmp_path: Path,
) -> None:
    file = tmp_path / "traces.html"
    file.write_text(build_traces_page(inspection), encoding="utf-8")
    show_as(page, 390)
    page.get(file.as_uri())
    page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    assert page.find_element("class name", "cut").text == "✂ cut from here"
