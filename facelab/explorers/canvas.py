"""A picture in the browser that says where it was clicked or dragged over."""

import struct
import zlib

import anywidget
import numpy as np
import traitlets
from jaxtyping import UInt8


def quick_png(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A PNG file, twice as fast as PIL writes it: every row as its difference from the one above, weakly compressed."""
    height, width, _ = pixels.shape
    rows = np.full((height, 1 + 3 * width), 2, dtype=np.uint8)  # 2 at the beginning of a row: the filter "up"
    rows[:, 1:] = pixels.reshape(height, -1)
    rows[1:, 1:] -= rows[:-1, 1:].copy()
    chunks = {b"IHDR": struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(rows, 1), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks.items()
    )


class Canvas(anywidget.AnyWidget):
    """Shows a PNG; `pointer` says what the mouse, pen or finger does, in fractions of the picture from its top left.

    Everything the pointer can do, sliders can do as well, so nobody needs a mouse.
    """

    png = traitlets.Bytes(b"").tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    width = traitlets.Int(640).tag(sync=True)
    """Pixels on the screen."""
    pointer = traitlets.Dict().tag(sync=True)
    """{"kind": "click" | "drag", "from": [across, down], "to": [across, down], "count": changes so far}."""
    hints = traitlets.List().tag(sync=True)
    """[left, top, right, bottom, text] in the same fractions: what to say while the pointer rests there; a number behind it is the
    thumbnail to show. Where several with a thumbnail overlap, the one with the nearest middle is meant."""
    thumbnails = traitlets.Bytes(b"").tag(sync=True)
    """A PNG of square images one below the other, sent once and shown beside hints."""

    _esm = """
    function render({ model, el }) {
      const image = document.createElement("img");
      image.className = "facelab-picture";
      image.draggable = false;
      Object.assign(image.style, { maxWidth: "100%", touchAction: "none", userSelect: "none", display: "block", background: "white" });
      let url = null, start = null, moved = false, count = 0, thumbnails = null;
      const sheet = () => (thumbnails ??= URL.createObjectURL(new Blob([model.get("thumbnails")], { type: "image/png" })));
      const show = () => {
        const previous = url;
        url = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
        image.onload = () => { if (previous) URL.revokeObjectURL(previous); };
        image.src = url;
      };
      const say = () => { image.alt = model.get("text"); image.width = model.get("width"); };
      const place = (event) => {
        const box = image.getBoundingClientRect();
        return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      };
      const hint = document.createElement("div");
      hint.className = "facelab-hint";
      hint.hidden = true;
      Object.assign(hint.style, {
        position: "absolute", maxWidth: "26em", padding: ".3em .6em", font: "12px system-ui, sans-serif", color: "#222", zIndex: 10,
        background: "#fffbe8", border: "1px solid #bbb", borderRadius: "4px", pointerEvents: "none",
      });
      const explain = (event) => {
        const [x, y] = place(event);
        const below = model.get("hints").filter(([left, top, right, bottom]) => left <= x && x <= right && top <= y && y <= bottom);
        const off = ([left, top, right, bottom]) => Math.hypot((left + right) / 2 - x, (top + bottom) / 2 - y);
        const found = below[0]?.length > 5 ? below.reduce((best, other) => (off(other) < off(best) ? other : best)) : below[0];
        hint.hidden = !found || start !== null;
        if (hint.hidden) return;
        const box = image.getBoundingClientRect();
        hint.textContent = found[4];
        if (found.length > 5) {
          const thumbnail = document.createElement("div");
          thumbnail.className = "facelab-thumbnail";
          thumbnail.dataset.image = found[5];
          Object.assign(thumbnail.style, {
            width: "96px", height: "96px", marginTop: "4px", backgroundImage: `url(${sheet()})`, backgroundSize: "96px auto",
            backgroundPosition: `0 ${-96 * found[5]}px`,
          });
          hint.append(thumbnail);
        }
        hint.style.left = x < 0.6 ? `${x * box.width + 14}px` : "auto";  // never over the edge
        hint.style.right = x < 0.6 ? "auto" : `${el.clientWidth - x * box.width + 14}px`;
        hint.style.top = `${y * box.height + 14}px`;
      };
      image.addEventListener("pointerleave", () => { hint.hidden = true; });
      const send = (kind, to) => {
        count += 1;
        model.set("pointer", { kind, from: start, to, count });
        model.save_changes();
      };
      image.addEventListener("pointerdown", (event) => {
        start = place(event);
        moved = false;
        image.setPointerCapture(event.pointerId);
      });
      image.addEventListener("pointermove", (event) => {
        explain(event);
        if (start === null) return;
        const to = place(event), box = image.getBoundingClientRect();
        moved = moved || Math.hypot((to[0] - start[0]) * box.width, (to[1] - start[1]) * box.height) > 4;
        if (moved) send("drag", to);
      });
      image.addEventListener("pointerup", (event) => {
        if (start !== null) send(moved ? "drag" : "click", place(event));
        start = null;
      });
      model.on("change:png", show);
      model.on("change:text", say);
      model.on("change:width", say);
      show();
      say();
      el.style.position = "relative";
      el.append(image, hint);
      return () => [url, thumbnails].forEach((made) => { if (made) URL.revokeObjectURL(made); });
    }
    export default { render };
    """
