"""Which pixels caused an output? Two methods side by side, part by part, with what they leave unexplained and what really happens."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import ipywidgets
import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from tqdm import tqdm

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, displayable, names_of
from facelab.explorers.subject import checked
from facelab.importance.attribution import METHODS, attribute
from facelab.importance.attribution.attributions import LAYER_METHODS
from facelab.importance.attribution.judging import mass_in_part
from facelab.importance.attribution.paths import QUADRATURES
from facelab.importance.attribution.targets import Target, scalar
from facelab.networks.evaluation import evaluating
from facelab.pictures.attributions import Account, sheet_corner, show_attribution
from facelab.pictures.style import as_array

NOTHING = ""
NO_PART = -1
QUICK = tuple(method for method in METHODS if not method.startswith("exact"))
"""Methods that answer while somebody waits; the exact ones visit every breakpoint of the path, thousands in a network of this size."""
STEPS = (2, 5, 10, 20, 50, 100)
UNITS = {
    **dict.fromkeys(("saliency", "guided backpropagation"), "output per unit of the pixel"),
    "occlusion": "drop of the output per square",
    "grad-cam": "weighted features",
}
"""What the numbers of a method are, where they are not shares of the output."""


def spread(coarse: Float[np.ndarray, "h w"], height: int, width: int) -> Float[np.ndarray, "H W"]:
    """A map on the pixels of an image it covers: each value is divided among the pixels that share its place, so that sums stay."""
    rows, columns = (_overlap(*sides) for sides in zip(coarse.shape, (height, width), strict=True))
    return rows @ coarse @ columns.T


def _overlap(coarse: int, fine: int) -> Float[np.ndarray, "fine coarse"]:
    """Share of each coarse cell that lies in each fine one."""
    edges, cells = np.arange(fine + 1) * coarse / fine, np.arange(coarse)
    return np.clip(np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells), 0, None)


class AttributionExplorer(Explorer):
    """Pick an image, an output and two methods; click on a part of the image, or on its bar, to see what it really does.

    Works on a copy of the network, as it was when the explorer was made. Results are kept, so a place visited before is drawn at once;
    `prepare` visits them beforehand.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Any,
        outputs: Sequence[str] | Mapping[str, Target] = (),
        *,
        parts: Any = None,
        part_names: Sequence[str] = (),
        truth: Any = None,
        counterfactuals: Any = None,
        layers: Sequence[str] | None = None,
        methods: Sequence[str] = QUICK,
        names: Sequence[str] = (),
    ) -> None:
        """Look into `model` on `images`.

        Args:
            model: any network; images (B,c,h,w) -> (B,K), logits rather than probabilities.
            images: (n,c,h,w), as the network takes them.
            outputs: names of the K columns; or name -> column, or function of the network's outputs -> (B,).
            parts: (n,h,w) index of each pixel's part; by default nine fields, for images of which nothing is known.
            part_names: of each index.
            truth: (n,K,h,w) which pixels can cause each output; (n,1,h,w) if they are the same for all.
            counterfactuals: (n,K,c,h,w) the same images without the cause of each output: one more baseline.
            layers: names of modules that give maps (B,C,h,w); by default all convolutions.
            methods: some of `facelab.importance.attribution.METHODS`; exact ones take seconds or minutes.
            names: one name per image.

        Raises:
            ValueError: something does not fit; the message says what.
        """
        subject = checked(model, images, outputs, parts, part_names, truth, counterfactuals, layers)
        pixels, targets = subject.images, list(subject.targets.values())
        count, _, height, width = pixels.shape
        titles = names_of(names, count)
        unknown = [method for method in methods if method not in METHODS]
        if unknown or not methods:
            raise ValueError(f"methods={list(methods)} names none or an unknown one; choose from {list(METHODS)}.")
        offered = [method for method in METHODS if method in methods and (method not in LAYER_METHODS or subject.layers)]
        if not offered:
            raise ValueError(f"The methods {list(methods)} all look into a layer, and the model has none that gives maps; add another.")
        seen = displayable(pixels)

        @lru_cache(maxsize=4096)
        def answer(image: int, output: int, baseline: str, part: int) -> float:
            """The network's output, of the image with a part replaced by the baseline; of all of it for a part of -2."""
            inputs = pixels[image : image + 1]
            if part != NO_PART:
                where = torch.from_numpy(subject.parts[image] == part).to(inputs.device) | (part == _ALL)
                inputs = torch.where(where, subject.baselines[baseline](image, output), inputs)
            with evaluating(subject.model), torch.no_grad():
                value = float(scalar(subject.model, targets[output])(inputs))
            if not np.isfinite(value):
                raise ValueError(
                    f"The output is {value} where the baseline {baseline!r} takes the place of pixels; choose another baseline."
                )
            return value

        @lru_cache(maxsize=4096)
        def account(image: int, output: int, method: str, layer: str, baseline: str, steps: int, quadrature: str) -> Account:
            found = attribute(
                subject.model, pixels[image : image + 1], targets[output], method,
                layer=subject.model.get_submodule(layer) if layer else None,
                baseline=subject.baselines[baseline](image, output) if baseline else None,
                steps=steps or STEPS[0], quadrature=quadrature or QUADRATURES[0],
                mask=torch.from_numpy(subject.parts[image])[None, None], window=max(2, min(height, width) // 4),
            )  # fmt: skip
            map_ = spread(as_array(found.values).astype(np.float64)[0].sum(axis=0), height, width)
            sums = np.bincount(subject.parts[image].ravel(), weights=map_.ravel(), minlength=len(subject.part_names))
            inside = None
            if subject.truth is not None and map_.any():
                inside = float(mass_in_part(torch.from_numpy(map_)[None], torch.tensor(subject.truth[image, output])[None]))
            gap, difference = (None if value is None else float(value) for value in (found.residual, found.difference))
            if not np.isfinite(map_).all():
                raise ValueError(
                    f"The map of {method!r} holds NaN or infinite values: the network's gradient does; choose another method or baseline."
                )
            name = method + (f" at {layer}" if layer else "") + (f", {steps} steps" if steps else "")
            return Account(name, map_, sums, UNITS.get(method, "output"), difference, gap, inside)

        def compute(
            image: int, output: int, first: str, second: str, layer: str, baseline: str, steps: int, quadrature: str
        ) -> list[Account]:
            """Both methods' accounts; what a method does not use is left out of its key, so moving that costs nothing."""
            return [
                account(
                    image, output, method,
                    layer if method in LAYER_METHODS else "",
                    baseline if method in _COMPARING else "",
                    steps if method in _STEPPING else 0,
                    quadrature if method == "integrated gradients" else "",
                )
                for method in (first, second) if method != NOTHING
            ]  # fmt: skip

        def draw(image: int, output: int, baseline: str, part: int, opacity: float, shared: bool, **options: Any) -> View:
            there = part != NO_PART and bool((subject.parts[image] == part).any())
            value, floor = (answer(image, output, baseline, what) for what in (NO_PART, _ALL))
            left_out = answer(image, output, baseline, part) if there else None
            accounts = compute(image, output, baseline=baseline, **options)
            instead = displayable(pixels, subject.baselines[baseline](image, output))[0]
            shown = np.where((subject.parts[image] == part)[..., None], instead, seen[image]) if there else seen[image]
            labels, name = subject.part_names, list(subject.targets)[output]
            says = f"f(x) = {value:.2f}\nf(x′) = {floor:.2f}, x′ {baseline}"
            says += "" if left_out is None else f"\n{_plain(labels[part])} from x′: {left_out:.2f}"
            picture = show_attribution(
                shown, accounts, subject.parts[image], labels,
                truth=None if subject.truth is None else subject.truth[image, output],
                baseline=instead, chosen=part if there else None, actual=None if left_out is None else value - left_out,
                shared=shared, opacity=opacity, heading=f"{titles[image]}: {name}", says=says.replace("-", "−"),
            )  # fmt: skip
            text = f"{titles[image]}, {name}: output {value:.3f}, of the baseline ({baseline}) {floor:.3f}. "
            text += " ".join(map(_in_words, accounts)) + " Purple lowers the output, orange raises it."
            if subject.truth is not None:
                text += f" The true part (light blue) is {subject.truth[image, output].mean():.1%} of the area."
            if left_out is not None:
                sums = " and ".join(f"{a.sums[part]:+.3f} by {a.name}" for a in accounts if a.unit == "output")
                text += f" Replacing {_plain(labels[part])} by the baseline takes {value - left_out:+.3f} away (black diamond)"
                text += f"; attributed are {sums}." if sums else "."
            elif part != NO_PART:
                text += f" This image shows no {_plain(labels[part])}."
            units = {account.unit for account in accounts}
            if len(units) > 1 and shared:
                text += " The units of the two methods differ: compare where, not how much, or give each its own scale."
            return View(picture, text)

        first, second = _first_pair(offered)
        choices = [(_plain(name), index) for index, name in enumerate(subject.part_names) if (subject.parts == index).any()]
        maps = [(f"{name}: {'×'.join(map(str, shape))}", name) for name, shape in subject.layers.items()]
        start = list(subject.layers)[-1] if subject.layers else ""
        controls = {
            "image": control((0, count - 1), 0, "image"),
            "output": control([(n, i) for i, n in enumerate(subject.targets)], 0, "output"),
            "first": control(offered, first, "method"),
            "second": control([("nothing", NOTHING), *((method, method) for method in offered)], second, "beside it"),
            "baseline": control(list(subject.baselines), next(iter(subject.baselines)), "baseline x′"),
            "steps": ipywidgets.SelectionSlider(options=STEPS, value=20, description="steps", tooltip="of the path from x′ to x"),
            "quadrature": control(list(QUADRATURES), QUADRATURES[0], "quadrature"),
            "layer": control(maps or [("none", "")], start, "layer"),
            "part": control([("nothing", NO_PART), *choices], NO_PART, "replace", "by x′"),
            "opacity": control((0.0, 1.0, 0.05), 0.7, "opacity"),
            "shared": control(True, True, "one scale for both"),
        }
        page: dict[str, int | Sequence] = {"image": range(min(3, count)), "output": len(targets), "steps": [2, 10, 50]}
        self._subject, self._compute = subject, compute
        super().__init__(draw, controls, page=page, name="Attribution explorer")
        self.settle()

    def settle(self) -> None:
        """Controls that the chosen methods do not ask for are greyed."""
        used = {self.controls["first"].value, self.controls["second"].value}
        self.controls["layer"].disabled = not used & set(LAYER_METHODS)
        self.controls["steps"].disabled = not used & set(_STEPPING)
        self.controls["quadrature"].disabled = "integrated gradients" not in used

    def click(self, axes: int, x: float, y: float) -> None:
        """Pick the part under the pointer, on an image or on its bar; picked again, it comes back."""
        place = self.shown.picture.axes[axes].get_label()
        parts = self._subject.parts[self.values["image"]]
        seen, corners = np.unique(parts), [sheet_corner(column, *parts.shape) for column in range(3)]
        at = [(round(y - top), round(x - left)) for left, top in corners] if place == "images" else []
        inside = [parts[row, column] for row, column in at if 0 <= row < parts.shape[0] and 0 <= column < parts.shape[1]]
        if inside:
            part = int(inside[0])
        elif place == "bars" and 0 <= round(y) < len(seen):
            part = int(seen[round(y)])
        else:
            return
        self.set(part=NO_PART if part == self.values["part"] else part)

    def prepare(self, progress: bool = True, **values: Sequence) -> None:
        """Compute beforehand what sliders will ask for, so that none of them waits for the network.

        Args:
            progress: show a bar.
            values: control -> values it will have; by default all images and outputs, with the other controls where they are.

        Raises:
            ValueError: a name that is no control on which results depend.
        """
        asked = {name: self.values[name] for name in _RESULTS}
        for name in values:
            if name not in asked:
                raise ValueError(f"Nothing is computed for {name!r}; prepare any of {list(asked)}.")
        everything = {"image": range(len(self._subject.images)), "output": range(len(self._subject.targets))}
        grid = everything | {name: list(chosen) for name, chosen in values.items()}
        for place in tqdm(list(product(*grid.values())), desc="attributions", disable=not progress):
            self._compute(**(asked | dict(zip(grid, place, strict=True))))


_ALL = -2
_COMPARING = tuple(m for m in METHODS if m in ("occlusion", "part ablation") or m.endswith(("integrated gradients", "conductance")))
_STEPPING = ("integrated gradients", "conductance")
_RESULTS = ("image", "output", "first", "second", "layer", "baseline", "steps", "quadrature")


def _first_pair(offered: Sequence[str]) -> tuple[str, str]:
    """What is shown first: a method that shares the difference out beside one that looks only here and now."""
    first = next(m for m in ("integrated gradients", *offered) if m in offered)
    return first, next((m for m in ("input x gradient", *offered) if m in offered and m != first), NOTHING)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _in_words(account: Account) -> str:
    """What one method says, as a sentence."""
    text = f"{account.name[0].upper()}{account.name[1:]}: sum {account.sums.sum():+.3f}"
    if account.difference is not None and account.residual is not None:
        text += f" for a difference of {account.difference:+.3f}, gap {account.residual:+.3f}"
    text += f", norm {account.norm:.3g}"
    if account.in_truth is not None:
        text += f", {account.in_truth:.0%} of it in the true part"
    return text + "."
