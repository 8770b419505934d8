"""The soft binary tree against hand values, a node-by-node walk, and its limits."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facelab.blocks import TreeGate
from facelab.blocks.trees import (
    hard_leaf,
    leaf_path,
    leaf_probabilities,
    log_leaf_probabilities,
    log_reach,
    straight_through_leaves,
    tree_depth,
)


def decisions(depth, samples=5, spread=2.0, seed=0):
    return spread * torch.randn(samples, 2**depth - 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def walked(logits, depth):
    """Probability of each leaf, one node at a time."""
    rows = []
    for sample in logits.sigmoid().tolist():
        row = []
        for leaf in range(2**depth):
            probability, path = 1.0, leaf_path(leaf, depth)
            for node, child in pairwise(path):
                probability *= sample[node - 1] if child == 2 * node else 1 - sample[node - 1]
            row.append(probability)
        rows.append(row)
    return torch.tensor(rows, dtype=logits.dtype)


def test_by_hand():
    goes_left = torch.tensor([[0.9, 0.2, 0.7]], dtype=torch.float64)
    torch.testing.assert_close(leaf_probabilities(goes_left.logit())[0], torch.tensor([0.18, 0.72, 0.07, 0.03], dtype=torch.float64))


def test_sure_decisions_at_depth_10_are_exact_and_their_gradients_finite():
    """Logits of +-100: every leaf's logarithm is -100 times its wrong turns, in both precisions, over more samples than one block."""
    for kind in (torch.float32, torch.float64):
        signs = decisions(10, samples=300).sign().to(kind)
        logits = (100 * signs).requires_grad_()
        log_probabilities = log_leaf_probabilities(logits)
        wrong = torch.zeros(300, 1, dtype=kind)
        for level in range(10):
            turns = signs[:, 2**level - 1 : 2 ** (level + 1) - 1]
            wrong = torch.stack([wrong + (turns < 0), wrong + (turns > 0)], dim=2).flatten(1)
        torch.testing.assert_close(log_probabilities, -100 * wrong)
        torch.testing.assert_close(leaf_probabilities(logits), torch.where(wrong == 0, 1.0, 0.0).to(kind))
        (log_probabilities.mean() + (leaf_probabilities(logits) ** 2).sum()).backward()
        assert logits.grad.isfinite().all() and logits.grad.abs().sum() > 0


@pytest.mark.parametrize("function", [leaf_probabilities, log_leaf_probabilities, log_reach])
def test_gradients_of_every_order(function):
    logits = decisions(3, samples=2).requires_grad_()
    assert torch.autograd.gradcheck(function, logits) and torch.autograd.gradgradcheck(function, logits)


@pytest.mark.parametrize("samples", [0, 1, 255, 256, 257, 700])
def test_blocks_of_samples_do_not_show(samples):
    logits = decisions(4, samples=700)
    torch.testing.assert_close(leaf_probabilities(logits[:samples]), leaf_probabilities(logits)[:samples])


def saved_for_backward(depth, samples=512):
    """Bytes that a forward pass keeps for the backward pass, each storage once, and bytes of the result."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)  # held, so that no address returns
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = leaf_probabilities(decisions(depth, samples).requires_grad_())
    return sum(size for size, _ in storages.values()), result.numel() * result.element_size()


def test_memory_grows_with_the_leaves_only():
    """Twice the leaves keep twice the bytes, not twice and a level more: eight numbers per leaf, whatever the depth."""
    kept, result = zip(*[saved_for_backward(depth) for depth in (6, 7, 8, 9, 10)], strict=True)
    assert all(larger / smaller == pytest.approx(2, rel=0.05) for smaller, larger in pairwise(kept))
    assert all(bytes_ <= 8 * size for bytes_, size in zip(kept, result, strict=True))


@given(depth=st.integers(1, 6), seed=st.integers(0, 1000))
def test_equals_a_walk_node_by_node(depth, seed):
    logits = decisions(depth, seed=seed)
    torch.testing.assert_close(leaf_probabilities(logits), walked(logits, depth))


@pytest.mark.parametrize("depth", [1, 5, 10])
def test_probabilities_sum_to_one_and_a_node_is_reached_as_often_as_its_children(depth):
    logits = decisions(depth)
    reach = log_reach(logits).exp()
    assert reach.shape == (5, 2 ** (depth + 1) - 1)
    torch.testing.assert_close(reach[:, 2**depth - 1 :].sum(dim=1), torch.ones(5, dtype=torch.float64))
    inner = torch.arange(1, 2**depth)
    torch.testing.assert_close(reach[:, inner - 1], reach[:, 2 * inner - 1] + reach[:, 2 * inner])


def test_nothing_is_lost_where_products_would_vanish():
    """A leaf of probability e^-1000 keeps its logarithm and a gradient."""
    logits = torch.full((1, 2**10 - 1), -100.0, requires_grad=True)
    log_probabilities = log_leaf_probabilities(logits)
    assert log_probabilities[0, 0].item() == pytest.approx(-1000) and log_probabilities[0, -1].item() == pytest.approx(0, abs=1e-6)
    log_probabilities[0, 0].backward()
    assert logits.grad.isfinite().all() and logits.grad[0, 0].item() == pytest.approx(1)


def test_gradient_of_a_node_is_its_reach_times_the_difference_of_its_sides():
    """d y / d d_n = r_n (mean value on the left - mean value on the right), the formula of the card."""
    goes_left = torch.rand(1, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    values = torch.arange(8.0, dtype=torch.float64) ** 2
    (leaf_probabilities(goes_left.logit()) @ values).sum().backward()
    d = goes_left.detach()[0]
    left = d[3] * values[0] + (1 - d[3]) * values[1]
    right = d[4] * values[2] + (1 - d[4]) * values[3]
    assert goes_left.grad[0, 1].item() == pytest.approx((d[0] * (left - right)).item())  # node 2, reached with d_1


def test_hard_routing_follows_the_likelier_side_and_may_miss_the_likeliest_leaf():
    logits = torch.tensor([[0.4, 0.0, -5.0]])  # a little to the left, where nothing is decided; on the right all is
    assert hard_leaf(logits).tolist() == [0]
    assert log_leaf_probabilities(logits).argmax(dim=1).tolist() == [3]
    assert leaf_probabilities(logits, hard=True).tolist() == [[1, 0, 0, 0]]


@given(depth=st.integers(1, 8), seed=st.integers(0, 100))
def test_sure_decisions_make_soft_and_hard_the_same(depth, seed):
    logits = decisions(depth, seed=seed).sign() * 60
    torch.testing.assert_close(leaf_probabilities(logits), leaf_probabilities(logits, hard=True))
    assert torch.equal(hard_leaf(logits), log_leaf_probabilities(logits).argmax(dim=1))


def test_path_of_a_leaf():
    assert leaf_path(0, 3) == [1, 2, 4, 8] and leaf_path(5, 3) == [1, 3, 6, 13]
    with pytest.raises(ValueError, match="0 to 7"):
        leaf_path(8, 3)


@pytest.mark.parametrize("nodes", [0, 2, 6, 2**11 - 1])
def test_no_tree_has_so_many_nodes(nodes):
    with pytest.raises(ValueError, match=str(nodes)):
        tree_depth(nodes)


def test_a_gate_begins_undecided_and_learns_a_split():
    """Samples left and right of zero end at different leaves."""
    torch.manual_seed(0)
    gate = TreeGate(1, depth=1)
    points = torch.randn(256, 1)
    assert leaf_probabilities(gate(points)).mean().item() == pytest.approx(0.5, abs=0.01)
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.1)
    side = (points[:, 0] > 0).long()
    for _ in range(60):
        optimizer.zero_grad()
        loss = -log_leaf_probabilities(gate(points)).gather(1, side[:, None]).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 < math.log(2)
    assert (hard_leaf(gate(points)) == side).float().mean() > 0.95


def test_only_one_leaf_is_exact_and_ends_with_the_block():
    gate = TreeGate(3, depth=4)
    points = torch.randn(7, 3)
    before = {name: value.clone() for name, value in gate.state_dict().items()}
    for leaf in (0, 5, 15):
        with gate.only(leaf):
            expected = torch.eye(16)[leaf].expand(7, -1)
            assert torch.equal(leaf_probabilities(gate(points)), expected)
            assert torch.equal(leaf_probabilities(gate(points), hard=True), expected)
    assert all(torch.equal(value, before[name]) for name, value in gate.state_dict().items()), "the norm has seen nothing"
    with gate.only(torch.arange(7)):
        assert torch.equal(leaf_probabilities(gate(points)), torch.eye(16)[:7])
        with pytest.raises(ValueError, match="3 samples but leaves for 7"):
            gate(points[:3])
    with pytest.raises(ZeroDivisionError), gate.only(3):
        raise ZeroDivisionError
    assert leaf_probabilities(gate.eval()(points)).max() < 1
    with pytest.raises(ValueError, match="0 to 15"), gate.only(16):
        pass


def test_straight_through_leaves_are_those_of_the_walk_and_learn():
    logits = decisions(3).requires_grad_()
    leaves = straight_through_leaves(logits)
    torch.testing.assert_close(leaves.detach(), leaf_probabilities(logits.detach(), hard=True))
    assert straight_through_leaves(torch.zeros(1, 7, dtype=torch.float64)).tolist() == [[1.0] + [0.0] * 7], "ties go left"
    values = torch.arange(8.0, dtype=torch.float64) ** 2
    (leaves @ values).sum().backward()
    for sample in range(len(logits)):
        d = logits[sample, 0].sigmoid()
        other = logits[sample].detach().clone()
        other[0] = -other[0]
        both = torch.stack([logits[sample].detach(), other])
        reached = (leaf_probabilities(both, hard=True) @ values).tolist()
        left, right = reached if logits[sample, 0] >= 0 else reached[::-1]
        assert logits.grad[sample, 0].item() == pytest.approx((d * (1 - d) * (left - right)).item())
