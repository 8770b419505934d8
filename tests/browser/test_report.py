"""What a person does with the page of a report: open it from the disk, move an explorer, point at a plot."""

import pytest

from facelab import report
from facelab.importance.table import NAMES, planted_table
from facelab.yours import Data

pytestmark = pytest.mark.browser


def test_the_page_lives_without_a_kernel_and_asks_for_nothing(browser, tmp_path):
    from playwright.sync_api import expect

    table = planted_table(0, steps=100)
    given = report.of_network(table.model, Data(table.training, table.evaluation, None, separate=True), samples=40, columns=NAMES)
    measured = report.layers(given)
    parts = [report.check(given), report.attributions(given), measured, report.criteria(given, measured)]
    files, _ = report.save(parts, tmp_path, "Report on the planted table")
    asked, failed = [], []
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    try:
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(files[-1].as_uri())
        explorer = page.frame_locator("iframe").first
        caption = explorer.locator(".facelab-caption")
        expect(caption).to_contain_text("largest decides")
        before = caption.inner_text()
        explorer.locator("input").first.press("ArrowRight")
        expect(caption).not_to_have_text(before)
        page.locator("#plot-criteria").scroll_into_view_if_needed()
        point = page.locator("#plot-criteria .scatterlayer .point").first
        point.hover(force=True)
        expect(page.locator("#plot-criteria .hoverlayer")).to_contain_text("measured")
        assert not failed
        assert {address.split(":")[0] for address in asked} <= {"file", "data", "about"}
    finally:
        page.close()
