"""One evaluation for all: costs counted by hand, errors of layers with known answers."""

import numpy as np
import own_networks
import pytest
import torch
from torch import nn

from facelab.blocks import seeded
from facelab.compression import bench
from facelab.compression.packing import bytes_of
from facelab.importance.scores import accuracy
from facelab.methods import redpp
from facelab.networks.evaluation import copied
from facelab.networks.groups import cut, groups

TRAINING, TEST = own_networks.loaders()


def chain():
    with seeded(0):
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(16), nn.Flatten(), nn.Linear(8, 4)).eval()


def test_costs_are_those_by_hand():
    model = chain()
    table, layers = bench.evaluate({"original": model, "twin": copied(model)}, TEST, accuracy, rounds=3)
    assert list(table.network) == ["original", "twin"]
    assert (table.parameters == 8 * 3 * 9 + 8 + 8 * 4 + 4).all()
    assert (table.multiplies == 8 * 3 * 9 * 256 + 8 * 4).all()
    assert (table.bytes == bytes_of(model)).all()
    assert (table.architecture == "8 | 4").all()
    hits = torch.cat([(model(x).argmax(1) == y).float() for x, y in TEST])
    assert table.score[0] == pytest.approx(float(hits.mean()))
    assert table.latency[0] == 1 and table.latency_low[1] <= table.latency[1] <= table.latency_high[1]
    assert np.allclose(layers.error, 0) and np.allclose(layers.unexplained, 0, atol=1e-3)


def test_the_score_interval_covers_the_score():
    table, _ = bench.evaluate({"original": chain()}, TEST, accuracy, rounds=2)
    assert table.score_low[0] < table.score[0] < table.score_high[0]
    assert table.unit[0] == "share"


def test_a_removed_twin_loses_nothing_and_a_removed_channel_its_share():
    model = chain()
    model[0].weight.data[1], model[0].bias.data[1] = model[0].weight.data[0], model[0].bias.data[0]
    (group,) = groups(model, TEST[0][0])
    twin = bench.layer_errors(model, cut(model, TEST[0][0], {group.name: [1]}), TEST[0][0]).set_index("layer")
    assert twin.unexplained["0"] < 1e-3 and np.isnan(twin.error["0"])
    assert (twin.before["0"], twin.after["0"]) == (8, 7)
    most = bench.layer_errors(model, cut(model, TEST[0][0], {group.name: range(7)}), TEST[0][0]).set_index("layer")
    assert 0.2 < most.unexplained["0"] <= 1


def test_error_of_a_layer_by_hand():
    model, other = chain(), chain()
    other[4].bias.data += 1.0
    table = bench.layer_errors(model, other, TEST[0][0]).set_index("layer")
    with torch.no_grad():
        outputs = model(TEST[0][0]).double()
    assert table.error["4"] == pytest.approx(1 / float((outputs - outputs.mean(0)).square().mean().sqrt()), rel=1e-4)
    assert table.error["0"] == 0


def test_shared_products_count_once():
    from facelab.methods.redpp import SplitLayer

    model = chain()
    model[4].weight.data = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 0.0], [1.0, 2.0]]).repeat(1, 4)
    split = copied(model)
    split[4] = SplitLayer(split[4])
    dense = bench.multiplies(model, TEST[0][0][:1])
    assert bench.multiplies(split, TEST[0][0][:1]) == dense - 32 + 4 * (2 + 1)  # 1 and 3 in even columns, 2 and a free 0 in odd ones
    assert bench.architecture(split) == bench.architecture(model)


def test_a_layer_that_is_called_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            return self.layer(self.layer(x).relu())

    model = Twice().eval()
    model.layer.weight.data = torch.tensor([0.5, -0.25]).repeat(18).view(6, 6)  # each input meets one value
    inputs = torch.randn(3, 6)
    assert bench.multiplies(model, inputs) == 2 * 36
    shared, _ = redpp.split(model, inputs)
    assert bench.multiplies(shared, inputs) == 2 * 6
    assert torch.allclose(shared(inputs), model(inputs), atol=1e-6), "watching changes nothing"


def test_interval_of_a_median():
    low, high = bench.median_interval(np.arange(101.0))
    assert 30 < low < 50 < high < 70
    assert bench.median_interval(np.full(5, 2.0)) == (2.0, 2.0)


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="no network"):
        bench.evaluate({}, TEST, accuracy)
