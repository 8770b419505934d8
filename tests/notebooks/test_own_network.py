"""The importance notebooks on a network and data that are not ours: a file as a user would write it, run from start to end."""

import re
from dataclasses import replace

import nbformat
import pytest

from facelab.course import running

pytestmark = pytest.mark.slow

MINE = '''
"""Which channel is the brightest? Nothing of facelab in here."""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.encoder(x)
        x = torch.relu(x + self.body(x))
        return self.head(x.mean(dim=(2, 3)))


def samples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    images = torch.rand(count, 3, 14, 10, generator=generator)
    images[torch.arange(count), labels] += 0.3
    return images, labels


def build():
    torch.manual_seed(0)
    net, (images, labels) = Net(), samples(256, 0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net.eval()


def loaders():
    data = torch.utils.data
    return tuple(data.DataLoader(data.TensorDataset(*samples(count, seed)), batch_size=32) for count, seed in ((128, 0), (96, 1)))


def nothing():
    return []
'''


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    path = tmp_path_factory.mktemp("user") / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    return path


def run(slug, mine, tmp_path, **functions):
    """The notebook with a network of the user; where cells are tagged as being about it, these alone, for ours are trained elsewhere."""
    notebook = next(notebook for notebook in running.discover() if notebook.slug == slug)
    content = nbformat.read(notebook.path, as_version=4)
    about = [cell for cell in content.cells if {"parameters", "own-network"} & set(cell.metadata.get("tags", []))]
    if len(about) > 1:
        content.cells = about
        notebook = replace(notebook, path=tmp_path / notebook.path.name)
        nbformat.write(content, notebook.path)
    parameters = {key: f"{mine}:{name}" for key, name in functions.items()}
    return running.run(running.Task(notebook, parameters, tmp_path / "executed", {"OMP_NUM_THREADS": "1"}))


@pytest.mark.parametrize(
    ("slug", "shown"),
    [("attribution", ["Net, 16 inputs of shape (3, 14, 10)", "Left out, as they need exact truth"]), ("safer", ["encoder.0"])],
    ids=["attribution", "safer"],
)
def test_it_runs_on_a_network_of_the_user(slug, shown, mine, tmp_path):
    result = run(slug, mine, tmp_path, model="build", data="loaders")
    assert not result.error, result.error
    assert not result.unmet
    printed = "\n".join(
        str(output.get("text", ""))
        + "".join(output.get("data", {}).get("text/html", ""))
        + str(output.get("data", {}).get("text/plain", ""))
        for cell in nbformat.read(result.copy, as_version=4).cells
        for output in cell.get("outputs", [])
    )
    assert all(words in printed for words in shown)
    assert not re.search(r"\w*Warning\b", printed)


@pytest.mark.parametrize(
    ("slug", "functions", "sentence"),
    [
        ("attribution", {"model": "bild", "data": "loaders"}, 'has no function "bild"; it has: '),
        ("safer", {"model": "build", "data": "nothing"}, "is empty"),
    ],
    ids=["attribution: no such function", "safer: empty loader"],
)
def test_what_does_not_fit_is_said_at_once(slug, functions, sentence, mine, tmp_path):
    result = run(slug, mine, tmp_path, **functions)
    assert sentence in result.error
    assert result.seconds < 45
