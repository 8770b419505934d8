"""Rivals declared once: the same as training, scoring and comparing each by hand."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from facelab import claims
from facelab.blocks import seeded
from facelab.metrics import confusions, mean_iou
from facelab.training import fit
from facelab.trials import Rival, Scores, Trials, train

X = torch.linspace(-1, 1, 60)[:, None]
DATA = {"x": X, "y": (3 * X).sin()}


def squared(model, batch, generator):
    return (model(batch["x"]) - batch["y"]).square().mean()


def scaled(factor, model, batch, generator):
    return factor * squared(model, batch, generator)


def curved():
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))


def straight():
    return nn.Linear(1, 1)


RIVALS = {"curved": Rival(curved, squared), "straight line": Rival(straight, squared, {"learning_rate": 5e-2})}
OPTIONS = dict(steps=60, batch_size=20, learning_rate=2e-2, progress=False)
ONE = dict(steps=2, batch_size=20, workers=1, progress=False)


def errors(model):
    return (model(DATA["x"]) - DATA["y"]).abs()[:, 0]


@pytest.fixture(scope="module")
def trials():
    return train(RIVALS, DATA, seeds=(3, 4), workers=1, **OPTIONS)


def test_it_is_what_training_by_hand_gives(trials):
    with seeded(4):
        model = straight()
    history = fit(model, squared, DATA, **OPTIONS | {"learning_rate": 5e-2}, seed=4)
    assert torch.equal(trials.models["straight line"][1].weight, model.weight)
    assert trials.histories["straight line"][1].loss == history.loss
    assert not torch.equal(trials.models["straight line"][0].weight, model.weight)


@pytest.mark.slow
def test_side_by_side_gives_the_same(trials):
    again = train(RIVALS, DATA, seeds=(3, 4), workers=2, **OPTIONS)
    for name, models in trials.models.items():
        for one, other in zip(models, again.models[name], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_an_interrupted_one_goes_on(trials, tmp_path):
    def stopping(model, batch, generator):
        if len(seen) == 70:
            raise KeyboardInterrupt
        seen.append(1)
        return squared(model, batch, generator)

    seen = []
    rivals = {name: Rival(rival.build, stopping, rival.options) for name, rival in RIVALS.items()}
    with pytest.raises(KeyboardInterrupt):
        train(rivals, DATA, seeds=(3, 4), workers=1, checkpoint=tmp_path, checkpoint_every=20, **OPTIONS)
    seen.append(1)  # no longer 70
    again = train(rivals, DATA, seeds=(3, 4), workers=1, checkpoint=tmp_path, checkpoint_every=20, **OPTIONS)
    assert len(seen) < 4 * 60 + 30  # the finished one was not trained again, which would be 60 more
    assert torch.equal(again.models["straight line"][1].weight, trials.models["straight line"][1].weight)


def test_scores_claims_and_records_are_those_written_by_hand(trials, capsys):
    scores = trials.score(errors, better="lower", unit="px")
    assert scores["curved"].shape == (2, 60)
    with torch.no_grad():
        np.testing.assert_array_equal(scores["curved"][1], errors(trials.models["curved"][1]))
    made = scores.claim("Curved beats straight", "curved", "straight line", name="bend", margin=0.1)
    pair = {"ours": scores["curved"], "baseline": scores["straight line"]}
    assert made == claims.claim("Curved beats straight", **pair, better="lower", unit="px", name="bend", margin=0.1)
    assert made.seeds == 2 and made.gain > 0
    capsys.readouterr()
    scores.record("error")
    assert f"error_straight_line = {scores['straight line'].mean():.6g}" in capsys.readouterr().out


def test_a_statistic_of_whole_sets_is_claimed_as_well(trials, capsys):
    def parts(model):
        return confusions((model(DATA["x"]) > 0).long()[:, None], (DATA["y"] > 0).long()[:, None], 2)

    scores = trials.score(parts, better="higher", statistic=mean_iou)
    made = scores.claim("Curved tells signs better", "curved", "straight line", name="signs", indicative=True)
    assert made.ours == pytest.approx(mean_iou(scores["curved"]).mean())
    capsys.readouterr()
    scores.record("iou")
    assert f"iou_curved = {made.ours:.6g}" in capsys.readouterr().out


def test_curves_have_a_name_for_every_run(trials):
    assert list(trials.curves) == ["curved, seed 3", "curved, seed 4", "straight line, seed 3", "straight line, seed 4"]
    single = Trials({"a": trials.models["curved"][:1]}, {"a": trials.histories["curved"][:1]}, (3,))
    assert single.curves == {"a": trials.histories["curved"][0]}


def test_what_cannot_be_compared_is_refused(trials):
    with pytest.raises(ValueError, match="no scores of 'round'; there are those of curved"):
        Scores({"curved": np.ones(3)}, better="lower").claim("Round wins", "round", "curved", name="round")
    with pytest.raises(ValueError, match="one score for each of the same samples"):
        trials.score(lambda model: errors(model).mean(), better="lower")
    with pytest.raises(ValueError, match="one score for each of the same samples"):
        trials.score(lambda model: errors(model)[: 10 + isinstance(model, nn.Linear)], better="lower")
    with pytest.raises(ValueError, match="no rival 'round'; choose among curved, straight line"):
        trials.score(errors, ["round"], better="lower")
    with pytest.raises(ValueError, match="seeds that differ"):
        train(RIVALS, DATA, seeds=(1, 1), **OPTIONS)
    with pytest.raises(ValueError, match="at least one rival"):
        train({}, DATA, **OPTIONS)


def test_every_rival_has_a_folder_of_its_own_whatever_its_name(tmp_path):
    """Nobody goes on with the weights of another one, and nothing is written elsewhere."""
    kept = tmp_path / "kept"
    losses = {name: partial(scaled, factor) for factor, name in enumerate(["", ".", "..", "a/b", 8], start=1)}
    for _ in range(2):
        made = train({name: Rival(straight, loss) for name, loss in losses.items()}, DATA, seeds=np.arange(1), checkpoint=kept, **ONE)
        firsts = [histories[0].loss[0] for histories in made.histories.values()]
        np.testing.assert_allclose(firsts, firsts[0] * np.arange(1, 6), rtol=1e-5)
    assert list(tmp_path.iterdir()) == [kept] and len(list(kept.iterdir())) == 5


def test_scores_may_be_tensors_of_any_precision(trials):
    scores = trials.score(
        lambda model: (model.weight.sum() if isinstance(model, nn.Linear) else 1) * torch.ones(4).bfloat16(), better="lower"
    )
    assert scores["curved"].dtype == np.float32
