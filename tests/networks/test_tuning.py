"""Fine-tuning: as a plain loop, in one go or in pieces, and with what is done between the steps."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facelab.networks.tuning import FineTuning

INPUTS, LABELS = torch.randn(24, 5, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3
BATCHES = list(zip(INPUTS.split(8), LABELS.split(8), strict=True))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.0), nn.Linear(8, 3))


def test_it_is_adam_with_half_a_cosine_and_clipped_gradients(model):
    other = copy.deepcopy(model).train()
    FineTuning(model, BATCHES, F.cross_entropy, 4, learning_rate=0.1).run_to(4)
    optimizer = torch.optim.Adam(other.parameters(), 0.1)
    for step, rate in enumerate((0.1, 0.1 * (2 + 2**0.5) / 4, 0.05, 0.1 * (2 - 2**0.5) / 4)):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        F.cross_entropy(other(BATCHES[step % 3][0]), BATCHES[step % 3][1]).backward()
        nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        optimizer.step()
    torch.testing.assert_close(dict(model.named_parameters()), dict(other.named_parameters()))


def test_pieces_add_up_and_the_loss_falls(model):
    before, other = F.cross_entropy(model(INPUTS), LABELS).item(), copy.deepcopy(model)
    tuning = FineTuning(model, BATCHES, F.cross_entropy, 20)
    assert [tuning.run_to(step).training for step in (7, 7, 20)] == [False] * 3
    assert torch.equal(FineTuning(other, BATCHES, F.cross_entropy, 20).run_to(20)(INPUTS), model(INPUTS))
    assert F.cross_entropy(model(INPUTS), LABELS) < before


def test_what_is_done_after_each_step_stays_done(model):
    seen = []

    def silence(net: nn.Module, step: int) -> None:
        net[0].weight.data[0] = 0
        seen.append((step, net.training))

    FineTuning(model, BATCHES, F.cross_entropy, 3, after=silence).run_to(3)
    assert seen == [(1, False), (2, False), (3, False)]
    assert not model[0].weight[0].any()


def test_no_step_changes_nothing_and_no_batch_is_refused(model):
    expected = model(INPUTS)
    assert torch.equal(FineTuning(model, [], F.cross_entropy, 0).run_to(0)(INPUTS), expected)
    with pytest.raises(ValueError, match="There is no batch to fine-tune with"):
        FineTuning(model, [], F.cross_entropy, 1).run_to(1)
