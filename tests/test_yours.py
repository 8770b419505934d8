"""Networks and data of a user: what fits is loaded, what does not gets one clear sentence."""

import re
import textwrap

import pytest
import torch
from torch import nn

from facelab.importance.scores import accuracy, log_likelihood, negative_squared_error
from facelab.yours import FOLDER, Data, DoesNotFit, fit_together, load_data, load_network

GOOD = """
    import torch
    from torch import nn

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)
        def forward(self, x):
            return self.layer(x)

    def build():
        return Small()

    def loaders():
        batches = [(torch.rand(5, 4), torch.randint(3, (5,))) for _ in range(3)]
        return batches[:2], batches[2:]
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def test_a_file_of_the_user_is_loaded(written):
    path = written(GOOD)
    model, data = load_network(f"{path}:build"), load_data(f"{path}:loaders")
    assert not model.training and data.separate and len(list(data.training)) == 2 and len(list(data.evaluation)) == 1
    assert fit_together(model, data) == (accuracy, log_likelihood)


def test_one_loader_serves_both(written):
    data = load_data(written("import torch\ndef loaders():\n    return [(torch.rand(2, 1), torch.rand(2, 1))] * 2") + ":loaders")
    assert not data.separate and data.training is data.evaluation
    assert fit_together(nn.Linear(1, 1), data) == (negative_squared_error, negative_squared_error)


def test_a_score_of_the_user_is_used(written):
    text = """
        import torch
        def mine(outputs, targets):
            return -(outputs[:, 0] - targets).abs()
        def loaders():
            batches = [(torch.rand(2, 1), torch.rand(2))]
            return batches, batches, mine
    """
    data = load_data(written(text) + ":loaders")
    assert fit_together(nn.Linear(1, 1), data)[0].__name__ == "mine"


@pytest.mark.parametrize(
    ("body", "which", "sentence"),
    [
        ("", "build", 'has no function "build"; it has: none'),
        ("x = 1 / 0", "build", "cannot be imported: ZeroDivisionError"),
        ("def build():\n    raise RuntimeError('broken')", "build", "failed: RuntimeError: broken"),
        ("def build():\n    return 3", "build", "returned a int; it must return a torch.nn.Module"),
        ("from torch import nn\ndef build():\n    return nn.ReLU()", "build", "without parameters"),
        ("def loaders():\n    return []", "loaders", "is empty"),
        ("def loaders():\n    return 5", "loaders", "cannot be walked through; give"),
        ("def loaders():\n    return (x for x in [1])", "loaders", "only once"),
        ("import torch\ndef loaders():\n    return [torch.rand(3)]", "loaders", "batches of Tensor; a batch must be a pair"),
        ("import torch\ndef loaders():\n    return [(torch.rand(3), 1)]", "loaders", "a pair of tensors"),
        ("import torch\ndef loaders():\n    return [(torch.rand(3), torch.rand(2))]", "loaders", "3 inputs with 2 targets"),
        ("import torch\ndef loaders():\n    return [(torch.rand(0, 1), torch.rand(0))]", "loaders", "without samples"),
        ("def loaders():\n    return 1, 2, 3, 4", "loaders", "returned 4 things"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(written, body, which, sentence):
    path = written(body)
    with pytest.raises(DoesNotFit, match=re.escape(sentence)) as caught:
        (load_network if which == "build" else load_data)(f"{path}:{which}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("spec", "sentence"), [("mine.py", "names no function"), ("nowhere.py:build", "There is no file")])
def test_a_path_that_leads_nowhere(spec, sentence):
    with pytest.raises(DoesNotFit, match=sentence):
        load_network(spec)


class Listing(nn.Linear):
    def forward(self, x):
        return [super().forward(x)]


class Averaging(nn.Linear):
    def forward(self, x):
        return super().forward(x).mean(dim=0)


def broken(model):
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    return model


X, CLASSES = torch.rand(4, 3), torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("model", "inputs", "targets", "sentence"),
    [
        (nn.Linear(5, 2), X, CLASSES, "does not take training inputs of shape (4, 3): RuntimeError"),
        (Listing(3, 2), X, CLASSES, "returns a list; wrap it in a module that returns one tensor"),
        (Averaging(3, 2), X, CLASSES, "returns shape (2,) for 4 inputs"),
        (broken(nn.Linear(3, 2)), X, CLASSES, "4 numbers that are NaN or infinite on batch 0 of the training loader; look at its weights"),
        (nn.Linear(3, 2), X * float("nan"), CLASSES, "look at its inputs"),
        (nn.Linear(3, 2), X, CLASSES + 5, "The targets are classes 5 to 6, the network has outputs for 0 to 1"),
        (nn.Linear(3, 2), X, torch.rand(4), "need (4,); change one of them or give a score"),
        (nn.Linear(3, 2), X, torch.full((4, 2), float("nan")), "gives NaN or infinite numbers; look at the targets"),
    ],
)
def test_a_network_that_does_not_fit_the_data(model, inputs, targets, sentence):
    loader = [(inputs, targets)]
    with pytest.raises(DoesNotFit, match=re.escape(sentence)):
        fit_together(model, Data(loader, loader, None, False))


def test_a_score_that_does_not_fit():
    loader = [(X, CLASSES)]
    with pytest.raises(DoesNotFit, match="does not fit outputs"):
        fit_together(nn.Linear(3, 2), Data(loader, loader, lambda outputs, targets: outputs, False))


def test_paths_are_those_of_the_folder_where_the_command_was_typed(written, tmp_path, monkeypatch):
    written(GOOD)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(DoesNotFit, match="There is no file"):
        load_network("mine.py:build")
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert not load_network("mine.py:build").training


def test_batches_that_are_dictionaries_become_pairs(written):
    text = """
        import torch
        def loaders():
            return [{"pixels": torch.rand(2, 4), "labels": torch.zeros(2, dtype=torch.long)}] * 2
        def unclear():
            return [{"ids": torch.rand(2, 4), "mask": torch.rand(2, 4), "labels": torch.zeros(2)}]
    """
    path = written(text)
    batches = list(load_data(f"{path}:loaders").training)
    assert [part.shape for part in batches[0]] == [(2, 4), (2,)] and len(batches) == 2
    with pytest.raises(DoesNotFit, match="dictionaries with ids, mask, labels"):
        load_data(f"{path}:unclear")
