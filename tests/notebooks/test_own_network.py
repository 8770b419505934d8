"""The importance notebooks look into a network that is not ours."""

import nbformat
import pytest

from facelab import running

pytestmark = pytest.mark.slow

STRANGER = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 5, stride=2), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3), nn.Sigmoid()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def loaders():
    generator = torch.Generator().manual_seed(1)
    pictures, classes = torch.randn(24, 3, 40, 32, generator=generator), torch.randint(0, 5, (24,), generator=generator)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(pictures, classes), batch_size=8)
"""


@pytest.fixture
def stranger(tmp_path):
    (tmp_path / "stranger.py").write_text(STRANGER)
    return f"{tmp_path / 'stranger.py'}:"


def attribution():
    return next(notebook for notebook in running.discover() if notebook.slug == "attribution")


def printed(result):
    cells = nbformat.read(result.copy, as_version=4).cells
    return "\n".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_attribution_of_a_strangers_network(stranger, tmp_path):
    result = running.run(attribution(), {"model": stranger + "build", "data": stranger + "loaders"}, output=tmp_path)
    assert not result.error and not result.unmet
    text = printed(result)
    assert "Left out, as they need exact truth" in text
    assert "Sequential, 16 inputs of shape (3, 40, 32)" in text


def test_what_does_not_fit_is_said_at_once_in_a_sentence(stranger, tmp_path):
    result = running.run(attribution(), {"model": stranger + "built", "data": stranger + "loaders"}, output=tmp_path)
    assert 'has no function "built"; it has: build, loaders' in result.error
    assert result.seconds < 45
