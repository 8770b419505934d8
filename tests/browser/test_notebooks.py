"""Every notebook of the course in a real JupyterLab: run all, move a slider of each explorer, nothing fails and nothing goes outside.

It is the second run of each notebook, and finds the figures of the first, by papermill, to the last digit.
"""

import nbformat
import pytest
from measured import figures_of

from facelab.course import running

pytestmark = pytest.mark.browser
NOTEBOOKS = running.discover()


def _explorers(notebook: dict) -> list[int]:
    """Cells that show a widget."""
    shown = [[output.get("data", {}) for output in cell.get("outputs", [])] for cell in notebook["cells"]]
    return [number for number, outputs in enumerate(shown) if any(running.WIDGET_TYPE in data for data in outputs)]


@pytest.mark.parametrize("course", NOTEBOOKS, ids=lambda notebook: notebook.slug)
def test_a_person_runs_it_and_moves_sliders(lab, course, request, tmp_path):
    from playwright.sync_api import expect

    lab.open(course.path.relative_to(running.NOTEBOOKS.parent).as_posix())
    notebook = lab.run_all(timeout=max(180, 10 * course.seconds))
    claims, metrics = running.measured(nbformat.from_dict(notebook))
    environment = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    first = figures_of(course, request.config.getoption("--arithmetic"), tmp_path, environment)
    assert (metrics, claims) == (first["metrics"], first["claims"])
    explorers = _explorers(notebook)
    assert explorers or course.appendix, "A notebook of the course has an explorer."
    for number in explorers:
        place = lab.scroll_to(number)
        picture, caption = place.locator("img.facelab-picture"), place.locator(".facelab-caption")
        expect(picture).to_be_visible()
        before, said = picture.get_attribute("src"), caption.inner_text()
        handles, choices = place.locator(".widget-slider:not(:has([disabled])) .noUi-handle:visible"), place.locator("select:visible")
        if handles.count():
            value, highest = (float(handles.first.get_attribute(name)) for name in ("aria-valuenow", "aria-valuemax"))
            handles.first.focus()
            lab.page.keyboard.press("ArrowLeft" if value == highest else "ArrowRight")
        else:  # some have choices only
            choices.first.select_option(index=0 if choices.first.evaluate("choice => choice.selectedIndex") else 1)
        expect(picture).not_to_have_attribute("src", before)
        expect(caption).not_to_have_text(said)
        # What the page says is what the kernel's Python says.
        texts = lab.ask_kernel("[o.shown.text for o in gc.get_objects() if hasattr(type(o), 'save_page') and hasattr(o, 'shown')]")
        assert caption.inner_text() in texts
        expect(place.get_by_role("alert")).to_have_count(0)
        lab.assert_fits(place)
        lab.picture(f"{course.slug}_{number:02d}")
    lab.assert_quiet()
