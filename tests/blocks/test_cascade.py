"""One stage after another, and attention that keeps its scale; the transfer layers are tested with DeCaFA."""

import torch

from facelab.blocks import UNet, increasing_weights, merge_attention, run_cascade, seeded


def test_each_stage_sees_the_image_beside_what_the_one_before_it_left():
    image, seen = torch.ones(2, 1, 3, 3), []

    def stage(inputs):
        seen.append(inputs)
        return inputs.sum(dim=1, keepdim=True)

    outputs = run_cascade(image, [stage, stage, stage], lambda output: 10 * output)
    assert [inputs.shape[1] for inputs in seen] == [1, 2, 2]
    assert [float(output[0, 0, 0, 0]) for output in outputs] == [1.0, 11.0, 111.0]
    assert torch.equal(seen[2][:, :1], image)


def test_attention_by_hand():
    maps = torch.tensor([[[[0.5, 0.5, 0.0]], [[0.0, 0.5, 0.5]]]])
    torch.testing.assert_close(merge_attention(maps), torch.tensor([[[[0.5, 1.0, 0.5]]]]))


def test_later_stages_count_more():
    assert increasing_weights(3) == [0.25, 0.5, 1.0]


def test_the_bottom_of_a_u_net_is_its_coarsest_level():
    with seeded(0):
        unet = UNet(1, (4, 8, 12))
    images = torch.rand(2, 1, 16, 12, generator=torch.Generator().manual_seed(0))
    features, bottom = unet.with_bottom(images)
    assert torch.equal(features, unet(images)) and bottom.shape == (2, 12, 4, 3)
