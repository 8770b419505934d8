"""Neural forests by hand, their greedy walk, what scikit-learn asks of an estimator, and the cascade on planted shapes."""

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import check_estimator

from facelab.blocks import ShapeModel, seeded
from facelab.blocks.forest_loops import blend_forest, walk_forest
from facelab.methods.gnf import (
    NeuralForest,
    NeuralForestRegressor,
    Stage,
    nodes_evaluated,
    rough_starts,
    run_cascade,
    train_cascades,
)

QUICK = {"steps": 150, "trees": 3, "depth": 3, "width": 16, "learning_rate": 0.03}


def forest(features=4, outputs=2, trees=3, depth=3, width=8, seed=0) -> NeuralForest:
    with seeded(seed):
        return NeuralForest(features, outputs, trees, depth, width).double()


def inputs(samples=50, features=4, seed=0):
    return torch.randn(samples, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stump(decision: float) -> NeuralForest:
    """One tree, one node that goes left with this probability, leaves -1 and +1."""
    one = forest(1, 1, 1, 1, 1)
    with torch.no_grad():
        one.nodes.weight.zero_()
        one.nodes.bias.fill_(np.log(decision / (1 - decision)))
        one.leaves.copy_(torch.tensor([[[-1.0], [1.0]]]))
    return one


def test_one_node_by_hand():
    one = stump(0.6)
    assert one(inputs(1, 1)).item() == pytest.approx(-0.2)
    assert one(inputs(1, 1), "greedy").item() == -1.0


def test_the_forest_is_the_mean_of_its_trees():
    trees = forest()
    for evaluation in ("soft", "greedy"):
        torch.testing.assert_close(trees.trees_alone(inputs(), evaluation).mean(dim=1), trees(inputs(), evaluation))
        torch.testing.assert_close(trees.reach(inputs(), evaluation).sum(dim=2), torch.ones(50, 3, dtype=torch.float64))


def test_plain_loops_agree_with_the_layer():
    trees = forest()
    h = trees.project(inputs()).detach()
    parts = trees.nodes.weight.detach().reshape(3, 7, 8), trees.nodes.bias.detach().reshape(3, 7), trees.leaves.detach()
    arrays = [part.numpy() for part in (h, *parts)]
    np.testing.assert_allclose(walk_forest(*arrays), trees(inputs(), "greedy").detach(), atol=1e-12)
    np.testing.assert_allclose(blend_forest(*arrays), trees(inputs()).detach(), atol=1e-12)


def test_sure_nodes_make_the_soft_answer_the_greedy_one():
    trees = forest()
    with torch.no_grad():
        trees.nodes.weight.mul_(1e6)
        trees.nodes.bias.mul_(1e6)
    torch.testing.assert_close(trees(inputs()), trees(inputs(), "greedy"))


def test_the_greedy_answer_takes_few_values_on_a_line():
    line = torch.linspace(-3, 3, 4000, dtype=torch.float64)[:, None] * torch.ones(1, 4, dtype=torch.float64)
    values = forest(trees=2, depth=2)(line, "greedy").detach().unique(dim=0)
    assert len(values) <= 4**2


def test_gradient_of_a_node_by_the_closed_form():
    """dy/dd_n = r_n / T (mean leaf on the left - mean leaf on the right), softly and straight through."""
    trees = forest(outputs=1, trees=1, depth=2)
    x = inputs(1)
    with torch.no_grad():
        d = trees.decisions(x)[0, 0].sigmoid()
        leaf = trees.leaves[0, :, 0]
    for evaluation, turn in (("soft", d), ("greedy", (d >= 0.5).double())):
        left = turn[1] * leaf[0] + (1 - turn[1]) * leaf[1]
        right = turn[2] * leaf[2] + (1 - turn[2]) * leaf[3]
        by_hand = torch.stack([left - right, turn[0] * (leaf[0] - leaf[1]), (1 - turn[0]) * (leaf[2] - leaf[3])]) * d * (1 - d)
        (found,) = torch.autograd.grad(trees(x, evaluation).sum(), trees.nodes.bias)
        torch.testing.assert_close(found, by_hand)


def test_nodes_evaluated():
    assert nodes_evaluated(20, 5, "soft") == 620
    assert nodes_evaluated(20, 5, "greedy") == 100
    with pytest.raises(ValueError, match="use 'soft' or 'greedy'"):
        nodes_evaluated(20, 5, "hard")


@pytest.mark.parametrize("wrong", [{"training": "hard"}, {"evaluation": "fast"}])
def test_unknown_ways_are_refused(wrong):
    with pytest.raises(ValueError, match="use 'soft' or 'greedy'"):
        NeuralForestRegressor(**QUICK, **wrong).fit(np.eye(4), np.arange(4.0))


@pytest.mark.parametrize("training", ["soft", "greedy"])
def test_it_learns_a_step(training):
    x = np.random.default_rng(0).uniform(-1, 1, (400, 3))
    y = np.stack([np.sign(x[:, 0]), x[:, 1] > 0.2], axis=1).astype(float)
    trained = NeuralForestRegressor(training=training, evaluation=training, **QUICK).fit(x, y)
    assert np.mean((trained.predict(x) - y) ** 2) < 0.3 * y.var(axis=0).mean()
    again = NeuralForestRegressor(training=training, evaluation=training, **QUICK).fit(x, y)
    np.testing.assert_array_equal(trained.predict(x), again.predict(x))


@pytest.mark.slow
def test_what_scikit_learn_asks_of_an_estimator():
    results = check_estimator(NeuralForestRegressor(**QUICK), on_fail=None)
    assert {result["check_name"] for result in results if result["status"] == "failed"} == set()


def shapes(samples=60, seed=0):
    """Squares that lean, turned and moved."""
    random = np.random.default_rng(seed)
    square = np.array([1 + 1j, -1 + 1j, -1 - 1j, 1 - 1j]) * 10
    lean = random.normal(size=(samples, 1)) * np.array([1, -1, 1, -1])
    placed = (square + lean) * np.exp(0.1j * random.normal(size=(samples, 1))) + 32 + 32j + random.normal(size=(samples, 1))
    return np.stack([placed.real, placed.imag], axis=-1)


def planted(truth):
    """Features that say exactly where the points should be."""
    return lambda at: (truth - at).reshape(len(at), -1)


def test_cascades_share_what_begins_alike_and_come_nearer():
    from sklearn.linear_model import Ridge

    truth = shapes()
    model = ShapeModel.of(truth, modes=1)
    start = rough_starts(model, truth, seed=0)
    cascades = train_cascades(["PPE", "PPP", "EEE"], Ridge(alpha=1e-3), model, planted(truth), start, truth)
    assert cascades["PPE"][:2] == cascades["PPP"][:2]
    assert [stage.parametric for stage in cascades["PPE"]] == [True, True, False]
    for stages in cascades.values():
        path = run_cascade(stages, planted(truth), start)
        errors = np.linalg.norm(path - truth, axis=-1).mean(axis=(1, 2))
        assert errors[-1] < 0.2 * errors[0]


def test_another_kind_of_stage_is_refused():
    truth = shapes()
    with pytest.raises(ValueError, match="use 'P'"):
        Stage.trained("X", NeuralForestRegressor(), ShapeModel.of(truth, 1), truth[:, 0], truth, truth)


def test_starts_without_jitter_fill_the_box():
    truth = shapes()
    start = rough_starts(ShapeModel.of(truth, 1), truth, seed=0, shift=0, scale=0, turn=0)
    np.testing.assert_allclose(np.ptp(start, axis=1).max(axis=1), np.ptp(truth, axis=1).max(axis=1))
