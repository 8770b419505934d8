"""One input's products: what the caption counts, and what a click chooses."""

import torch

from facelab.explorers import SplitExplorer


def build():
    return SplitExplorer(torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), (0.1, 0.5, 3.0))


def test_without_hashing_every_output_needs_its_own_product():
    text = build().view(column=2, scale="none").text
    assert "multiplied by 20 distinct weights for 20 outputs" in text and "120 products of 120, 0% are removed" in text


def test_a_wider_bandwidth_leaves_fewer_products():
    explorer = build()
    left = [int(explorer.view(column=0, scale=scale).text.split(" products of")[0].split()[-1]) for scale in ("0.1", "0.5", "3")]
    assert left == sorted(left, reverse=True) and left[0] > left[-1]


def test_a_click_chooses_the_input():
    explorer = build()
    explorer.click(0, 3.3, 10.0)
    assert explorer.values["column"] == 3 and explorer.error is None
    explorer.click(1, 0.5, 0.5)
    assert explorer.values["column"] == 3
