"""The cascade against the equations of the paper and the pitfalls of its card."""

import pytest
import torch

from facelab.blocks import TransferLayers, convert_landmarks, increasing_weights, merge_attention, seeded, standardise
from facelab.methods.decafa import DeCaFA, StageOutput, decafa_loss

SIZE = 24


def build(**options):
    with seeded(0):
        return DeCaFA(**{"markups": (68, 5), "stages": 2, "channels": (4, 8)} | options)


def images(count=2, size=SIZE, channels=1, seed=0):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def truth(count=2, seed=1):
    return torch.rand(count, 68, 2, generator=torch.Generator().manual_seed(seed)) * SIZE


def gradients(module):
    return sum(float(parameter.grad.abs().sum()) for parameter in module.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("fusion", ["none", "mask", "deep"])
@pytest.mark.parametrize("heads", ["chained", "independent"])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_stage_gives_maps_that_sum_to_one_and_landmarks_inside(fusion, heads, stride):
    outputs = build(fusion=fusion, heads=heads, stride=stride, stages=3)(images())
    assert len(outputs) == 3
    for output in outputs:
        for size in (68, 5):
            assert output.maps[size].shape == (2, size, SIZE // stride, SIZE // stride)
            torch.testing.assert_close(output.maps[size].sum(dim=(2, 3)), torch.ones(2, size), atol=1e-5, rtol=0)
            assert output.landmarks[size].min() >= 0 and output.landmarks[size].max() <= SIZE - 1


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (18, 22)])
def test_any_input_size(size):
    model = build(stride=2, in_channels=3)
    assert model(torch.rand(1, 3, *size))[-1].maps[68].shape[-2:] == (size[0] // 2, size[1] // 2)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_landmarks_are_in_pixels_of_the_input_whatever_the_stride(stride):
    """Flat maps have their expectation at the centre of the image."""
    model = build(stride=stride)
    for transfer in model.transfers:
        for layer in transfer.layers.values():
            torch.nn.init.zeros_(layer.weight)
    for output in model(images()):
        torch.testing.assert_close(output.landmarks[68], torch.full((2, 68, 2), (SIZE - 1) / 2))


def test_chain_is_linear_before_the_softmax():
    with seeded(0):
        transfer = TransferLayers(4, (68, 19, 5))
    features = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    logits = transfer(features)
    fine, middle, coarse = (transfer.layers[size] for size in ("68", "19", "5"))
    by_hand = torch.nn.functional.conv2d(features, fine.weight[..., None, None], fine.bias)
    torch.testing.assert_close(logits[68], by_hand)
    rows = features.permute(0, 2, 3, 1)
    torch.testing.assert_close(logits[5].permute(0, 2, 3, 1), coarse(middle(fine(rows))), atol=1e-5, rtol=1e-4)


def test_gain_is_a_change_of_unit():
    with seeded(0):
        transfer = TransferLayers(4, (68, 5), gain=10.0)
    features = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    scores = transfer(features)
    transfer.layers["68"].weight.data *= 10
    transfer.gain = 1.0
    torch.testing.assert_close(transfer(features)[5], scores[5])


def test_independent_heads_read_the_features():
    with seeded(0):
        transfer = TransferLayers(4, (68, 5), heads="independent")
    features = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(transfer(features)[5].permute(0, 2, 3, 1), transfer.layers["5"](features.permute(0, 2, 3, 1)))


def test_a_selection_matrix_in_the_chain_gives_exactly_the_selected_landmarks():
    model = build()
    chosen = [8, 30, 36, 45, 57]
    for transfer in model.transfers:
        layer = transfer.layers["5"]
        layer.weight.data = torch.eye(68)[chosen]
        layer.bias.data.zero_()
    for output in model(images()):
        torch.testing.assert_close(output.landmarks[5], output.landmarks[68][:, chosen])


def test_averaging_two_scores_puts_a_gaussian_half_way_with_the_same_width():
    """Exercise 2 of the notebook: products of experts. With weights 1 and 1 the width shrinks by the square root of 2."""
    x = torch.arange(41.0)
    scores = torch.stack([-((x - 10) ** 2), -((x - 30) ** 2)]) / (2 * 4.0**2)
    for weight, width in ((0.5, 4.0), (1.0, 4.0 / 2**0.5)):
        coarse = (weight * scores.sum(dim=0)).softmax(dim=0)
        mean = (coarse * x).sum()
        assert mean.item() == pytest.approx(20, abs=1e-3)
        assert (coarse * (x - mean) ** 2).sum().sqrt().item() == pytest.approx(width, rel=0.01)


def test_attention_is_the_sum_of_the_finest_maps_over_its_maximum():
    output = build(markups=(5, 68))(images())[0]  # the finest mark-up, wherever it stands in the chain
    merged = output.maps[68].sum(dim=1, keepdim=True)
    torch.testing.assert_close(output.attention, merged / merged.flatten(1).max(dim=1).values[:, None, None, None])
    torch.testing.assert_close(merge_attention(output.maps[68]).amax(dim=(1, 2, 3)), torch.ones(2))


def test_deep_fusion_with_attention_one_is_a_plain_stack():
    model = build()
    ones = torch.ones(2, 1, SIZE, SIZE)
    first, second = model(images(), attention={0: ones})
    plain = model.unets[1](torch.cat([images(), first.features], dim=1))
    torch.testing.assert_close(second.features, plain)


def test_deep_fusion_with_attention_zero_sees_the_image_alone():
    model = build()
    _, second = model(images(), attention={0: torch.zeros(2, 1, SIZE, SIZE)})
    alone = model.unets[1](torch.cat([images(), torch.zeros(2, 4, SIZE, SIZE)], dim=1))
    torch.testing.assert_close(second.features, alone)


@pytest.mark.parametrize("fusion", ["mask", "deep"])
def test_painted_attention_changes_later_stages_only(fusion):
    model = build(fusion=fusion, stages=3)
    own = model(images())
    painted = own[1].attention.clone()
    painted[..., : SIZE // 2, :] = 0
    other = model(images(), attention={1: painted})
    assert torch.equal(own[1].landmarks[68], other[1].landmarks[68])
    assert not torch.equal(own[2].landmarks[68], other[2].landmarks[68])
    same = model(images(), attention={1: own[1].attention})
    torch.testing.assert_close(same[2].landmarks[68], own[2].landmarks[68])


def test_standardised_images_are_what_the_network_then_sees():
    own, plain = build(standardised=True), build()
    torch.testing.assert_close(own(images())[-1].logits[68], plain(standardise(images()))[-1].logits[68])


def test_mask_and_none_fusion_by_hand():
    for fusion in ("mask", "none"):
        model = build(fusion=fusion)
        first, second = model(images())
        maps = first.maps[68]
        fused = first.attention * images() if fusion == "mask" else maps / maps.amax(dim=(2, 3), keepdim=True)
        torch.testing.assert_close(second.features, model.unets[1](torch.cat([images(), fused], dim=1)))


@pytest.mark.parametrize("fusion", ["none", "mask", "deep"])
def test_the_last_stages_loss_reaches_the_first_stage(fusion):
    """End to end: also through the attention alone, since the first heads are not supervised here."""
    model = build(fusion=fusion)
    decafa_loss(model(images()), {68: truth()}, stage_weights=[0.0, 1.0]).backward()
    assert gradients(model.unets[0]) > 0
    assert gradients(model.transfers[0].layers["68"]) > 0


def test_without_attention_first_heads_get_no_gradient_from_the_last_stage():
    model = build()
    outputs = model(images(), attention={0: torch.ones(2, 1, SIZE, SIZE)})
    decafa_loss(outputs, {68: truth()}, stage_weights=[0.0, 1.0]).backward()
    assert gradients(model.transfers[0]) == 0 and gradients(model.unets[0]) > 0


@pytest.mark.parametrize("heads", ["chained", "independent"])
def test_coarse_labels_train_the_fine_layers_only_in_a_chain(heads):
    model = build(stages=1, heads=heads)
    decafa_loss(model(images()), {5: convert_landmarks(truth(), 5)}).backward()
    transfer = model.transfers[0].layers
    assert gradients(transfer["5"]) > 0
    assert (gradients(transfer["68"]) > 0) == (heads == "chained")


def test_weights_double_towards_the_last_stage():
    assert increasing_weights(4) == [1 / 8, 1 / 4, 1 / 2, 1]


def test_loss_by_hand():
    true = torch.tensor([[[0.0, 0.0], [4.0, 0.0], [2.0, 2.0], [1.0, 4.0], [3.0, 4.0]]])  # eye centres 4 apart
    empty = torch.zeros(1, 1, 2, 2)

    def stage(offset):
        return StageOutput(empty, {}, {}, {5: true + offset}, empty)

    loss = decafa_loss([stage(1.0), stage(2.0)], {5: true})
    assert loss.item() == pytest.approx(0.5 * (2 / 4) + 1.0 * (4 / 4))
    assert decafa_loss([stage(1.0), stage(2.0)], {5: true}, [0.0, 1.0], torch.tensor([8.0])).item() == pytest.approx(4 / 8)


def test_images_supervise_their_own_markup_only():
    """The loss of a mixed batch is the mean over its images, each in its own mark-up."""
    model, fine = build(), truth()
    coarse = convert_landmarks(fine, 5)
    mixed = {68: fine.clone(), 5: coarse.clone()}
    mixed[68][1], mixed[5][0] = torch.nan, torch.nan
    outputs = model(images())
    first = decafa_loss([StageOutput(*output[:3], {68: output.landmarks[68][:1]}, output.attention) for output in outputs], {68: fine[:1]})
    second = decafa_loss([StageOutput(*output[:3], {5: output.landmarks[5][1:]}, output.attention) for output in outputs], {5: coarse[1:]})
    torch.testing.assert_close(decafa_loss(outputs, mixed), (first + second) / 2)


def test_unknown_options_name_the_allowed_ones():
    with pytest.raises(ValueError, match="deep"):
        build(fusion="deeper")
    with pytest.raises(ValueError, match="chained"):
        build(heads="free")
    with pytest.raises(ValueError, match="at least one stage"):
        build(stages=0)
    with pytest.raises(ValueError, match="one per stage"):
        decafa_loss(build()(images()), {68: truth()}, [1.0])
    with pytest.raises(ValueError, match="no merged attention"):
        build(fusion="none")(images(), attention={0: torch.ones(2, 1, SIZE, SIZE)})
