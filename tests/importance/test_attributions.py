import captum.attr
import pytest
import torch
from torch import nn

from facelab.blocks import seeded
from facelab.importance.attribution import METHODS, QUADRATURES, attribute, paths
from facelab.importance.attribution.attributions import LAYER_METHODS

SIZE = 12


def small_network(in_place=False):
    with seeded(3):
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=in_place), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=in_place), nn.Dropout(0.5), nn.Flatten(), nn.Linear(6 * 36, 3),
        )  # fmt: skip
        for _ in range(3):  # so that the batch norm has something to say
            network(torch.rand(8, 1, SIZE, SIZE))
        return network.eval()


@pytest.fixture
def network():
    return small_network()


@pytest.fixture
def images():
    return torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


class Saturating(nn.Module):
    """f(x) = max(0, 1 - relu(1 - x)): flat at x = 2."""

    def forward(self, x):
        return torch.relu(1 - torch.relu(1 - x))


class Smaller(nn.Module):
    """f(x) = min(x1, x2)."""

    def forward(self, x):
        return (x[:, :1] - torch.relu(x[:, :1] - x[:, 1:])).reshape(-1, 1)


def linear_network():
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 2))


@pytest.mark.parametrize("method", [m for m in METHODS if m not in LAYER_METHODS])
def test_a_linear_model_has_its_closed_form(method, images):
    model = linear_network()
    weight = model[1].weight[1].view(1, 1, SIZE, SIZE).detach()
    mask = torch.arange(SIZE * SIZE).view(1, 1, SIZE, SIZE)
    values = attribute(model, images, 1, method, baseline=0.25, mask=mask, window=1).values.float()
    if method in ("saliency", "guided backpropagation"):
        expected = weight.expand_as(images)
    elif method == "input x gradient":
        expected = weight * images
    else:
        expected = weight * (images - 0.25)
    torch.testing.assert_close(values, expected, atol=2e-6, rtol=1e-5)


def test_a_saturated_output_has_no_gradient_but_credit_to_share():
    x = torch.tensor([[2.0]])
    assert attribute(Saturating(), x, 0, "saliency").values.item() == 0
    assert attribute(Saturating(), x, 0, "exact integrated gradients").values.item() == pytest.approx(1)
    assert attribute(Saturating(), x, 0, steps=400, quadrature="riemann_middle").values.item() == pytest.approx(1, abs=1e-2)


def test_the_smaller_of_two_gets_all_the_credit_and_ablation_gives_it_twice():
    x = torch.tensor([[1.0, 3.0]])
    shared = attribute(Smaller(), x, 0, "exact integrated gradients")
    torch.testing.assert_close(shared.values, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    ablated = attribute(Smaller(), x, 0, "part ablation", mask=torch.tensor([[0, 1]]))
    torch.testing.assert_close(ablated.values, torch.tensor([[1.0, 1.0]]))
    assert ablated.difference.item() == 1 and ablated.residual.item() == 1  # the sum is 2


@pytest.mark.parametrize("quadrature", QUADRATURES)
@pytest.mark.parametrize("steps", [3, 20])
def test_the_written_out_path_agrees_with_captum(network, images, quadrature, steps):
    network, images = network.double(), images.double()
    reference = torch.full_like(images, 0.3)
    by_hand = paths.integrated_gradients(lambda x: network(x)[:, 2], images, reference, *paths.path_nodes(steps, quadrature))
    ours = attribute(network, images, 2, baseline=0.3, steps=steps, quadrature=quadrature)
    scale = by_hand.abs().max()
    assert (ours.values - by_hand).abs().max() <= 1e-6 * scale
    torch.testing.assert_close(ours.residual, by_hand.flatten(1).sum(dim=1) - ours.difference, atol=1e-6, rtol=1e-6)


def test_pieces_of_the_path_add_up(network, images, monkeypatch):
    whole = attribute(network, images, 0, steps=40)
    monkeypatch.setattr("facelab.importance.attribution.attributions.ROWS", 10)
    torch.testing.assert_close(attribute(network, images, 0, steps=40).values, whole.values)


@pytest.mark.parametrize("quadrature", [*QUADRATURES, "riemann_trapezoid"])
def test_weights_sum_to_one_and_nodes_stay_on_the_path(quadrature):
    nodes, weights = paths.path_nodes(7, quadrature)
    assert weights.sum().item() == pytest.approx(1) and nodes.min() >= 0 and nodes.max() <= 1
    if quadrature not in ("riemann_left", "riemann_right"):
        assert (nodes * weights).sum().item() == pytest.approx(0.5)  # exact on straight lines


def test_captums_trapezoid_gives_too_little():
    model, x = nn.Linear(2, 1, bias=False), torch.ones(1, 2)
    share = captum.attr.IntegratedGradients(model).attribute(x, n_steps=50, method="riemann_trapezoid", target=0).sum() / model(x).sum()
    assert share.item() == pytest.approx(0.98)
    with pytest.raises(ValueError, match="'riemann_trapezoid' is not offered"):
        attribute(model, x, 0, quadrature="riemann_trapezoid")


def test_the_residual_is_what_the_shares_miss_and_falls_with_steps(network, images):
    gaps = []
    for steps in (4, 16, 64, 256):
        shared = attribute(network, images, 1, steps=steps, quadrature="riemann_middle")
        with torch.no_grad():
            difference = network(images)[:, 1] - network(images * 0)[:, 1]
        torch.testing.assert_close(shared.difference, difference)
        torch.testing.assert_close(shared.residual, shared.values.sum(dim=(1, 2, 3)) - difference, atol=1e-6, rtol=1e-5)
        gaps.append(shared.residual.abs().mean().item())
    assert gaps[0] > 4 * gaps[2] and gaps[1] > 4 * gaps[3]


@pytest.mark.parametrize("method", [m for m in METHODS if m not in LAYER_METHODS and m not in ("occlusion", "part ablation")])
def test_a_pixel_that_nobody_reads_gets_exactly_nothing(method, images):
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = small_network()

        def forward(self, x):
            return self.network(torch.cat([torch.zeros_like(x[:, :, :3]), x[:, :, 3:]], dim=2))

    values = attribute(Blind(), images, 0, method).values
    assert (values[:, :, :3] == 0).all() and (values[:, :, 3:] != 0).any()


def test_conductance_of_the_input_is_integrated_gradients(network, images):
    class Entered(nn.Sequential):
        pass

    model = Entered(nn.Identity(), *network)
    exact = attribute(model, images[:1], 1, "exact conductance", layer=model[0]).values
    torch.testing.assert_close(exact, attribute(model, images[:1], 1, "exact integrated gradients").values, atol=1e-9, rtol=1e-9)
    shared = attribute(model, images[:1], 1, "conductance", layer=model[0], steps=400).values.double()
    assert (shared - exact).norm() < 0.05 * exact.norm()


def test_conductance_of_the_last_layer_is_one_hot_and_complete(network, images):
    shared = attribute(network, images, 2, "conductance", layer=network[8])
    torch.testing.assert_close(
        shared.values, torch.nn.functional.one_hot(torch.tensor(2), 3) * shared.difference[:, None], atol=1e-5, rtol=1e-4
    )


def test_a_layer_bypassed_by_a_skip_is_no_cut(images):
    class Skipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(SIZE * SIZE, 1)

        def forward(self, x):
            return self.last((x + self.inner(x)).flatten(1))

    with seeded(1):
        model = Skipped()
    carried = (model.last.weight.view(1, 1, SIZE, SIZE) * images).flatten(1).sum(dim=1).detach()
    shared = attribute(model, images, 0, "exact conductance", layer=model.inner)
    torch.testing.assert_close(-shared.residual.float(), carried, atol=1e-5, rtol=1e-4)


def test_grad_cam_is_the_formula(network, images):
    features = network[:6](images).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network[6:](features)[:, 1].sum(), features)
    expected = torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True))
    torch.testing.assert_close(attribute(network, images, 1, "grad-cam", layer=network[5]).values, expected.detach())


def test_channel_ablation_is_the_true_removal(network, images):
    values = attribute(network, images, 0, "channel ablation", layer=network[4]).values.sum(dim=(2, 3))
    with torch.no_grad():
        features, before = network[:5](images), network(images)[:, 0]
        for channel in range(6):
            cut = features.clone()
            cut[:, channel] = 0
            torch.testing.assert_close(values[:, channel], before - network[5:](cut)[:, 0], atol=1e-5, rtol=1e-4)
        network[4].weight[2], network[4].bias[2] = 0, 0
    assert (attribute(network, images, 0, "channel ablation", layer=network[4]).values[:, 2] == 0).all()


def test_parts_may_differ_between_images(network, images):
    masks = torch.stack([(torch.arange(SIZE) // (i + 2)).expand(SIZE, SIZE) for i in range(3)])[:, None] + 5  # labels with gaps
    whole = attribute(network, images, 0, "part ablation", mask=masks, baseline=0.5)
    for i in range(3):
        alone = attribute(network, images[i : i + 1], 0, "part ablation", mask=masks[i : i + 1], baseline=0.5)
        torch.testing.assert_close(whole.values[i : i + 1], alone.values, atol=1e-6, rtol=1e-4)
    with torch.no_grad():
        part = masks[1:2] == 6
        drop = network(images[1:2])[:, 0] - network(torch.where(part, 0.5, images[1:2]))[:, 0]
    assert whole.values[1:2][part].sum().item() == pytest.approx(drop.item(), abs=1e-5)


def test_a_neuron_is_explained_as_captum_does(network, images):
    layer, unit = network[4], (3, 2, 1)
    captums = captum.attr.NeuronIntegratedGradients(network, layer).attribute(images, unit, n_steps=30)
    torch.testing.assert_close(attribute(network, images, 0, layer=layer, unit=unit, steps=30).values, captums, atol=1e-6, rtol=1e-4)
    gradient = captum.attr.NeuronGradient(network, layer).attribute(images, unit)
    torch.testing.assert_close(attribute(network, images, 0, "saliency", layer=layer, unit=unit).values, gradient)
    mean = attribute(network, images, 0, "saliency", layer=layer, unit=3).values
    assert (mean.flatten(1).abs() > 0).sum() > (gradient.flatten(1).abs() > 0).sum()  # a channel looks everywhere


@pytest.mark.parametrize("method", list(METHODS))
def test_the_model_is_given_back_as_it_was(method, images):
    model = small_network(in_place=True)
    model.train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer = model[4] if method in LAYER_METHODS else None
    with torch.no_grad():  # an explanation works where gradients are off
        values = attribute(model, images[:1], 1, method, layer=layer, mask=torch.zeros(1, 1, 1, 1, dtype=torch.long), steps=4).values
    plain = small_network()  # in evaluation mode, nothing in place
    layer = plain[4] if method in LAYER_METHODS else None
    expected = attribute(plain, images[:1], 1, method, layer=layer, mask=torch.zeros(1, 1, 1, 1, dtype=torch.long), steps=4).values
    torch.testing.assert_close(values, expected)
    assert [m.training for m in model] == [True, False] + [True] * 7 and model.training
    assert model[2].inplace and model[5].inplace
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_function_of_the_outputs_can_be_asked(network, images):
    difference = attribute(network, images, lambda outputs: outputs[:, 0] - outputs[:, 2])
    parts = [attribute(network, images, column).values for column in (0, 2)]
    torch.testing.assert_close(difference.values, parts[0] - parts[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(method="gradcam"), "method='gradcam' is not known; use one of saliency"),
        (dict(quadrature="simpson"), "quadrature='simpson' is not offered"),
        (dict(steps=1), "steps=1 is too few"),
        (dict(target=3), r"target=3 does not fit an output of shape \(3, 3\)"),
        (dict(target=lambda outputs: outputs), r"The target gives a shape of \(3, 3\)"),
        (dict(method="conductance"), "'conductance' looks into a layer"),
        (dict(layer=nn.ReLU()), "ReLU is no part of the model"),
        (dict(unit=2), "unit=2 needs to know its layer"),
        (dict(method="part ablation"), "give mask="),
        (dict(baseline=torch.zeros(2, 1, 5, 5)), r"A baseline of shape \(2, 1, 5, 5\) does not fit inputs of shape"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(network, images, change, message):
    with pytest.raises(ValueError, match=message):
        attribute(network, images, **{"target": 0, **change})


def test_a_layer_that_is_called_twice_is_refused(images):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.last = nn.Conv2d(1, 1, 3, padding=1), nn.Flatten()

        def forward(self, x):
            return self.last(self.shared(self.shared(x)))

    model = Twice()
    with pytest.raises(ValueError, match="'shared' is called 2 times"):
        attribute(model, images, 0, "conductance", layer=model.shared)


def test_a_unit_that_is_not_there_is_refused(network, images):
    with pytest.raises(ValueError, match=r"unit=9 does not fit a layer with outputs of shape \(6, 6, 6\)"):
        attribute(network, images, 0, layer=network[4], unit=9)


def test_guided_backpropagation_without_its_modules_is_refused(images):
    class Functional(nn.Module):
        def forward(self, x):
            return torch.relu(x).flatten(1).sum(1, keepdim=True)

    with pytest.raises(ValueError, match="as a function"):
        attribute(Functional(), images, 0, "guided backpropagation")


def test_a_mask_that_does_not_fit_is_refused(network, images):
    with pytest.raises(ValueError, match="does not broadcast"):
        attribute(network, images, 0, "part ablation", mask=torch.zeros(5, 5, dtype=torch.long))


def test_what_is_overwritten_later_is_still_seen():
    """`out += identity`, as residual networks are often written."""

    class Block(nn.Module):
        def __init__(self, in_place):
            super().__init__()
            self.conv, self.head, self.in_place = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(3, 2), in_place

        def forward(self, x):
            out = self.conv(x)
            if self.in_place:
                out += x
            else:
                out = out + x
            return self.head(out.relu().mean((2, 3)))

    torch.manual_seed(0)
    one, other = Block(True), Block(False)
    other.load_state_dict(one.state_dict())
    images = torch.randn(2, 1, 6, 6)
    for options in (
        {"method": "saliency", "unit": (1, 2, 2)},
        {"method": "exact conductance"},
        {"method": "channel ablation"},
    ):
        maps = [attribute(net, images, 0, layer=net.conv, **options).values for net in (one, other)]
        torch.testing.assert_close(*maps)


def test_channels_of_a_layer_on_tokens_are_its_last_axis():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    tokens = torch.randn(2, 3, 5)
    values = attribute(net, tokens, 0, "channel ablation", layer=net[0]).values
    cut = net[1](net[0](tokens)).clone()
    cut[..., 1] = 0
    torch.testing.assert_close(values[..., 1].sum(1), net(tokens)[:, 0] - net[2:](cut)[:, 0])
