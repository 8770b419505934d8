"""The planted table: which columns decide is true of the rows, and which layers matter is true of the network without them."""

import copy

import pytest
import torch

from facelab.importance.scores import accuracy, evaluate
from facelab.importance.table import COLUMNS, CRITICAL, DEAD, DECIDING, SHADOWS, TWINS, planted_table, rows_and_classes


@pytest.fixture(scope="module")
def table():
    return planted_table(0, steps=150)


def score(model, table) -> float:
    return float(evaluate(model, table.evaluation, accuracy).mean())


def without(model, *layers):
    changed = copy.deepcopy(model)
    for layer in layers:
        changed.get_submodule(layer).weight.data.zero_()
    return changed


def test_a_class_follows_from_the_deciding_columns_alone():
    rows, classes = rows_and_classes(500, 3)
    others = [column for column in range(COLUMNS) if column not in DECIDING]
    rows[:, others] = rows[torch.randperm(500, generator=torch.Generator().manual_seed(0))][:, others]
    assert torch.equal(rows[:, list(DECIDING)].argmax(dim=1), classes)


def test_shadows_go_along_with_what_decides():
    rows, _ = rows_and_classes(2000, 3)
    found = torch.corrcoef(rows.T)
    assert all(found[shadow, column] > 0.85 for shadow, column in SHADOWS.items())


def test_layers_matter_as_they_were_planted(table):
    whole = score(table.model, table)
    assert whole > 0.85 > 0.6 > score(table.untrained, table)
    assert score(without(table.model, CRITICAL), table) < whole - 0.3
    assert score(without(table.model, TWINS[0]), table) > score(without(table.model, *TWINS), table)
    assert torch.equal(table.model.branches["twin_a"].weight, table.model.branches["twin_b"].weight)
    rows = table.evaluation[0][0]
    assert torch.equal(without(table.model, *DEAD)(rows), table.model(rows))


def test_other_seeds_are_other_tables():
    assert not torch.equal(planted_table(0, steps=1).evaluation[0][0], planted_table(1, steps=1).evaluation[0][0])


def test_shuffled_classes_teach_nothing():
    table = planted_table(0, steps=100, shuffled=True)
    assert score(table.model, table) < 0.5
