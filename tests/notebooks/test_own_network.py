"""The report on a network and data that are not ours: a file as a user would write it, run from start to end."""

import re
from pathlib import Path

import nbformat
import pytest

from facelab.course import running

pytestmark = pytest.mark.slow
SUPPORT = Path(__file__).resolve().parents[1] / "support"
PARTS = ("attributions", "layers", "criteria", "channels", "budgets", "compression")

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


TOKENS = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
import user_networks


def build():
    return user_networks.build("recurrent")


def loaders():
    return user_networks.load("recurrent")
"""


def run(text, tmp_path, monkeypatch, **functions):
    """The notebook on a file in the folder where the command is typed, named as seen from there."""
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (notebook,) = running.find(["your_network"], running.discover())
    parameters = {key: f"mine.py:{name}" for key, name in functions.items()} | {"output": "found", "samples": 48}
    return running.run(running.Task(notebook, parameters, tmp_path / "executed", {"OMP_NUM_THREADS": "1"}))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (MINE, ["Net, ", "images, (3, 14, 10)", "maps on the image", "encoder.0"]),
        (TOKENS, ["Recurrent, ", "tokens, (7,)", "stay as they are"]),
    ],
    ids=["images", "tokens"],
)
def test_it_runs_on_a_network_of_the_user(text, shown, tmp_path, monkeypatch):
    result = run(text, tmp_path, monkeypatch, model="build", data="loaders")
    assert not result.error, result.error
    assert not result.unmet
    assert len(result.claims) == 5  # about the planted network, whatever the report is about
    printed = "\n".join(
        str(output.get("text", ""))
        + "".join(output.get("data", {}).get("text/html", ""))
        + str(output.get("data", {}).get("text/plain", ""))
        for cell in nbformat.read(result.copy, as_version=4).cells
        for output in cell.get("outputs", [])
    )
    assert all(words in printed for words in shown), [words for words in shown if words not in printed]
    assert not re.search(r"\w*Warning\b", printed)
    files = {path.name for path in (tmp_path / "found").iterdir()}
    assert files == {"report.html"} | {f"{part}.parquet" for part in ("check", *PARTS)}


@pytest.mark.parametrize(
    ("functions", "sentence"),
    [
        ({"model": "bild", "data": "loaders"}, 'has no function "bild"; it has: '),
        ({"model": "build", "data": "nothing"}, "is empty"),
        ({"model": "build"}, "must both be given"),
    ],
    ids=["no such function", "empty loader", "no data"],
)
def test_what_does_not_fit_is_said_at_once(functions, sentence, tmp_path, monkeypatch):
    result = run(MINE, tmp_path, monkeypatch, **functions)
    assert sentence in result.error
    assert not (tmp_path / "found").exists()
