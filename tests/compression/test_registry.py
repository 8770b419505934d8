"""Every method under one signature, on networks that the course does not contain."""

import own_networks
import pytest
import torch

from facelab.compression.registry import METHODS, OPPONENTS, OWN, Job, compress, method
from facelab.importance.scores import accuracy, evaluate, log_likelihood

TRAINING, TEST = own_networks.loaders()


def job(model, name, strength=None):
    return Job(model, TRAINING, log_likelihood, METHODS[name].strengths[0] if strength is None else strength, steps=20)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_network_with_depthwise_convolutions(name):
    model = own_networks.mobile()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    small, report = compress(name, job(model, name))
    assert len(report) and not small.training
    assert float(evaluate(small, TEST, accuracy).mean()) > 0.5  # a quarter is chance
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if name != "redpp"])
def test_a_network_with_attention(name):
    small, report = compress(name, job(own_networks.attentive(), name))
    assert len(report)
    assert float(evaluate(small, TEST, accuracy).mean()) > 0.5


@pytest.mark.parametrize("name", OPPONENTS)
def test_more_strength_leaves_less(name):
    sizes = [sum(p.numel() for p in compress(name, job(own_networks.mobile(), name, s))[0].parameters()) for s in METHODS[name].strengths]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


def test_samples_are_the_first_ones():
    inputs, targets = job(own_networks.mobile(), "l1").samples
    assert len(inputs) == len(targets) == 6 * 32
    assert torch.equal(inputs[:32], TRAINING[0][0])


def test_methods_are_told_apart_by_name():
    assert set(METHODS) == {*OWN, *OPPONENTS}
    assert len({known.name for known in METHODS.values()}) == len(METHODS)
    with pytest.raises(ValueError, match="choose one of singe"):
        method("magic")


def test_code_that_reaches_into_its_layers_is_told_of(monkeypatch):
    model = own_networks.attentive()

    def broken(job):
        job.model.encoder.linear1 = torch.nn.Identity()
        return job.model, None

    monkeypatch.setitem(METHODS, "l1", type(METHODS["l1"])("L1", "", 0.5, (0.5,), False, broken))
    with pytest.raises(ValueError, match="Attentive does not run with what L1 puts"):
        compress("l1", job(model, "l1"))
