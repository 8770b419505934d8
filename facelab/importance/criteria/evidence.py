"""What the criteria are made of: gradients per sample, curvature, activations and path integrals, each computed once and on demand."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from facelab.blocks import seeded
from facelab.importance.attribution.paths import path_nodes
from facelab.importance.scores import Score, scored
from facelab.networks.evaluation import tensors_in
from facelab.networks.layers import is_plain, layers

CHUNK = 32  # samples at a time: gradients per sample are as many as weights times this
PROBES = 4  # random signs per layer for the diagonal of the Hessian
NOISE = 0.1  # of the black-box probe, in standard deviations of the weights

ByLayer = dict[str, Tensor]


class Evidence:
    """Everything a criterion may ask about a network in evaluation mode, on some samples.

    Args:
        model: stays as it is.
        inputs, targets: (N, ...) the samples.
        score: differentiable, (outputs, targets) -> (B,).
        steps: nodes of the path integrals.
        seed: of the probes.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor, score: Score, steps: int = 8, seed: int = 0):
        self.model, self.inputs, self.targets, self.score, self.steps, self.seed = model, inputs, targets, score, steps, seed
        self.layers = layers(model, inputs[:2])
        self._samples_first: list[tuple[str, int, int]] = []
        self.modules = {layer.name: model.get_submodule(layer.name) for layer in self.layers}
        self.weights: ByLayer = {name: module.weight for name, module in self.modules.items()}
        for weight in self.weights.values():
            weight.requires_grad_(True)

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.inputs.split(CHUNK), self.targets.split(CHUNK), strict=True)

    def _scores(self, inputs: Tensor, targets: Tensor) -> Tensor:
        values = scored(self.score, self.model(inputs), targets, inputs)
        if not values.requires_grad:
            name = getattr(self.score, "__name__", "given")
            raise ValueError(f"The score {name} cannot be differentiated; give one that can, such as log_likelihood.")
        return values

    def _answers(self) -> Tensor:
        return torch.cat([part.reshape(len(self.inputs), -1) for part in tensors_in(self.model(self.inputs))], dim=1)

    @contextmanager
    def _watched(self, change: Callable[[str, Tensor], Tensor] | None = None) -> Iterator[list[tuple[str, Tensor, Tensor]]]:
        """Collects (layer, input, output) of every call inside; `change` replaces what goes on to the next layer."""
        calls: list[tuple[str, Tensor, Tensor]] = []

        def watch(name: str) -> Callable:
            def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
                if not inputs:
                    raise ValueError(f"The layer {name} is called by keyword; call it with its input as first argument.")
                calls.append((name, inputs[0].detach(), output))
                return output.clone() if change is None else change(name, output)  # a copy: the next layer may work in place

            return hook

        handles = [module.register_forward_hook(watch(name)) for name, module in self.modules.items()]
        try:
            yield calls
        finally:
            for handle in handles:
                handle.remove()

    def _at_outputs(self, scores: Tensor, calls: list[tuple[str, Tensor, Tensor]]) -> list[Tensor]:
        """Gradients of the scores at the outputs of the calls; what the score does not depend on has none, which is zero."""
        if not self._samples_first:
            with self._watched() as one, torch.no_grad():  # as many steps as samples look right; one sample tells them apart
                self.model(self.inputs[:1])
            self._samples_first = [(name, len(output), 1) for name, _, output in one]
        for name, rows, samples in (*self._samples_first, *((name, len(output), len(scores)) for name, _, output in calls)):
            if rows != samples:
                wrong = f"The layer {name} gives {rows} rows for {samples} samples"
                raise ValueError(f"{wrong}; figures per sample need the samples on the first axis of every layer.")
        found = torch.autograd.grad(scores.sum(), [output for _, _, output in calls], allow_unused=True)
        return [torch.zeros_like(output) if g is None else g for (_, _, output), g in zip(calls, found, strict=True)]

    def _by_weight(self, values: Tensor, **options) -> ByLayer:
        gradients = torch.autograd.grad(values, list(self.weights.values()), allow_unused=True, **options)
        pairs = zip(self.weights.items(), gradients, strict=True)
        return {name: torch.zeros_like(weight) if gradient is None else gradient for (name, weight), gradient in pairs}

    @cached_property
    def gradients(self) -> ByLayer:
        """Gradient of the mean score, in the shape of each weight."""
        total: ByLayer = {}
        for inputs, targets in self._chunks():
            total = _added(total, self._by_weight(self._scores(inputs, targets).sum() / len(self.inputs)))
        return total

    @cached_property
    def squared_gradients(self) -> ByLayer:
        """Mean over samples of the squared gradient of *one sample's* score: the diagonal of the empirical Fisher information.

        Each layer's gradient per sample is a product of that layer's input and the gradient at its output, so one backward pass for
        all samples is enough.
        """
        total: ByLayer = {}
        for inputs, targets in self._chunks():
            with self._watched() as calls:
                scores = self._scores(inputs, targets)
            at_outputs = self._at_outputs(scores, calls)
            per_sample: ByLayer = {}  # a layer that is called twice adds up before squaring
            for (name, given, _), gradient in zip(calls, at_outputs, strict=True):
                per_sample = _added(per_sample, {name: _per_sample_gradient(self.modules[name], given, gradient)})
            if not total:
                self._require_all_uses(inputs, targets, per_sample)
            total = _added(total, {name: g.square().sum(dim=0) / len(self.inputs) for name, g in per_sample.items()})
        return total

    def _require_all_uses(self, inputs: Tensor, targets: Tensor, per_sample: ByLayer) -> None:
        """Gradients per sample must add up to the gradient: else the weight is used outside of its layer too."""
        for name, whole in self._by_weight(self._scores(inputs, targets).sum()).items():
            parts = per_sample[name]
            if (parts.sum(dim=0) - whole).abs().max() > 1e-3 * parts.abs().sum(dim=0).max() + 1e-6 * whole.abs().max():
                advice = "figures per sample need it in the layer only"
                raise ValueError(f"The weight of {name} is also used outside of its layer; {advice}.")

    @cached_property
    def curvature(self) -> ByLayer:
        """Diagonal of the Hessian of *minus* the mean score, estimated with random signs v as the mean of v * (H v) (Hutchinson).

        One layer at a time: signs on all layers at once would add the noise of the terms between layers.
        """
        total = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        for number, (inputs, targets) in enumerate(self._chunks()):
            generator = torch.Generator().manual_seed(self.seed + 1000 * number)
            with sdpa_kernel(SDPBackend.MATH):  # fast attention has no second derivative
                gradients = self._by_weight(-self._scores(inputs, targets).sum() / len(self.inputs), create_graph=True)
            for name, weight in self.weights.items():
                for _ in range(PROBES):
                    signs = (torch.randint(2, weight.shape, generator=generator) * 2 - 1).to(weight)
                    along = (gradients[name] * signs).sum()
                    if along.requires_grad:
                        (product,) = torch.autograd.grad(along, weight, retain_graph=True, allow_unused=True)
                        total[name] += 0 if product is None else signs * product / PROBES
        return {name: values.detach() for name, values in total.items()}

    @cached_property
    def units(self) -> dict[str, dict[str, Tensor]]:
        """Of every unit of a layer's output, means over samples of |a|, |g|, |a g| and (a g)^2; of every channel |sum a g| and its square.

        a is the unit's activation, g the gradient of the sample's score with respect to it. The sum over a channel's places is the
        gradient with respect to a gate on that channel.
        """
        found: dict[str, dict[str, Tensor]] = {name: {} for name in self.modules}
        for inputs, targets in self._chunks():
            with self._watched() as calls:
                scores = self._scores(inputs, targets)
            _require_one_size(calls)
            gradients = self._at_outputs(scores, calls)
            for name, module in self.modules.items():  # a layer that is called twice adds up before squaring
                own = [(output.detach(), g) for (called, _, output), g in zip(calls, gradients, strict=True) if called == name]
                product = _total(a * g for a, g in own)
                gate = per_channel(module, product)
                means = {"activation": _total(a.abs() for a, _ in own) / len(own), "gradient": _total(g for _, g in own).abs()}
                means |= {"product": product.abs(), "square": product.square(), "gate": gate.abs(), "gate square": gate.square()}
                found[name] = _added(found[name], {key: value.sum(dim=0) / len(self.inputs) for key, value in means.items()})
        return found

    @cached_property
    def weight_paths(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Each layer's weight scaled from 0 to 1, alone: the integral of its gradient, and of |a W| |gradient at a W|."""
        found = {}
        for name, weight in self.weights.items():
            whole = weight.detach().clone()
            integral, norms = torch.zeros_like(whole), torch.zeros(())
            try:
                for node, share in zip(*(part.tolist() for part in path_nodes(self.steps)), strict=True):
                    weight.data.copy_(node * whole)
                    gradient = torch.zeros_like(whole)
                    for inputs, targets in self._chunks():
                        (part,) = torch.autograd.grad(self._scores(inputs, targets).sum() / len(self.inputs), weight, allow_unused=True)
                        gradient += 0 if part is None else part
                    integral += share * gradient
                    norms = norms + share * (node * whole).norm() * gradient.norm()
            finally:
                weight.data.copy_(whole)
            found[name] = (integral, norms)
        return found

    @cached_property
    def gate_paths(self) -> ByLayer:
        """All channels of one layer scaled together from 0 to 1: each channel's part of the change of the mean score, (channels,).

        The parts of a layer add up to the score of the network minus its score with this layer's output at zero.
        """
        found = {name: torch.zeros(()) for name in self.modules}
        for name, module in self.modules.items():
            for node, share in zip(*(part.tolist() for part in path_nodes(self.steps)), strict=True):
                scale = float(node)
                for inputs, targets in self._chunks():
                    with self._watched(lambda which, output: output * scale if which == name else output.clone()) as calls:  # noqa: B023
                        scores = self._scores(inputs, targets)
                    outputs = [output for which, _, output in calls if which == name]
                    # the gradient at the layer's own output is already `scale` times that behind the gate
                    gradients = torch.autograd.grad(scores.sum() / scale, outputs, allow_unused=True)
                    for output, gradient in zip(outputs, gradients, strict=True):
                        if gradient is None:
                            gradient = torch.zeros_like(output)
                        found[name] = found[name] + share * per_channel(module, output.detach() * gradient).sum(dim=0) / len(self.inputs)
        return found

    @cached_property
    def conductance(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Of every unit, the mean over samples of its conductance and of its absolute value, on the way from a zero input to the sample.

        Sums of (gradient at the unit, mean of both ends of a step) x (change of the unit in that step); Dhamdhere et al. 2018.
        """
        signed: ByLayer = {}
        absolute: ByLayer = {}
        for inputs, targets in self._chunks():
            before: list[tuple[Tensor, Tensor]] = []
            total: ByLayer = {}
            for k in range(2 * self.steps + 1):
                with self._watched() as calls:
                    scores = self._scores(inputs * (k / (2 * self.steps)), targets)
                _require_one_size(calls)
                gradients = self._at_outputs(scores, calls)
                now = [(output.detach(), gradient) for (_, _, output), gradient in zip(calls, gradients, strict=True)]
                for (name, _, _), (h, g), (h_before, g_before) in zip(calls, now, before, strict=False):
                    total = _added(total, {name: (g + g_before) / 2 * (h - h_before)})
                before = now
            signed = _added(signed, {name: value.sum(dim=0) / len(self.inputs) for name, value in total.items()})
            absolute = _added(absolute, {name: value.abs().sum(dim=0) / len(self.inputs) for name, value in total.items()})
        return {name: (signed[name], absolute[name]) for name in signed}

    @cached_property
    def probe(self) -> dict[str, float]:
        """Mean size of the change of the output under a small noise on one layer's weights; asks for no label."""
        found = {}
        with torch.no_grad(), seeded(self.seed):
            outputs = self._answers()
            for name, weight in self.weights.items():
                whole = weight.detach().clone()
                weight.data.add_(NOISE * whole.std(correction=0) * torch.randn_like(whole))
                found[name] = float((self._answers() - outputs).norm(dim=1).mean())
                weight.data.copy_(whole)
        return found


def per_channel(module: nn.Module, values: Tensor) -> Tensor:
    """Sums of values (B, ...) of a layer's output over the places of each channel, (B, channels)."""
    last = isinstance(module, nn.Linear)
    return values.movedim(-1 if last else 1, 1).flatten(2).sum(dim=2) if values.ndim > 2 else values


def _require_one_size(calls: list[tuple[str, Tensor, Tensor]]) -> None:
    sizes: dict[str, torch.Size] = {}
    for name, _, output in calls:
        if output.shape != sizes.setdefault(name, output.shape):
            both = f"{tuple(sizes[name][1:])} and of {tuple(output.shape[1:])}"
            raise ValueError(f"The layer {name} gives outputs of {both}; figures of its units need one size, those of weights do not.")


def _total(values: Iterable[Tensor]) -> Tensor:
    return reduce(torch.add, values)


def _added(total: ByLayer, values: ByLayer) -> ByLayer:
    return total | {name: total[name] + value if name in total else value for name, value in values.items()}


def _per_sample_gradient(module: nn.Module, given: Tensor, at_output: Tensor) -> Tensor:
    """(B, *shape of the weight) from a layer's inputs and the gradients at its outputs."""
    if is_plain(module, nn.Linear):
        return torch.einsum("bto,bti->boi", at_output.flatten(1, -2) if at_output.ndim > 2 else at_output[:, None],
                            given.flatten(1, -2) if given.ndim > 2 else given[:, None])  # fmt: skip
    if type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        patches = F.unfold(given, module.kernel_size, module.dilation, module.padding, module.stride)
        return (at_output.flatten(2) @ patches.transpose(1, 2)).unflatten(2, module.weight.shape[1:])
    # any other layer, five times slower: its own derivative, sample by sample
    rest = {name: value.detach() for name, value in module.named_parameters() if name != "weight"}

    def one(x: Tensor, gradient: Tensor) -> Tensor:
        def run(weight: Tensor) -> Tensor:
            return functional_call(module, rest | {"weight": weight}, (x[None],))

        return vjp(run, module.weight.detach())[1](gradient[None])[0]

    return vmap(one)(given, at_output)
