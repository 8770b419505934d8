"""Archtree: shrink a network under a budget of latency by growing a tree of narrower and narrower networks, several alive at a time.

Source: Reboul, Yvinec, Dapogny, Bailly, "Archtree: on-the-fly tree-structured exploration for latency-aware pruning of deep neural
networks", 2023 (arXiv 2311.10549). Only the abstract was read: how candidates are made, ranked and stopped is a reconstruction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from joblib import Parallel, delayed
from torch import Tensor, nn

from facelab.networks.evaluation import in_evaluation_mode
from facelab.networks.groups import Group, cut, groups, masked
from facelab.networks.layers import TRANSPOSED

Gone = tuple[tuple[int, ...], ...]
"""Of each group, the channels that have been cut, in increasing order: what tells candidates apart."""


class Candidates:
    """The networks that can be cut out of one, each known by the channels that are gone; what was computed of one is remembered.

    candidates = Candidates(model, images[:2], (images, labels))
    candidates.score(candidates.whole), candidates.importance(candidates.whole)
    """

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        data: tuple[Tensor, Tensor],
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        *,
        fixed: bool = False,
    ):
        """Find what can be cut.

        Args:
            model: with batch norms folded or not; it stays as it is.
            example: (B, ...) a batch the model takes.
            data: inputs and targets on which candidates are scored; kept apart from those that judge the winner.
            loss: (outputs, targets) -> scalar.
            fixed: rank channels once and for all by their importance in the whole network, instead of anew in each candidate.

        Raises:
            ValueError: no group of channels can be cut, or as `networks.groups.groups`.
        """
        self.model, self.data, self.loss, self.fixed = model, data, loss, fixed
        found = groups(model, example)
        self.groups = [group for group in found if not group.obstacle]
        if not self.groups:
            why = f": {found[0].name} because {found[0].obstacle}" if found else ""
            raise ValueError(f"No channels of {type(model).__name__} can be cut{why}; give a network with free groups of channels.")
        self.whole: Gone = ((),) * len(self.groups)
        self._scores: dict[Gone, float] = {}
        self._importances: dict[Gone, list[Tensor]] = {}

    def widths(self, gone: Gone) -> dict[str, int]:
        """Group -> channels left."""
        return {group.name: group.width - len(there) for group, there in zip(self.groups, gone, strict=True)}

    def network(self, gone: Gone) -> nn.Module:
        """The whole network with the channels masked: as wide as before, but it computes what the cut one does."""
        return masked(self.model, self._by_group(gone))

    def score(self, gone: Gone) -> float:
        """Loss on the data without these channels; less is better."""
        if gone not in self._scores:
            with in_evaluation_mode(self.network(gone)) as network, torch.no_grad():
                self._scores[gone] = float(self.loss(network(self.data[0]), self.data[1]))
        return self._scores[gone]

    def importance(self, gone: Gone) -> list[Float[Tensor, " width"]]:
        """Of each channel of each group: by how much the loss would change to first order if nothing read it any more, in size.

        With w the weights that read a channel, the sum of w dL/dw. Source: Molchanov et al., "Pruning convolutional neural networks
        for resource efficient inference", ICLR 2017, equation 8, with the sum over samples inside of the absolute value.
        """
        if self.fixed:
            gone = self.whole
        if gone not in self._importances:
            with in_evaluation_mode(self.network(gone)) as network, torch.enable_grad():
                readers = {name: network.get_submodule(name) for group in self.groups for name in group.consumers}
                weights = [module.weight.requires_grad_() for module in readers.values()]  # type: ignore[operator, union-attr]
                slopes = torch.autograd.grad(self.loss(network(self.data[0]), self.data[1]), weights)
            changes = {}
            for (name, module), weight, slope in zip(readers.items(), weights, slopes, strict=True):
                inputs = 0 if isinstance(module, TRANSPOSED) else 1
                changes[name] = (weight * slope).detach().movedim(inputs, 0).flatten(1).sum(dim=1)
            self._importances[gone] = [_per_channel(group, changes).abs() for group in self.groups]
        return self._importances[gone]

    def narrower(self, gone: Gone, place: int, step: int) -> Gone | None:
        """The same candidate with the group at `place` cut to the next multiple of `step`; None if the group is that narrow already."""
        target = (self.groups[place].width - len(gone[place]) - 1) // step * step
        return None if target < 1 else self._cut_to(gone, place, target)

    def at_once(self, widths: Mapping[str, int]) -> Gone:
        """The whole network with groups cut to these widths, by the importance of channels in the whole network."""
        gone = self.whole
        for place, group in enumerate(self.groups):
            if group.name in widths:
                cut_alone = self._cut_to(self.whole, place, widths[group.name])[place]
                gone = (*gone[:place], cut_alone, *gone[place + 1 :])
        return gone

    def _cut_to(self, gone: Gone, place: int, width: int) -> Gone:
        importance = self.importance(gone)[place].clone()
        importance[list(gone[place])] = -torch.inf
        lost = importance.argsort(stable=True)[: self.groups[place].width - width]
        return (*gone[:place], tuple(sorted(lost.tolist())), *gone[place + 1 :])

    def channels(self, gone: Gone) -> dict[str, tuple[int, ...]]:
        """Name of a group -> the channels that are gone, as `networks.groups.cut` takes them."""
        return {group.name: there for group, there in self._by_group(gone).items()}

    def _by_group(self, gone: Gone) -> dict[Group, tuple[int, ...]]:
        return {group: there for group, there in zip(self.groups, gone, strict=True) if there}


def _per_channel(group: Group, changes: Mapping[str, Tensor]) -> Float[Tensor, " width"]:
    """The change that a channel makes, from those that the inputs of its readers make."""
    return torch.stack([changes[name][torch.as_tensor(columns)].sum(dim=1) for name, columns in group.consumers.items()]).sum(dim=0)


def price(node: Mapping, root: Mapping) -> tuple[float, float]:
    """What a candidate has paid: loss added per microsecond saved; of what cost nothing, the one that saved more comes first."""
    added, saved = max(0.0, node["score"] - root["score"]), root["latency"] - node["latency"]
    return (added / saved if saved > 0 else float("inf")), -saved


@dataclass(frozen=True)
class Tree:
    """A search, node by node.

    Attributes:
        nodes: a row each, the root first: `parent` (-1 of the root), `depth`, `group` that was cut, `widths`, `latency` in microseconds,
            `score`, whether it `fits` the budget, was `kept` to be cut further, and was `chosen` in the end.
        gone: the channels that each node lacks.
        groups: names of the groups, in the order of the widths.
        budget: microseconds.
    """

    nodes: pd.DataFrame
    gone: tuple[Gone, ...]
    groups: tuple[str, ...]
    budget: float

    @property
    def winner(self) -> int:
        """The node that was chosen."""
        return int(self.nodes.index[self.nodes.chosen][0])

    @property
    def best(self) -> Gone:
        """The channels that the winner lacks."""
        return self.gone[self.winner]


def grow(
    candidates: Candidates,
    clock: Callable[[Mapping[str, int]], float],
    budget: float,
    *,
    beam: int = 4,
    step: int = 8,
    n_jobs: int = 1,
) -> Tree:
    """Search for the best network within the budget.

    Candidates of one depth are ranked by the price of their cuts: loss that was added since the root per microsecond that was saved.

    Args:
        clock: widths of the groups -> microseconds; asked for every node while the tree grows.
        budget: microseconds that the winner may take.
        beam: nodes of one depth that are cut further; 1 is the greedy search.
        step: a cut goes to the next multiple of so many channels.
        n_jobs: threads that score candidates of one depth; the tree does not depend on it.

    Raises:
        ValueError: a beam or a step below 1, or a budget that no candidate meets.
    """
    if beam < 1 or step < 1:
        raise ValueError(f"beam = {beam} and step = {step} leave nothing to try; give whole numbers from 1.")

    def rows(depth: int, made: Sequence[tuple[int, str, Gone]]) -> list[dict]:
        scores = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(candidates.score)(gone) for _, _, gone in made)
        found = []
        for (parent, group, gone), score in zip(made, scores, strict=True):
            widths = candidates.widths(gone)
            time = clock(widths)
            found.append(
                {"parent": parent, "depth": depth, "group": group, "widths": tuple(widths.values()), "latency": time, "score": score}
                | {"fits": time <= budget, "kept": False, "chosen": False}
            )
        return found

    gone = [candidates.whole]
    nodes = rows(0, [(-1, "", candidates.whole)])
    front = [] if nodes[0]["fits"] else [0]
    while front:
        made = []
        for parent in front:
            nodes[parent]["kept"] = True
            for place, group in enumerate(candidates.groups):
                child = candidates.narrower(gone[parent], place, step)
                if child is not None:
                    made.append((parent, group.name, child))
        made = list({child: (parent, name, child) for parent, name, child in reversed(made)}.values())[::-1]
        first, new = len(nodes), rows(nodes[front[0]]["depth"] + 1, made)
        nodes += new
        gone += [child for _, _, child in made]
        best: dict[tuple, int] = {}  # of equal widths, the better one
        for number in sorted(range(first, len(nodes)), key=lambda number: nodes[number]["score"]):
            best.setdefault(nodes[number]["widths"], number)
        ranked = sorted(best.values(), key=lambda number: price(nodes[number], nodes[0]))
        front = [number for number in ranked if not nodes[number]["fits"]][:beam]
    leaves = [number for number, node in enumerate(nodes) if node["fits"]]
    if not leaves:
        least = min(node["latency"] for node in nodes)
        raise ValueError(
            f"No candidate takes {budget:.4g} microseconds or less, the fastest takes {least:.4g}; allow more, or a smaller step."
        )
    nodes[min(leaves, key=lambda number: (nodes[number]["score"], -nodes[number]["latency"]))]["chosen"] = True
    return Tree(pd.DataFrame(nodes).rename_axis("node"), tuple(gone), tuple(group.name for group in candidates.groups), budget)


def single_path(
    candidates: Candidates, clock: Callable[[Mapping[str, int]], float], budget: float, *, targets: int = 8, step: int = 8
) -> Gone:
    """The predecessor: one path whose latency falls in even steps; each step cuts the one group that then leaves the least loss.

    A group is cut as little as lets it meet the step's target alone, or as far as it goes if it cannot.

    Source: Yang et al., "NetAdapt", ECCV 2018, algorithm 1, without the fine-tuning between steps.

    Args:
        clock, budget, step: as `grow` takes them.
        targets: steps down to the budget.

    Raises:
        ValueError: the path ends above the budget.
    """
    gone, whole, number = candidates.whole, clock({}), 0

    def slow(there: Gone, target: float) -> bool:
        return clock(candidates.widths(there)) > target

    while slow(gone, budget):
        number = min(number + 1, targets)
        target, proposals = whole - (whole - budget) * number / targets, []
        for place in range(len(candidates.groups)):
            proposal = candidates.narrower(gone, place, step)
            while proposal is not None and slow(proposal, target) and (further := candidates.narrower(proposal, place, step)):
                proposal = further
            if proposal is not None:
                proposals.append(proposal)
        if not proposals:
            raise ValueError(f"The path ends above the budget of {budget:.4g} microseconds; allow more, or a smaller step.")
        gone = min(proposals, key=candidates.score)
    return gone


def widest(candidates: Candidates, clock: Callable[[Mapping[str, int]], float], budget: float, *, step: int = 8) -> list[dict[str, int]]:
    """By exhaustive search, all widths within the budget that leave no room for one step more in any group.

    Args:
        clock, budget: as `grow` takes them.
        step: widths are its multiples, and those of the whole network.
    """
    choices = [sorted({*range(step, group.width, step), group.width}) for group in candidates.groups]
    places = list(product(*(range(len(widths)) for widths in choices)))
    names = [group.name for group in candidates.groups]

    def widths(place: Sequence[int]) -> dict[str, int]:
        return {name: among[index] for name, among, index in zip(names, choices, place, strict=True)}

    fitting = {place for place in places if clock(widths(place)) <= budget}
    larger = {place: [(*place[:i], place[i] + 1, *place[i + 1 :]) for i in range(len(names))] for place in fitting}
    return [widths(place) for place in places if place in fitting and not fitting.intersection(larger[place])]


def uniform(candidates: Candidates, clock: Callable[[Mapping[str, int]], float], budget: float, *, step: int = 8) -> dict[str, int]:
    """The largest widths within the budget that are the same share of every group, rounded to multiples of `step`.

    Args:
        clock, budget: as `grow` takes them.

    Raises:
        ValueError: one step in each group takes longer than the budget.
    """
    for percent in range(100, -1, -1):
        widths = {group.name: min(group.width, max(step, step * round(percent * group.width / 100 / step))) for group in candidates.groups}
        if clock(widths) <= budget:
            return widths
    raise ValueError(f"Even {step} channels in each group take more than {budget:.4g} microseconds; allow more, or a smaller step.")


def archtree(
    model: nn.Module,
    example: Tensor,
    data: tuple[Tensor, Tensor],
    budget: float,
    clock: Callable[[Mapping[str, int]], float],
    *,
    beam: int = 4,
    step: int = 8,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    n_jobs: int = 1,
) -> tuple[nn.Module, pd.DataFrame]:
    """Shrink a network until it takes no more than the budget: search with masks, then cut the winner.

        ticks = devices.clock(devices.EDGE, model, images[:1])
        smaller, nodes = archtree(model, images[:2], (images, labels), 0.5 * ticks({}), ticks)

    Args:
        model: it stays as it is.
        example: (B, ...) a batch the model takes.
        data: inputs and targets on which candidates are scored.
        budget: microseconds that the result may take.
        clock: widths of groups of channels -> microseconds, such as `networks.devices.clock` or `networks.devices.stopwatch`.
        beam, step, n_jobs: as `grow` takes them.
        loss: (outputs, targets) -> scalar.

    Returns:
        The smaller network, not fine-tuned, and the nodes of the tree, as `Tree.nodes`.

    Raises:
        ValueError: nothing can be cut, or no candidate meets the budget.
    """
    candidates = Candidates(model, example, data, loss)
    tree = grow(candidates, clock, budget, beam=beam, step=step, n_jobs=n_jobs)
    return cut(model, example, candidates.channels(tree.best)), tree.nodes
