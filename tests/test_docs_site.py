"""The site as a reader gets it: built strictly, every link followed, nothing fetched, all keys there."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from leadspan.config import ConfigModel, RunConfig

pytest.importorskip("material")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Page(HTMLParser):
    """Where a page points, what it loads, and the ids it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = {"", "__top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in values:
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path.resolve(): Page(path) for path in site.rglob("*.html")}


def test_every_link_arrives(pages: dict[Path, Page]) -> None:
    dead, followed = [], 0
    for path, page in pages.items():
        if path.name == "404.html":  # its links are of a server's root
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            followed += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or (
                target in pages and unquote(parts.fragment) not in pages[target].ids
            ):
                dead.append(f"{path.name}: {link}")
    assert followed > 1000
    assert dead == []


def test_nothing_is_fetched(pages: dict[Path, Page], site: Path) -> None:
    loaded = {source for page in pages.values() for source in page.loaded}
    assert len(loaded) > 5
    assert [source for source in loaded if urlsplit(source).scheme or source[:2] == "//"] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"url\(['\"]?https?:[^)]*\)|@import", styles) == []
    assert (site / "search" / "search_index.js").is_file()


def keys_of(model: type[ConfigModel]) -> set[str]:
    """Every key of a model and of those inside it, as its JSON schema names them."""
    schema = model.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    return {key for part in parts for key in part.get("properties", {})}


def test_the_reference_has_every_key_verb_and_name(site: Path) -> None:
    import typer

    import leadspan
    from leadspan.cli.main import app

    def text(name: str) -> str:
        return html.unescape((site / "reference" / f"{name}.html").read_text(encoding="utf-8"))

    run_yaml, cli, python = text("run-yaml"), text("cli"), text("python")
    keys = keys_of(RunConfig)
    assert {"lsp", "horizon", "from", "rank", "num_samples"} <= keys
    assert {key for key in keys if f"<code>{key}</code>" not in run_yaml} == set()
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {verb for verb in verbs if f"leadspan {verb}" not in cli} == set()
    names = (set(leadspan.__all__) | set(leadspan.losses.__all__)) - {"__version__", "losses"}
    assert {name for name in names if f'.{name}"' not in python} == set()


def test_search_works_from_a_folder_and_the_browser_asks_for_nothing(site: Path) -> None:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with chromedriver here (Debian: chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.get("about:blank")  # the browser's own first page asks for things too
        browser.get_log("performance")
        browser.get((site / "index.html").as_uri())
        box = browser.find_element("css selector", "input.md-search__input")
        browser.execute_script("arguments[0].focus()", box)
        box.send_keys("horizon")
        wait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait(browser, 30)
        found = "li.md-search-result__item a"
        wait.until(lambda it: len(it.find_elements("css selector", found)) > 2)
        messages = [
            json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
        ]
        urls = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        assert len(urls) > 5
        assert [url for url in urls if not url.startswith(("file:", "data:", "blob:"))] == []
        assert browser.get_log("browser") == []
    finally:
        browser.quit()
