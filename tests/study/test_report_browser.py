"""The report in a real browser: Chromium without a window, on the file as a reader opens it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leadspan.study.report import write_report

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
    assert len(page.find_elements("css selector", ".plot .main-svg")) >= 11
    asked = requests(page)
    assert report.as_uri() in asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.execute_script("return window.broken") is None


def test_a_legend_entry_switches_its_series(page: Any) -> None:
    plot = "#figure-accuracy .plot"
    drawn = f"return document.querySelectorAll('{plot} .scatterlayer .trace').length"
    before = page.execute_script(drawn)
    button = page.find_element("css selector", "#figure-accuracy .legend button")
    assert button.get_attribute("aria-pressed") == "true"
    button.send_keys("\n")  # by keyboard
    assert button.get_attribute("aria-pressed") == "false"
    assert page.execute_script(drawn) == before - 1
    button.click()
    assert page.execute_script(drawn) == before


def test_a_point_tells_its_value(page: Any) -> None:
    page.execute_script(
        "Plotly.Fx.hover(document.querySelector('#figure-accuracy .plot'),"
        " [{curveNumber: 0, pointNumber: 3}])"
    )
    shown = page.find_element("css selector", "#figure-accuracy .hoverlayer").text
    assert shown.startswith("lsp 0.5: 0.99 [")


def test_a_run_leads_to_its_samples_and_the_cut_is_marked(page: Any) -> None:
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
        "return document.querySelector('#figure-accuracy .plot').data[0].line.color.toLowerCase()"
    )
    first = page.execute_script(ground), page.execute_script(line)
    page.find_element("id", "theme").click()
    second = page.execute_script(ground), page.execute_script(line)
    assert first[0] != second[0]
    assert {first[1], second[1]} == {"#0072b2", "#56b4e9"}
    assert (first[1] == "#0072b2") == (theme == "light")
    page.execute_script("localStorage.clear(); delete document.documentElement.dataset.theme")


def test_nothing_is_wider_than_a_telephone(page: Any) -> None:
    show_as(page, 400)
    page.refresh()
    assert page.execute_script("return document.documentElement.scrollWidth") <= 400
    assert page.execute_script("return document.querySelector('.main-svg').clientWidth") < 400
