"""The page in a real browser: Chromium from Debian's packages, driven by Playwright."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import large_ledger
from evo.campaign.status import status
from tests.evo.fake_campaign import folder
from tests.evo.serve.conftest import served

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the extra dev brings playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that fails the test where anything goes wrong in it: an error, a refused style, a request elsewhere."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.set_default_timeout(60_000)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: wrong.append(request.url) if "127.0.0.1" not in request.url else None)
    yield page
    context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def address(runs) -> Iterator[str]:
    with served(runs) as address:
        yield address


def test_one_goes_from_the_overview_to_a_genome_and_on(page, address):
    page.goto(address)
    page.wait_for_selector("#connection.live")
    page.click("text=fake")
    page.wait_for_selector("section[data-key=what-each-operator-led-to]")
    assert page.locator("section svg").count() == 7
    page.click("section[data-key=hall-of-fame] a >> nth=0")
    page.wait_for_selector("text=Learning curves")
    first = page.url
    page.click("section a, .panel svg a >> nth=-1")
    page.wait_for_load_state()
    page.fill("input[name=second]", "adam")
    page.keyboard.press("Enter")
    page.wait_for_selector(".differences mark")
    page.go_back()
    page.goto(first)
    with page.expect_download() as download:
        page.click("text=python")
    assert download.value.suggested_filename.endswith(".py")
    assert "import torch" in Path(download.value.path()).read_text()


def test_the_table_is_filtered_and_sorted_while_one_types(page, address):
    page.goto(f"{address}/c/fake/genomes")
    page.wait_for_selector('text="48 of 48 genomes"')
    page.keyboard.press("/")
    page.keyboard.type("g3i")
    page.wait_for_selector('text="8 of 48 genomes"')
    assert "search=g3i" in page.url
    page.click("th >> text=genome")
    page.wait_for_selector("th[aria-sort=descending] >> text=genome")
    assert page.locator(".genomes td a").first.inner_text() == "g3i7"
    page.reload()
    page.wait_for_selector('text="8 of 48 genomes"')
    page.select_option("select[name=operator]", "elite")
    page.wait_for_selector('text="1 of 48 genomes"')


def test_a_page_follows_a_campaign_that_runs(page, tmp_path):
    path = folder(tmp_path / "runs/fake")
    command = [sys.executable, "-m", "tests.evo.fake_campaign", "launch", str(path), "1"]
    with served(tmp_path / "runs") as address:
        page.goto(address)
        page.wait_for_selector("text=not launched")
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL):
            page.wait_for_selector("article.running, article.finished")
            page.click("article a")
            page.wait_for_selector("text=6 of 6 generations of 8")
        page.wait_for_selector("section[data-key=what-each-operator-led-to]")
        page.wait_for_selector("#facts .state >> text=finished")
        champion = status(path).statistics.champion
        assert f"{champion.name} {champion.estimate.mean:.3f}" in page.inner_text("#facts")


def test_a_page_comes_back_when_the_server_does(page, runs, tmp_path):
    shutil.copytree(runs / "fake", tmp_path / "runs/fake")
    with served(tmp_path / "runs") as address:
        page.goto(f"{address}/c/fake")
        page.wait_for_selector("#connection.live")
    page.wait_for_selector("#connection.lost")
    assert "trying again" in page.inner_text("#connection")
    shutil.rmtree(tmp_path / "runs/fake/out")
    with served(tmp_path / "runs", port=int(address.rpartition(":")[2])):
        page.wait_for_selector("#connection.live")
        page.wait_for_selector("text=Not launched yet")


def test_it_can_be_used_by_keyboard(page, address):
    page.goto(address)
    page.wait_for_selector("#connection.live")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href')"))
    assert {"/c/fake", "/c/waiting", "/c/broken"} <= reached
    page.goto(f"{address}/c/fake")
    page.wait_for_selector("summary")
    page.focus("summary >> nth=-1")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")


@pytest.mark.parametrize(
    "place", ["", "/c/fake", "/c/fake/genomes", "/c/fake/g/g3i4", "/c/fake/compare?first=g3i4&second=adam"]
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_in_the_dark(browser, address, place, scheme):
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address + place)
    page.wait_for_selector("#connection.live")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "nothing is cut off at the right"
    colors = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    ink, paper = (sum(map(int, color[4:-1].split(","))) for color in colors)
    assert (ink > 500 and paper < 150) if scheme == "dark" else (ink < 150 and paper > 500)
    context.close()


@pytest.mark.slow
def test_a_hundred_thousand_genomes(page, tmp_path):
    writer = large_ledger.write(tmp_path / "runs/large")
    with served(tmp_path / "runs") as address:
        page.goto(f"{address}/c/large")
        page.wait_for_selector("text=100 of 1000 generations")
        painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        print(f"first paint after {painted:.0f} ms")
        page.goto(f"{address}/c/large/genomes")
        page.wait_for_selector("text=100,001 of 100,001 genomes", timeout=200_000)
        started = time.monotonic()
        page.keyboard.press("/")
        page.keyboard.type("g77i5")
        page.wait_for_selector("text=/^111 of 100,001 genomes/")
        page.click("th >> text=operator")
        page.wait_for_selector("th[aria-sort] >> text=operator ↑")
        print(f"filtered and sorted after {time.monotonic() - started:.2f} s")
        page.goto(f"{address}/c/large")
        page.wait_for_selector("text=100 of 1000 generations")
        writer.write(1)
        page.wait_for_selector("text=101 of 1000 generations")
