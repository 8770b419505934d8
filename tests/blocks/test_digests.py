import torch
from torch import nn

from facelab.blocks import digest, digest_of_network


def test_a_digest_is_of_values_not_of_their_place():
    images = torch.rand(2, 3, 4, 4)
    assert digest(images) == digest(images.to(memory_format=torch.channels_last)) == digest(images.clone())
    others = [images.double(), images.flatten(1), images.flip(0), images[:1]]
    assert len({digest(images), digest(images, images), *map(digest, others)}) == 6
    assert digest(torch.tensor(True)) != digest(torch.tensor(False)) and digest(images[:0]) != digest()


def test_a_network_is_its_layers_and_weights():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.1))
    before = digest_of_network(network)
    assert digest_of_network(network.to(memory_format=torch.channels_last)) == before
    network[2].p = 0.2
    assert digest_of_network(network) != before
    network[2].p = 0.1
    network[1].running_mean += 1e-3
    assert digest_of_network(network) != before
