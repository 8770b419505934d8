"""The explorer of a neuron's path takes what `walk` gives, and only whole paths of one neuron."""

import pytest
import torch

from facelab.explorers import NeuronPathExplorer
from facelab.methods.singe import Path


def path(factors, neurons=1):
    factors = torch.tensor(factors, dtype=torch.float64)
    curve = (1 - factors)[:, None].expand(-1, neurons).square()
    return Path(factors, curve, 2 * (1 - factors)[:, None].expand(-1, neurons), -curve, torch.ones(neurons, dtype=torch.float64))


def test_it_says_where_the_neuron_stands():
    explorer = NeuronPathExplorer({"A": path([1, 0.5, 0])})
    assert "A: at alpha 0.50 the loss is 0.250. Removal raises it by +1.000" in explorer.view(alpha=0.5).text
    assert "the sum over 4 black dots" in explorer.view(steps=3).text


@pytest.mark.parametrize(
    "paths", [{}, {"A": path([1, 0.5])}, {"A": path([0.0, 1.0])}, {"A": path([1, 0.5, 0], neurons=2)}], ids=["none", "half", "up", "two"]
)
def test_what_is_no_whole_path_of_one_neuron_is_refused(paths):
    with pytest.raises(ValueError, match=r"give one at least|walk one such"):
        NeuronPathExplorer(paths)
