"""A page of pictures drawn beforehand that sliders leaf through: an explorer without a kernel and without a network."""

import html
import json
from typing import Any

PAGE_TYPE = "application/vnd.facelab.page+json"
"""Of an output that holds such a page as data; executed copies have it where `WANTED` was set while they ran."""
WANTED = "FACELAB_PAGES"
"""Environment variable that makes each explorer put its page into the notebook, beside its live controls."""

STYLE = """.facelab-page label { display: grid; align-items: center; margin: .3em 0;
  grid-template-columns: 9em minmax(6em, 18em) 1fr; gap: 1em }
.facelab-page img { max-width: 100%; display: block; margin-top: 1em }"""

SCRIPT = """function leaf(place, page) {
  const at = page.sliders.map(slider => slider.start), inputs = [];
  const make = (name, parent, look) => parent.appendChild(Object.assign(document.createElement(name), look));
  const form = make("form", place, {}), picture = make("img", place, {className: "facelab-picture"});
  const caption = make("p", place, {className: "facelab-caption", ariaLive: "polite"});
  const rest = "Drawn beforehand for the values the sliders stop at; open the notebook for all of them.";
  make("small", place, {textContent: rest});
  function show() {
    const [drawn, text] = page.frames[at.join(",")];
    Object.assign(picture, {src: "data:image/webp;base64," + drawn, alt: text});
    caption.textContent = text;
    inputs.forEach(({input, output}, i) => {
      input.value = at[i];
      output.textContent = page.sliders[i].stops[at[i]];
      input.setAttribute("aria-valuetext", page.sliders[i].stops[at[i]]);
    });
  }
  page.sliders.forEach((slider, i) => {
    const label = make("label", form, {});
    label.append(slider.label);
    const input = make("input", label, {type: "range", min: 0, max: slider.stops.length - 1, step: 1}), output = make("output", label, {});
    input.addEventListener("input", () => {
      if (!page.together) page.sliders.forEach((other, j) => { at[j] = other.start; });
      at[i] = Number(input.value);
      show();
    });
    inputs.push({input, output});
  });
  show();
}"""
"""`leaf(place, page)` fills an element with sliders, the picture and its caption."""

_WHOLE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>TITLE</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: white }
STYLE
</style></head><body><h1>TITLE</h1><div class="facelab-page"></div>
<script>
SCRIPT
const page = DATA;
leaf(document.querySelector(".facelab-page"), page);
</script></body></html>
"""


def whole(page: dict[str, Any]) -> str:
    """The page as one html file.

    Args:
        page: `name`; `sliders`, each with a label, the texts of its stops and the one it starts at; `frames`, from the places of all
            sliders ("0,2") to a WEBP in base64 and its caption; `together`, whether there is a frame for every combination.
    """
    parts = {"TITLE": html.escape(page["name"]), "STYLE": STYLE, "SCRIPT": SCRIPT, "DATA": as_script(page)}
    text = _WHOLE
    for word, part in parts.items():
        text = text.replace(word, part)
    return text


def as_script(data: Any) -> str:
    """Data as JSON that may stand within a script element."""
    return in_script(json.dumps(data))


def in_script(text: str) -> str:
    """JSON, changed where it would end the script element that it stands in."""
    return text.replace("</", "<\\/")
