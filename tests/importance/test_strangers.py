"""Networks, data and scores as strangers bring them: the value a plain loop gives, or one sentence."""

import copy
import time

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from torch import nn

from facelab.blocks import seeded
from facelab.importance.attribution import attribute, judging
from facelab.importance.attribution.judging import mass_in_part, pointing_game
from facelab.importance.criteria import criteria
from facelab.importance.scores import accuracy, evaluate, log_likelihood, negative_distance, negative_squared_error
from facelab.importance.sensitivity import ablate_channels, measure_layers
from facelab.networks.folding import folded
from facelab.networks.perturbations import generator_of, noise
from facelab.networks.ties import groups
from facelab.yours import Data, DoesNotFit, fit_together


@pytest.fixture(autouse=True)
def _seeded():
    with seeded(0):
        yield


def drops_of(model, inputs, targets, score=log_likelihood, layer=None, **options):
    table = ablate_channels(model, [(inputs, targets)], score, progress=False, **options)
    return table if layer is None else torch.tensor(table[table.layer == layer].sort_values("channel")["drop"].to_numpy()).float()


# --- scores ---


def own_error(outputs, targets):
    return -(outputs - targets).square().mean(dim=1)


@pytest.mark.parametrize("score", [negative_squared_error, own_error])
def test_outputs_and_targets_that_would_broadcast_are_refused(score):
    model, inputs = nn.Linear(4, 1).eval(), torch.randn(10, 4)
    targets = model(inputs).detach()[:, 0]
    for ask in (
        lambda: evaluate(model, [(inputs, targets)], score),
        lambda: measure_layers(model, [(inputs, targets)], score, families=("noise",), progress=False),
        lambda: criteria(model, [(inputs, targets)], score, names=("fisher",)),
    ):
        with pytest.raises(ValueError, match=r"broadcasting|mixes samples"):
            ask()
    assert evaluate(model, [(inputs, targets[:, None])], score).abs().max() < 1e-12


def test_points_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="broadcasting"):
        negative_distance(torch.zeros(3, 5, 2), torch.zeros(3, 1, 2))


@pytest.mark.parametrize("score", [accuracy, log_likelihood])
def test_one_column_is_no_choice_of_classes(score):
    model, inputs = nn.Linear(4, 1).eval(), torch.randn(12, 4)
    targets = (model(inputs)[:, 0] > 0).long()
    with pytest.raises(ValueError, match="at least 2 classes"):
        evaluate(model, [(inputs, targets)], score)
    with pytest.raises(ValueError, match="one class for each sample"):
        accuracy(torch.randn(3, 3), torch.zeros(3, 3))


def test_one_number_per_sample_without_an_axis_for_it():
    class Flat(nn.Sequential):
        def forward(self, x):
            return super().forward(x).squeeze(-1)

    model, data = Flat(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)).eval(), [(torch.randn(10, 4), torch.randn(10))]
    assert fit_together(model, Data(data, data, None, True)) == (negative_squared_error, negative_squared_error)
    loop = torch.stack([-(model(x[None])[0] - y).square() for x, y in zip(*data[0], strict=True)])
    torch.testing.assert_close(evaluate(model, data, negative_squared_error), loop.detach())
    assert "probe" in set(criteria(model, data, negative_squared_error).criterion)
    with pytest.raises(DoesNotFit):
        fit_together(nn.Linear(4, 1), Data(data, data, negative_squared_error, True))


# --- the function that is explained ---


class InPlace(nn.Module):
    """A residual branch whose ReLU also changes the shortcut."""

    def __init__(self):
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)
        self.conv, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        h = self.stem(x)
        return self.head((h + self.conv(self.relu(h))).mean((2, 3)))


def test_what_works_in_place_on_a_shortcut_is_measured_as_it_is_or_refused():
    model, inputs, targets = InPlace().eval(), torch.randn(6, 3, 6, 6), torch.randint(0, 3, (6,))
    measured = measure_layers(model, [(inputs, targets)], log_likelihood, families=("noise",), progress=False)
    assert measured.before.iloc[0] == pytest.approx(log_likelihood(model(inputs), targets).mean().item(), abs=1e-6)
    assert evaluate(model, [(inputs, targets)], log_likelihood).mean().item() == pytest.approx(measured.before.iloc[0], abs=1e-6)
    for ask in (lambda: attribute(model, inputs, 0), lambda: criteria(model, [(inputs, targets)])):
        with pytest.raises(ValueError, match="in place"):
            ask()
    assert model.relu.inplace
    first = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)).eval()  # which must not change the inputs of the user
    given = torch.randn(5, 4)
    kept = given.clone()
    evaluate(first, [(given, targets[:5])], log_likelihood)
    measure_layers(first, [(given, targets[:5])], log_likelihood, families=("noise",), progress=False)
    assert torch.equal(given, kept)


class Noisy(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.a, self.b, self.noise = nn.Linear(4, 16), nn.Linear(16, 3), noise

    def forward(self, x):
        return self.b(self.noise(torch.relu(self.a(x))))


@pytest.mark.parametrize("steady", [lambda h: F.dropout(h, 0.5), lambda h: h + 0.1 * torch.randn_like(h)])
def test_noise_that_stays_on_is_refused(steady):
    model, data = Noisy(steady).eval(), [(torch.randn(20, 4), torch.randint(0, 3, (20,)))]
    for ask in (
        lambda: ablate_channels(model, data, log_likelihood, progress=False),
        lambda: measure_layers(model, data, log_likelihood, progress=False),
        lambda: criteria(model, data),
        lambda: attribute(model, data[0][0], 0),
        lambda: evaluate(model, data, log_likelihood),
    ):
        with pytest.raises(ValueError, match="differently each time"):
            ask()


# --- attribution ---


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.a, self.b = nn.Embedding(20, 6), nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, tokens):
        return self.b(torch.relu(self.a(self.e(tokens))).mean(1))


def drop(model, inputs, changed, column=0):
    with torch.no_grad():
        return (model(inputs) - model(changed))[:, column]


def test_parts_of_whole_numbers():
    model, tokens = Text().eval(), torch.randint(1, 20, (2, 4))
    found = attribute(model, tokens, 0, "part ablation", mask=torch.arange(4)).values
    loop = torch.stack([drop(model, tokens, tokens.index_fill(1, torch.tensor(j), 0)) for j in range(4)], dim=1)
    torch.testing.assert_close(found, loop)
    pixels = torch.randint(1, 255, (2, 1, 4, 4), dtype=torch.uint8)
    images = nn.Sequential(Cast(), nn.Flatten(), nn.Linear(16, 2)).eval()
    found = attribute(images, pixels, 0, "occlusion", window=2).values
    torch.testing.assert_close(found, attribute(images, pixels.float(), 0, "occlusion", window=2).values)
    with pytest.raises(ValueError, match="cannot hold the baseline"):
        attribute(images, pixels, 0, "occlusion", baseline=0.5)


class Cast(nn.Module):
    def forward(self, x):
        return x.float() / 255


@pytest.mark.parametrize("method", ["saliency", "integrated gradients", "exact integrated gradients", "conductance"])
def test_whole_numbers_have_no_slopes(method):
    model, tokens = Text().eval(), torch.randint(0, 20, (3, 5))
    with pytest.raises(ValueError, match="needs gradients"):
        attribute(model, tokens, 0, method, layer=model.e if method == "conductance" else None)


def test_networks_that_read_whole_numbers_are_measured():
    model, tokens, targets = Text().eval(), torch.randint(0, 20, (12, 5)), torch.randint(0, 2, (12,))
    table = criteria(model, [(tokens, targets)])
    assert {"fisher", "hessian diagonal"} <= set(table.criterion) and "conductance" not in set(table.criterion)
    with pytest.raises(ValueError, match="conductance"):
        criteria(model, [(tokens, targets)], names=("conductance",))
    whole, some = drops_of(model, tokens, targets), drops_of(model, tokens, targets, screened=8)
    assert set(some["drop"]) <= set(whole["drop"])


class Tokens(nn.Module):
    def __init__(self, after=None):
        super().__init__()
        self.e, self.n, self.act, self.h = nn.Linear(3, 4), nn.LayerNorm(4), after or nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x):
        return self.h(self.act(self.n(self.e(x))).mean(1))


@pytest.mark.parametrize("where", ["e", "n", "act"])
@pytest.mark.parametrize("tokens", [6, 4])
def test_channels_of_tokens(where, tokens):
    model, x = Tokens().eval(), torch.randn(2, tokens, 3)
    layer = model.get_submodule(where)
    found = attribute(model, x, 0, "channel ablation", layer=layer).values.sum(1)
    for channel in range(4):
        hook = layer.register_forward_hook(lambda m, i, o, c=channel: o.index_fill(2, torch.tensor(c), 0))
        cut = model(x)[:, 0]
        hook.remove()
        torch.testing.assert_close(found[:, channel], (model(x)[:, 0] - cut).detach())
    with pytest.raises(ValueError, match="Grad-CAM"):
        attribute(model, x, 0, "grad-cam", layer=layer)
    mean = attribute(model, x, 0, "saliency", layer=layer, unit=1).values
    given = x.clone().requires_grad_()
    seen = []
    hook = layer.register_forward_hook(lambda m, i, o: seen.append(o))
    model(given)
    hook.remove()
    torch.testing.assert_close(mean, torch.autograd.grad(seen[0][:, :, 1].mean(1).sum(), given)[0])


class Both(nn.Module):
    """Channels first, then channels last, an activation after each."""

    def __init__(self):
        super().__init__()
        self.c, self.r, self.l, self.g, self.h = nn.Conv1d(3, 5, 1), nn.ReLU(), nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 2)

    def forward(self, x):
        return self.h(self.g(self.l(self.r(self.c(x)).transpose(1, 2))).mean(1))


def test_an_axis_of_channels_that_cannot_be_told_is_refused():
    model = Both().eval()
    for layer in (model.r, model.g):
        with pytest.raises(ValueError, match="counts the channels"):
            attribute(model, torch.randn(2, 3, 7), 0, "channel ablation", layer=layer)


def by_the_rule(model, x):
    """Guided backpropagation of linear layers and ReLUs by hand."""
    signals, values = [], x
    for module in model:
        values = module(values)
        signals.append(values)
    credit = torch.zeros_like(signals[-1])
    credit[:, 0] = 1
    for i in range(len(model) - 1, -1, -1):
        credit = credit @ model[i].weight if isinstance(model[i], nn.Linear) else credit.clamp(min=0) * (signals[i] > 0)
    return credit.detach()


RECTIFIERS = [nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.PReLU, nn.Hardswish, nn.Softplus, nn.Hardtanh, nn.Sigmoid]


@pytest.mark.parametrize("kind", RECTIFIERS)
def test_guided_backpropagation_knows_relu_modules_only(kind):
    x = torch.randn(3, 4)
    relu = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    torch.testing.assert_close(attribute(relu, x, 0, "guided backpropagation").values, by_the_rule(relu, x))
    other = nn.Sequential(nn.Linear(4, 8), kind(), nn.Linear(8, 2)).eval()
    with pytest.raises(ValueError, match=r"nn\.ReLU only.*as a function"):
        attribute(other, x, 0, "guided backpropagation")
    with pytest.raises(ValueError, match="scripted"):
        attribute(torch.jit.script(relu), x, 0, "guided backpropagation")


def test_relu_of_a_head_that_is_not_returned_hides_no_relu_of_the_other():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.r, self.b = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)

        def forward(self, x):
            self.r(self.a(x))
            return self.b(F.relu(self.a(x)))

    with pytest.raises(ValueError, match=r"nn\.ReLU only.*as a function"):
        attribute(Hidden().eval(), torch.randn(3, 4), 0, "guided backpropagation")


class Patches(nn.Module):
    """Several crops per image, as rows."""

    def __init__(self):
        super().__init__()
        self.c, self.f = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        p = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 1, 4, 4)
        return self.f(torch.relu(self.c(p)).mean((2, 3)).view(x.shape[0], -1, 4).mean(1))


class StepsFirst(nn.Module):
    """(steps, samples, channels) inside, as recurrent layers without batch_first have it."""

    def __init__(self):
        super().__init__()
        self.inp, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.inp(x.transpose(0, 1))).mean(0))


@pytest.mark.parametrize("method", ["conductance", "channel ablation", "grad-cam"])
def test_a_layer_that_does_not_count_the_inputs_is_refused(method):
    patches, steps = Patches().eval(), StepsFirst().eval()
    for model, layer, x in ((patches, patches.c, torch.randn(5, 1, 8, 8)), (steps, steps.inp, torch.randn(4, 4, 6))):
        with pytest.raises(ValueError, match="first axis"):
            attribute(model, x, 0, method, layer=layer)


@pytest.mark.parametrize("steps", [32, 5])
@pytest.mark.parametrize(("name", "kind"), [("fisher", "layer"), ("taylor", "channel")])
def test_figures_per_sample_need_samples_first_whatever_their_number(steps, name, kind):
    data = [(torch.randn(32, steps, 6) + torch.randn(32, 1, 6), torch.randint(0, 3, (32,)))]
    with pytest.raises(ValueError, match="first axis of every layer"):
        criteria(StepsFirst().eval(), data, names=(name,), kinds=(kind,))


def test_masks_without_an_axis_of_channels():
    values, part = torch.zeros(3, 3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.bool)
    for i in range(3):
        values[i, :, i, i], part[i, i, i] = 1, True
    assert mass_in_part(values, part[:, None]).tolist() == [1, 1, 1]
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    for ask in (
        lambda: mass_in_part(values, part),
        lambda: pointing_game(values, part),
        lambda: attribute(model, values, 0, "part ablation", mask=part.long()),
        lambda: attribute(model, values, 0, baseline=torch.rand(3, 4, 4)),
    ):
        with pytest.raises(ValueError, match="inputs or channels"):
            ask()


class Dead(nn.Module):
    """A head that runs but is not returned."""

    def __init__(self):
        super().__init__()
        self.a, self.aux, self.b = nn.Linear(4, 5), nn.Linear(5, 2), nn.Linear(5, 3)

    def forward(self, x):
        h = torch.relu(self.a(x))
        self.aux(h)
        return self.b(h)


class DeadAndOpaque(Dead):
    def forward(self, x):
        return super().forward(x) if bool(x.isfinite().all()) else None


@pytest.mark.parametrize("kind", [Dead, DeadAndOpaque])
def test_a_head_that_is_not_returned_counts_nothing(kind):
    model, x, y = kind().eval(), torch.randn(6, 4), torch.randint(0, 3, (6,))
    table = measure_layers(model, [(x, y)], log_likelihood, progress=False)
    assert table[table.layer == "aux"]["drop"].abs().max() == 0 and table[table.layer == "a"]["drop"].abs().max() > 0
    assert drops_of(model, x, y, layer="aux").abs().max() == 0
    for method in ("conductance", "exact conductance", "channel ablation"):
        assert attribute(model, x, 0, method, layer=model.aux).values.abs().max() == 0


class Keeping(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        self.kept = {"h": [torch.relu(self.a(x))]}
        self.h = self.kept["h"][0]
        return self.b(self.h)


def test_a_network_that_keeps_activations_can_be_copied():
    model, x, y = Keeping(), torch.randn(6, 4), torch.randint(0, 2, (6,))
    model(x).sum().backward()
    assert len(measure_layers(model, [(x, y)], log_likelihood, progress=False))
    exact = attribute(model, x, 0, "exact integrated gradients")
    assert exact.residual.abs().max() < 1e-9
    judging.randomised(model)
    folded(model, x)
    pruned = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    nn.utils.prune.l1_unstructured(pruned[0], "weight", 0.5)
    pruned(x).sum().backward()
    assert attribute(pruned, x, 0, "exact integrated gradients").residual.abs().max() < 1e-9
    with pytest.raises(ValueError, match="made of other tensors"):
        measure_layers(pruned, [(x, y)], log_likelihood, progress=False)


def test_compiled_and_scripted_models_are_refused_where_layers_are_needed():
    plain, x, y = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).eval(), torch.randn(6, 5), torch.randint(0, 2, (6,))
    compiled, scripted = torch.compile(plain, backend="eager"), torch.jit.script(plain)
    torch.testing.assert_close(attribute(scripted, x, 0).values, attribute(plain, x, 0).values)
    for ask in (
        lambda: attribute(compiled, x, 0, "conductance", layer=plain[0]),
        lambda: measure_layers(compiled, [(x, y)], log_likelihood, progress=False),
        lambda: measure_layers(scripted, [(x, y)], log_likelihood, progress=False),
        lambda: criteria(scripted, [(x, y)]),
    ):
        with pytest.raises(ValueError, match="hides its layers"):
            ask()


def test_targets_and_inputs_of_another_kind_are_refused_in_a_sentence():
    model, x, y = nn.Sequential(nn.Linear(4, 3)).eval(), torch.randn(6, 4), torch.randint(0, 3, (6,))

    class Named(nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x)}

    assert attribute(Named(4, 3), x, lambda outputs: outputs["logits"][:, 0]).values.shape == x.shape
    for ask in (
        lambda: attribute(Named(4, 3), x, 0),
        lambda: attribute(model, (x, x), 0),
        lambda: attribute(model, x.numpy(), 0),
        lambda: attribute(model, x, [0, 1, 2, 0, 1, 2]),
        lambda: attribute(model, x, y),
        lambda: attribute(model, x, lambda outputs: outputs[torch.arange(6), y]),
        lambda: attribute(model, x[:0], 0),
        lambda: attribute(model, x, 0, "occlusion"),
        lambda: criteria(model, [{"x": x, "y": y}]),
        lambda: measure_layers(model, [{"x": x, "y": y}], log_likelihood),
        lambda: criteria(model, [(x, y, y)]),
        lambda: measure_layers(model, [(x, y)], log_likelihood, families=(), progress=False),
    ):
        with pytest.raises((TypeError, ValueError), match=r"\w"):
            ask()


# --- channels that live and die together ---

BEFORE_A_NORM = {
    "relu": (torch.relu, [0, 1, 2, 3]),
    "sigmoid": (torch.sigmoid, [0, 1, 2, 3]),
    "shifted": (lambda z: torch.clamp(z + 1, -1, 1) / 2, [0, 1, 2, 3]),
    "maximum": (lambda z: torch.maximum(z, 0.1 * z), [0, 1, 2, 3]),
    "pad": (lambda z: F.pad(z, (0, 0, 0, 0, 1, 0)), [1, 2, 3, 4]),
    "frame of ones": (lambda z: F.pad(z, (1, 1, 1, 1), value=1.0), [0, 1, 2, 3]),
    "ones beside": (lambda z: F.pad(z, (0, 0, 0, 0, 1, 0), value=1.0), [1, 2, 3, 4]),
    "mirrored frame": (lambda z: F.pad(z, (1, 1, 1, 1), mode="reflect"), [0, 1, 2, 3]),
    "flip": (lambda z: z.flip(1), [3, 2, 1, 0]),
    "roll": (lambda z: torch.roll(z, 1, 1), [1, 2, 3, 0]),
    "index": (lambda z: z[:, [2, 0, 3, 1]], [1, 3, 0, 2]),
    "halves": (lambda z: torch.cat(z.chunk(2, 1)[::-1], 1), [2, 3, 0, 1]),
    "shuffle": (lambda z: z.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2), [0, 2, 1, 3]),
}


class Normed(nn.Module):
    def __init__(self, kind, opaque):
        super().__init__()
        self.change, self.opaque = BEFORE_A_NORM[kind][0], opaque
        width = 5 if kind in ("pad", "ones beside") else 4
        self.c, self.b, self.d, self.f = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 4, 1), nn.Linear(4, 3)
        self.b.running_mean.normal_()
        nn.init.normal_(self.b.bias)

    def forward(self, x):
        if self.opaque and not bool(x.isfinite().all()):
            raise ValueError
        return self.f(self.d(self.b(self.change(self.c(x)))).relu().mean((2, 3)))


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("kind", BEFORE_A_NORM)
def test_a_channel_that_is_removed_is_zero_behind_its_norm_wherever_it_went(kind, opaque):
    model, x, y = Normed(kind, opaque).eval(), torch.randn(8, 3, 6, 6), torch.randint(0, 3, (8,))
    loop = []
    for channel, place in enumerate(BEFORE_A_NORM[kind][1]):
        cuts = [(model.c, channel), (model.b, place)]
        hooks = [m.register_forward_hook(lambda m, i, o, p=p: o.index_fill(1, torch.tensor(p), 0)) for m, p in cuts]
        after = log_likelihood(model(x), y)
        for hook in hooks:
            hook.remove()
        loop.append((log_likelihood(model(x), y) - after).mean())
    torch.testing.assert_close(drops_of(model, x, y, layer="c"), torch.stack(loop).detach(), rtol=1e-4, atol=1e-5)


class Frozen(nn.Module):
    """What detection backbones have instead of a batch norm."""

    def __init__(self, norm):
        super().__init__()
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.register_buffer("s", factor.detach()[:, None, None])
        self.register_buffer("t", (norm.bias - norm.running_mean * factor).detach()[:, None, None])

    def forward(self, x):
        return x * self.s + self.t


def test_norms_of_another_name_are_norms():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    plain[1].running_mean.normal_()
    plain[1].running_var.uniform_(0.5, 2)
    nn.init.uniform_(plain[1].bias, 0.5, 1.0)
    plain.eval()
    frozen = copy.deepcopy(plain)
    frozen[1] = Frozen(plain[1])
    synchronous = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain)).eval()
    x, y = torch.randn(6, 3, 8, 8), torch.randint(0, 2, (6,))
    for other in (frozen, synchronous):
        torch.testing.assert_close(drops_of(other, x, y, layer="0"), drops_of(plain, x, y, layer="0"), rtol=1e-4, atol=1e-5)
        fused = folded(other, x)
        torch.testing.assert_close(fused(x), plain(x), rtol=1e-4, atol=1e-5)
        assert isinstance(fused[1], nn.Identity) and groups(other, x) == {"0": ("0",), "5": ("5",)}


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.b, self.f = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(8, 2)
        self.b.running_mean.normal_()

    def encoded(self, x):
        return torch.relu(self.b(self.c(x))).mean((2, 3))

    def forward(self, x):
        return self.f(torch.cat([self.encoded(x), self.encoded(x.flip(3))], 1))


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (Twice(), torch.randn(2, 1, 8, 8)),
        (nn.Sequential(nn.ConvTranspose2d(4, 8, 3, groups=2), nn.BatchNorm2d(8)), torch.randn(2, 4, 6, 6)),
        (nn.Sequential(nn.ConvTranspose1d(4, 6, 3, groups=2, bias=False), nn.BatchNorm1d(6, affine=False)), torch.randn(2, 4, 6)),
    ],
)
def test_folding_of_what_runs_twice_and_of_groups(model, x):
    for norm in model.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    fused = folded(model, x)
    torch.testing.assert_close(fused(x), model.eval()(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in fused.modules())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 3, bias=False), nn.Linear(4, 3)

    def forward(self, x):
        return self.c(F.linear(torch.relu(self.a(x)), self.a.weight.t()))


def test_a_weight_with_a_second_use_changes_in_both_or_is_refused():
    model, x, y = Tied().eval(), torch.randn(6, 4), torch.randint(0, 3, (6,))
    options = dict(families=("noise",), levels={"noise": (2.0,)}, draws=1, progress=False)
    table, changed = measure_layers(model, [(x, y)], log_likelihood, **options), copy.deepcopy(model)
    changed.a.weight.data = noise(changed.a.weight.data, 2.0, generator_of(0, "a", "noise", 2.0, 0))
    right = (log_likelihood(model(x), y) - log_likelihood(changed(x), y)).mean().item()
    assert table.loc[table.layer == "a", "drop"].item() == pytest.approx(right, abs=1e-5)
    with pytest.raises(ValueError, match="outside of its layer"):
        criteria(model, [(x, y)], names=("fisher",), kinds=("layer",))
    text = Text()
    text.e = nn.Embedding(8, 6)
    text.e.weight = text.a.weight
    with pytest.raises(ValueError, match="a and e share one weight"):
        measure_layers(text, [(torch.randint(0, 8, (6, 5)), y % 2)], log_likelihood, progress=False)


class Shuffled(nn.Module):
    def __init__(self, channels, side):
        super().__init__()
        self.c, self.f = nn.Conv2d(3, channels, 3, padding=1), nn.Linear(channels * side * side, 3)

    def forward(self, x):
        h = self.c(x)
        b, c, height, width = h.shape
        return self.f(h.view(b, 2, c // 2, height, width).transpose(1, 2).reshape(b, c, height, width).flatten(1))


def test_a_shuffle_before_flattening_takes_no_time():
    started = time.process_time()
    assert groups(Shuffled(8, 8).eval(), torch.randn(2, 3, 8, 8)) == {"c": ("c",), "f": ("f",)}
    assert time.process_time() - started < 5


class Excited(nn.Module):
    """Squeeze and excitation, then a difference of two layers, then a layer that runs twice."""

    def __init__(self):
        super().__init__()
        self.c, self.s, self.e = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2), nn.Linear(2, 4)
        self.p, self.q, self.r, self.f = nn.Conv2d(4, 5, 1), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 5, 1), nn.Linear(5, 3)

    def forward(self, x):
        h = self.c(x)
        h = h * torch.sigmoid(self.e(self.s(h.mean((2, 3))).relu()))[:, :, None, None]
        h = (self.p(h) - self.q(h)).relu()
        return self.f(self.r(self.r(h).relu()).mean((2, 3)))


class ExcitedAndOpaque(Excited):
    def forward(self, x):
        return super().forward(x) if bool(x.isfinite().all()) and range(x.shape[0]) else None


@pytest.mark.parametrize("kind", [Excited, ExcitedAndOpaque])
def test_there_is_one_source_of_ties(kind):
    model, x, y = kind().eval(), torch.randn(6, 3, 6, 6), torch.randint(0, 3, (6,))
    table = ablate_channels(model, [(x, y)], log_likelihood, progress=False)
    pruned = measure_layers(model, [(x, y)], log_likelihood, families=("pruning",), progress=False)
    assert set(groups(model, x)) == set(table.layer) == set(pruned.layer) == {"c", "s", "e", "p+q", "r", "f"}
    assert table.attrs["evaluation"] == ("whole" if kind is ExcitedAndOpaque else "incremental")


def test_attention_has_a_curvature():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.m, self.f = nn.Linear(5, 8), nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            z = self.e(x)
            return self.f((z + self.m(z, z, z, need_weights=False)[0]).mean(1))

    data = [(torch.randn(8, 6, 5), torch.randint(0, 3, (8,)))]
    assert "hessian diagonal" in set(criteria(Attending().eval(), data).criterion)


# --- exact methods ---


class Bent(nn.Module):
    def __init__(self, bend):
        super().__init__()
        self.a, self.b, self.bend = nn.Linear(5, 6), nn.Linear(6, 2), bend

    def forward(self, x):
        return self.b(self.bend(self.a(x)))


TWO_TENSORS = {
    "minimum with a constant": lambda z: torch.minimum(z, torch.tensor(0.1, dtype=z.dtype)),
    "maximum of a constant": lambda z: torch.maximum(torch.tensor(0.1, dtype=z.dtype), z),
    "maximum with one number per unit": lambda z: torch.maximum(z, torch.linspace(-0.3, 0.3, 6, dtype=z.dtype)),
    "minimum of two activations": lambda z: torch.minimum(z, z.flip(1)),
}


@pytest.mark.parametrize("kind", TWO_TENSORS)
def test_exact_gradients_of_functions_of_two_tensors(kind):
    model, x = Bent(TWO_TENSORS[kind]).eval(), torch.randn(3, 5)
    exact = attribute(model, x, 0, "exact integrated gradients")
    assert exact.residual.abs().max() < 1e-9
    many = attribute(model.double(), x.double(), 0, "integrated gradients", steps=20000, quadrature="riemann_middle").values
    torch.testing.assert_close(exact.values, many, rtol=1e-3, atol=1e-4)


def test_what_bends_on_short_pieces_only_is_refused():
    def bend(z):  # breakpoints by the hundred, and a product that moves on a short part of the path
        steps = torch.relu(z[:, :1] - torch.linspace(-3, 3, 400, dtype=z.dtype)).sum(1, keepdim=True) * 1e-3
        small = torch.relu(0.02 - (z[:, 1:2] - 0.5).abs())
        return torch.cat([z[:, :4], steps, small * small * z[:, 2:3]], 1)

    class Skewed(Bent):
        def forward(self, x):
            return self.b(self.bend(x @ torch.eye(5, 6, dtype=x.dtype)))

    x = torch.ones(1, 5)
    x[0, 0] = 3
    with pytest.raises(ValueError, match="not piecewise linear"):
        attribute(Skewed(bend).eval(), x, 0, "exact integrated gradients")


# --- modules that are not quite what their class says ---


class Activated(nn.BatchNorm2d):
    """A batch norm with an activation inside."""

    def forward(self, x):
        return super().forward(x).relu()


class Adapted(nn.Linear):
    """A linear layer with a correction beside its weight."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.correction = nn.Parameter(torch.randn(sizes[1], sizes[0]))

    def forward(self, x):
        return super().forward(x) + x @ self.correction.t()


def test_subclasses_with_a_forward_of_their_own():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), Activated(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Adapted(4, 5), nn.ReLU(), nn.Linear(5, 3)
    )
    model[1].running_mean.normal_()
    model.eval()
    x, y = torch.randn(6, 3, 6, 6), torch.randint(0, 3, (6,))
    loop = []
    for channel in range(4):
        cut = model[1].register_forward_hook(lambda m, i, o, c=channel: o.index_fill(1, torch.tensor(c), 0))
        after = log_likelihood(model(x), y)
        cut.remove()
        loop.append((log_likelihood(model(x), y) - after).mean())
    torch.testing.assert_close(drops_of(model, x, y, layer="0"), torch.stack(loop).detach(), rtol=1e-4, atol=1e-5)
    weight, total = model[4].weight, 0.0
    for i in range(6):
        total = total + torch.autograd.grad(log_likelihood(model(x[i : i + 1]), y[i : i + 1])[0], weight)[0].square() / 6
    table = criteria(model, [(x, y)], names=("fisher",), kinds=("layer",))
    assert table[table.layer == "4"].value.item() == pytest.approx((weight.var(correction=0) * total.sum()).item(), rel=1e-4)


def test_an_instance_norm_with_running_statistics_is_a_norm():
    norm, other = nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    norm.running_mean.normal_()
    nn.init.normal_(norm.bias)
    other.load_state_dict(norm.state_dict())
    layers = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    x, y = torch.randn(6, 3, 8, 8), torch.randint(0, 2, (6,))
    found = [drops_of(nn.Sequential(layers[0], part, nn.ReLU(), *layers[1:]).eval(), x, y, layer="0") for part in (norm, other)]
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


def test_a_network_that_changes_its_inputs_is_refused():
    class Centred(nn.Linear):
        def forward(self, x):
            x -= 1
            return super().forward(x)

    x = torch.randn(4, 3)
    kept = x.clone()
    with pytest.raises(ValueError, match="its own inputs"):
        attribute(Centred(3, 2), x, 0, "part ablation", mask=torch.arange(3))
    assert torch.equal(x, kept)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_too_coarse_to_be_measured(kind):
    model, x, y = (
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).to(kind).eval(),
        torch.randn(6, 4).to(kind),
        torch.randint(0, 3, (6,)),
    )
    for ask in (
        lambda: measure_layers(model, [(x, y)], log_likelihood, progress=False),
        lambda: criteria(model, [(x, y)]),
        lambda: attribute(model, x, 0),
    ):
        with pytest.raises(ValueError, match="too coarse"):
            ask()
