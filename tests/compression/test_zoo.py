"""The networks of the bench: small, all there, as good as their cards say."""

import json

import numpy as np
import pytest
import torch

from facelab.blocks import count_parameters
from facelab.compression import recipes, zoo

ALL = [(task, architecture) for task in zoo.TASKS for architecture in zoo.ARCHITECTURES]


@pytest.mark.parametrize(("task", "architecture"), ALL)
def test_every_network_is_small_and_loads_without_data(task, architecture, monkeypatch):
    monkeypatch.delenv("FACELAB_DATA", raising=False)
    about, size = zoo.card(task, architecture), zoo.TASKS[task].size
    assert (zoo.FOLDER / f"{task}_{architecture}.safetensors").stat().st_size < 1_000_000
    assert about["command"] == f"python -m facelab.compression.recipes train {task} {architecture}"
    for key in ("steps", "batch_size", "learning_rate"):
        assert about[key] == getattr(recipes.RECIPES[architecture], key)
    networks = [zoo.load(task, architecture, seed) for seed in zoo.SEEDS]
    assert about["parameters"] == count_parameters(networks[0]) < 31_000
    with torch.no_grad():
        answers = [network(torch.rand(2, 1, size, size)) for network in networks]
    assert all(answer.shape == (2, zoo.TASKS[task].outputs) for answer in answers)
    assert not torch.equal(answers[0], answers[1])
    assert json.dumps(about)


@pytest.mark.parametrize(("task", "architecture"), [pair for pair in ALL if pair[0] == "digits"])
def test_scores_on_the_card_can_be_measured_again(task, architecture):
    measured = recipes.score(zoo.load(task, architecture, 1), task)
    assert measured == pytest.approx(zoo.card(task, architecture)["scores"]["1"]["test"], abs=0.005)  # convolutions differ by processor


@pytest.mark.slow
def test_expressions_are_told_apart():
    for architecture in zoo.ARCHITECTURES:
        measured = recipes.score(zoo.load("expressions", architecture, 0), "expressions")
        assert measured == pytest.approx(zoo.card("expressions", architecture)["scores"]["0"]["test"], abs=0.01)


@pytest.mark.slow
@pytest.mark.real
def test_landmarks_of_people_never_seen():
    _, targets = zoo.data("landmarks", "test")
    mean = zoo.data("landmarks", "train")[1].mean(dim=0).expand_as(targets)
    chance = float(zoo.negative_landmark_error(mean, targets).mean())
    for architecture in zoo.ARCHITECTURES:
        assert recipes.score(zoo.load("landmarks", architecture, 0), "landmarks") > 0.6 * chance


def test_error_of_landmarks_by_hand():
    targets = torch.zeros(1, 68, 2)
    targets[0, 45, 0] = 20.0  # the eyes are 20 pixels apart
    found = targets + torch.tensor([3.0, 4.0])  # each point is 5 off
    assert float(zoo.negative_landmark_error(found.flatten(1), targets.flatten(1))) == pytest.approx(-25.0)


def test_scans_of_digits_are_in_one_split_only():
    from facelab.worlds import digits

    train, test = zoo.data("digits", "train"), zoo.data("digits", "test")
    assert len(train[0]) == 4500 and len(test[0]) == 900
    seen = digits.render(900, seed=2, size=16, example=(135, 173), rotation=(-10, 10))
    np.testing.assert_array_equal(seen.images, (test[0][:, 0] * 255).round().numpy())
    assert seen.example.min() >= 135


def test_what_is_not_there_is_refused():
    for arguments in (("letters", "plain"), ("digits", "dense")):
        with pytest.raises(ValueError, match="choose one of"):
            zoo.load(*arguments)
    with pytest.raises(ValueError, match="seed 3"):
        zoo.load("digits", "plain", 3)
    with pytest.raises(ValueError, match="split"):
        zoo.data("digits", "all")
