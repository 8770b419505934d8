"""SInGE: the gradient theorem along the path, the bound of Cauchy and Schwarz, ends of the path, cheap and whole passes, surgery."""

import pytest
import torch
import torch.nn.functional as F
import torch_pruning
from torch import nn

from facelab.blocks import seeded
from facelab.methods import singe as method
from facelab.methods.singe import GivenImportance, geometric, importance, removal, singe, walk
from facelab.networks.folding import folded
from facelab.networks.groups import cut, groups


class Residual(nn.Module):
    """Batch norms, a residual addition, a depthwise convolution and a flattening, with activations in place."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.branch = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.widen = nn.Conv2d(6, 8, 1)
        self.head = nn.Linear(8 * 4, 3)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(x + self.branch(x))
        x = F.relu(self.widen(F.relu(self.depthwise(x))))
        return self.head(F.max_pool2d(x, 2).flatten(1))


class Stubborn(Residual):
    """The same, but its code cannot be traced."""

    def forward(self, x):
        return super().forward(x) if float(x.sum()) > -1e9 else x


def problem(kind=Residual, dtype=torch.float64):
    with seeded(0):
        model = kind()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.2, 0.2)
        x, y = torch.randn(12, 1, 4, 4, dtype=dtype), torch.randint(0, 3, (12,))
    model = folded(model.to(dtype).eval(), x)
    return model, x, y, groups(model, x)


@pytest.fixture(scope="module")
def given():
    return problem()


def test_the_groups_that_are_tested(given):
    assert {group.name for group in given[3]} == {"stem.0+branch.0+depthwise", "widen"}


@pytest.mark.parametrize("number", [0, 1])
def test_the_slope_adds_up_to_the_removal(given, number):
    model, x, y, tied = given
    fine = walk(model, x, y, F.cross_entropy, tied[number], torch.linspace(1, 0, 801, dtype=torch.float64))
    assert torch.allclose(fine.integral(), -removal(model, x, y, F.cross_entropy, tied[number]), atol=1e-4, rtol=1e-3)
    assert torch.allclose(fine.losses[-1] - fine.losses[0], -fine.integral(), atol=1e-4, rtol=1e-3)
    spread = -torch.trapezoid(fine.norms * fine.gradients, fine.factors, dim=0)
    assert (spread >= fine.integral().abs()).all(), "Cauchy and Schwarz"
    dense = walk(model, x, y, F.cross_entropy, tied[number], geometric(0.99, 900))
    assert torch.allclose(-torch.tensor(0.99).log() * dense.score(), spread, rtol=0.02)


@pytest.mark.parametrize("number", [0, 1])
def test_the_end_of_the_path_is_the_network_without_the_channel(given, number):
    model, x, y, tied = given
    whole = F.cross_entropy(model(x), y)
    rises = removal(model, x, y, F.cross_entropy, tied[number], [0, 2])
    for neuron, rise in zip([0, 2], rises, strict=True):
        small = cut(model, x, {tied[number].name: [neuron]})
        assert (F.cross_entropy(small(x), y) - whole).item() == pytest.approx(rise.item(), abs=1e-10)


def test_nothing_is_left_behind(given):
    model, x, y, tied = given
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    needs = [parameter.requires_grad for parameter in model.parameters()]
    neurons = method._Neurons(model, x, y, F.cross_entropy, tied[0])
    inside = {name: tensor.clone() for name, tensor in neurons.model.state_dict().items()}
    for factor in (0.3, 0.0, 1.0):
        neurons.scale(factor, 1)
    assert all(torch.equal(tensor, inside[name]) for name, tensor in neurons.model.state_dict().items())
    importance(model, x, y, F.cross_entropy, tied[0], steps=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == needs


def test_what_cannot_be_traced_is_run_as_a_whole(given):
    model, x, y, tied = given
    stubborn, *_ = problem(Stubborn)
    assert method._Loss(model, x, y, F.cross_entropy, ["widen"]).interpreter is not None
    assert method._Loss(stubborn, x, y, F.cross_entropy, ["widen"]).interpreter is None
    for criterion in ("neuron path", "layer path", "removal"):
        scores = [importance(net, x, y, F.cross_entropy, tied[1], criterion) for net in (model, stubborn)]
        assert torch.allclose(*scores, rtol=1e-9)


def test_layer_path_of_one_neuron_is_its_own_path_and_dead_neurons_score_nothing():
    with seeded(0):
        model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)).double()
        x, y = torch.randn(20, 3, dtype=torch.float64), torch.randint(0, 2, (20,))
    model[0].weight.data[1], model[0].bias.data[1] = 0, 0
    (group,) = groups(model, x)
    apart, together = (importance(model, x, y, F.cross_entropy, group, kind) for kind in ("neuron path", "layer path"))
    assert apart[1] == together[1] == 0
    assert torch.allclose(apart, together, rtol=1e-9), "the other neuron is zero anyway"


def test_scores_follow_neurons_that_change_places(given):
    model, x, y, tied = given
    order = torch.tensor([3, 0, 7, 1, 2, 6, 5, 4])
    other = folded(model, x)
    for parameter in (other.widen.weight, other.widen.bias):
        parameter.data = parameter.data[order]
    other.head.weight.data = other.head.weight.data.unflatten(1, (8, 4))[:, order].flatten(1)
    for criterion in ("magnitude", "Taylor", "neuron path"):
        scores = importance(model, x, y, F.cross_entropy, tied[1], criterion)
        assert torch.allclose(importance(other, x, y, F.cross_entropy, tied[1], criterion), scores[order], rtol=1e-9)


def test_criteria_at_the_trained_point_in_closed_form():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)).double()
    for layer, (weight, bias) in zip(model, ((2.0, 0.5), (3.0, 0.0)), strict=True):
        layer.weight.data.fill_(weight)
        layer.bias.data.fill_(bias)
    x, y = torch.tensor([[1.0]]).double(), torch.tensor([[6.5]]).double()
    group = next(group for group in groups(model, x))  # one channel: it can be walked, not cut
    slope = 2 * (3 * 2.5 - 6.5) * 3  # of the squared error by the first layer's output
    score = {kind: float(importance(model, x, y, F.mse_loss, group, kind)[0]) for kind in method.CRITERIA}
    assert score["magnitude"] == pytest.approx((2**2 + 0.5**2) ** 0.5)
    assert score["gradient"] == pytest.approx(abs(slope) * 2**0.5)
    assert score["gradient x magnitude"] == pytest.approx(score["gradient"] * score["magnitude"])
    assert score["Taylor"] == pytest.approx(abs(slope) * 2.5)
    assert score["removal"] == pytest.approx(6.5**2 - 1)
    slopes = [abs(2 * (7.5 * a - 6.5) * 3) for a in geometric(0.75, 8).tolist()]
    path = sum(a * g for a, g in zip(geometric(0.75, 8).tolist(), slopes, strict=True)) * 2**0.5 * score["magnitude"]
    assert score["neuron path"] == pytest.approx(path)


@pytest.mark.parametrize("rounds", [0, 3])
def test_pruning_gives_the_smaller_network_and_tells_how(rounds):
    model, x, y, _ = problem(dtype=torch.float32)
    seen = []
    small, report = singe(
        model, x, y, [(x, y)], F.cross_entropy, removed=0.5, rounds=rounds, steps=12, path_steps=2,
        watch=lambda net, step: seen.append((step, int((net.widen.weight == 0).flatten(1).all(dim=1).sum()))),
    )  # fmt: skip
    assert report["before"].tolist() == [6, 8] and report["after"].tolist() == [3, 4]
    assert small.widen.weight.shape == (4, 3, 1, 1) and small.depthwise.groups == 3
    steps, zeros = zip(*seen, strict=True)
    assert steps[0] == 0 and steps[-1] == 12 and sorted(zeros) == list(zeros), "what is gone stays gone"
    assert (zeros[steps.index(1)] == 4) == (rounds == 0)
    assert model.widen.weight.shape == (8, 6, 1, 1)


def test_a_pruner_of_torch_pruning_cuts_the_same_channels(given):
    model, x, y, tied = given
    scores = {group.name: importance(model, x, y, F.cross_entropy, group, "neuron path", steps=2) for group in tied}
    lowest = {name: values.argsort()[: len(values) // 2].tolist() for name, values in scores.items()}
    other = folded(model, x).requires_grad_(True)
    firsts = {name.split("+")[0]: values for name, values in scores.items()}
    pruner = torch_pruning.pruner.BasePruner(other, x, GivenImportance(other, firsts), pruning_ratio=0.5, ignored_layers=[other.head])
    pruner.step()
    assert torch.allclose(other(x), cut(model, x, lowest)(x), atol=1e-10)


def test_refusals():
    model, x, y, tied = problem(dtype=torch.float32)
    with pytest.raises(ValueError, match="between 0 and 1"):
        geometric(1.0, 3)
    with pytest.raises(ValueError, match="no criterion 'size'"):
        importance(model, x, y, F.cross_entropy, tied[0], "size")
    with pytest.raises(ValueError, match="no batch"):
        singe(model, x, y, [], F.cross_entropy, steps=1)
    with pytest.raises(ValueError, match="give shares"):
        singe(model, x, y, [(x, y)], F.cross_entropy, removed=1.0)
    sigmoid = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="like ReLU"):
        singe(sigmoid, torch.randn(4, 3), y[:4], [(torch.randn(4, 3), y[:4])], F.cross_entropy, steps=1, path_steps=1)
