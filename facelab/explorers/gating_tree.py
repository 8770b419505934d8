"""Who answers for this image? The flow through a soft tree, what each node asks, and what each leaf alone would say."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from facelab.batch import FaceBatch
from facelab.blocks.trees import TreeGate, log_reach
from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, names_of, pixels_of
from facelab.pictures.gating_tree import (
    CURVE,
    END_PLACES,
    ENDS,
    FAVOURITE,
    OWN,
    TILE,
    TREE,
    Flow,
    end_images,
    gating_tree_view,
    slots,
)
from facelab.pictures.style import as_array, as_rgb
from facelab.pictures.trees import nearest_node

COLLECTION = "the collection"


def run_gates(model: nn.Module, gates: Mapping[str, TreeGate], images: Float[Tensor, "B C H W"]) -> tuple[dict[str, Tensor], Any]:
    """Runs the model: the logits (B, nodes) that each gate gives on the way, caught by forward hooks, and the model's output.

    Raises:
        ValueError: a gate is not asked exactly once for each image.
    """
    caught: dict[str, list[Tensor]] = {name: [] for name in gates}
    hooks = [
        gate.register_forward_hook(lambda module, inputs, output, name=name: caught[name].append(output)) for name, gate in gates.items()
    ]
    try:
        output = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    for name, logits in caught.items():
        if [len(rows) for rows in logits] != [len(images)]:
            asked = " + ".join(str(len(rows)) for rows in logits) or "no"
            raise ValueError(f"Gate {name!r} got {asked} samples for {len(images)} images; the explorer needs a gate asked once per image.")
    return {name: logits[0] for name, logits in caught.items()}, output


def attribute(
    score: Callable[[Float[Tensor, "B C H W"]], Float[Tensor, " B"]],
    image: Float[Tensor, "C H W"],
    baseline: Float[Tensor, "C H W"],
    steps: int = 8,
) -> Float[np.ndarray, "H W"]:
    """Integrated gradients: how much each pixel, in place of the baseline's, adds to the score; they sum to the difference of the scores.

    If no gradient reaches the image (a detached gate), the score lost by putting each of 8 x 8 squares of the baseline over it.

    Source: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017, equation 1, by the midpoint rule.
    """
    share = (torch.arange(steps) + 0.5).reshape(-1, 1, 1, 1) / steps
    between = (baseline + share * (image - baseline)).requires_grad_()
    with torch.enable_grad():
        total = score(between).sum()
        gradient = torch.autograd.grad(total, between, allow_unused=True)[0] if total.requires_grad else None
    if gradient is not None:
        return as_array(((image - baseline) * gradient.mean(dim=0)).sum(dim=0)).astype(np.float64)
    height, width = image.shape[1:]
    squares = torch.eye(64).reshape(64, 1, 8, 8)
    covered = nn.functional.interpolate(squares, size=(height, width), mode="nearest")
    with torch.inference_mode():
        lost = score(image[None]) - score(torch.where(covered > 0, baseline, image))
    return as_array((lost.reshape(-1, 1, 1, 1) * covered / covered.sum(dim=(2, 3), keepdim=True)).sum(dim=0)[0]).astype(np.float64)


def face_sweep(
    factor: str, values: Any, *, face: int = 0, seed: int = 0, size: int = 64, **fixed: Any
) -> tuple[Float[np.ndarray, " S"], FaceBatch]:
    """One rendered face with a factor going through `values`, all else, noise and crop included, standing still.

    Args:
        factor: any of `facelab.worlds.faces.FACTORS` with numbers: "yaw", "light_azimuth", "au_12", ...
        face, seed: which item of the world.
        size: pixels.
        fixed: other factors.

    Raises:
        ValueError: as `facelab.worlds.faces.render`.
    """
    from facelab.worlds import faces  # only when asked for: its world takes two seconds to import

    steps = np.asarray(values, dtype=float)
    one = faces.render(1, seed, size, start=face, channels=(), **fixed)
    return steps, faces.change(one.take(np.zeros(len(steps), dtype=int)), **{factor: steps})


class GatingTreeExplorer(Explorer):
    """Pick an image, or sweep a factor, and watch it flow through a tree; pick a node and see what it asks.

    On the picture a click on the tree picks a node, on a small image its leaf, in the lowest row that image, and in the curve of a
    sweep its value; sliders do the same.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Any,
        *,
        sweeps: Mapping[str, tuple[Any, Any]] | None = None,
        gate: str | TreeGate | None = None,
        landmarks: Callable[[Any], Float[Tensor, "B K 2"]] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        """Look into the gates of a model.

        Args:
            model: images (B,C,H,W) -> anything; it holds a `TreeGate`, or several, each asked once per image. It is put in evaluation mode.
            images: the collection: a `FaceBatch` (shown to the model in gray), or (B,C,H,W) in [0,1] with 1 or 3 channels.
            sweeps: name and unit of a factor -> (increasing values (S,), images of it), as `face_sweep` gives.
            gate: the only one to look into, or its name in the model; by default all are offered.
            landmarks: the model's output -> landmarks (B,K,2) in pixels; without it the leaves' own answers are not shown.
            names: one name per image of the collection.

        Raises:
            ValueError: no gate, or images, sweeps or names that do not fit.
        """
        gates = _gates(model, gate)
        model.eval()
        pixels: dict[str, np.ndarray] = {COLLECTION: pixels_of(images, (1, 3), "of the collection")}
        values: dict[str, np.ndarray] = {}
        for label, (steps, frames) in (sweeps or {}).items():
            pixels[label], values[label] = pixels_of(frames, (1, 3), f"of the sweep {label!r}"), np.asarray(steps, dtype=float)
            if values[label].shape != (len(pixels[label]),) or (np.diff(values[label]) <= 0).any():
                raise ValueError(f"The sweep {label!r} has {len(pixels[label])} images; give as many values, increasing.")
            if pixels[label].shape[1:] != pixels[COLLECTION].shape[1:]:
                shapes = pixels[label].shape[1:], pixels[COLLECTION].shape[1:]
                raise ValueError(
                    f"Images of the sweep {label!r} have the shape {shapes[0]}, those of the collection {shapes[1]}; render them alike."
                )
        names = names_of(names, len(pixels[COLLECTION]))
        colors = {source: as_rgb(array) for source, array in pixels.items()}
        flows: dict[tuple[str, str], Flow] = {}
        answers: dict[str, np.ndarray] = {}
        for source, array in pixels.items():
            parts, points = [], []
            with torch.inference_mode():
                for part in torch.from_numpy(array).split(128):
                    logits, output = run_gates(model, gates, part)
                    parts.append(logits)
                    points += [as_array(landmarks(output))] if landmarks is not None else []
            for name in gates:
                flows[name, source] = Flow(log_reach(torch.cat([part[name] for part in parts]).double()).exp().numpy())
            if points:
                answers[source] = np.concatenate(points).astype(np.float64)
                if answers[source].ndim != 3 or answers[source].shape[2] != 2:
                    raise ValueError(f"`landmarks` must give (B,K,2) in pixels; it gave {answers[source].shape} for {len(array)} images.")
        mean = torch.from_numpy(pixels[COLLECTION].mean(axis=0))

        @lru_cache(maxsize=256)
        def attribution(name: str, source: str, image: int, node: int) -> np.ndarray:
            def score(batch: Tensor) -> Tensor:
                logits = run_gates(model, {name: gates[name]}, batch)[0][name]
                return logits[:, node - 1] if node <= logits.shape[1] else log_reach(logits)[:, node - 1]

            return attribute(score, torch.from_numpy(pixels[source][image]), mean)

        @lru_cache(maxsize=256)
        def own_answers(name: str, source: str, image: int, leaves: tuple[int, ...]) -> np.ndarray:
            batch = torch.from_numpy(pixels[source][image]).expand(len(leaves), -1, -1, -1)
            with torch.inference_mode(), gates[name].only(torch.tensor(leaves)):
                return as_array(landmarks(model(batch))).astype(np.float64)  # type: ignore[misc]

        def draw(source: str, image: int, node: int, gate: str = next(iter(gates))) -> View:
            flow, usual = flows[gate, source], flows[gate, COLLECTION]
            image, node = min(image, len(flow.reach) - 1), min(node, flow.reach.shape[1])
            inner = flow.reach.shape[1] // 2
            own = None
            if landmarks is not None:
                own = own_answers(gate, source, image, tuple(slots(flow.leaves[image], node - inner - 1 if node > inner else None)[0]))
            sweep = (source, values[source]) if source in values else None
            title = names[image] if sweep is None else f"{source} = {values[source][image]:g}"
            return gating_tree_view(
                colors[source][image], flow, image, node, colors[COLLECTION], usual, attribution(gate, source, image, node),
                answer=answers[source][image] if landmarks is not None else None, own=own, sweep=sweep,
                title=title, gate=gate if len(gates) > 1 else "",
            )  # fmt: skip

        self._flows, self._values = flows, values
        first = flows[next(iter(gates)), COLLECTION]
        controls = {
            "source": control(list(pixels), COLLECTION, "images"),
            "image": control((0, len(names) - 1), 0, "image"),
            "node": control((1, first.reach.shape[1]), 1, "node"),
        }
        if len(gates) > 1:
            controls["gate"] = control(list(gates), next(iter(gates)), "gate")
        self._gate = next(iter(gates))
        longest = next(iter(values), COLLECTION)
        page = {"source": [longest], "image": sorted({round(i) for i in np.linspace(0, len(pixels[longest]) - 1, 9)}), "node": [1, 2, 3]}
        super().__init__(draw, controls, page=page, name="Gating-tree explorer")

    def flow(self, **changes: Any) -> Flow:
        """The flow of all images that the slider goes through, as the picture shows it, at the present values but for `changes`."""
        now = self.values | changes
        return self._flows[now.get("gate", self._gate), now["source"]]

    def set(self, **values: Any) -> None:
        """As `Explorer.set`; images and gate come first, since they decide how far the other sliders reach."""
        with self._hold():
            for name in [name for name in ("source", "gate") if name in values and name in self.controls]:
                self.controls[name].value = values[name]
            self.settle()
        super().set(**values)

    def settle(self) -> None:
        """Keeps image and node within the chosen images and gate."""
        reach = self.flow().reach
        self.controls["image"].max, self.controls["node"].max = len(reach) - 1, reach.shape[1]
        self.controls["image"].disabled = len(reach) == 1

    def click(self, axes: int, x: float, y: float) -> None:
        """Pick the node, leaf, image or value of the factor under the pointer."""
        v, flow = self.values, self.flow()
        inner = flow.reach.shape[1] // 2
        left, top, width, height = CURVE
        if v["source"] in self._values and left <= x <= left + width and top <= y <= top + height:
            steps = self._values[v["source"]]
            self.set(image=int(np.abs(steps[0] + (x - left) / width * (steps[-1] - steps[0]) - steps).argmin()))
            return
        node = nearest_node(inner.bit_length(), TREE, x, y)
        chosen, across = slots(flow.leaves[v["image"]], v["node"] - inner - 1 if v["node"] > inner else None)
        if node is not None:
            self.set(node=node)
        elif OWN <= y < FAVOURITE + TILE and (slot := _under(across, x)) is not None:
            self.set(node=inner + 1 + chosen[slot])
        elif ENDS <= y < ENDS + TILE and (slot := _under(END_PLACES, x)) is not None:
            shown = end_images(self.flow(source=COLLECTION), v["node"])
            if slot < len(shown):
                self.set(source=COLLECTION, image=shown[slot])


def _under(middles: Float[np.ndarray, " N"], x: float) -> int | None:
    """Which of the small images with these middles lies at x."""
    place = int(np.abs(middles - x).argmin())
    return place if abs(middles[place] - x) <= TILE / 2 else None


def _gates(model: nn.Module, gate: str | TreeGate | None) -> dict[str, TreeGate]:
    """The gates to look into, by their names in the model."""
    found = {name or "gate": module for name, module in model.named_modules() if isinstance(module, TreeGate)}
    if not found:
        raise ValueError(f"There is no TreeGate in {type(model).__name__}; give a model with one, as `facelab.blocks.TreeGate` makes it.")
    if gate is None:
        return found
    chosen = {name: module for name, module in found.items() if gate is module or gate == name}
    if not chosen:
        raise ValueError(f"The model has no gate {gate if isinstance(gate, str) else 'like the one given'!r}; it has {', '.join(found)}.")
    return chosen
