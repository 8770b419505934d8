"""The pages of the course, opened from disk: no request to anywhere, every link leads somewhere, explorers, plots and search live."""

from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import small_site

from facelab.course import site

pytestmark = pytest.mark.browser
LOCAL = ("file:", "data:", "blob:")


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("course")
    notebooks, executed, settled = small_site.write(folder)
    return site.build(notebooks, executed, folder / "site", settled).start


@pytest.fixture
def page(browser):
    """A tab on a screen of usual size; it fails if the pages ask for anything that is not on disk, or complain."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    asked, complaints = [], []
    context.on("request", lambda request: None if request.url.startswith(LOCAL) else asked.append(request.url))
    tab = context.new_page()
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    yield tab
    context.close()
    assert not asked and not complaints, (asked, complaints)


def test_every_link_leads_somewhere(page, start):
    waiting, seen = [start.as_uri()], set()
    while waiting:
        address, anchor = urldefrag(waiting.pop())
        if (address, anchor) in seen or not address.startswith("file:"):
            continue
        seen.add((address, anchor))
        path = Path(unquote(urlsplit(address).path))
        assert path.exists(), address
        if path.suffix == ".html":
            page.goto(address)
            assert not anchor or page.evaluate("anchor => !!document.getElementById(anchor)", anchor), f"{address}#{anchor}"
            waiting += page.evaluate("() => [...document.querySelectorAll('a[href]')].map(link => link.href)")
            pictures = page.evaluate("() => [...document.images].map(picture => [picture.src, picture.complete && picture.naturalWidth])")
            assert all(Path(unquote(urlsplit(where).path)).exists() for where, _ in pictures if where.startswith("file:")), pictures
    assert {Path(address).name for address, _ in seen} >= {"index.html", "first.html", "second.html", "glossary.html", "scoreboard.html"}


def test_an_explorer_moves(page, start):
    from playwright.sync_api import expect

    page.goto(start.with_name("first.html").as_uri())
    place = page.locator("[data-explorer]")
    picture, caption = place.locator("img"), place.locator(".facelab-caption")
    expect(caption).to_have_text("shade 1")
    before = picture.get_attribute("src")
    place.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    expect(caption).to_have_text("shade 2")
    assert picture.get_attribute("src") != before and picture.get_attribute("alt") == "shade 2"


def test_a_plot_answers_to_the_mouse(page, start):
    from playwright.sync_api import expect

    page.goto(start.with_name("first.html").as_uri())
    page.locator(".plot .point").nth(1).hover(force=True)
    expect(page.locator(".plot .hoverlayer")).to_contain_text("four")
    page.goto(start.with_name("scoreboard.html").as_uri())
    page.locator(".plot path.point[style*='rgb(0, 114, 178)']").first.hover(force=True)
    expect(page.locator(".plot .hoverlayer")).to_contain_text("95 % interval")


def test_the_search_finds_another_form_of_a_word(page, start):
    from playwright.sync_api import expect

    page.goto(start.as_uri())
    page.get_by_role("searchbox").fill("redundant")
    page.keyboard.press("Enter")
    link = page.locator("#found a").first
    expect(link).to_have_text("The first one: The problem")
    link.click()
    assert page.url.endswith("first.html#the-problem")


def test_nothing_is_cut_off_on_a_telephone(browser, start):
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    for name in ("index.html", "first.html", "glossary.html"):
        page.goto(start.with_name(name).as_uri())
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), name
    context.close()
