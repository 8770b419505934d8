import pytest
import torch
from torch import nn

from facelab.blocks import seeded
from facelab.importance.attribution import attribute, exact, paths
from facelab.importance.attribution.targets import scalar

pytestmark = pytest.mark.slow


def bent_network(activation):
    with seeded(5):
        return nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), activation, nn.MaxPool2d(3, 2, 1),
            nn.Conv2d(3, 4, 3), activation, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 2),
        ).double().eval()  # fmt: skip


ACTIVATIONS = [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.PReLU(), nn.ReLU6(), nn.Hardtanh(-0.2, 0.3)]


@pytest.fixture
def images():
    return torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_nothing_is_missing_and_many_steps_come_closer(activation, images):
    network = bent_network(activation)
    score = scalar(network, 1)
    values = exact.integrated_gradients(score, images, torch.zeros_like(images))
    with torch.no_grad():
        difference = score(images) - score(images * 0)
    torch.testing.assert_close(values.flatten(1).sum(dim=1), difference, atol=1e-12, rtol=1e-10)
    far = []
    for steps in (50, 5000):
        reached = paths.integrated_gradients(score, images, images * 0, *paths.path_nodes(steps, "riemann_middle"))
        far.append((reached - values).norm() / values.norm())
    assert far[1] < 2e-3 and far[1] < far[0] / 10


def test_breakpoints_are_where_a_fine_grid_sees_bends(images):
    score = scalar(bent_network(nn.ReLU()), 0)
    knots = exact.breakpoints(score, images[0], -images[1])
    assert knots[0] == 0 and knots[-1] == 1 and (knots.diff() > 0).all() and len(knots) > 20
    fine = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    with torch.no_grad():
        values = score(exact._path(-images[1], images[0], fine))
    bend = (values[2:] - 2 * values[1:-1] + values[:-2]).abs()
    bent = fine[1:-1][bend > 1e-9]
    distance = (bent[:, None] - knots).abs().amin(dim=1)
    assert len(bent) > 20 and distance.max() <= 1.01 * (fine[1] - fine[0])  # none is missed


def test_the_closed_form_of_one_bend():
    def hinge(x):
        return torch.relu(x[:, 0] - 0.25) * 3

    image = torch.tensor([1.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(exact.breakpoints(hinge, image, image * 0), torch.tensor([0, 0.25, 1], dtype=torch.float64))
    values = exact.integrated_gradients(hinge, image[None], image[None] * 0)
    torch.testing.assert_close(values, torch.tensor([[2.25, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    "bend",
    [
        lambda x: torch.minimum(x[:, 0], x[:, 1]),
        lambda x: torch.maximum(x[:, 0], 1 - x[:, 1]),
        lambda x: (x[:, 0] - x[:, 1]).abs(),
        lambda x: (x[:, 0] + x[:, 1]).clamp(0.3, 0.9),
        lambda x: (x[:, 0] - x[:, 1]).clamp(min=-0.4),
        lambda x: nn.functional.leaky_relu(x[:, 0] - x[:, 1], 0.3),
        lambda x: nn.functional.max_pool1d(x[:, None] * torch.tensor([1.0, 2, -1, 3], dtype=x.dtype), 2).sum(dim=(1, 2)),
    ],
)
def test_functions_bend_as_modules_do(bend):
    ends = torch.tensor([[1.0, 0.2, 0.4, -1.0], [-0.3, 0.9, 0.1, 0.8]], dtype=torch.float64)
    image, start = ends[:1], ends[1:]
    values = exact.integrated_gradients(bend, image, start)
    assert values.sum().item() == pytest.approx((bend(image) - bend(start)).item(), abs=1e-12)
    assert len(exact.breakpoints(bend, image[0], start[0])) > 2


def test_a_layer_used_twice_is_no_trouble(images):
    activation = nn.ReLU()
    network = nn.Sequential(nn.Flatten(), nn.Linear(128, 8), activation, nn.Linear(8, 8), activation, nn.Linear(8, 1)).double()
    values = exact.integrated_gradients(scalar(network, 0), images, -images)
    with torch.no_grad():
        difference = (network(images) - network(-images))[:, 0]
    torch.testing.assert_close(values.flatten(1).sum(dim=1), difference, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(
    ("layer", "name"),
    [(nn.Sigmoid(), "sigmoid"), (nn.GELU(), "gelu"), (nn.Softmax(dim=1), "_softmax"), (nn.LayerNorm(8), "native_layer_norm")],
)
def test_curved_layers_are_refused_by_name(layer, name, images):
    network = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), layer, nn.Flatten(), nn.Linear(128, 1))
    with pytest.raises(ValueError, match=f"computes '{name}', which is not known to be piecewise linear; use method="):
        attribute(network, images.float(), 0, "exact integrated gradients")


def test_a_product_of_activations_is_refused(images):
    class Product(nn.Module):
        def forward(self, x):
            return (x * x).flatten(1).sum(dim=1, keepdim=True)

    with pytest.raises(ValueError, match="a product of two activations perhaps"):
        attribute(Product(), images, 0, "exact integrated gradients")


def test_networks_of_single_precision_are_answered_in_double(images):
    network = bent_network(nn.ReLU()).float()
    answer = attribute(network, images.float(), 0, "exact integrated gradients")
    assert answer.values.dtype == torch.float64 and answer.residual.abs().max() < 1e-12
    assert next(network.parameters()).dtype == torch.float32
    close = attribute(network, images.float(), 0, steps=4000, quadrature="riemann_middle")
    assert (close.values - answer.values).norm() < 5e-3 * answer.values.norm()


def test_exact_conductance_is_complete_at_every_cut_and_captum_comes_closer(images):
    network = bent_network(nn.ReLU())
    for layer in (network[0], network[3], network[4], network[7]):
        answer = attribute(network, images, 1, "exact conductance", layer=layer)
        assert answer.residual.abs().max() < 1e-12
    far = [(attribute(network, images, 1, "conductance", layer=network[4], steps=n).values - attribute(
        network, images, 1, "exact conductance", layer=network[4]).values).norm() for n in (20, 2000)]  # fmt: skip
    assert far[1] < far[0] / 20


def test_nowhere_to_go(images):
    network = bent_network(nn.ReLU())
    answer = attribute(network, images, 0, "exact integrated gradients", baseline=images)
    assert (answer.values == 0).all() and (answer.residual == 0).all()
