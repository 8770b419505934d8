"""Networks, data and scores as strangers bring them: the value a plain loop gives, or one sentence."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facelab.blocks import seeded
from facelab.importance.attributions import attribute
from facelab.importance.criteria import criteria
from facelab.importance.own import Data, DoesNotFit, fit_together
from facelab.importance.scores import accuracy, evaluate, log_likelihood, negative_distance, negative_squared_error
from facelab.importance.sensitivity import ablate_channels, measure_layers


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


@pytest.mark.parametrize("noise", [lambda h: F.dropout(h, 0.5), lambda h: h + 0.1 * torch.randn_like(h)])
def test_noise_that_stays_on_is_refused(noise):
    model, data = Noisy(noise).eval(), [(torch.randn(20, 4), torch.randint(0, 3, (20,)))]
    for ask in (
        lambda: ablate_channels(model, data, log_likelihood, progress=False),
        lambda: measure_layers(model, data, log_likelihood, progress=False),
        lambda: criteria(model, data),
        lambda: attribute(model, data[0][0], 0),
        lambda: evaluate(model, data, log_likelihood),
    ):
        with pytest.raises(ValueError, match="differently each time"):
            ask()
